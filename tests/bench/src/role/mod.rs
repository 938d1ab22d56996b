//! The processes that the bench starts besides nginx and tollgate, each a subcommand of the same binary.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use http::header::{self, HeaderMap, HeaderValue};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

pub(crate) mod inline;
pub(crate) mod legacy;
pub(crate) mod reap;
pub(crate) mod upstream;

/// How many threads each of the two references has.
const WORKERS: usize = 2;

/// A listener beside which others may listen on the same address. Must be called within a runtime.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    TcpListener::from_std(socket.into())
}

/// Gives every connection, without Nagle's delay, to a task of its own.
async fn accept<F>(listener: TcpListener, serve: impl Fn(TcpStream) -> F) -> io::Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(serve(stream));
    }
}

/// Makes the caller's headers fit for the provider: no hop-by-hop header, the provider's name as host.
fn to_upstream(headers: &mut HeaderMap, host: &HeaderValue) {
    strip(headers);
    headers.insert(header::HOST, host.clone());
}

/// Removes the headers that belong to one connection.
fn strip(headers: &mut HeaderMap) {
    headers.remove(header::CONNECTION);
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
    headers.remove(header::TE);
    headers.remove(header::TRAILER);
    headers.remove(header::UPGRADE);
}

fn host_of(upstream: SocketAddr) -> io::Result<HeaderValue> {
    HeaderValue::from_str(&upstream.to_string()).map_err(io::Error::other)
}
