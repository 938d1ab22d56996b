//! The PROXY protocol, versions 1 and 2: a load balancer in front of us says before the first byte of
//! a connection whose connection it is.
//!
//! Exactly the header is taken from the socket; what follows it is left for TLS or HTTP.

use std::{io, net::SocketAddr, sync::Arc};

use proxy_header::{Error, ParseConfig, Protocol, ProxyHeader};
use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::config::Network;

/// The peers whose header is required and believed. Clones share the list.
#[derive(Clone, Debug)]
pub struct Trusted(Arc<[Network]>);

impl Trusted {
    /// Peers in these networks.
    pub fn new(networks: &[Network]) -> Self {
        Self(networks.into())
    }

    /// Whether a peer is one of them.
    pub(super) fn has(&self, peer: SocketAddr) -> bool {
        self.0.iter().any(|network| network.contains(peer.ip()))
    }
}

/// What a beginning of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// The first bytes of a header: all of them belong to it.
    Part,
    /// A header of this length; the client's address, unless the proxy speaks for itself.
    Whole(usize, Option<SocketAddr>),
}

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Malformed;

/// Takes the header from a connection; `None` keeps the peer (`LOCAL`, `UNKNOWN`).
///
/// # Errors
///
/// What is no header, is longer than any needs to be, or ends early. The connection is to be closed.
pub(super) async fn take(tcp: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut header = vec![0; LONGEST];
    let mut have = 0;
    loop {
        let seen = tcp.peek(&mut header[have..]).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (until, address) = match look(&header[..have + seen]) {
            Ok(Seen::Part) => (have + seen, None),
            Ok(Seen::Whole(length, address)) => (length, Some(address)),
            Err(Malformed) => return Err(io::ErrorKind::InvalidData.into()),
        };
        // They wait there: this takes what was looked at, and no more.
        tcp.read_exact(&mut header[have..until]).await?;
        if let Some(address) = address {
            return Ok(address);
        }
        have = until;
    }
}

fn look(bytes: &[u8]) -> Result<Seen, Malformed> {
    let begins = |with: &[u8]| {
        let common = bytes.len().min(with.len());
        bytes[..common] == with[..common]
    };
    // Told at the first byte that is wrong; the parser waits for more and does not look at the space.
    if !begins(VERSION_1) && !begins(VERSION_2) {
        return Err(Malformed);
    }
    let config = ParseConfig {
        include_tlvs: false,
        ..ParseConfig::default()
    };
    match ProxyHeader::parse(bytes, config) {
        Ok((_, length)) if length > LONGEST => Err(Malformed),
        Ok((header, length)) => match header.proxied_address() {
            Some(address) if address.protocol == Protocol::Datagram => Err(Malformed),
            address => Ok(Seen::Whole(length, address.map(|it| it.source))),
        },
        Err(Error::BufferTooShort) if bytes.len() < LONGEST => Ok(Seen::Part),
        Err(_) => Err(Malformed),
    }
}

const VERSION_1: &[u8] = b"PROXY ";
const VERSION_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Room for addresses and what balancers add to them: receivers must take 536 bytes (section 2.2).
const LONGEST: usize = 2048;

#[cfg(test)]
mod tests;
