//! Bounds how much runs at once: in all, and for each caller.
//!
//! Contract
//! - *Reads*: [`Caller`](crate::facts::Caller): whose request it is, and its class. Absent: it counts in all, in class 0.
//! - *Writes*: [`Record`](crate::record::Record), for a target: an attempt that was refused, with the word `saturated`, and the time that
//!   one waited.
//! - *Refuses*: [`RateLimit`](crate::error::Reason::RateLimit), where the caller runs as much as it may;
//!   [`Overloaded`](crate::error::Reason::Overloaded), where there is no room and no place in the queue, or none was found in time.
//! - *Bodies*: the answer's is watched, untouched.
//! - *Ready*: forwards; what waits in the queue waits in the future of its call.
//! - *Place*: inside `auth`, outside whatever reads a body or asks a provider; once more in front of each target.
//!
//! A request holds its permit to the end of the *body* of its answer, however that ends; and each is given back once. What waits holds a
//! place of its caller, too, so that nobody fills the queue alone.
//!
//! **The queue.** A permit that is given back goes to whoever has waited longest in the highest class. Of a full queue, the
//! oldest of the lowest class is dropped first; the one that has just come is the youngest of its class. Who waits longer than
//! [`Limits::wait`] is dropped, too.
//!
//! **In front of a target** ([`ConcurrencyLayer::of_target`]) it bounds what a provider runs for us: one value of [`Permits`] for the
//! provider, whatever leads there. Callers are not counted, their classes hold in its queue, too. Whoever knows another target takes
//! [`Overloaded`](crate::error::Reason::Overloaded) from inside for a full one.
//!
//! [`Permits`] are shared by the workers, and outlive a reload with all that is taken: [`Permits::set`] changes their limits.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use tollgate_middleware::{
//!     concurrency::{ConcurrencyLayer, Limits, Permits},
//!     error::{BoxError, Reason, Rejection},
//! };
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let permits = Permits::new(Limits { most: 1, queue: 0, ..Limits::default() });
//! let service = ServiceBuilder::new().layer(ConcurrencyLayer::new(permits.clone())).service(service_fn(
//!     async |_: Request<()>| Ok::<_, BoxError>(Response::new(Full::<Bytes>::from("hello"))),
//! ));
//! let answer = service.clone().oneshot(Request::new(())).await.unwrap();
//! let error = service.clone().oneshot(Request::new(())).await.unwrap_err();
//! assert_eq!(Rejection::find(&*error).unwrap().reason(), Reason::Overloaded);
//! answer.into_body().collect().await.unwrap();
//! assert!(service.oneshot(Request::new(())).await.is_ok());
//! # });
//! ```

mod permits;
mod service;

#[cfg(test)]
mod tests;

pub use self::{
    permits::{Limits, Permits},
    service::{Concurrency, ConcurrencyLayer, Hold, ResponseFuture},
};
