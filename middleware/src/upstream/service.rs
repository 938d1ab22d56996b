use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http::{Extensions, Request, Response, StatusCode, header};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{body::ResponseBody, echo, head, secrets::Secrets, splice, target::Target};
use crate::{
    attempt,
    body::Held,
    call::{Call, Came},
    clock::{Clock, SystemClock},
    dialect::{self, Recognised},
    error::{BoxError, Reason, Rejection},
    facts::{Caller, Intent, Route},
    health::{self, Begun, Keys, Refused, Want},
    record::{Attempt, Mark, Record},
};

/// Makes requests fit one target.
#[derive(Clone, Debug)]
pub struct UpstreamLayer<C = SystemClock> {
    target: Arc<Target>,
    clock: C,
}

impl UpstreamLayer {
    /// A layer that asks `target`.
    pub fn new(target: Target) -> Self {
        Self {
            target: Arc::new(target),
            clock: SystemClock,
        }
    }
}

impl<C> UpstreamLayer<C> {
    /// Takes the time from another clock.
    pub fn clock<D: Clock>(self, clock: D) -> UpstreamLayer<D> {
        UpstreamLayer {
            target: self.target,
            clock,
        }
    }
}

impl<S, C: Clone> Layer<S> for UpstreamLayer<C> {
    type Service = Upstream<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Upstream {
            inner,
            target: self.target.clone(),
            clock: self.clock.clone(),
        }
    }
}

/// The service of [`UpstreamLayer`].
#[derive(Clone, Debug)]
pub struct Upstream<S, C = SystemClock> {
    inner: S,
    target: Arc<Target>,
    clock: C,
}

impl<S, C> Upstream<S, C> {
    /// The service inside.
    pub fn inner(&self) -> &S {
        &self.inner
    }
}

impl<S, C> Upstream<S, C>
where
    C: Clock,
{
    fn edit<B>(
        &self,
        req: &mut Request<Held<B>>,
        record: Option<&Record>,
    ) -> Result<Option<Used>, Rejection> {
        let intent = req.extensions().get::<Intent>().cloned();
        let routed = req
            .extensions()
            .get::<Route>()
            .and_then(|route| route.model.clone());
        let unrecorded;
        let recognised = match record {
            Some(record) => record.recognised(),
            None => {
                unrecorded = recognise(req);
                &unrecorded
            }
        };
        let surface = match recognised {
            Recognised::Surface(surface) => Some(surface),
            _ => None,
        };
        self.target.takes(surface, intent.as_ref())?;
        // A body that nobody could read may still have its model in the path.
        let named = surface
            .filter(|_| intent.is_none())
            .and_then(|surface| surface.model_in(req.uri().path()))
            .map(std::borrow::Cow::into_owned);
        let asked = intent.as_ref().map_or(named.as_deref(), Intent::model);
        let model = routed.or_else(|| asked.map(Into::into));
        let own = model
            .as_deref()
            .and_then(|model| self.target.own_name(model));
        let own = own.or(model);
        // The name stays as it was written unless it is another one.
        let renamed = own
            .as_deref()
            .filter(|own| asked.is_some_and(|asked| asked != *own));
        if let Some(intent) = &intent {
            splice::edit_body(req, intent, &self.target, renamed)?;
        }
        head::edit_target(req.uri_mut(), &self.target, recognised, renamed).ok_or_else(|| {
            let told = "the path cannot be put behind the provider's base URL";
            Rejection::new(Reason::Malformed, "upstream", told)
        })?;
        let id = record.map(Record::request_id_header);
        let used = self.credential(req.extensions(), own.as_ref());
        let sent = used
            .as_ref()
            .map(|used| &self.target.sent[used.at].credential);
        head::edit_request(req.headers_mut(), (&self.target, sent), surface, id);
        fit_length(req);
        if let Some(record) = record {
            record.begin_attempt(Attempt {
                provider: self.target.provider.clone(),
                target: self.target.name.clone(),
                label: self.target.label.clone(),
                model: own,
                ..Attempt::default()
            });
        }
        Ok(used)
    }

    /// The credential of this attempt, if there is one.
    fn credential(&self, facts: &Extensions, own: Option<&Arc<str>>) -> Option<Used> {
        let keys = &self.target.keys;
        if keys.is_empty() {
            return None;
        }
        let attempt = facts.get::<attempt::Attempt>();
        let mut used = Used { at: 0, whose: None };
        if !keys.is_sole() {
            let caller = facts.get::<Caller>();
            let (tried, bound) =
                attempt.map_or((0, false), |it| it.read(|it| (it.keys, it.ask.bound)));
            let terms = caller.and_then(|caller| caller.terms().credential.as_deref());
            let want = Want {
                pins: [terms, self.target.pin.as_deref()],
                model: own.map(|own| &**own),
                tried,
                first: bound,
            };
            used.at = keys.pick(&want, || self.clock.now()).unwrap_or(0);
            used.whose = Some(Box::new(Whose {
                keys: keys.clone(),
                model: own.cloned(),
                caller: caller.map(|caller| caller.name().clone()),
                begun: keys.begin(used.at),
            }));
        }
        if let Some(attempt) = attempt {
            attempt.use_key(used.at);
        }
        Some(used)
    }
}

/// A credential that was sent.
#[derive(Debug)]
pub(super) struct Used {
    at: usize,
    // None of a sole one, which is never parked.
    whose: Option<Box<Whose>>,
}

#[derive(Debug)]
struct Whose {
    keys: Keys,
    model: Option<Arc<str>>,
    caller: Option<Arc<str>>,
    begun: Begun,
}

impl Used {
    /// The answer's text may say that nothing is left to spend; that is known at its end, and counts from `since`.
    pub(super) fn spent(&self, since: Instant) {
        if let Some(whose) = &self.whose {
            whose.refused(self.at, Refused::Rejected, since);
        }
    }

    /// What the provider's answer says of the credential.
    fn settle<B>(&self, response: &Response<B>, clock: &impl Clock) {
        let Some(whose) = &self.whose else { return };
        let (status, model) = (response.status(), whose.model.as_deref());
        let why = match status {
            StatusCode::UNAUTHORIZED | StatusCode::PAYMENT_REQUIRED => Refused::Rejected,
            StatusCode::FORBIDDEN => Refused::Forbidden(whose.caller.as_ref()),
            StatusCode::TOO_MANY_REQUESTS => {
                let wait = health::wait(status, response.headers(), clock.wall());
                Refused::Limited(wait.filter(|wait| !wait.is_zero()))
            }
            status if status.is_success() => {
                return whose.keys.taken(self.at, model, whose.begun);
            }
            _ => return,
        };
        whose.refused(self.at, why, clock.now());
    }
}

impl Whose {
    fn refused(&self, at: usize, why: Refused<'_>, now: Instant) {
        let model = self.model.as_deref();
        self.keys.refused(at, model, why, self.begun, now);
    }
}

fn recognise<B>(req: &Request<B>) -> Recognised {
    let uri = req.uri();
    dialect::recognise(req.method(), uri.path(), uri.query(), req.headers())
}

/// The announced length is that of the body as it will be sent; a body whose length is not known is
/// sent in chunks.
fn fit_length<B>(req: &mut Request<Held<B>>) {
    let body = req.body();
    if !body.is_edited() {
        return;
    }
    let Some(announced) = req.headers().get(header::CONTENT_LENGTH) else {
        return;
    };
    let length = if body.is_whole() {
        Some(body.held_len())
    } else {
        let arrives = announced.to_str().ok().and_then(|it| it.parse().ok());
        arrives.and_then(|length| body.edited_len(length))
    };
    match length {
        Some(length) => req
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length.into()),
        None => req.headers_mut().remove(header::CONTENT_LENGTH),
    };
}

impl<S, C, B, ResBody> Service<Request<Held<B>>> for Upstream<S, C>
where
    S: Service<Request<Held<B>>, Response = Response<ResBody>>,
    S::Error: Into<BoxError>,
    ResBody: Body<Data = Bytes>,
    C: Clock,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut req: Request<Held<B>>) -> Self::Future {
        let record = req.extensions().get::<Record>().cloned();
        let used = match self.edit(&mut req, record.as_ref()) {
            Ok(used) => used,
            Err(refused) => {
                let call = Call::ours(refused.into());
                return ResponseFuture {
                    call,
                    record: None,
                    secrets: None,
                    used: None,
                    clock: self.clock.clone(),
                };
            }
        };
        if let Some(record) = &record {
            record.mark(Mark::Sent, self.clock.now());
        }
        // Nobody inside reads facts; who is outside may want to make the request once more.
        attempt::Attempt::give_back(req.extensions_mut());
        let call = Call::inside(self.inner.call(req));
        ResponseFuture {
            call,
            record,
            secrets: used
                .as_ref()
                .and_then(|used| self.target.sent[used.at].secrets.clone()),
            used,
            clock: self.clock.clone(),
        }
    }
}

pin_project! {
    /// The future of [`Upstream`].
    #[derive(Debug)]
    pub struct ResponseFuture<F, C> {
        #[pin]
        call: Call<F, BoxError>,
        record: Option<Record>,
        // None where there is nothing that could be echoed.
        secrets: Option<Arc<Secrets>>,
        used: Option<Used>,
        clock: C,
    }
}

impl<F, C, B, E> Future for ResponseFuture<F, C>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
    B: Body<Data = Bytes>,
    C: Clock,
{
    type Output = Result<Response<ResponseBody<B>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = match ready!(this.call.poll(cx)) {
            Came::Inside(answer) => answer.map_err(Into::into).and_then(accept),
            Came::Ours(refused) => return Poll::Ready(Err(refused)),
        };
        if let (Ok(response), Some(used)) = (&answer, &*this.used) {
            used.settle(response, this.clock);
        }
        if let Some(record) = this.record {
            let now = this.clock.now();
            let since = now.saturating_duration_since(record.started());
            // The mark is this attempt's: one that follows begins behind its end.
            let sent = record.at(Mark::Sent).unwrap_or_default();
            record.update_attempt(|attempt| {
                attempt.took = since.saturating_sub(sent);
                match &answer {
                    Ok(response) => attempt.status = Some(response.status().as_u16()),
                    Err(error) => attempt.error = Some(word(error)),
                }
            });
            if answer.is_ok() {
                record.mark(Mark::UpstreamHead, now);
            }
        }
        let (secrets, record) = (this.secrets.take(), this.record.take());
        let used = this.used.take().filter(|used| used.whose.is_some());
        Poll::Ready(answer.map(|answer| {
            let limited = answer.status() == StatusCode::TOO_MANY_REQUESTS;
            let used = used.filter(|_| limited);
            let answer = match secrets {
                Some(secrets) => echo::mask(answer, secrets, record),
                None => answer.map(ResponseBody::plain),
            };
            match used {
                Some(used) => answer.map(|body| body.overheard(used, this.clock.now())),
                None => answer,
            }
        }))
    }
}

/// A change of protocol was never asked for.
fn switched() -> Rejection {
    let told = "the provider switched to a protocol that was not asked for";
    Rejection::new(Reason::Protocol, "upstream", told)
}

/// An answer that may be passed on, without what belongs to its connection.
fn accept<B>(mut response: Response<B>) -> Result<Response<B>, BoxError> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(switched().into());
    }
    let redirects = [
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::FOUND,
        StatusCode::SEE_OTHER,
        StatusCode::TEMPORARY_REDIRECT,
        StatusCode::PERMANENT_REDIRECT,
    ];
    if redirects.contains(&response.status()) {
        let told = "the provider answered with a redirect, which is never followed; \
                    its base_url has to name the final address";
        return Err(Rejection::new(Reason::Protocol, "upstream", told).into());
    }
    head::edit_response(response.headers_mut());
    Ok(response)
}

/// The fixed word of a failed attempt.
fn word(error: &BoxError) -> &'static str {
    match Rejection::find(&**error).map(Rejection::reason) {
        Some(Reason::UpstreamTimeout) => "timeout",
        Some(reason) => reason.as_str(),
        None => "internal",
    }
}
