//! Typed refusals: closed reasons, open causes.
//!
//! A layer that will not let a request pass returns an error, never an answer. The error is a
//! [`Rejection`] somewhere in its `source` chain: a [`Reason`] from a closed list, the layer that
//! speaks, a sentence that is safe to show to the caller, and whatever caused it. One layer at the
//! edge (`respond`) finds it with [`Rejection::find`] and turns it into an answer.

use std::{borrow::Cow, error::Error, fmt, io, time::Duration};

/// The error type that travels through the stack, and that every body may end with.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why a request was not served, or why an answer broke off.
///
/// The list is closed: a status, a dialect's error type and a log word exist for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The client left while its request was being read.
    ClientGone,
    /// The provider closed the connection before it sent a response head.
    Closed,
    /// No connection to the provider could be made.
    Connect,
    /// A word or pattern rule refused the request.
    ContentBlocked,
    /// The gateway is draining: it ends what is left.
    Draining,
    /// The caller may not do this from here.
    Forbidden,
    /// The request head is too large.
    HeadersTooLarge,
    /// A bug or an error that no layer explained.
    Internal,
    /// A spent budget.
    InsufficientQuota,
    /// The head, the JSON text or a part of it cannot be understood.
    Malformed,
    /// The method is not served here.
    MethodNotAllowed,
    /// The model is not known, or not to this caller.
    ModelNotFound,
    /// A money budget cannot price the model.
    ModelUnpriced,
    /// No target is left to ask.
    NoTarget,
    /// No route takes this path.
    NotFound,
    /// No room: permits, queue or memory.
    Overloaded,
    /// The provider broke the protocol.
    Protocol,
    /// A rate or token limit.
    RateLimit,
    /// The request body came too slowly.
    RequestTimeout,
    /// A rule refused the answer.
    ResponseRejected,
    /// The client took nothing for too long.
    SlowReader,
    /// The TLS handshake with the provider failed.
    Tls,
    /// An output limit that may not be asked for.
    TokenCap,
    /// The request body is too large.
    TooLarge,
    /// The answer ended before it was complete.
    Truncated,
    /// Credentials that name nobody.
    Unauthenticated,
    /// The body cannot be inspected, or its coding is unknown.
    UnsupportedCoding,
    /// A protocol upgrade that no route takes.
    UpgradeRequired,
    /// The request target is too long.
    UriTooLong,
    /// A clock ran out while the provider was at work.
    UpstreamTimeout,
}

impl Reason {
    /// The fixed word of the request log's `error` field and of the error body's `code`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientGone => "client_gone",
            Self::Closed => "closed",
            Self::Connect => "connect",
            Self::ContentBlocked => "content_blocked",
            Self::Draining => "draining",
            Self::Forbidden => "forbidden",
            Self::HeadersTooLarge => "headers_too_large",
            Self::Internal => "internal",
            Self::InsufficientQuota => "insufficient_quota",
            Self::Malformed => "malformed_request",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::ModelNotFound => "model_not_found",
            Self::ModelUnpriced => "model_unpriced",
            Self::NoTarget => "no_target",
            Self::NotFound => "not_found",
            Self::Overloaded => "overloaded",
            Self::Protocol => "protocol",
            Self::RateLimit => "rate_limit_exceeded",
            Self::RequestTimeout => "request_timeout",
            Self::ResponseRejected => "response_rejected",
            Self::SlowReader => "slow_reader",
            Self::Tls => "tls",
            Self::TokenCap => "token_cap",
            Self::TooLarge => "request_too_large",
            Self::Truncated => "truncated",
            Self::Unauthenticated => "invalid_api_key",
            Self::UnsupportedCoding => "unsupported_coding",
            Self::UpgradeRequired => "upgrade_required",
            Self::UriTooLong => "uri_too_long",
            Self::UpstreamTimeout => "upstream_timeout",
        }
    }

    /// Whose doing it is.
    pub fn origin(self) -> Origin {
        match self {
            Self::Closed
            | Self::Connect
            | Self::Protocol
            | Self::Tls
            | Self::Truncated
            | Self::UpstreamTimeout => Origin::Upstream,
            Self::Draining | Self::Internal | Self::NoTarget | Self::Overloaded => Origin::Gateway,
            _ => Origin::Caller,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whose doing a [`Reason`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The caller asked for something that is not served.
    Caller,
    /// The gateway itself has no room, is going down, or has a bug.
    Gateway,
    /// The provider failed.
    Upstream,
}

/// The one concrete error of the floor: a reason, who speaks, and what to tell the caller.
///
/// `Display` prints only its own level; the cause is in [`Error::source`].
///
/// ```
/// use tollgate_middleware::error::{BoxError, Reason, Rejection};
///
/// let refused = Rejection::new(Reason::TooLarge, "peek", "the body is over the limit of 32 MiB");
/// let error: BoxError = refused.into();
/// assert_eq!(Rejection::find(&*error).map(Rejection::reason), Some(Reason::TooLarge));
/// ```
#[derive(Debug)]
pub struct Rejection {
    reason: Reason,
    layer: &'static str,
    message: Cow<'static, str>,
    retry_after: Option<Duration>,
    silent: bool,
    closes: bool,
    hopeless: bool,
    source: Option<BoxError>,
}

impl Rejection {
    /// A refusal by `layer` (a module name, as the log's `refused_by` and the header
    /// `tollgate-refused-by` show it). `message` is shown to the caller: it must hold no key, no
    /// prompt, no address and no cause, and it says what to do.
    #[cold]
    pub fn new(reason: Reason, layer: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            layer,
            message: message.into(),
            retry_after: None,
            silent: false,
            closes: false,
            hopeless: false,
            source: None,
        }
    }

    /// The refusal of a request whose body ended with `error`: the one in its chain of causes, if there is one, else
    /// [`Reason::ClientGone`] where the transport says that it was cut, else [`Reason::Malformed`].
    pub fn unread(layer: &'static str, error: impl Into<BoxError>) -> BoxError {
        let error = error.into();
        if Self::find(&*error).is_some() {
            return error;
        }
        let reason = if is_cut(&*error) {
            Reason::ClientGone
        } else {
            Reason::Malformed
        };
        Self::new(
            reason,
            layer,
            "the request body could not be read to its end",
        )
        .because(error)
        .into()
    }

    /// The same request may be served after this time.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// The answer already carried the provider's own error: break the transport, add nothing.
    #[must_use]
    pub fn silent(mut self) -> Self {
        self.silent = true;
        self
    }

    /// Nothing more may be read from the connection that the request came over: where it ends is in doubt.
    #[must_use]
    pub fn close(mut self) -> Self {
        self.closes = true;
        self
    }

    /// It has been tried again already: the client need not do so as well.
    #[must_use]
    pub fn hopeless(mut self) -> Self {
        self.hopeless = true;
        self
    }

    /// What caused it; for the log of the process, never for the caller.
    #[must_use]
    pub fn because(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The layer that speaks.
    pub fn layer(&self) -> &'static str {
        self.layer
    }

    /// The sentence for the caller.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// How long to wait before asking again, where that is known.
    pub fn wait(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether the client has been told already, in the provider's own words.
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    /// Whether the connection of the request is to be closed behind the answer.
    pub fn closes(&self) -> bool {
        self.closes
    }

    /// Whether it has been tried again already, in vain.
    pub fn is_hopeless(&self) -> bool {
        self.hopeless
    }

    /// The first `Rejection` in the chain of causes that begins with `error`.
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            // An io::Error tells what it wraps by another way than `source`.
            let inner = error.downcast_ref().and_then(io::Error::get_ref);
            next = match inner {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        None
    }
}

/// Whether a transport has ended or failed, by what is in this chain of causes.
fn is_cut(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(
                error.kind(),
                io::ErrorKind::BrokenPipe
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::TimedOut
                    | io::ErrorKind::UnexpectedEof
            );
        }
        next = error.source();
    }
    false
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} refused: {}", self.layer, self.reason)
    }
}

impl Error for Rejection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Wrapped(BoxError);

    impl fmt::Display for Wrapped {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("wrapped")
        }
    }

    impl Error for Wrapped {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&*self.0)
        }
    }

    #[test]
    fn a_rejection_is_found_behind_foreign_errors() {
        let inner = Rejection::new(
            Reason::Connect,
            "upstream",
            "the provider cannot be reached",
        );
        let outer: BoxError = Box::new(Wrapped(Box::new(Wrapped(inner.into()))));
        let found = Rejection::find(&*outer).expect("it is in the chain");
        assert_eq!(
            (found.reason(), found.layer()),
            (Reason::Connect, "upstream")
        );
    }

    #[test]
    fn a_body_that_was_cut_is_told_from_one_that_is_malformed() {
        let reason = |error: BoxError| {
            let refused = Rejection::unread("peek", error);
            Rejection::find(&*refused).map(Rejection::reason)
        };
        let io = |kind| Box::new(Wrapped(io::Error::new(kind, "x").into())).into();
        assert_eq!(
            reason(io(io::ErrorKind::UnexpectedEof)),
            Some(Reason::ClientGone)
        );
        assert_eq!(
            reason(io(io::ErrorKind::ConnectionReset)),
            Some(Reason::ClientGone)
        );
        assert_eq!(
            reason(io(io::ErrorKind::InvalidInput)),
            Some(Reason::Malformed)
        );
        assert_eq!(reason("a bad chunk".into()), Some(Reason::Malformed));
        let refused = Rejection::new(Reason::TooLarge, "peek", "too large");
        let wrapped = Wrapped(refused.into());
        assert_eq!(reason(Box::new(wrapped)), Some(Reason::TooLarge));
    }

    #[test]
    fn an_error_that_nobody_explained_has_no_rejection() {
        let error: BoxError = "something".into();
        assert!(Rejection::find(&*error).is_none());
    }

    #[test]
    fn display_prints_neither_the_message_nor_the_cause() {
        let error =
            Rejection::new(Reason::Tls, "upstream", "told to the caller").because("at 10.0.0.1");
        assert_eq!(error.to_string(), "upstream refused: tls");
        assert_eq!(
            error.source().map(ToString::to_string).as_deref(),
            Some("at 10.0.0.1")
        );
    }
}
