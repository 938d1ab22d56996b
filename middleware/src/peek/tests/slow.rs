//! Bodies that take their time.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http_body::{Body, Frame};
use tower::Service;

use super::*;

/// A byte of JSON white space every so often, and no end.
struct Drip {
    every: Duration,
    timer: Pin<Box<tokio::time::Sleep>>,
}

impl Drip {
    fn every(every: Duration) -> Self {
        let timer = Box::pin(tokio::time::sleep(every));
        Self { every, timer }
    }
}

impl Body for Drip {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        std::task::ready!(self.timer.as_mut().poll(cx));
        self.timer = Box::pin(tokio::time::sleep(self.every));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b" ")))))
    }
}

/// When, and why, a body is given up.
async fn given_up(layer: PeekLayer, path: &str, every: Duration) -> (Reason, Duration) {
    let start = SystemClock.now();
    let req = Request::post(path).body(Drip::every(every)).unwrap();
    let mut service = layer.layer(Inner::<BoxError>::answering(Response::new(Script::empty())));
    std::future::poll_fn(|cx| Service::<Request<Drip>>::poll_ready(&mut service, cx))
        .await
        .unwrap();
    let error = service.call(req).await.unwrap_err();
    let reason = Rejection::find(&*error).unwrap().reason();
    (reason, SystemClock.now() - start)
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_silent_body_is_given_up_after_its_silence() {
    let given = given_up(layer(), CHAT, 1000 * SECOND).await;
    assert_eq!(given, (Reason::RequestTimeout, 10 * SECOND));
    let given = given_up(layer().silence(3 * SECOND), CHAT, 1000 * SECOND).await;
    assert_eq!(given, (Reason::RequestTimeout, 3 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_trickles_is_given_up_when_its_whole_time_is_over() {
    let given = given_up(layer(), CHAT, 7 * SECOND).await;
    assert_eq!(given, (Reason::RequestTimeout, 60 * SECOND));
    let given = given_up(layer().timeout(20 * SECOND), CHAT, 7 * SECOND).await;
    assert_eq!(given, (Reason::RequestTimeout, 20 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn the_clocks_run_on_a_body_that_is_read_elsewhere_too_but_not_while_nobody_reads() {
    for (drip, pause, reason, after) in [
        (
            30 * SECOND,
            Duration::ZERO,
            Reason::RequestTimeout,
            10 * SECOND,
        ),
        (
            7 * SECOND,
            Duration::ZERO,
            Reason::RequestTimeout,
            60 * SECOND,
        ),
        // It ends by its size: each byte is there when it is asked for.
        (SECOND, 30 * SECOND, Reason::TooLarge, 21 * 30 * SECOND),
    ] {
        let told = read_elsewhere(drip, pause).await;
        assert_eq!(
            told,
            (reason, after),
            "a byte each {drip:?}, read each {pause:?}"
        );
    }
}

/// How a body ends that is not read by the layer, and when.
async fn read_elsewhere(drip: Duration, pause: Duration) -> (Reason, Duration) {
    let start = SystemClock.now();
    let req = Request::post("/elsewhere").body(Drip::every(drip)).unwrap();
    let inner = service_fn(
        move |req: Request<Held<super::super::Limited<Drip>>>| async move {
            let mut body = std::pin::pin!(req.into_body());
            let error: BoxError = loop {
                tokio::time::sleep(pause).await;
                let frame = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
                if let Err(error) = frame.expect("it fails before its end") {
                    break error;
                }
            };
            Err::<Response<Script>, _>(error)
        },
    );
    let error = PeekLayer::new(20)
        .layer(inner)
        .oneshot(req)
        .await
        .unwrap_err();
    let reason = Rejection::find(&*error).unwrap().reason();
    (reason, SystemClock.now() - start)
}
