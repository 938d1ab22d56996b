use super::*;

use socket2::SockRef;

fn tcp(port: u16) -> Address {
    Address::Tcp {
        host: "127.0.0.1".into(),
        port,
    }
}

#[test]
fn an_address_reads_as_it_is_written() {
    for text in [
        "127.0.0.1:8080",
        "[::1]:0",
        "localhost:80",
        "unix:/run/tollgate.sock",
    ] {
        let address: Address = text.parse().unwrap();
        assert_eq!(address.to_string(), text);
    }
    for text in [
        "",
        ":8080",
        "8080",
        "host",
        "host:",
        "host:99999",
        "::1:80",
        "unix:",
        "http://a:1",
    ] {
        let error = text.parse::<Address>().unwrap_err();
        assert!(error.to_string().contains("host:port"), "{text}");
    }
}

#[test]
fn loopback_is_told_from_the_rest() {
    for text in [
        "127.0.0.1:1",
        "127.9.9.9:1",
        "[::1]:1",
        "[::ffff:127.0.0.1]:1",
        "LocalHost:1",
        "unix:/x",
    ] {
        assert!(text.parse::<Address>().unwrap().is_loopback(), "{text}");
    }
    for text in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "example.org:1"] {
        assert!(!text.parse::<Address>().unwrap().is_loopback(), "{text}");
    }
}

#[test]
fn a_port_that_is_taken_is_named_with_the_way_out() {
    let bound = bind(&tcp(0), 2, "--listen").unwrap();
    let error = bind(bound.address(), 1, "--listen").unwrap_err();
    assert!(error.is_taken());
    let address = bound.address();
    assert_eq!(
        error.to_string(),
        format!("{address} is taken; choose another with --listen")
    );
}

#[test]
fn another_error_says_what_it_was() {
    let nowhere = "unix:/nonexistent-directory/socket".parse().unwrap();
    let error = bind(&nowhere, 1, "--listen").unwrap_err();
    assert!(!error.is_taken());
    assert!(
        error
            .to_string()
            .starts_with("cannot listen on unix:/nonexistent-directory/socket: ")
    );
}

#[test]
fn all_workers_share_the_port_that_the_first_got() {
    let bound = bind(&tcp(0), 3, "--listen").unwrap();
    let expected = bound.address().socket_addr().unwrap();
    assert_ne!(expected.port(), 0);
    let (listeners, unlink) = bound.into_parts();
    assert!(unlink.is_none());
    assert_eq!(listeners.len(), 3);
    for listener in &listeners {
        let Listener::Tcp(listener) = listener else {
            panic!("not TCP")
        };
        assert_eq!(listener.local_addr().unwrap(), expected);
        assert!(SockRef::from(listener).reuse_port().unwrap());
    }
}

#[test]
fn the_kernel_spreads_connections_over_the_workers() {
    let bound = bind(&tcp(0), 2, "--listen").unwrap();
    let at = bound.address().socket_addr().unwrap();
    let (listeners, _) = bound.into_parts();
    // The chance that one of two listeners gets none of 64 connections is 2 to the power of -63.
    let connections: Vec<_> = (0..64)
        .map(|_| std::net::TcpStream::connect(at).unwrap())
        .collect();
    let accepted = listeners.iter().map(|listener| match listener {
        Listener::Tcp(listener) => std::iter::from_fn(|| listener.accept().ok()).count(),
        Listener::Unix(_) => 0,
    });
    let accepted: Vec<_> = accepted.collect();
    assert_eq!(accepted.iter().sum::<usize>(), connections.len());
    assert!(accepted.iter().all(|count| *count > 0), "{accepted:?}");
}

#[test]
fn a_unix_socket_of_nobody_is_replaced_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let address = Address::Unix(path.clone());
    // A listener that was closed without removing its file.
    drop(UnixListener::bind(&path).unwrap());
    let bound = bind(&address, 2, "--listen").unwrap();
    assert_eq!(bound.listeners.len(), 2);
    assert!(bind(&address, 1, "--listen").unwrap_err().is_taken());
    assert!(UnixStream::connect(&path).is_ok());
    drop(bound);
    assert!(!path.exists());
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes");
    fs::write(&path, "mine").unwrap();
    let error = bind(&Address::Unix(path.clone()), 1, "--listen").unwrap_err();
    assert!(error.to_string().contains("not a socket"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
}

#[test]
fn a_socket_that_replaced_ours_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let bound = bind(&Address::Unix(path.clone()), 1, "--listen").unwrap();
    let aside = folder.path().join("aside");
    let theirs = UnixListener::bind(&aside).unwrap();
    fs::rename(&aside, &path).unwrap();
    drop(bound);
    assert!(path.exists());
    drop(theirs);
}

#[tokio::test]
async fn an_accepted_stream_does_not_hold_small_writes_back() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap());
    let (client, server) = tokio::join!(client, listener.accept());
    let (client, (server, _)) = (client.unwrap(), server.unwrap());
    assert!(!server.nodelay().unwrap());
    accepted(&server).unwrap();
    assert!(server.nodelay().unwrap());
    drop(client);
}
