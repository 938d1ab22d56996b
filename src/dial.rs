//! TCP connections to a host that may have several addresses (RFC 8305).

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::{net::TcpStream, task::JoinSet, time::sleep};
use tower_service::Service;

use crate::names::Names;

/// How long an address has before the next one is tried beside it (RFC 8305, section 5).
const NEXT: Duration = Duration::from_millis(250);

/// Connects to the first address that takes it.
#[derive(Clone, Debug)]
pub(crate) struct Dial {
    names: Names,
}

impl Dial {
    pub(crate) fn new(names: Names) -> Self {
        Self { names }
    }
}

impl Service<Uri> for Dial {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let names = self.names.clone();
        Box::pin(async move {
            let secure = uri.scheme_str() == Some("https");
            let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
            let host = uri.host().unwrap_or_default();
            let stream = race(names.addresses(host, port).await?).await?;
            stream.set_nodelay(true)?;
            // Finds a provider that has silently gone.
            let alive = TcpKeepalive::new().with_time(Duration::from_secs(60));
            SockRef::from(&stream).set_tcp_keepalive(&alive)?;
            Ok(TokioIo::new(stream))
        })
    }
}

/// The first connection that stands. An address that refuses makes room for the next at once, one that is silent in a moment; those that
/// are not needed are given up.
async fn race(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut left = in_turns(addresses).into_iter();
    let mut tries = JoinSet::new();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        if let Some(address) = left.next() {
            tries.spawn(TcpStream::connect(address));
        }
        if tries.is_empty() {
            return Err(failed);
        }
        tokio::select! {
            Some(tried) = tries.join_next() => match tried {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failed = error,
                Err(error) => failed = io::Error::other(error),
            },
            () = sleep(NEXT), if left.len() > 0 => {}
        }
    }
}

/// The families in turns, the resolver's first choice first.
fn in_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (one, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|it| it.is_ipv6() == first);
    let mut all = Vec::with_capacity(one.len() + other.len());
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    loop {
        let next = [one.next(), other.next()];
        if next == [None, None] {
            return all;
        }
        all.extend(next.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use socket2::{Domain, Socket, Type};

    use super::*;

    #[test]
    fn families_take_turns() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let all = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"].map(address);
        let turns = in_turns(all.to_vec());
        assert_eq!(
            turns,
            ["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"].map(address)
        );
        assert_eq!(in_turns(Vec::new()), []);
    }

    /// A listener that takes nobody: its backlog is full.
    fn black_hole(address: SocketAddr) -> (Socket, Vec<Socket>) {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.set_reuse_address(true).unwrap();
        listener.bind(&address.into()).unwrap();
        listener.listen(1).unwrap();
        let fill = |_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            // It is under way, or there is no room any more.
            let _ = socket.connect(&address.into());
            socket
        };
        (listener, (0..8).map(fill).collect())
    }

    /// Row X06: one of several addresses is dead, by silence and by refusal.
    #[tokio::test]
    async fn a_dead_address_costs_a_moment_and_not_the_connection() {
        let live = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = live.local_addr().unwrap().port();
        let (silent, refusing) = ([127, 0, 0, 2], [127, 0, 0, 3]);
        let hole = black_hole((silent, port).into());
        for dead in [silent, refusing] {
            let addresses: Vec<IpAddr> = vec![dead.into(), [127, 0, 0, 1].into()];
            let names = Names::of(move |_| Box::pin(std::future::ready(Ok(addresses.clone()))));
            let uri = format!("http://provider.example:{port}/").parse().unwrap();
            let dialled = Dial::new(names).call(uri);
            // Far less than a silent address is waited for alone.
            let dialled = tokio::time::timeout(Duration::from_secs(30), dialled).await;
            let stream = dialled.expect("it waits for the dead one").unwrap();
            let peer = stream.inner().peer_addr().unwrap();
            assert_eq!(peer, live.local_addr().unwrap());
            assert!(stream.inner().nodelay().unwrap());
        }
        drop(hole);
    }

    /// Row U01: where all refuse, or the name has none, there is an error and no wait.
    #[tokio::test]
    async fn where_nobody_listens_there_is_an_error() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = closed.local_addr().unwrap().port();
        drop(closed);
        let addresses = vec![([127, 0, 0, 1], port).into(), ([127, 0, 0, 2], port).into()];
        let error = race(addresses).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(
            race(Vec::new()).await.unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
