//! The body of an answer: a document, or a script of events with pauses; either may break off.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower::BoxError;

use super::script::Script;

pin_project! {
    /// The body of an answer.
    ///
    /// A document has an exact size hint, a stream has none. The only error is [`Cut`], after which the body is over.
    pub struct Body {
        source: Source,
        // What comes after the pause.
        held: Option<Result<Bytes, Cut>>,
        #[pin]
        pause: Option<Sleep>,
        announced: Option<u64>,
    }
}

/// The error with which the model `cut` ends its bodies.
#[derive(Clone, Copy, Debug)]
pub struct Cut;

/// What a body does next: wait, then this.
pub(super) type Step = (Duration, Result<Bytes, Cut>);

enum Source {
    Document { rest: Bytes, cut: bool },
    Script(Box<Script>),
    Over,
}

// ===== impl Body =====

impl Body {
    pub(super) fn document(document: String, cut: bool) -> Self {
        let announced = Some(document.len() as u64);
        let rest = Bytes::from(document);
        Self::new(Source::Document { rest, cut }, announced)
    }

    pub(super) fn script(script: Script) -> Self {
        Self::new(Source::Script(Box::new(script)), None)
    }

    fn new(source: Source, announced: Option<u64>) -> Self {
        Self {
            source,
            held: None,
            pause: None,
            announced,
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        if this.held.is_none() {
            let Some((wait, next)) = this.source.step() else {
                return Poll::Ready(None);
            };
            *this.held = Some(next);
            if !wait.is_zero() {
                this.pause.set(Some(tokio::time::sleep(wait)));
            }
        }
        if let Some(sleep) = this.pause.as_mut().as_pin_mut() {
            ready!(sleep.poll(cx));
            this.pause.set(None);
        }
        Poll::Ready(this.held.take().map(|next| match next {
            Ok(data) => {
                if let Some(left) = this.announced {
                    *left -= data.len() as u64;
                }
                Ok(Frame::data(data))
            }
            Err(cut) => Err(cut.into()),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.source.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        self.announced
            .map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body")
            .field("announced", &self.announced)
            .finish_non_exhaustive()
    }
}

// ===== impl Source =====

impl Source {
    fn step(&mut self) -> Option<Step> {
        match self {
            Self::Document { rest, cut } => {
                if rest.is_empty() {
                    *self = Self::Over;
                    return Some((BREATH, Err(Cut)));
                }
                if *cut {
                    let half = rest.split_to(rest.len().div_ceil(2));
                    rest.clear();
                    return Some((Duration::ZERO, Ok(half)));
                }
                let whole = std::mem::take(rest);
                *self = Self::Over;
                Some((Duration::ZERO, Ok(whole)))
            }
            Self::Script(script) => {
                let step = script.step();
                if script.is_over() {
                    *self = Self::Over;
                }
                step
            }
            Self::Over => None,
        }
    }

    fn is_over(&self) -> bool {
        matches!(self, Self::Over)
    }
}

// ===== impl Cut =====

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the mock provider broke off its answer, as the model `cut` does")
    }
}

impl std::error::Error for Cut {}

/// Before a body fails: an HTTP server that meets the error together with the data throws both away, so it is given the
/// time to write.
pub(super) const BREATH: Duration = Duration::from_millis(10);
