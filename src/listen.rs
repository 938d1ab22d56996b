//! Binds the addresses on which the gateway listens: one listener for each worker, and a port that
//! is in use is noticed.

use std::{
    error::Error,
    fmt, fs,
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs},
    os::unix::{
        fs::{FileTypeExt, MetadataExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    str::FromStr,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;

/// Where to listen: `host:port` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A name or an IP address (without brackets), and a port; port 0 lets the system choose.
    Tcp {
        /// Name or IP address.
        host: String,
        /// Port.
        port: u16,
    },
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// One address, bound. Dropping it closes the listeners; the file of a unix socket is removed.
#[derive(Debug)]
pub struct Bound {
    address: Address,
    listeners: Vec<Listener>,
    unlink: Option<Unlink>,
}

/// A listening, non-blocking socket of one worker.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix stream socket.
    Unix(UnixListener),
}

/// Removes the file of a unix socket when it is dropped, if it is still the one that was bound.
#[derive(Debug)]
pub struct Unlink {
    path: PathBuf,
    file: (u64, u64),
}

/// An address cannot be listened on.
#[derive(Debug)]
pub struct BindError {
    address: Address,
    flag: &'static str,
    cause: io::Error,
}

/// Not an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressError(String);

/// Binds `address` with `count` listeners (at least one). `flag` is the option of the command line
/// that chooses another address; the error names it.
///
/// The first TCP listener is bound without `SO_REUSEPORT`, so that a port which somebody else uses
/// is an error, also if that somebody set `SO_REUSEPORT`; it sets the option after the bind, the
/// others before theirs. Of a unix socket each worker gets a duplicate of one descriptor.
pub fn bind(address: &Address, count: usize, flag: &'static str) -> Result<Bound, BindError> {
    let bound = match address {
        Address::Tcp { host, port } => bind_tcp(host, *port, count),
        Address::Unix(path) => bind_unix(path, count),
    };
    bound.map_err(|cause| BindError {
        address: address.clone(),
        flag,
        cause,
    })
}

/// Prepares a TCP stream that was just accepted: small writes leave at once.
///
/// # Errors
///
/// The peer may be gone already.
pub fn accepted(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    // A kernel that does not know it serves as well, and holds more.
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT);
    Ok(())
}

/// Most bytes that wait unsent in the kernel for a client. With the megabytes that it would take a slow client's
/// progress could not be seen for minutes, and each stalled one would hold them.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 64 * 1024;

fn bind_tcp(host: &str, port: u16, count: usize) -> io::Result<Bound> {
    let mut failed = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for candidate in (host, port).to_socket_addrs()? {
        match tcp_socket(candidate, false) {
            Ok(first) => return all_tcp(first, count),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn all_tcp(first: Socket, count: usize) -> io::Result<Bound> {
    let first: TcpListener = first.into();
    let actual = first.local_addr()?;
    let mut listeners = vec![Listener::Tcp(first)];
    while listeners.len() < count {
        listeners.push(Listener::Tcp(tcp_socket(actual, true)?.into()));
    }
    Ok(Bound {
        address: actual.into(),
        listeners,
        unlink: None,
    })
}

fn tcp_socket(at: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of a process that has just ended do not keep the port.
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&at.into())?;
    socket.set_reuse_port(true)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn bind_unix(path: &Path, count: usize) -> io::Result<Bound> {
    remove_stale(path)?;
    let first = UnixListener::bind(path)?;
    let unlink = Unlink::new(path)?;
    // The standard library listens with a backlog of its own; listening again sets ours.
    socket2::SockRef::from(&first).listen(BACKLOG)?;
    first.set_nonblocking(true)?;
    let mut listeners = Vec::with_capacity(count);
    for _ in 1..count {
        listeners.push(Listener::Unix(first.try_clone()?));
    }
    listeners.push(Listener::Unix(first));
    Ok(Bound {
        address: Address::Unix(path.to_owned()),
        listeners,
        unlink: Some(unlink),
    })
}

/// Removes a socket file on which nobody listens.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::other("the file exists and is not a socket"));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

// ===== impl Address =====

impl Address {
    /// Whether only this machine can connect: a unix socket, or a loopback address.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Tcp { host, .. } => {
                host.eq_ignore_ascii_case("localhost")
                    || host
                        .parse()
                        .is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback())
            }
            Self::Unix(_) => true,
        }
    }

    /// The socket address, if the host is an IP address.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp { host, port } => Some(SocketAddr::new(host.parse().ok()?, *port)),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(at: SocketAddr) -> Self {
        Self::Tcp {
            host: at.ip().to_string(),
            port: at.port(),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err(AddressError(text.to_owned())),
                path => Ok(Self::Unix(path.into())),
            };
        }
        if let Ok(at) = text.parse::<SocketAddr>() {
            return Ok(at.into());
        }
        text.rsplit_once(':')
            .filter(|(host, _)| !host.is_empty() && !host.contains([':', '/', '[', ']']))
            .and_then(|(host, port)| {
                Some(Self::Tcp {
                    host: host.to_owned(),
                    port: port.parse().ok()?,
                })
            })
            .ok_or_else(|| AddressError(text.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

// ===== impl Bound =====

impl Bound {
    /// The address with the port that the system chose.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The listeners, and what removes the file of a unix socket once they are closed.
    pub fn into_parts(self) -> (Vec<Listener>, Option<Unlink>) {
        (self.listeners, self.unlink)
    }
}

// ===== impl Unlink =====

impl Unlink {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: identity(path)?,
        })
    }
}

impl Drop for Unlink {
    fn drop(&mut self) {
        // Somebody may have replaced the file by a socket of their own.
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            // Nothing is lost if it stays: the next start replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

// ===== errors =====

impl BindError {
    /// Whether somebody else listens there.
    pub fn is_taken(&self) -> bool {
        self.cause.kind() == ErrorKind::AddrInUse
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            address,
            flag,
            cause,
        } = self;
        if self.is_taken() {
            write!(f, "{address} is taken; choose another with {flag}")
        } else {
            write!(f, "cannot listen on {address}: {cause}")
        }
    }
}

impl Error for BindError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.0;
        write!(
            f,
            "`{text}` is no address: write host:port (as 127.0.0.1:8080) or unix:/path"
        )
    }
}

impl Error for AddressError {}

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

#[cfg(test)]
mod tests;
