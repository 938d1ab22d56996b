//! One connection over an in-memory pipe: polls, turns and time.

use std::task::Waker;

use http_body::Body;

use super::*;

#[derive(Clone, Debug)]
struct Never;

impl Service<Uri> for Never {
    type Response = TokioIo<DuplexStream>;
    type Error = Infallible;
    type Future = std::future::Pending<Result<TokioIo<DuplexStream>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        std::future::pending()
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_not_made_in_time_is_given_up_then() {
    let origin = Uri::from_static("http://provider.test");
    let start = SystemClock.now();
    let client = Client::new(Never, origin.clone(), Pool::default());
    let error = call(&client, post("x", "{}")).await.unwrap_err();
    assert_eq!(reason(&error), Reason::Connect);
    assert_eq!(SystemClock.now() - start, Duration::from_secs(5));

    let start = SystemClock.now();
    let client = Client::new(Never, origin, Pool::default());
    let client = client.connect_timeout(Duration::from_millis(250));
    assert!(call(&client, post("x", "{}")).await.is_err());
    assert_eq!(SystemClock.now() - start, Duration::from_millis(250));
}

/// The answer's body and the provider's end of its connection.
async fn answered(
    head: &str,
) -> (
    ResponseBody<TokioIo<DuplexStream>, Sent, SystemClock>,
    DuplexStream,
) {
    let pipes = Pipes::default();
    let origin = Uri::from_static("http://provider.test");
    let client = Client::new(pipes.clone(), origin, Pool::default());
    let (answer, end) = tokio::join!(call(&client, post("x", "{}")), async {
        tokio::task::yield_now().await;
        let mut end = pipes.last();
        read_request(&mut end, "{}").await;
        write(&mut end, head).await;
        end
    });
    (answer.unwrap().into_body(), end)
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

#[tokio::test]
async fn a_frame_is_handed_over_in_the_poll_that_received_it() {
    let (mut body, mut end) = answered(CHUNKED).await;
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut body).poll_frame(&mut cx).is_pending());
    for word in ["5\r\nfirst\r\n", "6\r\nsecond\r\n"] {
        write(&mut end, word).await;
        let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut cx) else {
            panic!("a poll did not hand over what had arrived");
        };
        assert!(word.contains(std::str::from_utf8(frame.data_ref().unwrap()).unwrap()));
        assert!(Pin::new(&mut body).poll_frame(&mut cx).is_pending());
    }
    write(&mut end, "0\r\n\r\n").await;
    assert!(matches!(
        Pin::new(&mut body).poll_frame(&mut cx),
        Poll::Ready(None)
    ));
}

#[tokio::test]
async fn a_hundred_events_in_one_write_arrive_without_a_task_or_a_turn() {
    let (mut body, mut end) = answered(CHUNKED).await;
    let events = "9\r\ndata: x\n\n\r\n".repeat(100);
    write(&mut end, &events).await;
    let mut cx = Context::from_waker(Waker::noop());
    let mut seen = 0;
    while let Poll::Ready(frame) = Pin::new(&mut body).poll_frame(&mut cx) {
        let data = frame.unwrap().unwrap().into_data().unwrap();
        assert_eq!(data, "data: x\n\n");
        seen += 1;
    }
    assert_eq!(seen, 100);
    let runtime = tokio::runtime::Handle::current();
    assert_eq!(runtime.metrics().num_alive_tasks(), 0);
}

#[tokio::test]
async fn trailers_of_an_answer_are_dropped() {
    let (body, mut end) = answered(CHUNKED).await;
    write(&mut end, "2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n").await;
    let whole = body.collect().await.unwrap();
    assert!(whole.trailers().is_none());
    assert_eq!(whole.to_bytes(), "ok");
}

#[tokio::test]
async fn the_last_byte_of_an_announced_length_ends_the_body_and_frees_the_connection() {
    let pipes = Pipes::default();
    let origin = Uri::from_static("http://provider.test");
    let client = Client::new(pipes.clone(), origin, Pool::default());
    let (answer, _end) = tokio::join!(call(&client, post("x", "{}")), async {
        tokio::task::yield_now().await;
        let mut end = pipes.last();
        read_request(&mut end, "{}").await;
        write(&mut end, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        end
    });
    let mut body = answer.unwrap().into_body();
    assert_eq!(body.size_hint().exact(), Some(2));
    assert_eq!(client.idle(), 0);
    body.frame().await.unwrap().unwrap();
    // A server stops here: it asks for no further frame.
    assert!(body.is_end_stream());
    assert_eq!(client.idle(), 1);
}

#[test]
fn types_that_a_server_needs_can_cross_threads() {
    fn is<T: Send>() {}
    type Io = TokioIo<TcpStream>;
    type Tcped = Client<Tcp, Sent, Io>;
    fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<Tcped>();
    is::<<Tcped as Service<Request<Sent>>>::Future>();
    is::<ResponseBody<Io, Sent, SystemClock>>();
}

/// A pipe whose reading end looks alive once more and is at its end from then on.
#[derive(Debug)]
struct Dying {
    pipe: TokioIo<DuplexStream>,
    // Polls until the end once it is dying.
    left: Arc<Mutex<Option<usize>>>,
}

impl hyper::rt::Read for Dying {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        let left = *self.left.lock().unwrap();
        match left {
            None => Pin::new(&mut self.pipe).poll_read(cx, buf),
            Some(0) => Poll::Ready(Ok(())),
            Some(more) => {
                *self.left.lock().unwrap() = Some(more - 1);
                Poll::Pending
            }
        }
    }
}

impl hyper::rt::Write for Dying {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

/// Makes pipes of which the first dies when told to.
#[derive(Clone, Debug, Default)]
struct DyingPipes {
    pipes: Pipes,
    left: Arc<Mutex<Option<usize>>>,
    made: Arc<AtomicUsize>,
}

impl Service<Uri> for DyingPipes {
    type Response = Dying;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Dying, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        self.pipes.0.lock().unwrap().push(theirs);
        let pipe = TokioIo::new(ours);
        let first = self.made.fetch_add(1, Relaxed) == 0;
        let left = if first {
            self.left.clone()
        } else {
            Arc::default()
        };
        std::future::ready(Ok(Dying { pipe, left }))
    }
}

#[tokio::test]
async fn a_connection_that_proves_dead_before_a_byte_was_written_is_replaced_with_the_same_request()
{
    let connector = DyingPipes::default();
    let (pipes, left) = (connector.pipes.clone(), connector.left.clone());
    let origin = Uri::from_static("http://provider.test");
    let client = Client::new(connector, origin, Pool::default());
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let serve = async |body| {
        settle().await;
        let mut end = pipes.last();
        let sent = read_request(&mut end, body).await;
        write(&mut end, ok).await;
        (end, sent)
    };
    let (answer, (mut first, _)) = tokio::join!(text(&client, post("x", "{}")), serve("{}"));
    assert_eq!((answer.unwrap().as_str(), client.idle()), ("ok", 1));

    // Dead by the time the request is to be written.
    *left.lock().unwrap() = Some(0);
    let (answer, (_, sent)) = tokio::join!(text(&client, post("x", "again")), serve("again"));
    assert_eq!(answer.unwrap(), "ok");
    assert!(sent.starts_with("POST /v1/chat/completions?a=%2F HTTP/1.1\r\n"));
    let mut written = Vec::new();
    first.read_to_end(&mut written).await.unwrap();
    assert!(written.is_empty(), "the dead one got a part of it");
}
