use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tollgate_testing::{
    body::{BoxError, Collected, Script, collect},
    laws::{self, Outcome},
};
use tower::{Layer, ServiceExt, service_fn};

use super::{TimeoutLayer, Timeouts};
use crate::{
    body::heard::{now, passes_each_ending},
    clock::{Clock, SystemClock},
    dialect::{self, Recognised},
    error::{Reason, Rejection},
    facts::Intent,
    json,
};

const CHAT: &str = "/v1/chat/completions";
const PING: &str = ": ping\n\n";
const ROLE: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"}}]}\n\n";
const TOKEN: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A body whose frames come at these seconds after the call, and which then ends, or never does.
struct Timed {
    frames: VecDeque<(Instant, &'static str)>,
    timer: Pin<Box<tokio::time::Sleep>>,
    endless: bool,
    gone: Arc<AtomicBool>,
}

impl Timed {
    fn new(frames: &[(u64, &'static str)]) -> Self {
        let start = SystemClock.now();
        let frames = frames
            .iter()
            .map(|(at, text)| (start + seconds(*at), *text));
        Self {
            frames: frames.collect(),
            timer: Box::pin(SystemClock.sleep_until(start)),
            endless: false,
            gone: Arc::default(),
        }
    }

    fn endless(mut self) -> Self {
        self.endless = true;
        self
    }
}

impl Body for Timed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some((at, text)) = self.frames.front().copied() else {
            return if self.endless {
                Poll::Pending
            } else {
                Poll::Ready(None)
            };
        };
        self.timer.as_mut().reset(at.into());
        std::task::ready!(self.timer.as_mut().poll(cx));
        self.frames.pop_front();
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(text.as_bytes())))))
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        self.gone.store(true, Relaxed);
    }
}

fn request(stream: bool) -> Request<()> {
    let mut req = Request::post(CHAT).body(()).unwrap();
    let text = format!("{{\"stream\":{stream}}}");
    let root = json::check(text.as_bytes(), &json::Limits::default()).unwrap();
    let Recognised::Surface(surface) =
        dialect::recognise(&Method::POST, CHAT, None, &HeaderMap::new())
    else {
        panic!("a known path");
    };
    let asked = dialect::read(&surface, root).unwrap();
    let intent = Intent::new(surface, None, asked, root.span());
    req.extensions_mut().insert(intent);
    req
}

/// Calls a provider whose head comes after `head` seconds; the answer's body.
async fn answered(
    limits: Timeouts,
    req: Request<()>,
    head: u64,
    body: Timed,
) -> Result<super::ResponseBody<Timed, SystemClock>, BoxError> {
    let mut body = Some(body);
    let inner = service_fn(move |_: Request<()>| {
        let body = body.take().expect("called once");
        async move {
            tokio::time::sleep(seconds(head)).await;
            let response = Response::builder().header("content-type", "text/event-stream");
            Ok::<_, BoxError>(response.body(body).unwrap())
        }
    });
    let response = TimeoutLayer::new(limits).layer(inner).oneshot(req).await?;
    Ok(response.into_body())
}

/// All of an answer, and after how many seconds it was over.
async fn whole(limits: Timeouts, head: u64, body: Timed) -> (Collected, Duration) {
    let start = SystemClock.now();
    let seen = match answered(limits, request(true), head, body).await {
        Ok(body) => collect(body).await,
        Err(error) => Collected {
            error: Some(error),
            ..Collected::default()
        },
    };
    (seen, SystemClock.now() - start)
}

#[track_caller]
fn timed_out(error: Option<BoxError>) {
    let error = error.expect("its time was not up");
    let found = Rejection::find(&*error).expect("a rejection");
    assert_eq!(
        (found.reason(), found.layer()),
        (Reason::UpstreamTimeout, "upstream")
    );
}

// ===== laws =====

#[tokio::test(start_paused = true)]
async fn without_clocks_and_with_far_ones_everything_passes_untouched() {
    laws::transparent(&TimeoutLayer::new(Timeouts::off()), laws::cases()).await;
    laws::transparent(&TimeoutLayer::new(Timeouts::default()), laws::cases()).await;
}

#[tokio::test(start_paused = true)]
async fn it_is_ready_when_the_inner_service_is() {
    laws::ready(&TimeoutLayer::new(Timeouts::default())).await;
}

#[tokio::test(start_paused = true)]
async fn each_ending_passes_once() {
    for limits in [Timeouts::off(), Timeouts::default()] {
        passes_each_ending(|body| {
            let mut response = Some(Response::new(body));
            let inner = service_fn(move |_: Request<()>| {
                std::future::ready(Ok::<_, BoxError>(response.take().expect("called once")))
            });
            let service = TimeoutLayer::new(limits).layer(inner);
            now(service.oneshot(request(true))).unwrap().into_body()
        })
        .await;
    }
}

#[test]
fn its_types_can_cross_threads() {
    laws::types::<TimeoutLayer>();
}

#[tokio::test(start_paused = true)]
async fn without_facts_a_request_is_one_for_a_document() {
    let passed = |outcome: &Outcome| matches!(outcome, Outcome::Answered(..));
    laws::absent_facts(&TimeoutLayer::new(Timeouts::default()), passed).await;
    let limits = Timeouts {
        first_byte_stream: Some(seconds(1)),
        first_byte_document: Some(seconds(9)),
        first_token: Some(seconds(1)),
        ..Timeouts::off()
    };
    let start = SystemClock.now();
    let bare = Request::post(CHAT).body(()).unwrap();
    timed_out(answered(limits, bare, 50, Timed::new(&[])).await.err());
    assert_eq!(SystemClock.now() - start, seconds(9));
}

// ===== each clock =====

#[tokio::test(start_paused = true)]
async fn the_head_has_one_time_for_a_stream_and_one_for_a_document() {
    let limits = Timeouts {
        first_byte_stream: Some(seconds(5)),
        first_byte_document: Some(seconds(8)),
        ..Timeouts::off()
    };
    for (stream, limit) in [(true, 5), (false, 8)] {
        let start = SystemClock.now();
        let late = answered(limits, request(stream), 100, Timed::new(&[])).await;
        timed_out(late.err());
        assert_eq!(SystemClock.now() - start, seconds(limit));
        let body = Timed::new(&[(500, TOKEN)]);
        let body = answered(limits, request(stream), limit - 1, body)
            .await
            .unwrap();
        assert!(
            collect(body).await.whole(),
            "the clock is over with the head"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_future_whose_time_is_up_drops_what_runs_inside() {
    let limits = Timeouts {
        total: Some(seconds(3)),
        ..Timeouts::off()
    };
    let body = Timed::new(&[]);
    let gone = body.gone.clone();
    let mut future = Box::pin(answered(limits, request(true), 100, body));
    // The future is still there when the inner one is gone.
    timed_out(future.as_mut().await.err());
    assert!(gone.load(Relaxed));
}

#[tokio::test(start_paused = true)]
async fn silence_is_counted_from_the_last_byte() {
    let limits = Timeouts {
        idle: Some(seconds(10)),
        ..Timeouts::off()
    };
    let body = Timed::new(&[(29, "a"), (38, "b"), (47, "c")]).endless();
    let gone = body.gone.clone();
    let (seen, took) = whole(limits, 20, body).await;
    assert_eq!((seen.text().as_str(), took), ("abc", seconds(57)));
    timed_out(seen.error);
    assert!(gone.load(Relaxed));
    // From the head on, where nothing comes.
    let (seen, took) = whole(limits, 20, Timed::new(&[]).endless()).await;
    timed_out(seen.error);
    assert_eq!(took, seconds(30));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_its_time_is_no_silence() {
    let limits = Timeouts {
        idle: Some(seconds(10)),
        ..Timeouts::off()
    };
    let body = Timed::new(&[(1, "a"), (2, "b"), (210, "c")]);
    let mut body = Box::pin(answered(limits, request(true), 0, body).await.unwrap());
    let start = SystemClock.now();
    for text in ["a", "b", "c"] {
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), text);
        tokio::time::sleep(seconds(100)).await;
    }
    assert!(body.frame().await.is_none());
    assert_eq!(SystemClock.now() - start, seconds(310));
}

#[tokio::test(start_paused = true)]
async fn a_failed_body_is_over_and_its_inner_one_is_gone_at_once() {
    let limits = Timeouts {
        idle: Some(seconds(10)),
        ..Timeouts::off()
    };
    let inner = Timed::new(&[]).endless();
    let gone = inner.gone.clone();
    let mut body = Box::pin(answered(limits, request(true), 0, inner).await.unwrap());
    timed_out(body.frame().await.unwrap().err());
    assert!(gone.load(Relaxed) && body.is_end_stream());
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_first_output_is_waited_for_from_the_call() {
    let limits = Timeouts {
        first_token: Some(seconds(10)),
        ..Timeouts::off()
    };
    // Neither a comment nor a role is output.
    let body = Timed::new(&[(4, PING), (6, ROLE), (9, PING), (11, TOKEN)]);
    let (seen, took) = whole(limits, 2, body).await;
    assert_eq!(
        (seen.text(), took),
        ([PING, ROLE, PING].concat(), seconds(10))
    );
    timed_out(seen.error);
    // Once it has come the clock is over.
    let body = Timed::new(&[(9, TOKEN), (500, TOKEN)]);
    let (seen, took) = whole(limits, 2, body).await;
    assert!(seen.whole());
    assert_eq!(took, seconds(500));
    // Also a head that does not come is too late for it.
    let (seen, took) = whole(limits, 100, Timed::new(&[])).await;
    timed_out(seen.error);
    assert_eq!(took, seconds(10));
}

#[tokio::test(start_paused = true)]
async fn a_document_has_no_first_output() {
    let limits = Timeouts {
        first_token: Some(seconds(10)),
        ..Timeouts::off()
    };
    let body = Timed::new(&[(100, "{}")]);
    let body = answered(limits, request(false), 50, body).await.unwrap();
    assert!(collect(body).await.whole());
}

#[tokio::test(start_paused = true)]
async fn the_whole_time_is_counted_over_head_and_body() {
    let limits = Timeouts {
        total: Some(seconds(30)),
        ..Timeouts::off()
    };
    let (seen, took) = whole(limits, 100, Timed::new(&[])).await;
    timed_out(seen.error);
    assert_eq!(took, seconds(30));
    let body = Timed::new(&[(20, "a"), (25, "b"), (40, "c")]);
    let (seen, took) = whole(limits, 10, body).await;
    assert_eq!((seen.text().as_str(), took), ("ab", seconds(30)));
    timed_out(seen.error);
    let body = Timed::new(&[(20, "a"), (29, "b")]);
    assert!(whole(limits, 10, body).await.0.whole());
}

#[tokio::test(start_paused = true)]
async fn so_much_has_to_come_in_each_span_of_waiting() {
    let limits = Timeouts {
        min_rate: Some(2),
        ..Timeouts::off()
    };
    // 60 bytes in 30 seconds: the first span has them, the second one byte less.
    const TWENTY: &str = "12345678901234567890";
    let body = Timed::new(&[
        (12, TWENTY),
        (18, TWENTY),
        (31, TWENTY),
        (40, TWENTY),
        (50, TWENTY),
        (61, "1234567890123456789"),
    ])
    .endless();
    let gone = body.gone.clone();
    let (seen, took) = whole(limits, 2, body).await;
    assert_eq!(took, seconds(62));
    assert_eq!(seen.bytes().len(), 119);
    timed_out(seen.error);
    assert!(gone.load(Relaxed));
    // Nothing at all is too little, too; and an end within the first span is one.
    let (seen, took) = whole(limits, 2, Timed::new(&[]).endless()).await;
    timed_out(seen.error);
    assert_eq!(took, seconds(32));
    assert!(whole(limits, 2, Timed::new(&[(31, "a")])).await.0.whole());
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_its_time_makes_no_answer_slow() {
    let limits = Timeouts {
        min_rate: Some(1),
        ..Timeouts::off()
    };
    // All is there long before it is asked for.
    let body = Timed::new(&[(1, "a"), (2, "b"), (3, "c")]);
    let mut body = Box::pin(answered(limits, request(true), 0, body).await.unwrap());
    for text in ["a", "b", "c"] {
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), text);
        tokio::time::sleep(seconds(100)).await;
    }
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_rate_that_is_kept_hides_no_other_clock() {
    let limits = Timeouts {
        idle: Some(seconds(10)),
        min_rate: Some(1),
        ..Timeouts::off()
    };
    let much = "0123456789012345678901234567890123456789";
    let body = Timed::new(&[(8, much), (16, "a"), (24, "b")]).endless();
    let (seen, took) = whole(limits, 0, body).await;
    timed_out(seen.error);
    assert_eq!(took, seconds(34));
}

// ===== together =====

/// Row S21: a comment every ten seconds, for forty minutes.
#[tokio::test(start_paused = true)]
async fn what_drips_is_no_silence_and_is_cut_when_the_whole_time_is_up() {
    let limits = Timeouts {
        idle: Some(seconds(11)),
        total: Some(seconds(1805)),
        ..Timeouts::off()
    };
    let drips: Vec<_> = (1..=240).map(|n| (10 * n, PING)).collect();
    let (seen, took) = whole(limits, 0, Timed::new(&drips)).await;
    timed_out(seen.error);
    assert_eq!((seen.frames.len(), took), (180, seconds(1805)));
    let unlimited = Timeouts {
        total: None,
        ..limits
    };
    let (seen, took) = whole(unlimited, 0, Timed::new(&drips)).await;
    assert!(seen.error.is_none());
    assert_eq!((seen.frames.len(), took), (240, seconds(2400)));
}

#[tokio::test(start_paused = true)]
async fn of_several_clocks_the_first_to_run_out_decides() {
    let limits = Timeouts {
        first_byte_stream: Some(seconds(5)),
        first_byte_document: Some(seconds(5)),
        first_token: Some(seconds(20)),
        idle: Some(seconds(8)),
        total: Some(seconds(40)),
        ..Timeouts::off()
    };
    for (head, frames, over) in [
        (6, &[][..], 5),
        (4, &[], 12),
        (4, &[(7, PING), (14, PING), (19, PING)], 20),
        (4, &[(7, TOKEN), (14, PING), (21, PING)], 29),
        (
            4,
            &[(7, TOKEN), (14, PING), (21, PING), (28, PING), (35, PING)],
            40,
        ),
    ] {
        let (seen, took) = whole(limits, head, Timed::new(frames).endless()).await;
        timed_out(seen.error);
        assert_eq!(took, seconds(over), "{frames:?}");
        assert_eq!(seen.frames.len(), frames.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_fired_while_the_reader_was_away_is_moved_on() {
    let limits = Timeouts {
        idle: Some(seconds(10)),
        total: Some(seconds(500)),
        ..Timeouts::off()
    };
    let body = Timed::new(&[(5, "a"), (6, "b")]).endless();
    let mut body = Box::pin(answered(limits, request(true), 0, body).await.unwrap());
    let start = SystemClock.now();
    // The first wait arms the timer for the tenth second.
    body.frame().await.unwrap().unwrap();
    tokio::time::sleep(seconds(95)).await;
    body.frame().await.unwrap().unwrap();
    timed_out(body.frame().await.unwrap().err());
    assert_eq!(SystemClock.now() - start, seconds(110));
}

#[tokio::test(start_paused = true)]
async fn an_error_from_inside_is_passed_on() {
    let inner = service_fn(async |_: Request<()>| {
        Err::<Response<Script>, _>(BoxError::from("from inside"))
    });
    let layer = TimeoutLayer::new(Timeouts::default());
    let error = layer.layer(inner).oneshot(request(true)).await.unwrap_err();
    assert_eq!(error.to_string(), "from inside");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_always_has_more_is_over_when_the_whole_time_is() {
    let limits = Timeouts {
        total: Some(seconds(10)),
        ..Timeouts::off()
    };
    // All is there at once: nothing is ever waited for.
    let body = Timed::new(&[(0, "a"), (0, "b"), (0, "c")]).endless();
    let mut body = Box::pin(answered(limits, request(true), 0, body).await.unwrap());
    body.frame().await.unwrap().unwrap();
    tokio::time::sleep(seconds(11)).await;
    timed_out(body.frame().await.unwrap().err());
}

#[tokio::test(start_paused = true)]
async fn where_output_cannot_be_seen_its_first_bytes_are_taken_for_it() {
    let limits = Timeouts {
        first_token: Some(seconds(5)),
        ..Timeouts::off()
    };
    // A document, though a stream was asked for: its label lies, its first byte does not.
    let (seen, _) = whole(limits, 1, Timed::new(&[(2, "{\"error\":"), (9, "{}}")])).await;
    assert!(seen.error.is_none());
    assert_eq!(seen.text(), "{\"error\":{}}");
    // And a stream that is one keeps its clock.
    let (seen, took) = whole(limits, 1, Timed::new(&[(2, PING), (9, TOKEN)])).await;
    timed_out(seen.error);
    assert_eq!(took, seconds(5));
}
