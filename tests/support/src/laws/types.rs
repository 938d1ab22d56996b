//! Law 3: what the type system must know of a layer.

use http::{Request, Response};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::inner::Inner;
use crate::body::Script;

/// A response whose body can cross threads.
pub trait Answer {}

impl<B: Body + Send> Answer for Response<B> {}

/// The law, checked by the compiler: service, future and response body are `Send`; the service is `Clone + Sync + 'static`.
///
/// ```
/// # use tollgate_testing::laws;
/// laws::types::<tower_layer::Identity>();
/// ```
///
/// A service that cannot be sent does not compile:
///
/// ```compile_fail,E0277
/// # use tollgate_testing::laws;
/// #[derive(Clone)]
/// struct Local<S>(S, std::rc::Rc<()>);
/// impl<S, R> tower_service::Service<R> for Local<S>
/// where
///     S: tower_service::Service<R>,
/// {
///     type Response = S::Response;
///     type Error = S::Error;
///     type Future = S::Future;
///     fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), S::Error>> {
///         self.0.poll_ready(cx)
///     }
///     fn call(&mut self, req: R) -> S::Future {
///         self.0.call(req)
///     }
/// }
/// struct LocalLayer;
/// impl<S> tower_layer::Layer<S> for LocalLayer {
///     type Service = Local<S>;
///     fn layer(&self, inner: S) -> Local<S> {
///         Local(inner, Default::default())
///     }
/// }
/// laws::types::<LocalLayer>();
/// ```
pub fn types<L>()
where
    L: Layer<Inner>,
    L::Service: Service<Request<Script>> + Clone + Send + Sync + 'static,
    <L::Service as Service<Request<Script>>>::Future: Send,
    <L::Service as Service<Request<Script>>>::Response: Answer,
{
}

/// The law, for a layer whose type cannot be written down.
pub fn types_of<L>(_layer: &L)
where
    L: Layer<Inner>,
    L::Service: Service<Request<Script>> + Clone + Send + Sync + 'static,
    <L::Service as Service<Request<Script>>>::Future: Send,
    <L::Service as Service<Request<Script>>>::Response: Answer,
{
}
