//! What is read of an answer that is thrown away.

use std::{
    future,
    task::{Context, Poll},
};

use http_body::{Body, Frame};
use tollgate_testing::body::Item;
use tower::service_fn;

use super::*;
use crate::record::{Attempt, Charge, Discarded, Record};

/// Data, and then nothing for ever, if it does not end.
struct Slow {
    frames: VecDeque<Bytes>,
    ends: bool,
    read: Arc<Mutex<usize>>,
}

impl Body for Slow {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.frames.pop_front() {
            Some(data) => {
                *self.read.lock().unwrap() += data.len();
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            None if self.ends => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

/// How much is read of a first answer with these frames, and how long the second one takes.
async fn left(code: u16, frames: &[usize], ends: bool) -> (usize, Duration) {
    let read = Arc::new(Mutex::new(0));
    let body = |frames: &[usize], ends| Slow {
        frames: frames.iter().map(|size| vec![b'x'; *size].into()).collect(),
        ends,
        read: read.clone(),
    };
    let mut answers = vec![(200, body(&[], true)), (code, body(frames, ends))];
    let inner = service_fn(move |_: Sent| {
        let (code, body) = answers.pop().unwrap();
        let mut answer = Response::new(body);
        *answer.status_mut() = StatusCode::from_u16(code).unwrap();
        future::ready(Ok::<_, BoxError>(answer))
    });
    let policy = Policy {
        base: Duration::ZERO,
        ..Policy::default()
    };
    let (before, inner) = (Instant::now(), Arc::new(Mutex::new(inner)));
    let shared = service_fn(move |req: Sent| inner.lock().unwrap().call(req));
    let answer = layer(policy).layer(shared).oneshot(post("hello")).await;
    assert_eq!(answer.unwrap().status(), 200);
    let read = *read.lock().unwrap();
    (read, before.elapsed())
}

#[tokio::test(start_paused = true)]
async fn an_error_is_read_to_its_end_before_the_next_attempt() {
    assert_eq!(left(500, &[10, 20], true).await, (30, Duration::ZERO));
    assert_eq!(left(503, &[], true).await, (0, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn the_next_attempt_waits_for_no_slow_or_long_error() {
    let (read, took) = left(500, &[10], false).await;
    assert_eq!(read, 10);
    assert!(took >= Duration::from_millis(20) && took < Duration::from_millis(25));
    // The frame in which the bound lies is the last one.
    let (read, took) = left(500, &[60 << 10, 5 << 10, 1 << 20], true).await;
    assert_eq!((read, took), (65 << 10, Duration::ZERO));
}

fn record(req: &Sent) -> Record {
    let head = (req.method(), req.uri(), req.headers());
    let now = Instant::now().into_std();
    Record::new("-".parse().unwrap(), head, now, std::time::UNIX_EPOCH)
}

/// What is found in an answer by whoever meters it inside: `tokens` at the end of its body.
fn metering(record: &Record, code: u16, tokens: u64) -> Response<Script> {
    record.begin_attempt(Attempt::default());
    record.begin_metering();
    record.update_metered(|metered| {
        metered.charge = Charge {
            prompt: tokens,
            ..Charge::default()
        };
    });
    let mut answer = Response::new(Script::new([Item::Data("no".into())]));
    *answer.status_mut() = StatusCode::from_u16(code).unwrap();
    answer
}

/// Each answer that was thrown away is told with the attempt that it answered.
#[tokio::test(start_paused = true)]
async fn what_was_thrown_away_is_known_by_its_attempt() {
    let mut req = post("hello");
    let record = record(&req);
    req.extensions_mut().insert(record.clone());
    let inner = {
        let (record, calls) = (record.clone(), Arc::new(Mutex::new(0)));
        service_fn(move |_: Sent| {
            let mut calls = calls.lock().unwrap();
            *calls += 1;
            let (code, tokens) = [(500, 5), (503, 7), (200, 9)][*calls - 1];
            future::ready(Ok::<_, BoxError>(metering(&record, code, tokens)))
        })
    };
    let policy = Policy {
        base: Duration::ZERO,
        ..Policy::default()
    };
    let answer = layer(policy).layer(inner).oneshot(req).await.unwrap();
    assert_eq!(answer.status(), 200);
    let thrown = record.with_discarded(|all| {
        let of = |it: &Discarded| (it.attempt, it.metered.charge.prompt);
        all.iter().map(of).collect::<Vec<_>>()
    });
    assert_eq!(thrown, [(Some(0), 5), (Some(1), 7)]);
    let last = record.with_metered(|metered| metered.map(|it| it.charge.prompt));
    assert_eq!(last, Some(9));
}
