//! What reaches the server of what a client sends, however it is cut.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use tokio::{io::duplex, time::Instant};

use super::*;

/// Notes what it is told.
#[derive(Clone, Debug, Default)]
struct Heard(Arc<Mutex<(usize, Vec<Refusal>)>>);

impl Watch for Heard {
    fn head_begins(&mut self) {
        self.0.lock().unwrap().0 += 1;
    }

    fn refused(&mut self, refusal: &Refusal) -> Vec<u8> {
        self.0.lock().unwrap().1.push(*refusal);
        b"refused".to_vec()
    }
}

impl Heard {
    fn heads(&self) -> usize {
        self.0.lock().unwrap().0
    }

    fn refusals(&self) -> Vec<u16> {
        let heard = self.0.lock().unwrap();
        heard.1.iter().map(Refusal::status).collect()
    }
}

/// A transport of which each read brings one piece, and then the end.
struct Pieces(std::collections::VecDeque<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(piece) = self.0.front_mut() {
            let some = piece.len().min(buf.remaining());
            buf.put_slice(&piece[..some]);
            piece.drain(..some);
            if piece.is_empty() {
                self.0.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Everything that is handed on with a buffer of this size; whoever answers has always ended when it reads on.
fn handed_on(pieces: Vec<Vec<u8>>, room: usize) -> (Vec<u8>, io::Result<()>, Heard) {
    let heard = Heard::default();
    let pieces = Pieces(
        pieces
            .into_iter()
            .filter(|piece| !piece.is_empty())
            .collect(),
    );
    let mut wire = Wire::with(pieces, Conn::new(), Limits::default(), heard.clone());
    let mut all = Vec::new();
    let mut room = vec![0; room];
    loop {
        let mut buf = ReadBuf::new(&mut room);
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(&mut wire).poll_read(&mut cx, &mut buf) {
            Poll::Pending => unreachable!("the pieces are there"),
            Poll::Ready(Err(error)) => return (all, Err(error), heard),
            Poll::Ready(Ok(())) if buf.filled().is_empty() => return (all, Ok(()), heard),
            Poll::Ready(Ok(())) => all.extend_from_slice(buf.filled()),
        }
    }
}

fn cut(text: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
    cuts.extend([0, text.len()]);
    cuts.sort_unstable();
    cuts.windows(2)
        .map(|pair| text[pair[0]..pair[1]].to_vec())
        .collect()
}

const GOOD: [&str; 5] = [
    "GET /v1/models?a=b HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "POST /x HTTP/1.1\r\nhost: [::1]:80\r\ncontent-length: 5\r\n\r\nhello",
    "POST /x HTTP/1.1\r\nhost: a_b.example.\r\nTransfer-Encoding: Chunked\r\nx:\r\n\r\n5;a=b\r\nhello\r\n0\r\nx: y\r\n\r\n",
    "PUT http://h:80/x HTTP/1.1\r\nhost: H:80\r\ncontent-length: 0\r\nx: \u{e9}\t \r\n\r\n",
    "OPTIONS * HTTP/1.0\r\n\r\n",
];

proptest! {
    #[test]
    fn good_requests_pass_byte_for_byte_through_any_cut(
        chosen in prop::collection::vec(0..GOOD.len(), 1..5),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
        room in 1usize..200,
    ) {
        let text: String = chosen.iter().map(|at| GOOD[*at]).collect();
        let (read, ended, heard) = handed_on(cut(text.as_bytes(), &cuts), room);
        prop_assert!(ended.is_ok());
        prop_assert_eq!(String::from_utf8(read).unwrap(), text);
        prop_assert_eq!((heard.heads(), heard.refusals()), (chosen.len(), vec![]));
    }

    #[test]
    fn a_bad_request_is_refused_alike_through_any_cut_and_what_was_before_passes(
        before in 0..GOOD.len(),
        bad in 0..BAD.len(),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
        room in 1usize..200,
    ) {
        let (text, status) = BAD[bad];
        let text = format!("{}{text}GET / HTTP/1.1\r\nhost: behind\r\n\r\n", GOOD[before]);
        let (read, ended, heard) = handed_on(cut(text.as_bytes(), &cuts), room);
        prop_assert!(ended.is_ok());
        prop_assert_eq!(String::from_utf8(read).unwrap(), GOOD[before]);
        prop_assert_eq!(heard.refusals(), vec![status]);
    }

    #[test]
    fn malformed_chunks_fail_and_give_no_byte_of_what_is_behind(
        bad in 0..CHUNKS.len(),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
        room in 1usize..200,
    ) {
        let head = "POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        let text = format!("{head}{}GET / HTTP/1.1\r\nhost: behind\r\n\r\n", CHUNKS[bad]);
        let (read, ended, heard) = handed_on(cut(text.as_bytes(), &cuts), room);
        let read = String::from_utf8(read).unwrap();
        prop_assert!(!read.contains("behind"), "{}", read);
        // With the head in one read it is refused as a whole, else the body fails.
        match ended {
            Ok(()) => prop_assert_eq!((read.as_str(), heard.refusals()), ("", vec![400])),
            Err(error) => {
                prop_assert!(read.starts_with(head));
                let why = Rejection::find(&error).unwrap();
                prop_assert_eq!((why.layer(), why.reason()), ("wire", crate::error::Reason::Malformed));
            }
        }
    }
}

const BAD: [(&str, u16); 9] = [
    ("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a\nx: y\r\n\r\n", 400),
    ("GET / HTTP/1.1\nhost: a\n\n", 400),
    ("GET / HTTP/1.1\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a\r\n x: y\r\n\r\n", 400),
    (
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        400,
    ),
    ("CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n", 405),
    ("\r\n\r\n", 400),
    ("GET http://b/ HTTP/1.1\r\nhost: a\r\n\r\n", 400),
];

const CHUNKS: [&str; 8] = [
    "5\r\nhelloX\r\n0\r\n\r\n",
    "5\nhello\r\n0\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    "5 \r\nhello\r\n0\r\n\r\n",
    "5;\u{1}\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n0\r\nx\ny: z\r\n\r\n",
    "\r\nhello\r\n0\r\n\r\n",
    "1000000000000000\r\nhello\r\n0\r\n\r\n",
];

#[test]
fn heads_over_their_limits_are_refused_before_they_are_whole() {
    let limits = Limits {
        head: 64,
        headers: 2,
        target: 40,
        ..Limits::default()
    };
    for (text, status) in [
        (format!("GET /{} HTTP/1.1\r\n", "a".repeat(40)), 414),
        (format!("GET /{}", "a".repeat(64)), 414),
        (format!("GET / HTTP/1.1\r\nx: {}", "a".repeat(64)), 431),
        (
            format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(64)),
            431,
        ),
        (
            "GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\ny: 2\r\n\r\n".into(),
            431,
        ),
    ] {
        let heard = Heard::default();
        let pieces = Pieces(text.as_bytes().chunks(7).map(<[u8]>::to_vec).collect());
        let mut wire = Wire::with(pieces, Conn::new(), limits, heard.clone());
        let mut room = [0; 8192];
        let mut buf = ReadBuf::new(&mut room);
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(())) = Pin::new(&mut wire).poll_read(&mut cx, &mut buf) else {
            panic!("an end is what the server is to see");
        };
        assert!(buf.filled().is_empty());
        assert_eq!(heard.refusals(), [status], "{text:.40}");
    }
}

/// What is sent behind a request waits for the end of its answer, and the end of the connection is seen behind it.
#[tokio::test]
async fn nothing_is_handed_on_while_a_request_is_answered() {
    let (ours, mut theirs) = duplex(1024);
    let conn = Conn::new();
    let mut wire = Wire::with(ours, conn.clone(), Limits::default(), ());
    let mut read = [0; 1024];
    theirs.write_all(GOOD[0].as_bytes()).await.unwrap();
    theirs.write_all(GOOD[1].as_bytes()).await.unwrap();
    assert_eq!(wire.read(&mut read).await.unwrap(), GOOD[0].len());
    let answering = conn.answer();
    let mut ahead = read_now(&mut wire, &mut read);
    assert!(ahead.is_none(), "{ahead:?}");
    drop(answering);
    ahead = read_now(&mut wire, &mut read);
    assert_eq!(ahead, Some(GOOD[1].len()));

    let _answering = conn.answer();
    theirs.write_all(b"GET").await.unwrap();
    assert_eq!(read_now(&mut wire, &mut read), None);
    drop(theirs);
    assert_eq!(read_now(&mut wire, &mut read), Some(0), "the end");
}

/// One read, now: how much it brought.
fn read_now(wire: &mut Wire<tokio::io::DuplexStream>, read: &mut [u8]) -> Option<usize> {
    let mut buf = ReadBuf::new(read);
    let mut cx = Context::from_waker(Waker::noop());
    match Pin::new(wire).poll_read(&mut cx, &mut buf) {
        Poll::Ready(done) => {
            done.unwrap();
            Some(buf.filled().len())
        }
        Poll::Pending => None,
    }
}

/// The refusal is the last that is written, when the server has shut its side.
#[tokio::test]
async fn the_answer_to_a_bad_head_comes_behind_what_was_written_before() {
    let (ours, mut theirs) = duplex(1024);
    let mut wire = Wire::with(ours, Conn::new(), Limits::default(), Heard::default());
    theirs.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(wire.read(&mut [0; 64]).await.unwrap(), 0);
    wire.write_all(b"before ").await.unwrap();
    wire.shutdown().await.unwrap();
    let mut told = String::new();
    theirs.read_to_string(&mut told).await.unwrap();
    assert_eq!(told, "before refused");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_given_up_and_one_that_takes_a_little_is_not() {
    let (ours, mut theirs) = duplex(16);
    let conn = Conn::new();
    let limits = Limits {
        slow_reader: Some(Duration::from_secs(5)),
        ..Limits::default()
    };
    let mut wire = Wire::with(ours, conn.clone(), limits, ());
    let start = Instant::now();
    let reader = async {
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_secs(4)).await;
            theirs.read_exact(&mut [0; 8]).await.unwrap();
        }
    };
    let writer = async { wire.write_all(&[b'x'; 200]).await };
    let (written, ()) = tokio::join!(writer, reader);
    assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(start.elapsed().as_secs(), 4 * 4 + 5);
    assert_eq!(conn.asked_to_cut(), Some(Cut::SlowReader));
}
