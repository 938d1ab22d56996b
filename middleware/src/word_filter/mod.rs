//! Looks for words in what is asked and in what is answered, and refuses, masks or counts what it finds.
//!
//! Contract
//! - *Reads*: [`Intent`](crate::facts::Intent), the held body, [`Conn`](crate::conn::Conn) for an end from outside.
//! - *Writes*: what was found into the [`Record`](crate::record::Record), and that an answer was edited.
//! - *Refuses*: [`ContentBlocked`](crate::error::Reason::ContentBlocked), [`ResponseRejected`](crate::error::Reason::ResponseRejected), both
//!   with the rule and never with the text; [`UnsupportedCoding`](crate::error::Reason::UnsupportedCoding) for a request that cannot be
//!   read, on surfaces that carry text.
//! - *Bodies*: the request's is edited by span; the answer's is watched, parts of it are kept back, masks spliced into it.
//! - *Ready*: forwards.
//! - *Place*: inside `peek` and `route`, outside whatever pays for a request or asks again.
//!
//! Texts are searched as they decode: escapes, surrogates and letters in any case are what they stand for. Adjacent text parts of a message
//! are one text. In a stream the end of a part ends its text all the same: what is held of it goes before the event that says so. Of
//! arguments of tools each string value is a text, whether they are JSON in a string or an object; what is no JSON is one text. What reaches
//! over the end of a value cannot be masked and is refused. Names, identifiers, images and files are no texts.
//!
//! | of what was found | |
//! |---|---|
//! | which | the leftmost, of those that begin together the longest; where actions overlap the stronger one, also where it is shorter |
//! | [`Action::Reject`] | the request is refused, or the answer; after its head it breaks off |
//! | [`Action::Mask`] | the mask takes its place inside the JSON string, every other byte stays; under a signature it is only counted |
//! | [`Action::Log`] | it is counted |
//!
//! Of an answer an event waits exactly while some continuation of its text could complete a match that begins in it, and what follows it
//! waits too, whatever the action: what comes in two events is counted as well. What is held of all answers has a
//! [room](WordFilterLayer::room). Words that are whole want no letter beside them, where their script has spaces; expressions and
//! [entities](Entity) match at most so many characters as their rule says.
//!
//! With [`Normalize::Nfkc`] a rule reads texts in normal form: `ｂａｄ`, `b\u{200b}ad` and `𝐛𝐚𝐝` are `bad`, and `e` with an accent behind it is
//! `é`. What is masked is all that the match was made of. The last letter of an event waits where an accent that follows would make a
//! word of it, or none. Behind a letter with marks that may still be put in another order an expression may wait for the next letter
//! although none of its matches goes on. A word may not begin with a mark, and more than 64 marks on one letter are not one.
//!
//! `examples/filtered.rs` has the filter around a client of one's own.
//!
//! Without an `Intent` the surface is found in the head; what has no surface passes.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use tollgate_middleware::{
//!     body::Held,
//!     error::{BoxError, Rejection},
//!     peek::{Limited, PeekLayer},
//!     word_filter::{Action, Entity, Filter, Rule, WordFilterLayer},
//! };
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let pii = Rule { entities: vec![Entity::Email], action: Action::Mask, ..Rule::new("pii") };
//! let secret = Rule { words: vec!["project x".into()], ..Rule::new("secret") };
//! let service = ServiceBuilder::new()
//!     .layer(PeekLayer::new(1024 * 1024))
//!     .layer(WordFilterLayer::new(Filter::new([pii, secret]).unwrap()))
//!     .service(service_fn(async |req: Request<Held<Limited<Full<Bytes>>>>| {
//!         let sent = req.into_body().collect().await?.to_bytes();
//!         assert_eq!(sent, r#"{"messages": [{"content": "I am ***"}]}"#);
//!         let answer = r#"{"choices": [{"index": 0, "message": {"content": "Project X is late"}}]}"#;
//!         let body = Full::<Bytes>::from(answer);
//!         Ok::<_, BoxError>(Response::builder().header("content-type", "application/json").body(body).unwrap())
//!     }));
//! let asked = r#"{"messages": [{"content": "I am a@b.example"}]}"#;
//! let request = Request::post("/v1/chat/completions").body(Full::from(asked)).unwrap();
//! let refused = service.oneshot(request).await.unwrap_err();
//! let refused = Rejection::find(&*refused).unwrap();
//! assert!(refused.message().contains("secret"), "the rule is named, the text is not");
//! # });
//! ```

mod answer;
mod engine;
mod entities;
mod filter;
mod fold;
mod literals;
mod normal;
mod pattern;
mod patterns;
mod prefilter;
mod request;
mod rules;
mod search;
mod service;
mod text;
mod whole;

#[cfg(test)]
mod tests;

pub use self::{
    answer::ResponseBody,
    entities::{Entity, UnknownEntity},
    filter::{Filter, Finding, Judged},
    rules::{Action, ApplyTo, Normalize, Rule, Unfit},
    service::{ResponseFuture, WordFilter, WordFilterLayer},
};
