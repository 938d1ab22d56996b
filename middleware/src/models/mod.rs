//! Answers a list of models with what the caller may use.
//!
//! Contract
//! - *Reads*: [`Caller`](crate::facts::Caller); [`Record`](crate::record::Record) (or the head itself), for the dialect.
//! - *Writes*: nothing.
//! - *Refuses*: nothing.
//! - *Bodies*: untouched.
//! - *Ready*: forwards.
//! - *Place*: inside `auth` and the limits, outside `peek` and `route`: the answer needs no provider.
//!
//! A caller whose models are listed reads which of the names that are served here it may use, in the words of its dialect, and of each of
//! them that it is there. Everybody else's question goes on to the provider, as every other request does: a caller that may use any
//! model is told by who knows them all. Where nobody does, [`ModelsLayer::everybody`] answers them here. Names with a `*` stand for
//! models that nobody here can name, and are in no list.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use tollgate_middleware::{error::BoxError, facts::{Caller, Terms}, models::{Listed, ModelsLayer}};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let served = ["gpt-4o", "o3"].map(|name| Listed::new(name, name, "openai"));
//! let service = ServiceBuilder::new().layer(ModelsLayer::new(served)).service(service_fn(
//!     async |_: Request<()>| Ok::<_, BoxError>(Response::new(Full::<Bytes>::default())),
//! ));
//! let terms = Terms { models: Some(["gpt*".into()].into()), ..Terms::default() };
//! let mut request = Request::get("/v1/models").body(()).unwrap();
//! request.extensions_mut().insert(Caller::new("team-a", terms));
//! let answer = service.oneshot(request).await.unwrap();
//! let text = answer.into_body().collect().await.unwrap().to_bytes();
//! assert_eq!(text, r#"{"object":"list","data":[{"id":"gpt-4o","object":"model","created":0,"owned_by":"openai"}]}"#);
//! # });
//! ```

mod list;
mod service;

#[cfg(test)]
mod tests;

pub use self::{
    list::Listed,
    service::{Models, ModelsLayer, ResponseFuture},
};
