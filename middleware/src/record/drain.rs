//! Reads an answer on when its client has left, where that is worth it.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::Record;
use crate::{
    clock::{Clock, SystemClock},
    conn::Conn,
    executor::{Executor, TokioExecutor},
};

/// Hands an answer whose client has left to an [`Executor`], which reads it to its end, if its [`Record`] says that
/// this is [worth it](Record::drains). So its true usage is known, and permits, budgets and the log line wait for that.
///
/// Stands directly outside of [`RecordLayer`](super::RecordLayer). At most 16 answers are read on at a time, each for at most 30
/// seconds; what is beyond is dropped as if this layer were not there. A client that the server itself cut off has not left.
#[derive(Clone, Debug, Default)]
pub struct DrainLayer<X = TokioExecutor, C = SystemClock> {
    room: Arc<AtomicUsize>,
    executor: X,
    clock: C,
}

impl DrainLayer {
    /// A layer that reads on in the runtime of the connection. Clones share the room for 16.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<X, C> DrainLayer<X, C> {
    /// Gives the work to another executor.
    pub fn executor<Y: Executor>(self, executor: Y) -> DrainLayer<Y, C> {
        DrainLayer {
            room: self.room,
            executor,
            clock: self.clock,
        }
    }

    /// Takes the time from another clock.
    pub fn clock<D: Clock>(self, clock: D) -> DrainLayer<X, D> {
        DrainLayer {
            room: self.room,
            executor: self.executor,
            clock,
        }
    }
}

impl<S, X: Clone, C: Clone> Layer<S> for DrainLayer<X, C> {
    type Service = Drain<S, X, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Drain {
            inner,
            policy: self.clone(),
        }
    }
}

/// The service of [`DrainLayer`].
#[derive(Clone, Debug)]
pub struct Drain<S, X = TokioExecutor, C = SystemClock> {
    inner: S,
    policy: DrainLayer<X, C>,
}

impl<S, X, C, ReqBody, ResBody> Service<Request<ReqBody>> for Drain<S, X, C>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    X: Executor,
    C: Clock,
    ResBody: Body + Send + 'static,
{
    type Response = Response<DrainBody<ResBody, X, C>>;
    type Error = S::Error;
    type Future = DrainFuture<S::Future, X, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<ReqBody>) -> Self::Future {
        DrainFuture {
            inner: self.inner.call(req),
            policy: self.policy.clone(),
        }
    }
}

pin_project! {
    /// The future of [`Drain`].
    #[derive(Debug)]
    pub struct DrainFuture<F, X, C> {
        #[pin]
        inner: F,
        policy: DrainLayer<X, C>,
    }
}

impl<F, B, E, X, C> Future for DrainFuture<F, X, C>
where
    F: Future<Output = Result<Response<B>, E>>,
    X: Executor,
    C: Clock,
    B: Body + Send + 'static,
{
    type Output = Result<Response<DrainBody<B, X, C>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        // The layer `record` hands it over where the answer is to be read on.
        let draining = response.extensions_mut().remove::<Draining>();
        let policy = &*this.policy;
        Poll::Ready(Ok(response.map(|body| match draining {
            None => DrainBody {
                plain: Some(body),
                held: None,
            },
            Some(Draining { record, conn }) => DrainBody {
                plain: None,
                held: Some(Box::new(Held {
                    body: Some(Box::pin(body)),
                    record,
                    conn,
                    policy: policy.clone(),
                })),
            },
        })))
    }
}

/// What the layer `record` says of an answer that is to be read on.
#[derive(Clone, Debug)]
pub(super) struct Draining {
    pub(super) record: Record,
    pub(super) conn: Option<Conn>,
}

pin_project! {
    /// The response body of [`Drain`].
    pub struct DrainBody<B, X, C>
    where
        B: Body,
        B: Send,
        B: 'static,
        X: Executor,
        C: Clock,
    {
        #[pin]
        plain: Option<B>,
        held: Option<Box<Held<B, X, C>>>,
    }
}

/// A body that is handed over when it is dropped before its end.
struct Held<B, X, C>
where
    B: Body + Send + 'static,
    X: Executor,
    C: Clock,
{
    /// None once it has ended.
    body: Option<Pin<Box<B>>>,
    record: Record,
    conn: Option<Conn>,
    policy: DrainLayer<X, C>,
}

impl<B, X, C> Drop for Held<B, X, C>
where
    B: Body + Send + 'static,
    X: Executor,
    C: Clock,
{
    fn drop(&mut self) {
        let cut = self.conn.as_ref().and_then(Conn::asked_to_cut).is_some();
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else {
            return;
        };
        if cut || std::thread::panicking() {
            return;
        }
        let Some(place) = Place::take(&self.policy.room) else {
            return;
        };
        self.record.set_gone();
        let clock = self.policy.clock.clone();
        let work = read_on(body, clock, place);
        self.policy.executor.execute(work);
    }
}

/// One of the places.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(room: &Arc<AtomicUsize>) -> Option<Self> {
        let one_more = |taken| (taken < AT_ONCE).then_some(taken + 1);
        room.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more)
            .ok()
            .map(|_| Self(room.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Reads a body to its end, or as long as there is time; dropping it settles what it did not.
async fn read_on<B: Body, C: Clock>(mut body: Pin<Box<B>>, clock: C, place: Place) {
    let mut limit = std::pin::pin!(clock.sleep_until(clock.now() + LONGEST));
    poll_fn(|cx| {
        if limit.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            match ready!(body.as_mut().poll_frame(cx)) {
                Some(Ok(_)) if !body.is_end_stream() => {}
                _ => return Poll::Ready(()),
            }
        }
    })
    .await;
    drop(body);
    drop(place);
}

impl<B, X, C> Body for DrainBody<B, X, C>
where
    B: Body + Send + 'static,
    X: Executor,
    C: Clock,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        if let Some(plain) = this.plain.as_pin_mut() {
            return plain.poll_frame(cx);
        }
        let Some(held) = this.held else {
            return Poll::Ready(None);
        };
        let Some(body) = &mut held.body else {
            return Poll::Ready(None);
        };
        let frame = ready!(body.as_mut().poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            held.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match (&self.plain, &self.held) {
            (Some(plain), _) => plain.is_end_stream(),
            (None, Some(held)) => held.body.as_ref().is_none_or(|body| body.is_end_stream()),
            (None, None) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let held = || self.held.as_ref()?.body.as_ref().map(|it| it.size_hint());
        let plain = self.plain.as_ref().map(Body::size_hint);
        plain.or_else(held).unwrap_or_default()
    }
}

impl<B, X, C> std::fmt::Debug for DrainBody<B, X, C>
where
    B: Body + Send + 'static,
    X: Executor,
    C: Clock,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DrainBody")
            .field("held", &self.held.is_some())
            .finish_non_exhaustive()
    }
}

/// Answers that are read on at a time.
const AT_ONCE: usize = 16;

/// How long one is read on.
const LONGEST: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Mutex};

    use http_body_util::{BodyExt, Empty};
    use tollgate_testing::{
        body::{BoxError, Script, collect},
        laws,
        splits::Split,
    };
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::record::{Ended, RecordLayer, Sink};

    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Vec<One>>>);

    /// How it ended, and the bytes that the client was given.
    type One = (Option<Ended>, u64);

    impl Told {
        fn all(&self) -> Vec<One> {
            self.0.lock().unwrap().clone()
        }
    }

    impl Sink for Told {
        fn ended(&self, record: &Record) {
            let told = (record.ended(), record.bytes_out());
            self.0.lock().unwrap().push(told);
        }
    }

    /// An answer of which one frame was read, behind both layers.
    async fn begun<B>(
        told: &Told,
        layer: &DrainLayer,
        drains: bool,
        rest: B,
    ) -> impl Body<Data = bytes::Bytes, Error = BoxError> + use<B>
    where
        B: Body<Data = bytes::Bytes, Error = BoxError> + Send + 'static,
    {
        let mut rest = Some(rest);
        let inner = service_fn(move |req: Request<_>| {
            let record: &Record = req.extensions().get().expect("it is recorded");
            if drains {
                record.set_drains();
            }
            let response = Response::new(rest.take().expect("called once"));
            std::future::ready(Ok::<_, Infallible>(response))
        });
        let service = layer.layer(RecordLayer::new(told.clone()).layer(inner));
        let req = Request::new(Empty::<bytes::Bytes>::new());
        let mut body = Box::pin(service.oneshot(req).await.unwrap().into_body());
        body.frame().await.unwrap().unwrap();
        body
    }

    fn answer() -> Script {
        Script::data(b"hello world", &Split::Bytes(5))
    }

    /// One frame, and then nothing, not even an end.
    struct Stalled(bool);

    impl Body for Stalled {
        type Data = bytes::Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<bytes::Bytes>, BoxError>>> {
            if std::mem::replace(&mut self.0, true) {
                return Poll::Pending;
            }
            Poll::Ready(Some(Ok(Frame::data("hello".into()))))
        }
    }

    async fn turns() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_passes_bodies_untouched_and_is_ready_when_the_inner_service_is() {
        laws::transparent(&DrainLayer::new(), laws::cases()).await;
        laws::ready(&DrainLayer::new()).await;
        laws::types::<DrainLayer>();
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_is_read_without_the_client_and_told_once() {
        let told = Told::default();
        drop(begun(&told, &DrainLayer::new(), true, answer()).await);
        assert!(told.all().is_empty(), "it is read on");
        turns().await;
        // What the client was not given counts for nobody.
        assert_eq!(told.all(), [(Some(Ended::ClientGone), 5)]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_wants_is_dropped_with_its_client() {
        let told = Told::default();
        drop(begun(&told, &DrainLayer::new(), false, answer()).await);
        assert_eq!(told.all(), [(Some(Ended::ClientGone), 5)]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_read_to_its_end_is_complete() {
        let told = Told::default();
        let body = begun(&told, &DrainLayer::new(), true, answer()).await;
        assert!(collect(body).await.whole());
        assert_eq!(told.all(), [(Some(Ended::Complete), 11)]);
    }

    #[tokio::test(start_paused = true)]
    async fn sixteen_are_read_on_at_a_time_and_none_for_ever() {
        let (told, layer) = (Told::default(), DrainLayer::new());
        let mut bodies = Vec::new();
        for _ in 0..18 {
            bodies.push(begun(&told, &layer, true, Stalled(false)).await);
        }
        drop(bodies);
        assert_eq!(told.all().len(), 2, "two too many");
        tokio::time::sleep(LONGEST - Duration::from_millis(1)).await;
        assert_eq!(told.all().len(), 2);
        tokio::time::sleep(Duration::from_millis(2)).await;
        turns().await;
        assert_eq!(told.all().len(), 18);
        assert_eq!(layer.room.load(Ordering::Relaxed), 0);
        drop(begun(&told, &layer, true, answer()).await);
        assert_eq!(told.all().len(), 18, "there is room again");
    }
}
