use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use super::*;

fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = VERSION_2.to_vec();
    header.extend([command, family]);
    header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    header.extend(rest);
    header
}

const V4: [u8; 12] = [10, 9, 8, 7, 127, 0, 0, 1, 15, 160, 0, 80];

/// Headers, and whose connection they say it is.
fn good() -> Vec<(Vec<u8>, Option<&'static str>)> {
    let v6 = {
        let mut rest = vec![0x20, 1, 0xd, 0xb8];
        rest.extend([0; 11]);
        rest.push(7);
        rest.extend([0; 16]);
        rest.extend([15, 160, 0, 80]);
        rest
    };
    let mut noted = V4.to_vec();
    // A unique id, and padding.
    noted.extend([5, 0, 2, 1, 2, 4, 0, 3, 0, 0, 0]);
    let longest = b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    vec![
        (
            b"PROXY TCP4 10.9.8.7 127.0.0.1 4000 80\r\n".to_vec(),
            Some("10.9.8.7:4000"),
        ),
        (
            b"PROXY TCP6 2001:db8::7 ::1 4000 80\r\n".to_vec(),
            Some("[2001:db8::7]:4000"),
        ),
        (
            longest.to_vec(),
            Some("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
        (version_2(0x21, 0x11, &V4), Some("10.9.8.7:4000")),
        (version_2(0x21, 0x21, &v6), Some("[2001:db8::7]:4000")),
        (version_2(0x21, 0x11, &noted), Some("10.9.8.7:4000")),
        (version_2(0x20, 0x00, &[]), None),
        (version_2(0x20, 0x11, &V4), None),
        (version_2(0x21, 0x00, &[]), None),
        (version_2(0x21, 0x31, &[b'/'; 216]), None),
    ]
}

#[test]
fn each_form_of_a_header_is_read_and_ends_where_it_ends() {
    for (header, client) in good() {
        let client = client.map(|client| client.parse().unwrap());
        let whole = Ok(Seen::Whole(header.len(), client));
        assert_eq!(look(&header), whole, "{}", header.escape_ascii());
        let followed = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
        assert_eq!(look(&followed), whole, "{}", header.escape_ascii());
        for end in 0..header.len() {
            assert_eq!(
                look(&header[..end]),
                Ok(Seen::Part),
                "{}",
                header[..end].escape_ascii()
            );
        }
    }
}

#[test]
fn what_is_no_header_is_malformed_at_once() {
    // The parser looks at the length once the addresses that are announced could be there.
    let short = [version_2(0x21, 0x11, &V4[..8]), vec![0; 4]].concat();
    let datagrams = version_2(0x21, 0x12, &V4);
    let long = version_2(0x21, 0x11, &[0; LONGEST]);
    let cases: [&[u8]; 14] = [
        b"G",
        b"GET / HTTP/1.1\r\n",
        b"\r\nGET",
        b"\x16\x03\x01",
        b"PROXYxTCP4 10.9.8.7 127.0.0.1 4000 80\r\n",
        b"proxy TCP4 10.9.8.7 127.0.0.1 4000 80\r\n",
        b"PROXY TCP5 10.9.8.7 127.0.0.1 4000 80\r\n",
        b"PROXY TCP4 10.9.8.777 127.0.0.1 4000 80\r\n",
        b"PROXY TCP4 10.9.8.7 127.0.0.1 4000 800000\r\n",
        b"PROXY TCP4 10.9.8.7 127.0.0.1 4000 80\rx",
        b"PROXY UNKNOWN 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
        &short,
        &datagrams,
        &long,
    ];
    for case in cases {
        assert_eq!(
            look(case),
            Err(Malformed),
            "{}",
            case[..case.len().min(60)].escape_ascii()
        );
    }
    assert_eq!(
        look(&version_2(0x31, 0x11, &V4)),
        Err(Malformed),
        "version 3"
    );
    assert_eq!(
        look(&version_2(0x22, 0x11, &V4)),
        Err(Malformed),
        "no such command"
    );
}

#[test]
fn a_peer_is_trusted_by_its_network() {
    let trusted = Trusted::new(&["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
    for (peer, expected) in [
        ("10.1.2.3:9", true),
        ("[::ffff:10.1.2.3]:9", true),
        ("[fd00::1]:9", true),
        ("11.0.0.1:9", false),
        ("[::1]:9", false),
    ] {
        assert_eq!(trusted.has(peer.parse().unwrap()), expected, "{peer}");
    }
    assert!(!Trusted::new(&[]).has("127.0.0.1:9".parse().unwrap()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// However the bytes are cut, exactly the header is taken: what follows is there for HTTP.
    #[test]
    fn a_header_in_pieces_is_the_same_header(
        which in 0..12_usize,
        cuts in proptest::collection::vec(0..300_usize, 0..6),
        payload in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let (header, client) = good().swap_remove(which);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (got, rest) = runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            client.set_nodelay(true).unwrap();
            let (mut server, _) = listener.accept().await.unwrap();
            let bytes = [&header[..], &payload].concat();
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let write = async {
                for piece in cuts.windows(2) {
                    client.write_all(&bytes[piece[0]..piece[1]]).await.unwrap();
                    // The reader has a turn with what there is.
                    for _ in 0..4 {
                        tokio::task::yield_now().await;
                    }
                }
                client.shutdown().await.unwrap();
            };
            let (got, ()) = tokio::join!(take(&mut server), write);
            let mut rest = Vec::new();
            server.read_to_end(&mut rest).await.unwrap();
            (got.unwrap(), rest)
        });
        prop_assert_eq!(got, client.map(|client| client.parse().unwrap()));
        prop_assert_eq!(rest, payload);
    }

    #[test]
    fn no_bytes_are_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..300), version in 0..3_usize) {
        let begin: &[u8] = [b"".as_slice(), VERSION_1, VERSION_2][version];
        let bytes = [begin, &bytes].concat();
        if let Ok(Seen::Whole(length, _)) = look(&bytes) {
            prop_assert!(length <= bytes.len());
        }
    }
}
