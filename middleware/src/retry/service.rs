use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    body::ResponseBody,
    course::{Again, Answer, Course, Verdict},
    leaving::Leaving,
    policy::Policy,
    reading::Reading,
};
use crate::{
    body::Held,
    chance::Chance,
    clock::{Clock, SystemClock},
    error::{BoxError, Reason, Rejection},
    health::Pulse,
    record::Record,
};

/// Tries requests again.
#[derive(Clone, Debug)]
pub struct RetryLayer<C = SystemClock> {
    pub(super) shared: Arc<Shared>,
    pub(super) given_back: bool,
    pub(super) clock: C,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) policy: Policy,
    pub(super) chance: Chance,
    // Where nobody picks targets: that of the service inside.
    pub(super) pulse: Pulse,
}

impl RetryLayer {
    /// A layer that does what the policy says.
    pub fn new(policy: Policy) -> Self {
        Self::with_chance(policy, Chance::of_process())
    }

    /// The same, with its waits drawn from this row.
    pub fn with_chance(policy: Policy, chance: Chance) -> Self {
        Self {
            shared: Arc::new(Shared {
                policy,
                chance,
                pulse: Pulse::default(),
            }),
            given_back: false,
            clock: SystemClock,
        }
    }
}

impl<C> RetryLayer<C> {
    /// The facts of a request are not copied beforehand: what is inside [gives them back](crate::attempt::Attempt::give_back), as
    /// `upstream`, `breaker` and `concurrency` do. What does not give them back is not tried again. Saves an allocation for each
    /// fact.
    #[must_use]
    pub fn facts_come_back(mut self) -> Self {
        self.given_back = true;
        self
    }

    /// Takes the time from another clock.
    pub fn clock<D: Clock>(self, clock: D) -> RetryLayer<D> {
        RetryLayer {
            shared: self.shared,
            given_back: self.given_back,
            clock,
        }
    }
}

impl<S, C: Clone> Layer<S> for RetryLayer<C> {
    type Service = Retry<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Retry {
            inner,
            layer: self.clone(),
        }
    }
}

/// The service of [`RetryLayer`].
#[derive(Clone, Debug)]
pub struct Retry<S, C = SystemClock> {
    inner: S,
    layer: RetryLayer<C>,
}

impl<S, C> Retry<S, C> {
    /// The service inside.
    pub fn inner(&self) -> &S {
        &self.inner
    }
}

impl<S, C, B, R> Service<Request<Held<B>>> for Retry<S, C>
where
    S: Service<Request<Held<B>>, Response = Response<R>> + Clone,
    S::Error: Into<BoxError>,
    R: Body<Data = Bytes, Error = BoxError>,
    B: Body<Data = Bytes>,
    C: Clock,
{
    type Response = Response<ResponseBody<R>>;
    type Error = BoxError;
    type Future = ResponseFuture<S, Held<B>, R, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut req: Request<Held<B>>) -> Self::Future {
        let course = Course::begin(&self.layer, &mut req);
        let again = course.map(|course| (self.inner.clone(), course));
        ResponseFuture {
            step: Step::Called {
                inner: self.inner.call(req),
            },
            again,
            last: None,
        }
    }
}

pin_project! {
    /// The future of [`Retry`].
    pub struct ResponseFuture<S, B, R, C>
    where
        S: Service<Request<B>>,
        R: Body,
        C: Clock,
    {
        #[pin]
        step: Step<S::Future, R, C>,
        // None: nothing is tried again.
        again: Option<(S, Course<C>)>,
        // What the provider before said, until another one has said something.
        last: Option<Box<Last<R>>>,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<F, R, C>
    where
        R: Body,
        C: Clock,
    {
        // → Reading, Leaving, Waiting, Readying, or the end
        Called { #[pin] inner: F },
        // → Leaving, Waiting, Readying, or the end. Boxed: it is rare, and each future would be as large.
        Reading { reading: Box<Reading<R>> },
        // → Waiting, Readying. Boxed likewise.
        Leaving { leaving: Pin<Box<Leaving<R, C>>> },
        // → Readying
        Waiting { #[pin] timer: C::Sleep },
        // → Called
        Readying,
    }
}

/// An answer that was thrown away, but may still be the last word. Boxed: it is rare.
struct Last<R: Body> {
    response: Response<ResponseBody<R>>,
    /// By which the record takes it back.
    number: Option<usize>,
    /// Where it runs.
    place: usize,
}

impl<S, B, R, C> Future for ResponseFuture<S, Held<B>, R, C>
where
    S: Service<Request<Held<B>>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    R: Body<Data = Bytes, Error = BoxError>,
    C: Clock,
{
    type Output = Answer<R>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let (answer, verdict) = match this.step.as_mut().project() {
                StepProj::Called { inner } => {
                    let answer: Answer<R> = ready!(inner.poll(cx))
                        .map(|response| response.map(ResponseBody::new))
                        .map_err(Into::into);
                    let Some((_, course)) = &this.again else {
                        return Poll::Ready(answer);
                    };
                    course.count(&answer);
                    let verdict = course.judge(&answer);
                    (answer, verdict)
                }
                StepProj::Reading { reading } => {
                    let (read, response) = ready!(reading.poll(cx));
                    let (_, course) = this.again.as_ref().expect("only then is anything read");
                    let verdict = course.read(read, &response);
                    (Ok(response), verdict)
                }
                StepProj::Leaving { leaving } => {
                    let (response, again) = ready!(leaving.as_mut().poll(cx));
                    let (_, course) = this.again.as_ref().expect("only then is anything left");
                    this.step
                        .set(course.go_on(Some(response), this.last, again));
                    continue;
                }
                StepProj::Waiting { timer } => {
                    ready!(timer.poll(cx));
                    this.step.set(Step::Readying);
                    continue;
                }
                StepProj::Readying => {
                    let (inner, course) = this.again.as_mut().expect("only then is there another");
                    if let Err(error) = ready!(inner.poll_ready(cx)) {
                        return Poll::Ready(Err(error.into()));
                    }
                    let Some(req) = course.request() else {
                        return Poll::Ready(Err(lost()));
                    };
                    this.step.set(Step::Called {
                        inner: inner.call(req),
                    });
                    continue;
                }
            };
            let (_, course) = this.again.as_mut().expect("without it nothing is judged");
            let failure = match verdict {
                Verdict::Done => {
                    course.attempt.forget();
                    return Poll::Ready(answer);
                }
                Verdict::Read(wanted) => {
                    let response = answer.expect("a failure has nothing to read");
                    let reading = Box::new(Reading::new(response, wanted));
                    this.step.set(Step::Reading { reading });
                    continue;
                }
                Verdict::Failed(failure) => failure,
            };
            let Some(again) = course.plan(failure, &answer) else {
                course.attempt.forget();
                return Poll::Ready(course.last_word(answer, this.last.take()));
            };
            let answer = match answer.map(|response| course.leave(response, again)) {
                Ok(Ok(leaving)) => {
                    let leaving = Box::pin(leaving);
                    this.step.set(Step::Leaving { leaving });
                    continue;
                }
                Ok(Err(response)) => Some(response),
                Err(_) => None,
            };
            this.step.set(course.go_on(answer, this.last, again));
        }
    }
}

impl<C: Clock> Course<C> {
    /// An answer that another one is to come for: read on, if that is worth it.
    fn leave<R>(
        &self,
        response: Response<ResponseBody<R>>,
        again: Again,
    ) -> Result<Leaving<R, C>, Response<ResponseBody<R>>>
    where
        R: Body<Data = Bytes>,
    {
        Leaving::new(response, again, &self.layer.clock)
    }

    /// The answer is thrown away: the step that leads to the next one.
    fn go_on<F, R>(
        &self,
        answer: Option<Response<ResponseBody<R>>>,
        last: &mut Option<Box<Last<R>>>,
        again: Again,
    ) -> Step<F, R, C>
    where
        R: Body,
    {
        // The place where an answer runs may be wanted for the next attempt.
        let is_wanted = |place| again.repeats && place == again.index;
        let place = self.place();
        // Another target may have no room, or not be there: then this is what is answered.
        let kept = answer.filter(|response| !is_wanted(place) && !response.status().is_success());
        if last.as_ref().is_some_and(|last| is_wanted(last.place)) {
            *last = None;
        }
        let number = self.record.as_ref().and_then(Record::discard_answer);
        if let Some(response) = kept {
            *last = Some(Box::new(Last {
                response,
                number,
                place,
            }));
        }
        match again.at {
            Some(at) => Step::Waiting {
                timer: self.layer.clock.sleep_until(at),
            },
            None => Step::Readying,
        }
    }

    /// No further attempt is made. What a provider said is better than that nobody else could be asked, or has answered.
    fn last_word<R>(&self, answer: Answer<R>, last: Option<Box<Last<R>>>) -> Answer<R>
    where
        R: Body,
    {
        let answer = match (answer, last) {
            (Err(error), Some(last)) if self.is_unanswered(&error) => {
                if let (Some(record), Some(number)) = (&self.record, last.number) {
                    record.take_back_answer(number);
                }
                Ok(last.response)
            }
            (answer, _) => answer,
        };
        self.exhausted(answer)
    }
}

fn lost() -> BoxError {
    let told = "the request could not be made once more";
    Rejection::new(Reason::Internal, "retry", told).into()
}

impl<S, B, R, C> fmt::Debug for ResponseFuture<S, B, R, C>
where
    S: Service<Request<B>>,
    R: Body,
    C: Clock,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
