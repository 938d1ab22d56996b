//! Turns a caller's request into the provider's: authority, path, model, credential.
//!
//! Contract
//! - *Reads*: [`Intent`](crate::facts::Intent), [`Route`](crate::facts::Route), [`Record`](crate::record::Record)
//!   (or the head itself).
//! - *Writes*: the attempt into the `Record`.
//! - *Refuses*: [`Protocol`](crate::error::Reason::Protocol) for an answer that redirects or switches
//!   protocols; [`UnsupportedCoding`](crate::error::Reason::UnsupportedCoding) for a JSON body that nobody read
//!   where `extra_body` has to go into it;
//!   [`Malformed`](crate::error::Reason::Malformed) for a model whose name would lead to another path, or
//!   break the form that it stands in.
//! - *Bodies*: the request's gets the model's name and `extra_body` spliced in where configured, and is
//!   otherwise what the caller sent; the answer's is untouched but for an echo of our credential.
//! - *Ready*: forwards.
//! - *Place*: around the client. Nothing outside it sees the provider's credential.
//!
//! What changes in a request, and nothing else does:
//!
//! | part | becomes |
//! |---|---|
//! | target, `host` | the provider's authority; its path in place of the caller's API prefix; the query kept (a Gemini `key=` removed, unless it is passed through) |
//! | `authorization`, `x-api-key`, `api-key`, `x-goog-api-key`, `proxy-authorization`, `tollgate-key`, `x-tollgate-metadata`, `openai-organization`, `openai-project`, `x-goog-user-project`, `cookie` | removed; the provider's credential in its slot. With [`Target::passthrough`] the caller's own credential and account go on: all of these but `proxy-authorization`, `tollgate-key`, `x-tollgate-metadata` and `cookie` |
//! | hop-by-hop headers, those that `connection` names, `expect`, `http2-settings` | removed |
//! | `accept-encoding` | `identity`, where layers read the answer |
//! | `x-client-request-id` | our id for the request, unless the caller sent one |
//! | configured headers | set |
//! | the model's name, in the path, the JSON or the form | the name that the provider knows it by |
//! | `content-length` | that of the body with its edits |
//! | members of `extra_body` | added at the end of a JSON body, where the caller did not set them |
//!
//! From an answer the hop-by-hop headers are removed, those that its `connection` names, and
//! `set-cookie`, `proxy-authenticate` and `proxy-authentication-info`. A redirect is never followed and never passed
//! on: its target was not configured, and the credential would go there.
//!
//! A provider may echo our credential. It is masked with as many `*` in the headers of every answer, in the body of one that
//! is no success, and in the events of a stream that tell of an error; nothing else of these changes, and of what is no
//! error nothing is looked at but the headers and the events of streams. It is looked for as it is, with its slashes escaped as JSON
//! may have them, and percent-encoded. The body of an error that cannot be looked into, because it is compressed or announces
//! more than 256 KiB, is replaced. A key of less than eight bytes is taken for no secret.

mod body;
mod echo;
mod head;
mod mask;
mod secrets;
mod service;
mod splice;
mod target;

#[cfg(test)]
mod tests;

pub use self::{
    body::ResponseBody,
    service::{ResponseFuture, Upstream, UpstreamLayer},
    target::{Credential, Target},
};
