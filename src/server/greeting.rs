//! What comes on a connection between accept and HTTP: the PROXY protocol's header, then TLS.

use std::{io, net::SocketAddr};

use tokio::time::timeout;
use tollgate_middleware::conn::Conn;

use super::{
    Limits,
    proxy_protocol::{self, Trusted},
    stream::Socket,
    tls::Tls,
};

/// What a listener's connections begin with.
#[derive(Clone, Debug, Default)]
pub struct Greeting {
    /// The PROXY protocol's header is required from these peers, and from no other.
    pub proxies: Option<Trusted>,
    /// TLS is spoken over TCP; a unix socket is this machine's own.
    pub tls: Option<Tls>,
}

impl Greeting {
    /// What connections from `peer` begin with; `None` where that is HTTP.
    pub(super) fn with(&self, peer: Option<SocketAddr>) -> Option<Self> {
        // A unix socket has no peer that could be trusted, and none to be told.
        let peer = peer?;
        let proxies = self.proxies.clone().filter(|proxies| proxies.has(peer));
        let tls = self.tls.clone();
        (proxies.is_some() || tls.is_some()).then_some(Self { proxies, tls })
    }

    /// Meets a connection, and tells `conn` who is behind it; `None` if it is to be closed.
    pub(super) async fn meet(self, socket: Socket, conn: &Conn, limits: &Limits) -> Option<Socket> {
        let Socket::Tcp(mut tcp) = socket else {
            return Some(socket);
        };
        if self.proxies.is_some() {
            let header = timeout(limits.head_timeout, proxy_protocol::take(&mut tcp));
            match in_time(header.await) {
                Ok(Some(address)) => conn.comes_from(address),
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%error, "no header of the PROXY protocol");
                    return None;
                }
            }
        }
        let Some(tls) = self.tls else {
            return Some(Socket::Tcp(tcp));
        };
        match in_time(timeout(limits.handshake, tls.accept(tcp)).await) {
            Ok(tls) => Some(Socket::Tls(Box::new(tls))),
            Err(error) => {
                tracing::debug!(%error, "no TLS handshake");
                None
            }
        }
    }
}

fn in_time<T, E>(outcome: Result<io::Result<T>, E>) -> io::Result<T> {
    outcome.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
