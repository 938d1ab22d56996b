//! Any answer passes the meter untouched, and is read alike in any pieces: of each dialect, streamed and not.
//!
//! Run by cargo-fuzz with what it finds, and by an ordinary test with seeded inputs.

use std::{
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::Empty;
use tollgate_middleware::{
    meter::MeterLayer,
    record::{Metered, Record},
};
use tower::{Layer, ServiceExt, service_fn};

const PATHS: [&str; 8] = [
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1beta/models/m:streamGenerateContent",
    "/api/chat",
    "/v2/chat",
    "/model/m/converse-stream",
    "/model/m/invoke-with-response-stream",
];

const KINDS: [&str; 4] = [
    "text/event-stream",
    "application/json",
    "application/x-ndjson",
    "application/vnd.amazon.eventstream",
];

struct Pieces(Bytes, usize);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let size = self.1.min(self.0.len());
        let piece = self.0.split_to(size);
        Poll::Ready((size > 0).then(|| Ok(Frame::data(piece))))
    }
}

/// What is metered, but for the times; what passed.
fn metered(path: &str, kind: &str, body: &[u8], size: usize) -> (Metered, Vec<u8>) {
    let body = Bytes::copy_from_slice(body);
    let inner = service_fn(move |_: Request<Empty<Bytes>>| {
        let response = Response::builder().header("content-type", kind);
        std::future::ready(response.body(Pieces(body.clone(), size)))
    });
    let request = Request::post(path).body(Empty::new()).expect("a request");
    let mut cx = Context::from_waker(Waker::noop());
    let asked = pin!(MeterLayer::new().layer(inner).oneshot(request));
    let Poll::Ready(Ok(response)) = asked.poll(&mut cx) else {
        unreachable!("it is ready at once");
    };
    let record = response
        .extensions()
        .get::<Record>()
        .cloned()
        .expect("its own");
    let mut body = pin!(response.into_body());
    let mut passed = Vec::new();
    while let Poll::Ready(Some(Ok(frame))) = body.as_mut().poll_frame(&mut cx) {
        passed.extend(frame.into_data().expect("no trailers were sent"));
    }
    let mut told = record.with_metered(|metered| metered.cloned().expect("it is metered"));
    told.gaps = Default::default();
    (told, passed)
}

/// `path` and `kind` choose one of a few, `size` is that of the pieces.
pub(super) fn judge(path: u8, kind: u8, size: u8, body: &[u8]) {
    let path = PATHS[usize::from(path) % PATHS.len()];
    let kind = KINDS[usize::from(kind) % KINDS.len()];
    let whole = metered(path, kind, body, usize::MAX);
    assert_eq!(whole.1, body);
    assert_eq!(metered(path, kind, body, usize::from(size).max(1)), whole);
}
