//! `healthcheck`: asks a running gateway whether it is ready, for containers that hold no other program.

use std::{
    error::Error,
    fmt,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs},
    os::unix::net::UnixStream,
    time::Duration,
};

use crate::listen::Address;

/// The gateway is not ready, or nobody can tell.
#[derive(Debug)]
pub enum NotReady {
    /// Nobody answers as a gateway does.
    Silent(Address, io::Error),
    /// It answers with another status; the text is its own.
    Answer(u16, String),
    /// The system chose the port when the gateway started.
    AnyPort,
}

/// Asks `/readyz` of the admin listener at `admin`. An address that stands for every one of this machine is asked
/// by loopback. Takes at most a few seconds.
///
/// # Errors
///
/// Whatever is not a 200.
pub fn readiness(admin: &Address) -> Result<(), NotReady> {
    let silent = |error| NotReady::Silent(admin.clone(), error);
    let answer = match admin {
        Address::Tcp { port: 0, .. } => return Err(NotReady::AnyPort),
        Address::Tcp { host, port } => connect(host, *port).and_then(ask),
        Address::Unix(path) => UnixStream::connect(path).and_then(|stream| {
            stream.set_read_timeout(Some(WAIT))?;
            stream.set_write_timeout(Some(WAIT))?;
            ask(stream)
        }),
    };
    match judge(&answer.map_err(silent)?) {
        Some((200, _)) => Ok(()),
        Some((status, text)) => Err(NotReady::Answer(status, text)),
        None => Err(silent(io::Error::other("the answer is not HTTP"))),
    }
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for found in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&here(found), WAIT) {
            Ok(stream) => {
                stream.set_read_timeout(Some(WAIT))?;
                stream.set_write_timeout(Some(WAIT))?;
                return Ok(stream);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Whoever listens on every address listens on loopback.
fn here(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn ask(mut stream: impl Read + Write) -> io::Result<Vec<u8>> {
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    // Ours has a few hundred bytes; whoever else answers is not listened to for long.
    stream.take(LONGEST).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Status and text of an answer.
fn judge(answer: &[u8]) -> Option<(u16, String)> {
    let answer = String::from_utf8_lossy(answer);
    let status = answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let (_, text) = answer.split_once("\r\n\r\n")?;
    let clean = text.chars().filter(|c| !c.is_control()).take(80);
    Some((status, clean.collect()))
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(address, error) => {
                write!(f, "no gateway answers on {address}, its admin listener: {error}")
            }
            Self::Answer(status, text) => write!(f, "not ready: {status} {text}"),
            Self::AnyPort => f.write_str(
                "the system chose the port of the admin listener when the gateway started: name it with --admin",
            ),
        }
    }
}

impl Error for NotReady {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Silent(_, error) => Some(error),
            Self::Answer(..) | Self::AnyPort => None,
        }
    }
}

/// How long each of connecting, writing and reading may take.
const WAIT: Duration = Duration::from_secs(2);
/// Most bytes of an answer.
const LONGEST: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_means_all_is_asked_by_loopback() {
        for (listens, asked) in [
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:2", "[::1]:2"),
            ("10.0.0.1:3", "10.0.0.1:3"),
        ] {
            assert_eq!(here(listens.parse().unwrap()), asked.parse().unwrap());
        }
    }

    #[test]
    fn only_a_status_is_an_answer() {
        let answer = b"HTTP/1.1 503 Service Unavailable\r\na: b\r\n\r\ndrain\x1b[1ming\n";
        assert_eq!(judge(answer), Some((503, "drain[1ming".to_owned())));
        for other in [
            &b""[..],
            b"SSH-2.0-x\r\n\r\n",
            b"HTTP/1.1 2",
            b"HTTP/1.1 abc\r\n\r\n",
        ] {
            assert_eq!(judge(other), None);
        }
    }
}
