//! What has been done for one request, and what is to be done next.

use std::{
    fmt,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;

use super::{
    body::ResponseBody,
    policy::{Commit, Policy},
    reading::{MOST, Read, Wanted},
    service::RetryLayer,
};
use crate::{
    attempt::{self, Attempt, Failure, Next},
    body::Held,
    clock::Clock,
    dialect::{self, Framing, Refusal},
    error::{BoxError, Origin, Reason, Rejection},
    facts::{Deadline, Intent},
    health,
    record::{Mark, Record},
};

/// What has been done for a request, and may still be.
pub(super) struct Course<C> {
    pub(super) attempt: Attempt,
    pub(super) layer: RetryLayer<C>,
    pub(super) record: Option<Record>,
    deadline: Option<Instant>,
    /// Calls to providers.
    calls: u32,
    /// Calls to a target that had been asked before, so far.
    repeats: u32,
    /// Nobody was called by the last attempt.
    uncalled: bool,
    /// When the attempt that runs began, unless it is the first one.
    began: Option<Instant>,
}

/// When the next attempt begins, where, and whether that target was asked before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Again {
    pub(super) at: Option<Instant>,
    pub(super) index: usize,
    pub(super) repeats: bool,
}

pub(super) type Answer<R> = Result<Response<ResponseBody<R>>, BoxError>;

/// What is to be done about an answer.
pub(super) enum Verdict {
    /// It is the answer.
    Done,
    /// More of it has to be read before that is known.
    Read(Wanted),
    /// It is a failure of this kind.
    Failed(Failure),
}

impl<C: Clock> Course<C> {
    /// The first attempt of this request begins; `None` if it is not to be made once more.
    pub(super) fn begin<B>(layer: &RetryLayer<C>, req: &mut Request<Held<B>>) -> Option<Self>
    where
        B: Body<Data = Bytes>,
    {
        let policy = &layer.shared.policy;
        if policy.is_off() {
            return None;
        }
        // What cannot be sent again is passed on as if nobody were here.
        let attempt = Attempt::first(req, policy.replay, layer.given_back)?;
        let facts = req.extensions_mut();
        let course = Self {
            record: facts.get::<Record>().cloned(),
            deadline: facts.get().map(|Deadline(at)| *at),
            layer: layer.clone(),
            calls: 1,
            repeats: 0,
            uncalled: false,
            began: None,
            attempt: attempt.clone(),
        };
        facts.insert(attempt);
        Some(course)
    }

    /// The request once more.
    pub(super) fn request<B>(&mut self) -> Option<Request<Held<B>>> {
        let mut req = self.attempt.again()?;
        self.note_wait();
        self.calls += 1;
        self.attempt.begin();
        req.extensions_mut().insert(self.attempt.clone());
        Some(req)
    }

    /// Another attempt begins: since the one before had gone out, somebody else was waited for.
    fn note_wait(&mut self) {
        let Some(record) = &self.record else { return };
        let now = self.layer.clock.now();
        let at = |mark| record.at(mark).map(|since| record.started() + since);
        let began = self.began.or_else(|| at(Mark::BodyRead));
        let began = began.unwrap_or_else(|| record.started());
        // One that was never sent has waited for its connection.
        let from = at(Mark::Sent).unwrap_or(began).max(began);
        record.add_waited(now.saturating_duration_since(from));
        self.began = Some(now);
    }

    fn policy(&self) -> &Policy {
        &self.layer.shared.policy
    }

    pub(super) fn judge<R: Body<Data = Bytes>>(&self, answer: &Answer<R>) -> Verdict {
        let response = match answer {
            Ok(response) => response,
            Err(error) => {
                let found = Rejection::find(&**error);
                let found = found.and_then(|why| self.policy().on.error(why).map(|it| (why, it)));
                return match found {
                    Some((why, _)) if self.is_bound() && why.reason() != Reason::Connect => {
                        Verdict::Done
                    }
                    Some((_, failure)) => Verdict::Failed(failure),
                    None => Verdict::Done,
                };
            }
        };
        let status = response.status();
        if status.is_success() {
            let waits = self.policy().commit == Commit::FirstEvent;
            return match waits.then(|| self.first_event(response)).flatten() {
                Some(judge) => Verdict::Read(Wanted::Output(judge)),
                None => Verdict::Done,
            };
        }
        if self.is_bound() {
            return Verdict::Done;
        }
        let (ours, several) = self.attempt.read(|course| {
            let keys = course.chosen.as_ref().and_then(|it| it.keys.as_ref());
            (
                course.key.is_some(),
                keys.is_some_and(|keys| !keys.is_sole()),
            )
        });
        match self.policy().on.status(status, ours) {
            Some(Failure::Credential { .. })
                if status == StatusCode::TOO_MANY_REQUESTS && several =>
            {
                Verdict::Read(Wanted::Refusal)
            }
            Some(failure) => Verdict::Failed(failure),
            None if status == StatusCode::BAD_REQUEST && self.has_others() => {
                Verdict::Read(Wanted::Refusal)
            }
            None => Verdict::Done,
        }
    }

    /// What finds the first output of a stream, and whether a document is an error; `None` where neither is to be waited for.
    fn first_event<R: Body>(&self, response: &Response<R>) -> Option<Box<dialect::Judge>> {
        let judge = self.attempt.with_facts(|facts| {
            let intent = facts.get::<Intent>()?;
            let surface = Some(intent.surface());
            let (status, headers) = (response.status(), response.headers());
            let framing = dialect::framing_of(surface, intent.stream(), status, headers);
            let judge = dialect::Judge::new(surface, framing, intent.choices(), true);
            let waits = if intent.stream() {
                judge.sees_output()
            } else {
                let small = response.body().size_hint().lower() <= MOST as u64;
                framing == Framing::Document && small
            };
            waits.then(|| Box::new(judge.with_first_output()))
        });
        judge.flatten()
    }

    /// What a provider keeps may have changed by what failed: only what never reached it is made once more, but for reading.
    fn is_bound(&self) -> bool {
        let bound = self.attempt.read(|course| course.ask.bound);
        bound && !self.attempt.is_method(&Method::GET)
    }

    /// Whether there are targets that were not asked yet.
    fn has_others(&self) -> bool {
        self.attempt.read(|course| {
            !course.ask.bound && course.ask.eligible & !course.tried & !course.barred != 0
        })
    }

    /// What was read says what the answer is.
    pub(super) fn read<R>(&self, read: Read, response: &Response<ResponseBody<R>>) -> Verdict
    where
        R: Body<Data = Bytes, Error = BoxError>,
    {
        match read {
            Read::Output => Verdict::Done,
            Read::NoOutput => {
                let failure = response.body().failure();
                let why = failure.and_then(|error| Rejection::find(&**error));
                let late = why.is_some_and(|why| why.reason() == Reason::UpstreamTimeout);
                if self.is_bound() || late && !self.policy().on.first_byte_timeout {
                    return Verdict::Done;
                }
                let now = self.layer.clock.now();
                self.attempt.read(|course| match &course.chosen {
                    Some(chosen) => chosen.health.pulse().failed_after_all(now),
                    None => self.layer.shared.pulse.failed_after_all(now),
                });
                if let Some(record) = &self.record {
                    record.update_attempt(|it| {
                        it.error.get_or_insert("stream_error");
                    });
                }
                Verdict::Failed(Failure::Retryable)
            }
            Read::Refusal(refusal) => {
                let limited = response.status() == StatusCode::TOO_MANY_REQUESTS;
                match (refusal, limited) {
                    (Some(Refusal::Quota), true) => {
                        Verdict::Failed(Failure::Credential { limited: false })
                    }
                    (_, true) => {
                        let again = self.policy().on.status(response.status(), true);
                        again.map_or(Verdict::Done, Verdict::Failed)
                    }
                    (Some(Refusal::Overflow), false) => Verdict::Failed(Failure::Elsewhere),
                    _ => Verdict::Done,
                }
            }
        }
    }

    /// The next attempt after an answer that is a failure; `None` if there is to be none.
    pub(super) fn plan<R: Body>(&mut self, failure: Failure, answer: &Answer<R>) -> Option<Again> {
        self.uncalled = answer.as_ref().err().is_some_and(is_uncalled);
        if self.uncalled {
            self.calls -= 1;
        }
        let now = self.layer.clock.now();
        let late = |at| self.deadline.is_some_and(|deadline| deadline <= at);
        let again = self.calls < self.policy().attempts && self.attempt.is_repeatable();
        if !again || late(now) {
            return None;
        }
        let next = self.next(failure, answer, now)?;
        if !next.again {
            return Some(Again {
                at: None,
                index: next.index,
                repeats: false,
            });
        }
        let wanted = next
            .not_before
            .map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let jitter = self
            .policy()
            .backoff(self.repeats + 1, &self.layer.shared.chance);
        let at = now + jitter.max(wanted);
        if wanted > self.policy().max_retry_after || late(at) {
            return None;
        }
        self.repeats += 1;
        Some(Again {
            at: Some(at),
            index: next.index,
            repeats: true,
        })
    }

    fn next<R: Body>(&self, failure: Failure, answer: &Answer<R>, now: Instant) -> Option<Next> {
        let ratio = self.policy().ratio;
        if self.attempt.is_planned() {
            return self.attempt.plan(failure, ratio, now);
        }
        // There is but one service inside: it is the target.
        let again = match failure {
            Failure::Retryable | Failure::Credential { limited: true } => true,
            Failure::Elsewhere | Failure::Credential { limited: false } => false,
        };
        let wait = answer.as_ref().ok().and_then(|response| {
            health::wait(
                response.status(),
                response.headers(),
                self.layer.clock.wall(),
            )
        });
        (again && self.layer.shared.pulse.spend(ratio, now)).then_some(Next {
            index: 0,
            again: true,
            not_before: wait.map(|wait| now + wait),
        })
    }

    /// An answer has come, good or not; where nobody picks targets, it counts for the service inside.
    pub(super) fn count<R>(&self, answer: &Answer<R>)
    where
        R: Body,
    {
        if self.attempt.is_planned() {
            return;
        }
        let failed = match answer {
            Ok(response) => self.policy().on.status(response.status(), false).is_some(),
            Err(_) => true,
        };
        let pulse = &self.layer.shared.pulse;
        pulse.answered(self.calls == 1, failed, self.layer.clock.now());
    }

    /// Where the last attempt was made.
    pub(super) fn place(&self) -> usize {
        let chosen = |course: &attempt::Course| course.chosen.as_ref().map(|it| it.index);
        self.attempt.read(chosen).unwrap_or_default()
    }

    /// Whether the last attempt has failed before anybody answered it: what a provider said before is better than this.
    pub(super) fn is_unanswered(&self, error: &BoxError) -> bool {
        let why = Rejection::find(&**error).map(|why| why.reason().origin());
        self.uncalled || why == Some(Origin::Upstream)
    }

    /// The client hears that it has been tried again already, unless it may succeed after a short wait.
    pub(super) fn exhausted<R>(&self, answer: Answer<R>) -> Answer<R>
    where
        R: Body,
    {
        if self.calls < 2 {
            return answer;
        }
        match answer {
            Ok(mut response) => {
                let wall = self.layer.clock.wall();
                let told = response.headers().contains_key(header::RETRY_AFTER)
                    || response.headers().contains_key("retry-after-ms");
                let wait =
                    health::wait(response.status(), response.headers(), wall).filter(|_| told);
                if wait.is_none_or(|wait| wait > PATIENCE) {
                    let no = HeaderValue::from_static("false");
                    response.headers_mut().insert(SHOULD_RETRY, no);
                }
                Ok(response)
            }
            Err(error) => match error.downcast::<Rejection>() {
                Ok(why) => Err(why.hopeless().into()),
                Err(error) => Err(error),
            },
        }
    }
}

/// Whether an error means that no provider was called.
fn is_uncalled(error: &BoxError) -> bool {
    let why = Rejection::find(&**error).map(Rejection::reason);
    matches!(why, Some(Reason::Overloaded | Reason::NoTarget))
}

const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// A client may well wait for so long itself.
const PATIENCE: Duration = Duration::from_secs(60);

impl<C: fmt::Debug> fmt::Debug for Course<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Course")
            .field("attempt", &self.attempt)
            .field("calls", &self.calls)
            .finish_non_exhaustive()
    }
}
