//! tower layers for LLM traffic over plain HTTP: they pass bytes on and take care of everything else.
//!
//! Every layer is a [`tower_layer::Layer`] over `http::Request<B>` and `http::Response<B>`. It does one
//! thing, names what it reads and writes, works without its neighbours and can stand in a service of
//! your own. Nothing here parses a message into a type and writes it again.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use tollgate_middleware::{error::BoxError, peek::PeekLayer, respond::RespondLayer, seal::SealLayer};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let service = ServiceBuilder::new()
//!     // Breaks a broken answer so that nobody takes it for whole.
//!     .layer(SealLayer::new())
//!     // Turns the refusals of what is inside into answers; the service cannot fail any more.
//!     .layer(RespondLayer::new())
//!     // Reads the request once.
//!     .layer(PeekLayer::new(1024 * 1024))
//!     .service(service_fn(async |_| {
//!         let body = Full::<Bytes>::from("hello").map_err(|never| match never {}).boxed();
//!         Ok::<_, BoxError>(Response::new(body))
//!     }));
//! let request = Request::post("/v1/chat/completions").body(Full::<Bytes>::from("{]")).unwrap();
//! assert_eq!(service.oneshot(request).await.unwrap().status(), 400);
//! # });
//! ```
//!
//! # Layers, outermost first
//!
//! | module and feature | does |
//! |---|---|
//! | `wire` | below the server: strict heads and chunks, clients that leave or take nothing, what is on the socket |
//! | `record` | names a request and tells, once, how it ended |
//! | `seal` | ends a broken answer: an error event in the dialect, a flush, a broken transport |
//! | `cors` | answers what browsers ask before a page may ask, and lets pages read the answers |
//! | `respond` | turns a refusal into an answer in the caller's dialect |
//! | `hygiene` | lets in only heads that everybody behind reads alike; who the client is behind proxies |
//! | `auth` | says who is calling, and lets in nobody else; with the feature `jwt` also by tokens |
//! | `rate_limit` | refuses what comes too often, by address, caller, end user, model or in all |
//! | `concurrency` | bounds how much runs at once, in all and for each caller |
//! | `models` | answers a list of models with what the caller may use |
//! | `peek` | reads a body once, or a form as it passes, and says what it asks for |
//! | `route` | picks the route, resolves the model |
//! | `token_cap` | bounds output tokens, messages and the size of a request |
//! | `word_filter` | refuses, masks or counts words, expressions and entities, asked and answered |
//! | `budget` | reserves what a request may cost, in tokens and money, and settles what it did cost |
//! | `retry` | second chances and fallback, before the first byte |
//! | `balance` | picks the target, and holds its load to the end of the stream |
//! | `breaker` | stops asking a target that fails, and finds out when it can be asked again |
//! | `timeout` | clocks: to the head, to the first output, between bytes, in all |
//! | `truncation` | finds streams that end before they are complete |
//! | `meter` | reads what an answer cost while it passes: usage, finish reasons, the first output; with the feature `tokenizer` it counts what it would guess |
//! | `upstream` | makes a request fit a provider: authority, path, model, credential, whose echo it masks |
//! | `client` | sends it: HTTP/1.1, the connection polled inside the body |
//!
//! No feature is on by default; `full` is all of them but `tokenizer`, whose vocabularies are 45 MB, and `redis`, which is no layer: it brings
//! the store in which several processes count together. A feature adds a module and
//! changes nothing else. The modules without a feature are the floor that the layers stand on: [`attempt`], [`body`], [`chance`], [`clock`],
//! [`conn`], [`dialect`], [`error`], [`estimate`], [`executor`], [`facts`], [`health`], [`json`], [`origin`], [`prices`], [`record`] (the
//! record itself) and [`sse`]; and, for the layers that can share what they count, `store`.
//!
//! Why the layers stand in this order, what they tell each other, how refusals become answers and how
//! to add a layer: the pages of `docs`.

#[cfg(all(any(doc, doctest), feature = "full"))]
pub mod docs {
    //! Pages about the whole.

    #[doc = include_str!("../docs/adding_a_layer.md")]
    pub mod adding_a_layer {}
    #[doc = include_str!("../docs/errors.md")]
    pub mod errors {}
    #[doc = include_str!("../docs/facts.md")]
    pub mod facts {}
    #[doc = include_str!("../docs/order.md")]
    pub mod order {}
}

pub mod attempt;
mod base64;
pub mod body;
#[cfg(any(
    feature = "auth",
    feature = "hygiene",
    feature = "models",
    feature = "token_cap",
    feature = "upstream",
    feature = "word_filter"
))]
mod call;
pub mod chance;
pub mod clock;
pub mod conn;
pub mod dialect;
pub mod error;
pub mod estimate;
pub mod executor;
pub mod facts;
pub mod health;
pub mod json;
pub mod origin;
pub mod prices;
pub mod record;
#[cfg(any(feature = "balance", feature = "route"))]
mod resident;
pub mod sse;
#[cfg(any(feature = "budget", feature = "rate_limit", feature = "redis"))]
pub mod store;
#[cfg(any(
    feature = "budget",
    feature = "concurrency",
    feature = "rate_limit",
    feature = "redis"
))]
mod sync;

#[cfg(feature = "auth")]
pub mod auth;
#[cfg(feature = "balance")]
pub mod balance;
#[cfg(feature = "breaker")]
pub mod breaker;
#[cfg(feature = "budget")]
pub mod budget;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "concurrency")]
pub mod concurrency;
#[cfg(feature = "cors")]
pub mod cors;
#[cfg(feature = "hygiene")]
pub mod hygiene;
#[cfg(feature = "meter")]
pub mod meter;
#[cfg(feature = "models")]
pub mod models;
#[cfg(feature = "peek")]
pub mod peek;
#[cfg(feature = "rate_limit")]
pub mod rate_limit;
#[cfg(feature = "respond")]
pub mod respond;
#[cfg(feature = "retry")]
pub mod retry;
#[cfg(feature = "route")]
pub mod route;
#[cfg(feature = "seal")]
pub mod seal;
#[cfg(feature = "timeout")]
pub mod timeout;
#[cfg(feature = "token_cap")]
pub mod token_cap;
#[cfg(feature = "truncation")]
pub mod truncation;
#[cfg(feature = "upstream")]
pub mod upstream;
#[cfg(feature = "wire")]
pub mod wire;
#[cfg(feature = "word_filter")]
pub mod word_filter;
