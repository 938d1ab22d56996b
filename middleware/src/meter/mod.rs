//! Reads what an answer cost while it passes: tokens, finish reasons, tool calls, the first output.
//!
//! A stream's usage is where its provider puts it: in a last chunk without choices, in each chunk, in the first and the last
//! event, in another member, or nowhere. This layer knows the places, takes the provider's numbers as they are, and says where
//! each charge comes from when there are none.
//!
//! Contract
//! - *Reads*: [`Intent`](crate::facts::Intent) and [`Record`](crate::record::Record) (or the head itself), the answer.
//! - *Writes*: [`Record`](crate::record::Record): what is [metered](crate::record::Metered), the moment of the first
//!   output. Without one it makes its own and puts it into the *answer's* extensions.
//! - *Refuses*: nothing.
//! - *Bodies*: watched, untouched; with [`InjectLayer`] outside of it, the chunk that the caller did not ask for is
//!   taken out of the answer.
//! - *Ready*: forwards.
//! - *Place*: next to the provider, so that each attempt is metered by itself. What was thrown away is
//!   [waste](crate::record::Record::waste).
//!
//! | what came | charged | source |
//! |---|---|---|
//! | the provider's last report | as reported | `provider`; `drained` if the client had left |
//! | a report on the way, or none, and then the end | the greater of the last report and an estimate of what was sent and delivered | `estimated` |
//! | a report that cannot be: negative, a fraction, a text | an estimate | `estimated` |
//! | an answer of another status than 2xx | what it reports, if it does, else nothing | `provider`, `none` |
//! | no answer | nothing | `none` |
//!
//! An estimate goes by bytes, per family of models, corrected by what providers report. It is never zero for text that was
//! delivered. With the feature `tokenizer` what is asked and said of OpenAI's models is counted, on another thread, and only what
//! is not counted in time is guessed. Thoughts that a provider counts and does not show are in neither.
//!
//! An event costs the search for a few words (`examples/meter_cost.rs` prints how long that takes). It is parsed if one of them is there, or if its text is not where the text of
//! the event before was. Nothing is allocated per chunk, nothing of the body is kept but an event that is not whole yet, 1 MiB
//! at most. What is larger, compressed or unknown passes as it is and is said to be [unread](crate::record::Metered::blind).
//!
//! `examples/metered.rs` is a whole program: this layer around a bare hyper client, in somebody's own service. In short:
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use tollgate_middleware::{meter::MeterLayer, record::{Record, Source}};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let provider = service_fn(async |_: Request<Full<Bytes>>| {
//!     let said = r#"{"choices":[{"index":0,"message":{"content":"hello"},"finish_reason":"stop"}],
//!         "usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}"#;
//!     let response = Response::builder().header("content-type", "application/json");
//!     Ok::<_, http::Error>(response.body(Full::<Bytes>::from(said))?)
//! });
//! let service = ServiceBuilder::new().layer(MeterLayer::new()).service(provider);
//! let request = Request::post("/v1/chat/completions").body(Full::from(r#"{"model":"m"}"#)).unwrap();
//! let answer = service.oneshot(request).await.unwrap();
//! let record = answer.extensions().get::<Record>().unwrap().clone();
//! answer.into_body().collect().await.unwrap();
//! record.with_metered(|metered| {
//!     let metered = metered.unwrap();
//!     assert_eq!((metered.charge.completion, metered.charge.source), (1, Source::Provider));
//!     assert_eq!(metered.finish_reasons, ["stop"]);
//! });
//! # });
//! ```

mod answer;
mod around;
mod body;
mod charge;
mod inject;
mod outline;
mod said;
mod service;
#[cfg(feature = "tokenizer")]
mod tokens;
mod told;
#[cfg(not(feature = "tokenizer"))]
mod untold;
mod watch;

#[cfg(test)]
mod tests;

#[cfg(feature = "tokenizer")]
pub use self::tokens::{Counting, Tokenizer};
pub use self::{
    body::ResponseBody,
    inject::{Inject, InjectLayer},
    service::{Meter, MeterLayer, ResponseFuture},
};
