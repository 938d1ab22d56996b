//! Never more run than may, nobody who waits is forgotten, and every permit comes back.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use shuttle::{
    future::{self, yield_now},
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    thread,
};
use tollgate_middleware::{
    concurrency::{ConcurrencyLayer, Limits, Permits},
    error::BoxError,
};
use tower_layer::Layer;
use tower_service::Service;

use crate::still::Still;

/// Counts those that run at once, and lets others go first meanwhile.
#[derive(Clone)]
struct Counting {
    running: Arc<AtomicUsize>,
    most: usize,
}

impl Service<Request<()>> for Counting {
    type Response = Response<Empty<Bytes>>;
    type Error = BoxError;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<Response<Empty<Bytes>>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        let Self { running, most } = self.clone();
        Box::pin(async move {
            let count = running.fetch_add(1, SeqCst) + 1;
            assert!(count <= most, "{count} run at once");
            yield_now().await;
            running.fetch_sub(1, SeqCst);
            Ok(Response::new(Empty::new()))
        })
    }
}

const ORDERS: usize = 2_000;

#[test]
fn who_waits_is_served_and_never_more_run_than_may() {
    shuttle::check_random(
        || {
            let permits = Permits::new(Limits {
                most: 2,
                queue: 8,
                wait: Duration::from_secs(3600),
                ..Limits::default()
            });
            let running = Arc::new(AtomicUsize::new(0));
            let asks = |_| {
                let layer = ConcurrencyLayer::new(permits.clone()).clock(Still::now());
                let inside = Counting {
                    running: running.clone(),
                    most: 2,
                };
                thread::spawn(move || {
                    let answer = future::block_on(layer.layer(inside).call(Request::new(())));
                    // The permit goes with the body.
                    drop(answer.expect("there is room to wait"));
                })
            };
            let threads: Vec<_> = (0..4).map(asks).collect();
            for thread in threads {
                thread.join().expect("no thread panics");
            }
            assert_eq!((permits.held(), permits.queued()), (0, 0));
        },
        ORDERS,
    );
}
