use std::{io::Write, net, task::Waker, thread};

use rustls::ClientConnection;
use tollgate_testing::tls::Authority;

use super::*;

fn is_there(socket: &Socket) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    socket.poll_first(&mut cx).is_ready()
}

/// A connection over TLS with its handshake made, whose client sends `with` together with the last of it.
async fn met(with: &'static [u8]) -> (Socket, ClientConnection, net::TcpStream) {
    let authority = Authority::new();
    let acceptor = authority.issue(&["127.0.0.1"]).acceptor(None);
    let connector = authority.pem().connector(None, &["http/1.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let client = thread::spawn(move || {
        let mut tcp = net::TcpStream::connect(at).unwrap();
        let mut tls = ClientConnection::new(connector.config().clone(), at.ip().into()).unwrap();
        // rustls keeps it until the handshake is made.
        tls.writer().write_all(with).unwrap();
        tls.complete_io(&mut tcp).unwrap();
        (tls, tcp)
    });
    let (tcp, _) = listener.accept().await.unwrap();
    let tls = acceptor.accept(tcp).await.unwrap();
    let (client, tcp) = client.join().unwrap();
    (Socket::Tls(Box::new(tls)), client, tcp)
}

async fn first(socket: &Socket) {
    let first = std::future::poll_fn(|cx| socket.poll_first(cx));
    let waited = tokio::time::timeout(Duration::from_secs(10), first).await;
    assert!(waited.is_ok(), "nothing came");
}

#[tokio::test]
async fn a_connection_over_tls_has_nothing_to_read_before_its_first_byte() {
    let (socket, mut client, mut tcp) = met(b"").await;
    assert!(!is_there(&socket));
    client.writer().write_all(b"GET").unwrap();
    client.complete_io(&mut tcp).unwrap();
    first(&socket).await;
}

/// It is in no socket any more: nothing would wake who waits for that.
#[tokio::test]
async fn a_byte_that_came_with_the_handshake_is_there() {
    let (socket, _client, _tcp) = met(b"GET").await;
    first(&socket).await;
}

#[tokio::test]
async fn the_end_is_something_to_read() {
    for farewell in [false, true] {
        let (socket, mut client, mut tcp) = met(b"").await;
        if farewell {
            client.send_close_notify();
            client.complete_io(&mut tcp).unwrap();
        } else {
            drop(tcp);
        }
        first(&socket).await;
    }
}
