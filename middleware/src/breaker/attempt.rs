use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{Extensions, HeaderMap, Request, StatusCode};

use super::service::Rule;
use crate::{
    attempt,
    body::{Ending, Guard},
    clock::Clock,
    dialect::{self, Framing, Judge, Surface},
    error::{BoxError, Origin, Rejection},
    facts::Intent,
    health::{Health, Pass, Verdict},
    record::{Ended, Record},
};

/// An attempt whose verdict is still to come; rides in its future, then in the body of its answer. Dropped, it says nothing and
/// gives back what it holds.
pub struct Attempt<C: Clock> {
    open: Option<Open>,
    clock: C,
}

/// What is needed for a verdict.
struct Open {
    rule: Arc<Rule>,
    health: Health,
    pass: Pass,
    tries: Option<attempt::Attempt>,
    record: Option<Record>,
    /// Only of a probe, which is judged by its first output.
    first: Option<Box<First>>,
}

/// Looks for the first output of a probe.
struct First {
    surface: Option<Surface>,
    stream: bool,
    choices: u32,
    judge: Option<Judge>,
}

impl<C: Clock> Attempt<C> {
    /// Nobody asks what becomes of it.
    pub(super) fn unjudged(clock: C) -> Self {
        Self { open: None, clock }
    }

    pub(super) fn new<B>(
        rule: Arc<Rule>,
        (health, pass): (Health, Pass),
        req: &Request<B>,
        clock: C,
    ) -> Self {
        let facts = req.extensions();
        let first = pass.is_probe().then(|| Box::new(First::of(req)));
        let open = Open {
            rule,
            health,
            pass,
            tries: facts.get().cloned(),
            record: facts.get().cloned(),
            first,
        };
        Self {
            open: Some(open),
            clock,
        }
    }

    /// There is a head, or there is none and this is why. What is known now is said now.
    pub(super) fn answered(&mut self, answer: Result<(StatusCode, &HeaderMap), &BoxError>) {
        match answer {
            Err(error) => self.settle(verdict_of(error)),
            Ok((status, _)) if status.is_server_error() => self.settle(Verdict::Failure),
            Ok((status, _)) if status.is_client_error() => self.settle(Verdict::Neutral),
            Ok((status, headers)) => {
                let open = self.open.as_mut();
                if let Some(open) = open
                    && let Some(first) = &mut open.first
                {
                    first.watch(status, headers, open.rule.event);
                }
            }
        }
    }

    fn settle(&mut self, verdict: Verdict) {
        let Some(open) = self.open.take() else { return };
        let (policy, now) = (&open.rule.policy, self.clock.now());
        let tries = open.tries.as_ref();
        open.health
            .settle_one_of(open.pass, verdict, tries, policy, now);
    }

    /// Whether the provider told an error in its answer: whoever has read the stream has seen it.
    fn told_an_error(&self) -> bool {
        let record = self.open.as_ref().and_then(|open| open.record.as_ref());
        record.is_some_and(|record| {
            let metered = record.with_metered(|metered| metered.map(|it| it.failed));
            metered.unwrap_or_else(|| record.ended() == Some(Ended::UpstreamError))
        })
    }
}

impl<C: Clock> Guard<BoxError> for Attempt<C> {
    fn frame(&mut self, data: &Bytes, _: bool) {
        let first = self.open.as_mut().and_then(|open| open.first.as_mut());
        if let Some(first) = first {
            match first.feed(data) {
                Some(true) => self.settle(Verdict::Success),
                Some(false) => self.settle(Verdict::Failure),
                None => {}
            }
        }
    }

    fn end(mut self, ending: Ending<'_, BoxError>) {
        let verdict = match ending {
            Ending::Error(error) => verdict_of(error),
            // Who reads an error often leaves, or asks elsewhere, before the end comes.
            Ending::Complete | Ending::Dropped if self.told_an_error() => Verdict::Failure,
            Ending::Complete => Verdict::Success,
            Ending::Dropped => Verdict::Neutral,
        };
        self.settle(verdict);
    }
}

impl<C: Clock> Drop for Attempt<C> {
    fn drop(&mut self) {
        self.settle(Verdict::Neutral);
    }
}

/// What ended an attempt: the provider's doing, or somebody else's.
fn verdict_of(error: &BoxError) -> Verdict {
    let reason = Rejection::find(&**error).map(Rejection::reason);
    match reason.map(crate::error::Reason::origin) {
        Some(Origin::Upstream) => Verdict::Failure,
        // What nobody explained is a bug of ours.
        Some(Origin::Caller | Origin::Gateway) | None => Verdict::Neutral,
    }
}

// ===== impl First =====

impl First {
    fn of<B>(req: &Request<B>) -> Self {
        let facts = req.extensions();
        let intent = facts.get::<Intent>();
        let surface = match (intent, facts.get::<Record>()) {
            (Some(intent), _) => Some(intent.surface().clone()),
            (None, Some(record)) => record.surface().cloned(),
            (None, None) => dialect::surface_of(req),
        };
        Self {
            stream: streams(facts),
            surface,
            choices: intent.map_or(1, Intent::choices),
            judge: None,
        }
    }

    fn watch(&mut self, status: StatusCode, headers: &HeaderMap, event: usize) {
        let surface = self.surface.as_ref();
        let framing = dialect::framing_of(surface, self.stream, status, headers);
        if framing == Framing::Opaque {
            return;
        }
        let judge = Judge::new(surface, framing, self.choices, true).with_cap(event);
        self.judge = judge.sees_output().then(|| judge.with_first_output());
    }

    /// Whether these data hold the first output, or an error of the provider's in its stead. Where output cannot be told from other
    /// bytes, the first bytes are taken for it.
    fn feed(&mut self, data: &[u8]) -> Option<bool> {
        let Some(judge) = &mut self.judge else {
            return (!data.is_empty()).then_some(true);
        };
        judge.feed(data);
        if judge.first_output() || !judge.sees_output() {
            Some(true)
        } else {
            judge.error_seen().then_some(false)
        }
    }
}

/// Whether a stream was asked for, as far as that is known.
pub(super) fn streams(facts: &Extensions) -> bool {
    facts.get().is_some_and(Intent::stream)
}

impl<C: Clock> fmt::Debug for Attempt<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = self.open.as_ref();
        f.debug_struct("Attempt")
            .field("health", &open.map(|open| &open.health))
            .field("pass", &open.map(|open| &open.pass))
            .finish_non_exhaustive()
    }
}
