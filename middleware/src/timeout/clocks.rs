//! What is measured of one answer, from its call to its end.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use pin_project_lite::pin_project;

use super::RATE_OVER;
use crate::{
    clock::{Clock, Timer},
    dialect::{self, Judge},
    error::{Reason, Rejection},
    facts::Intent,
    record::Record,
};

/// What was set, with the moments that follow from it.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) idle: Option<Duration>,
    pub(super) total: Option<Instant>,
    pub(super) first_token: Option<Instant>,
    pub(super) min_rate: Option<u64>,
    /// Only where the first output is waited for.
    pub(super) intent: Option<Intent>,
    /// How much of one event is kept for that.
    pub(super) event: usize,
}

pin_project! {
    /// The clocks of one answer. They run for its head, then for its body, with one timer.
    pub(super) struct Clocks<C: Clock> {
        set: Set,
        // Some while the first output is waited for. Boxed, as the rate is: few bodies have one.
        first: Option<Box<First>>,
        rate: Option<Box<Rate>>,
        record: Option<Record>,
        clock: C,
        // Since when there has been nothing to hand over.
        waiting: Option<Instant>,
        armed: Option<Instant>,
        #[pin]
        timer: Option<C::Sleep>,
    }
}

/// The first output of a stream, and until when it has to come.
#[derive(Debug)]
struct First {
    judge: Judge,
    until: Instant,
}

/// Bytes that have to come in each [`RATE_OVER`] of waiting for the provider.
#[derive(Debug)]
struct Rate {
    least: u64,
    got: u64,
    // Of this span, but for the wait that lasts.
    waited: Duration,
    // Since when something is waited for in this span.
    since: Option<Instant>,
}

impl<C: Clock> Clocks<C> {
    /// Clocks of an answer whose head has to come until `head`.
    pub(super) fn new(set: Set, head: Option<Instant>, record: Option<Record>, clock: C) -> Self {
        Self {
            set,
            first: None,
            rate: None,
            record,
            timer: head.map(|at| clock.sleep_until(at)),
            clock,
            waiting: None,
            armed: head,
        }
    }

    /// Ready when the head is late.
    pub(super) fn poll_head(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.project().timer.as_pin_mut() {
            Some(timer) => timer.poll(cx),
            None => Poll::Pending,
        }
    }

    /// The head has come: what is measured of the body begins.
    pub(super) fn answered<B>(self: Pin<&mut Self>, response: &Response<B>) {
        let this = self.project();
        *this.first = this.set.first(response.status(), response.headers());
        *this.rate = this.set.min_rate.map(|least| Box::new(Rate::new(least)));
    }

    /// A frame has come. False if all was to have come before.
    pub(super) fn came(self: Pin<&mut Self>, data: Option<&Bytes>) -> bool {
        let this = self.project();
        let waited = this.waiting.take().is_some();
        if waited && let Some(rate) = this.rate {
            rate.came(this.clock.now());
        }
        // A body that always has more is never waited for.
        if let Some(total) = this.set.total
            && this.clock.now() >= total
        {
            return false;
        }
        let Some(data) = data else {
            return true;
        };
        if let Some(first) = this.first {
            first.judge.feed(data);
            // Where output cannot be seen, the first bytes are taken for it.
            if first.judge.first_output() || !first.judge.sees_output() {
                *this.first = None;
            }
        }
        if let Some(rate) = this.rate {
            rate.got = rate.got.saturating_add(data.len() as u64);
        }
        true
    }

    /// Ready when time is up for the body, which has nothing more to give. A timer that fires early is moved on.
    pub(super) fn poll_body(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let waiting = *this.waiting.get_or_insert_with(|| this.clock.now());
        if let Some(rate) = this.rate {
            rate.waits(waiting);
        }
        loop {
            let others = this.set.others(this.first.as_deref(), waiting);
            let rate = this.rate.as_ref().and_then(|rate| rate.over());
            let Some(deadline) = others.into_iter().chain(rate).min() else {
                return Poll::Pending;
            };
            let (Some(armed), Some(mut timer)) = (*this.armed, this.timer.as_mut().as_pin_mut())
            else {
                this.timer.set(Some(this.clock.sleep_until(deadline)));
                *this.armed = Some(deadline);
                continue;
            };
            if armed <= deadline {
                ready!(timer.as_mut().poll(cx));
                if armed == deadline {
                    // It may be but the end of a span in which enough has come. The next one begins then.
                    let over = others.is_some_and(|other| other <= deadline);
                    if over || !this.rate.as_mut().is_some_and(|rate| rate.next(deadline)) {
                        return Poll::Ready(());
                    }
                }
            }
            let rate = this.rate.as_ref().and_then(|rate| rate.over());
            let deadline = others.into_iter().chain(rate).min().unwrap_or(deadline);
            timer.as_mut().reset(deadline);
            *this.armed = Some(deadline);
        }
    }

    /// Time is up, for the attempt that was running.
    pub(super) fn elapsed(&self) -> Rejection {
        if let Some(record) = &self.record {
            record.fail_attempt("timeout", self.clock.now());
        }
        let told = "the provider did not answer in time; ask again, or ask for less";
        Rejection::new(Reason::UpstreamTimeout, "upstream", told)
    }
}

impl<C: Clock> fmt::Debug for Clocks<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clocks")
            .field("set", &self.set)
            .field("rate", &self.rate)
            .finish_non_exhaustive()
    }
}

impl Set {
    /// What finds the first output, if it is waited for.
    fn first(&self, status: StatusCode, headers: &HeaderMap) -> Option<Box<First>> {
        let (intent, until) = (self.intent.as_ref()?, self.first_token?);
        let surface = Some(intent.surface());
        let framing = dialect::framing_of(surface, true, status, headers);
        let judge = Judge::new(surface, framing, intent.choices(), true).with_cap(self.event);
        judge.sees_output().then(|| {
            let judge = judge.with_first_output();
            Box::new(First { judge, until })
        })
    }

    /// When the body is out of time, if nothing comes after `waiting` began; but for the rate.
    fn others(&self, first: Option<&First>, waiting: Instant) -> Option<Instant> {
        let first = first.map(|first| first.until);
        [self.idle.map(|idle| waiting + idle), self.total, first]
            .into_iter()
            .flatten()
            .min()
    }
}

impl Rate {
    /// So many bytes a second.
    fn new(least: u64) -> Self {
        Self {
            least: least.saturating_mul(RATE_OVER.as_secs()),
            got: 0,
            waited: Duration::ZERO,
            since: None,
        }
    }

    fn waits(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    fn came(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.waited += now.saturating_duration_since(since);
        }
    }

    /// The end of the span, if nothing comes before.
    fn over(&self) -> Option<Instant> {
        Some(self.since? + RATE_OVER.saturating_sub(self.waited))
    }

    fn next(&mut self, now: Instant) -> bool {
        let enough = self.got >= self.least;
        (self.got, self.waited, self.since) = (0, Duration::ZERO, Some(now));
        enough
    }
}
