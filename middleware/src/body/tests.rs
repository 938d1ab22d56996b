use std::{
    convert::Infallible,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Waker},
};

use bytes::Bytes;
use http_body::Body;
use tollgate_testing::{
    body::{Item, Script, collect, collect_by_hint},
    splits::Split,
};

use super::{
    Ending, Guard, Guarded, Reply,
    heard::{Heard, passes_each_ending},
};

fn guarded(script: Script) -> (Guarded<Script, Heard>, Heard) {
    let heard = Heard::default();
    (Guarded::new(script, heard.clone()), heard)
}

#[tokio::test(start_paused = true)]
async fn each_way_a_body_can_end_is_told_once_and_by_its_name() {
    passes_each_ending(|body| Guarded::new(body, Heard::default())).await;
}

#[tokio::test]
async fn a_guard_is_told_of_data_and_not_of_trailers() {
    let trailers = http::HeaderMap::from_iter([(http::header::ETAG, "x".parse().unwrap())]);
    let script = Script::data(b"abcdef", &Split::Bytes(4)).then(Item::Trailers(trailers.clone()));
    let (body, heard) = guarded(script.exact().hinting());
    let seen = collect(body).await;
    assert_eq!((seen.frames.len(), seen.trailers), (2, Some(trailers)));
    assert_eq!(heard.bytes(), b"abcdef");
}

#[test]
fn a_body_that_was_never_polled_is_dropped_unless_it_is_empty() {
    let (body, heard) = guarded(Script::data(b"x", &Split::Whole).hinting());
    drop(body);
    assert_eq!(heard.ends(), ["dropped"]);
    let (body, heard) = guarded(Script::empty());
    drop(body);
    assert_eq!(heard.ends(), ["complete"]);
}

#[test]
fn what_the_inner_body_gives_back_when_dropped_is_there_when_the_guard_ends() {
    struct Holding(Arc<Mutex<Vec<&'static str>>>);
    impl Body for Holding {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
            std::task::Poll::Pending
        }
    }
    impl Drop for Holding {
        fn drop(&mut self) {
            self.0.lock().unwrap().push("inner");
        }
    }
    struct Last(Arc<Mutex<Vec<&'static str>>>);
    impl Guard<Infallible> for Last {
        fn end(self, _: Ending<'_, Infallible>) {
            self.0.lock().unwrap().push("guard");
        }
    }
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut body = Box::pin(Guarded::new(Holding(order.clone()), Last(order.clone())));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(body.as_mut().poll_frame(&mut cx).is_pending());
    drop(body);
    assert_eq!(*order.lock().unwrap(), ["inner", "guard"]);
}

#[tokio::test]
async fn a_relayed_reply_is_the_body_itself() {
    let script = Script::data(b"hello", &Split::Bytes(2)).exact().hinting();
    let polls = script.polls();
    let seen = collect(Reply::relayed(script.hesitating())).await;
    assert_eq!(seen.frames, [&b"he"[..], b"ll", b"o"]);
    let left: Vec<_> = seen.hints.iter().map(|hint| hint.upper).collect();
    assert_eq!(left, [Some(5), Some(3), Some(1), Some(0)]);
    assert!(seen.hints.last().is_some_and(|hint| hint.end));
    assert_eq!(polls.after_end(), 0);

    let failed = collect(Reply::relayed(Script::new([Item::Error]))).await;
    assert!(failed.error.is_some());
}

#[tokio::test]
async fn a_reply_of_ours_is_one_frame_with_its_length_and_an_empty_one_is_none() {
    let mut own = pin!(Reply::<Script>::own("no"));
    assert_eq!(
        (own.size_hint().exact(), own.is_end_stream()),
        (Some(2), false)
    );
    let seen = collect_by_hint(own.as_mut()).await;
    assert_eq!(seen.frames, [&b"no"[..]]);
    assert_eq!(
        (own.size_hint().exact(), own.is_end_stream()),
        (Some(0), true)
    );

    let empty = Reply::<Script>::own("");
    assert_eq!(
        (empty.size_hint().exact(), empty.is_end_stream()),
        (Some(0), true)
    );
    assert!(collect(empty).await.frames.is_empty());
}
