use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Request, Response, header};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

#[cfg(feature = "tokenizer")]
use super::tokens::{Sent, Tally, Tokenizer};
#[cfg(not(feature = "tokenizer"))]
use super::untold::Tally;
use super::{
    answer::Answer,
    body::ResponseBody,
    inject::{Injected, Removal},
    watch::{Asked, Metering, Outputs, Watch, is_document},
};
use crate::{
    clock::{Clock, SystemClock},
    dialect::{self, Framing},
    estimate::Estimator,
    facts::Intent,
    record::Record,
    sse::CAP,
};

/// Reads the usage of each answer while it passes.
#[derive(Clone, Debug, Default)]
pub struct MeterLayer<C = SystemClock> {
    policy: Policy,
    estimates: Estimates,
    clock: C,
}

/// Where estimates come from.
#[derive(Clone, Debug, Default)]
struct Estimates {
    guess: Estimator,
    #[cfg(feature = "tokenizer")]
    tokenizer: Option<Tokenizer>,
}

#[derive(Clone, Copy, Debug)]
struct Policy {
    off: bool,
    drains: bool,
    unmarked: bool,
    event: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            off: false,
            drains: false,
            unmarked: false,
            event: CAP,
        }
    }
}

impl MeterLayer {
    /// A layer that leaves every byte as it is, and charges what was delivered when a client leaves.
    pub fn new() -> Self {
        Self::default()
    }

    /// A layer that reads nothing and writes nothing.
    pub fn off() -> Self {
        let mut layer = Self::default();
        layer.policy.off = true;
        layer
    }
}

impl<C> MeterLayer<C> {
    /// Whether an answer is to be read on when its client leaves, so that its true usage is known. It is the layer
    /// [`record`](crate::record) that reads on; without it this says nothing.
    #[must_use]
    pub fn drain(mut self, yes: bool) -> Self {
        self.policy.drains = yes;
        self
    }

    /// For a provider whose streams carry no mark of their end: its last report counts once the transport has ended well.
    #[must_use]
    pub fn transport_marks(mut self, yes: bool) -> Self {
        self.policy.unmarked = yes;
        self
    }

    /// Keeps so many bytes of one event at most, in place of 1 MiB: a longer one is passed on unread.
    #[must_use]
    pub fn event(mut self, bytes: usize) -> Self {
        self.policy.event = bytes;
        self
    }

    /// Guesses as this estimator does, and has it learn from what providers report. Clones of a layer share one in any case.
    #[must_use]
    pub fn estimator(mut self, estimator: Estimator) -> Self {
        self.estimates.guess = estimator;
        self
    }

    /// Has prompts and streamed answers of OpenAI's models counted, and guesses only what is not counted in time. Prompts are those
    /// that an [`InjectLayer`](super::InjectLayer) outside of this layer [keeps](super::InjectLayer::keep_prompts).
    #[cfg(feature = "tokenizer")]
    #[must_use]
    pub fn tokenizer(mut self, tokenizer: Tokenizer) -> Self {
        self.estimates.tokenizer = Some(tokenizer);
        self
    }

    /// Takes the time from another clock.
    pub fn clock<D: Clock>(self, clock: D) -> MeterLayer<D> {
        MeterLayer {
            policy: self.policy,
            estimates: self.estimates,
            clock,
        }
    }
}

impl<S, C: Clone> Layer<S> for MeterLayer<C> {
    type Service = Meter<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Meter {
            inner,
            policy: self.policy,
            estimates: self.estimates.clone(),
            clock: self.clock.clone(),
        }
    }
}

/// The service of [`MeterLayer`].
#[derive(Clone, Debug)]
pub struct Meter<S, C = SystemClock> {
    inner: S,
    policy: Policy,
    estimates: Estimates,
    clock: C,
}

impl<S, C, ReqBody, ResBody> Service<Request<ReqBody>> for Meter<S, C>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ReqBody: Body,
    ResBody: Body,
    C: Clock,
{
    type Response = Response<ResponseBody<ResBody, C>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<ReqBody>) -> Self::Future {
        let asked = (!self.policy.off).then(|| asked(&req, &self.clock));
        #[cfg(feature = "tokenizer")]
        let sent = req.extensions().get().cloned();
        let inner = self.inner.call(req);
        #[cfg(feature = "tokenizer")]
        let tally = self
            .estimates
            .tally(asked.as_ref().map(|(asked, _)| asked), sent);
        #[cfg(not(feature = "tokenizer"))]
        let tally = Tally;
        ResponseFuture {
            inner,
            asked,
            policy: self.policy,
            estimates: self.estimates.clone(),
            clock: self.clock.clone(),
            tally,
        }
    }
}

#[cfg(feature = "tokenizer")]
impl Estimates {
    /// Begins to count what was asked. The provider's name of its model is known once the request has been passed on.
    fn tally(&self, asked: Option<&Asked>, sent: Option<Sent>) -> Tally {
        let (Some(tokenizer), Some(asked)) = (&self.tokenizer, asked) else {
            return Tally::default();
        };
        let vocabulary = asked.of_model(|model| model.and_then(Tokenizer::knows));
        vocabulary.map_or_else(Tally::default, |it| {
            tokenizer.begin(it, sent, asked.surface())
        })
    }
}

/// What is known of a request, and whether its record is our own.
fn asked<B: Body>(req: &Request<B>, clock: &impl Clock) -> (Asked, bool) {
    let facts = req.extensions();
    let record = facts.get::<Record>().cloned();
    let own = record.is_none();
    let record = record.unwrap_or_else(|| {
        let head = (req.method(), req.uri(), req.headers());
        Record::new(UNNAMED, head, clock.now(), clock.wall())
    });
    let intent = facts.get::<Intent>().cloned();
    // Unread, a body may have asked for a stream: the answer's label then says.
    let stream = match (&intent, record.surface()) {
        (Some(intent), _) => intent.stream(),
        (None, Some(surface)) => surface.stream.unwrap_or(true),
        (None, None) => false,
    };
    let asked = Asked {
        record,
        intent,
        stream,
        length: req.body().size_hint().exact(),
        injected: facts.get::<Injected>().is_some(),
    };
    (asked, own)
}

pin_project! {
    /// The future of [`Meter`].
    #[derive(Debug)]
    pub struct ResponseFuture<F, C> {
        #[pin]
        inner: F,
        // None: nobody meters. With it, whether the record is our own.
        asked: Option<(Asked, bool)>,
        policy: Policy,
        estimates: Estimates,
        clock: C,
        tally: Tally,
    }
}

impl<F, B, E, C> Future for ResponseFuture<F, C>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
    C: Clock,
{
    type Output = Result<Response<ResponseBody<B, C>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        let Some((asked, own)) = this.asked.take() else {
            let (watch, removal) = (Watch::nothing(), None);
            return Poll::Ready(Ok(
                response.map(|body| ResponseBody::new(body, watch, removal))
            ));
        };
        let record = asked.record.clone();
        record.begin_metering();
        if own {
            response.extensions_mut().insert(record.clone());
        }
        let (status, headers) = (response.status(), response.headers());
        let (surface, stream) = (asked.surface(), asked.stream);
        let framing = dialect::framing_of(surface, stream, status, headers);
        // What nobody knows is only looked at where it may be read.
        let unknown = surface.is_none();
        let watched = status.is_success() && !(unknown && framing == Framing::Opaque);
        let edits = asked.injected && watched && framing == Framing::Sse;
        if edits {
            response.headers_mut().remove(header::CONTENT_LENGTH);
        }
        if watched && this.policy.drains {
            record.set_drains();
        }
        // A refusal may say what it used all the same.
        let refused = !status.is_success() && !unknown && framing == Framing::Document;
        let watch = if watched || refused {
            let curious = !refused && this.estimates.guess.is_curious();
            Watch::new(Metering {
                refused,
                answer: Answer::new(asked.surface(), framing, curious).with_cap(this.policy.event),
                curious,
                document: refused || is_document(framing, stream),
                asked,
                estimator: this.estimates.guess.clone(),
                clock: this.clock.clone(),
                unmarked: this.policy.unmarked,
                outputs: Outputs::default(),
                bytes: 0,
                tally: std::mem::take(this.tally),
            })
        } else {
            Watch::nothing()
        };
        let removal = edits.then(|| Box::new(Removal::new(Some(record))));
        Poll::Ready(Ok(
            response.map(|body| ResponseBody::new(body, watch, removal))
        ))
    }
}

/// A record that nobody else has needs no name.
const UNNAMED: HeaderValue = HeaderValue::from_static("-");
