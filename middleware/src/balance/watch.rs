//! What an attempt says of its target: whether it failed, when it wants to be asked again, and how long its first output takes.

use std::time::{Instant, SystemTime};

use http::{Response, StatusCode};

use super::body::{Measured, ResponseBody, Spoken, Timing};
use crate::{
    attempt::{Attempt, Chosen},
    clock::Clock,
    error::{BoxError, Origin, Rejection},
    health::{self, Begun, Keys, LONGEST_PARK, Load},
    record::{Mark, Record},
};

/// What is to be noted of an attempt.
pub(super) struct Watch<C> {
    pub(super) chosen: Chosen,
    /// What it knew of refusals when it was picked.
    pub(super) begun: Begun,
    pub(super) first: bool,
    pub(super) load: Option<Load>,
    pub(super) since: Option<Instant>,
    /// The credential is the caller's own: a limit is told to this request alone.
    pub(super) alone: Option<Option<Attempt>>,
    pub(super) record: Option<Record>,
    pub(super) clock: C,
}

impl<C: Clock> Watch<C> {
    /// The answer's head has come at this moment: the mark that the record has, or else the time.
    fn now(&self) -> Instant {
        let marked = self.record.as_ref().and_then(|record| {
            let head = record.at(Mark::UpstreamHead)?;
            // Of this attempt: a later one begins behind it.
            let sent = record.at(Mark::Sent).unwrap_or_default();
            (head >= sent).then(|| record.started() + head)
        });
        marked.unwrap_or_else(|| self.clock.now())
    }

    pub(super) fn answered<B>(self, response: Response<B>) -> Response<ResponseBody<B, C>> {
        let (now, status) = (self.now(), response.status());
        let pulse = self.chosen.health.pulse();
        let failed = is_failure(status);
        let refused = pulse.answered(self.first, failed, now);
        if failed {
            self.park(status, response.headers(), now);
        } else if refused {
            pulse.recovered(self.knew());
        }
        let timing = |since| Timing {
            since,
            first: None,
            record: self.record.clone(),
            health: self.chosen.health.clone(),
            clock: self.clock.clone(),
        };
        let since = self.since.filter(|_| status.is_success());
        let timing = since.map(timing);
        let refusal = self.hears(status).then(|| Spoken {
            text: Vec::new(),
            begun: self.knew(),
            health: self.chosen.health.clone(),
            clock: self.clock.clone(),
        });
        let watched = self.load.is_some() || refusal.is_some();
        let measured = watched.then(|| Measured {
            timing,
            refusal,
            load: self.load,
        });
        response.map(|body| ResponseBody::new(body, measured))
    }

    /// What it knew of refusals when it was sent: before that it may have stood in the queue of its target.
    #[cold]
    fn knew(&self) -> Begun {
        let sent = self.record.as_ref().and_then(|record| {
            let sent = record.at(Mark::Sent)?;
            Some(record.started() + sent)
        });
        let pulse = self.chosen.health.pulse();
        sent.map_or(self.begun, |sent| pulse.sent(self.begun, sent))
    }

    /// Whether what the answer says is listened to: a target that nothing is left to spend with is parked for longer. Where there
    /// are several credentials that is held against one of them.
    fn hears(&self, status: StatusCode) -> bool {
        let keys = self.chosen.keys.as_ref();
        status == StatusCode::TOO_MANY_REQUESTS
            && self.alone.is_none()
            && keys.is_none_or(Keys::is_sole)
    }

    /// Who says when to come again is left alone until then. A 429 is about the credential, where there are others.
    #[cold]
    fn park(&self, status: StatusCode, headers: &http::HeaderMap, now: Instant) {
        let limited = status == StatusCode::TOO_MANY_REQUESTS;
        if limited
            && self
                .chosen
                .keys
                .as_ref()
                .is_some_and(|keys| !keys.is_sole())
        {
            return;
        }
        let wall: SystemTime = self.clock.wall();
        if let (true, Some(attempt)) = (limited, &self.alone) {
            let wait = health::wait(status, headers, wall).filter(|wait| !wait.is_zero());
            if let (Some(attempt), Some(wait)) = (attempt, wait) {
                attempt.wait_for(self.chosen.index, now + wait);
            }
            return;
        }
        let pulse = self.chosen.health.pulse();
        match health::wait(status, headers, wall) {
            Some(wait) if !wait.is_zero() => pulse.park(now + wait.min(LONGEST_PARK), true),
            _ if limited => pulse.stumble(self.knew(), now),
            _ => {}
        }
    }

    #[cold]
    pub(super) fn failed(self, error: &BoxError) {
        let Some(why) = Rejection::find(&**error) else {
            return;
        };
        // No room, and an open circuit, are no answers of the target.
        if why.reason().origin() == Origin::Upstream {
            let now = self.clock.now();
            self.chosen.health.pulse().answered(self.first, true, now);
        }
    }
}

/// Whether an answer is a failure that may be tried again.
fn is_failure(status: StatusCode) -> bool {
    let again = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    status.is_server_error() || again.contains(&status)
}
