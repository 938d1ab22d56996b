//! Rides in an answer's body: reads what passes, and settles what it is charged with, once.

use std::time::Instant;

use bytes::Bytes;

#[cfg(feature = "tokenizer")]
use super::tokens::Tally;
#[cfg(not(feature = "tokenizer"))]
use super::untold::Tally;
use super::{
    answer::Answer,
    charge::{self, End, Facts},
};
use crate::{
    body::{Ending, Guard},
    clock::Clock,
    dialect::{Dialect, Framing, Operation, Surface, Usage},
    estimate::{Estimator, Family, MEDIA, Side},
    facts::Intent,
    record::{Gaps, Mark, Record},
};

/// The guard of a metered body; empty where there is nothing to meter.
// Boxed: a body is moved, and most of this is needed only by those who look.
#[derive(Debug)]
pub(super) struct Watch<C: Clock>(Option<Box<Metering<C>>>);

/// What is needed to meter one answer.
#[derive(Debug)]
pub(super) struct Metering<C> {
    pub(super) answer: Answer,
    pub(super) asked: Asked,
    pub(super) estimator: Estimator,
    pub(super) clock: C,
    pub(super) unmarked: bool,
    /// This answer is one to learn from.
    pub(super) curious: bool,
    pub(super) document: bool,
    /// This answer is an error: only a report counts.
    pub(super) refused: bool,
    pub(super) outputs: Outputs,
    /// Bytes of the answer.
    pub(super) bytes: u64,
    /// What a tokenizer counts.
    pub(super) tally: Tally,
}

/// What is known of the request.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) record: Record,
    pub(super) intent: Option<Intent>,
    pub(super) stream: bool,
    /// The length of the body, where it was announced.
    pub(super) length: Option<u64>,
    pub(super) injected: bool,
}

impl Asked {
    pub(super) fn surface(&self) -> Option<&Surface> {
        match &self.intent {
            Some(intent) => Some(intent.surface()),
            None => self.record.surface(),
        }
    }

    /// What is to be told of the model: as the provider was asked for it, or as the caller did.
    pub(super) fn of_model<R>(&self, tell: impl Fn(Option<&str>) -> R) -> R {
        let own = self.record.with_attempts(|attempts| {
            let model = attempts.last()?.model.as_deref()?;
            Some(tell(Some(model)))
        });
        own.unwrap_or_else(|| tell(self.intent.as_ref().and_then(Intent::model)))
    }
}

/// The outputs so far, and the times between them.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    count: u64,
    last: Option<Instant>,
    gaps: Gaps,
}

impl<C: Clock> Watch<C> {
    pub(super) fn nothing() -> Self {
        Self(None)
    }

    pub(super) fn new(mut metering: Metering<C>) -> Self {
        if metering.tally.listens() {
            let choices = metering.asked.intent.as_ref().map_or(1, Intent::choices);
            metering.answer.listen(choices > 1);
        }
        Self(Some(Box::new(metering)))
    }

    /// The end came before a body that is never polled.
    pub(super) fn settle(&mut self, end: End) {
        if let Some(mut metering) = self.0.take() {
            metering.settle(end);
        }
    }
}

impl<E, C: Clock> Guard<E> for Watch<C> {
    #[inline]
    fn frame(&mut self, data: &Bytes, last: bool) {
        if let Some(metering) = &mut self.0 {
            metering.feed(data, last);
        }
    }

    fn end(mut self, ending: Ending<'_, E>) {
        self.settle(match ending {
            Ending::Complete => End::Clean,
            Ending::Error(_) | Ending::Dropped => End::Cut,
        });
    }
}

impl<C: Clock> Metering<C> {
    fn feed(&mut self, data: &[u8], last: bool) {
        self.bytes += data.len() as u64;
        self.answer.feed(data, last);
        if self.document {
            return;
        }
        if self.tally.listens() {
            let (said, units) = self.answer.said();
            self.tally.hear(said, units);
        }
        let outputs = self.answer.found().outputs;
        if outputs != self.outputs.count {
            let now = self.clock.now();
            if self.outputs.count == 0 {
                self.asked.record.mark(Mark::FirstToken, now);
            }
            self.outputs.come(outputs, now);
        }
        if self.answer.take_news() {
            self.publish();
        }
    }

    /// Writes down what is known so far.
    fn publish(&self) {
        let found = self.answer.found();
        let events = self.answer.count();
        self.asked.record.update_metered(|metered| {
            metered.usage = (found.usage != Usage::default()).then_some(found.usage);
            metered.events = events;
            metered.first_output = found.first_output;
            metered.failed = found.failed;
            metered.flawed = found.flawed;
            metered.blind = found.blind;
        });
    }

    fn settle(&mut self, end: End) {
        if end == End::Clean {
            self.answer.finish();
        }
        if self.refused {
            return self.settle_refused(end);
        }
        self.publish();
        let found = self.answer.found();
        let facts = Facts {
            usage: found.usage,
            is_final: found.is_final(),
            unmarked: self.unmarked,
            flawed: found.flawed,
            generates: self.generates(),
            gone: self.asked.record.is_gone(),
            end,
        };
        let charge = charge::charge(&facts, &Guess(self, end));
        if self.curious && facts.is_final && !facts.flawed {
            self.learn();
        }
        let (reasons, tools) = self.answer.take_words();
        let gaps = self.outputs.gaps;
        self.asked.record.update_metered(|metered| {
            metered.charge = charge;
            metered.finish_reasons = reasons;
            metered.tool_calls = tools;
            metered.gaps = gaps;
        });
    }

    /// An error has generated nothing, unless its provider says what it used.
    fn settle_refused(&self, end: End) {
        let found = self.answer.found();
        if end != End::Clean || found.flawed || found.usage == Usage::default() {
            return;
        }
        let (usage, gone) = (found.usage, self.asked.record.is_gone());
        self.asked.record.update_metered(|metered| {
            metered.usage = Some(usage);
            metered.charge = charge::as_reported(&usage, gone);
        });
    }

    fn family(&self) -> Family {
        self.asked
            .of_model(|model| model.map_or(Family::Other, Family::of))
    }

    /// Whether what is asked here is text.
    fn generates(&self) -> bool {
        use Operation as O;
        self.asked.surface().is_some_and(|surface| {
            surface.dialect != Dialect::Raw
                && matches!(
                    surface.operation,
                    O::Chat
                        | O::Completions
                        | O::Responses
                        | O::Messages
                        | O::Generate
                        | O::Converse
                        | O::Invoke
                        | O::Predict
                )
        })
    }

    /// An estimate of what was sent.
    fn prompt(&self) -> u64 {
        if !self.generates() {
            return 0;
        }
        let family = self.family();
        let (bytes, media) = self.sent();
        let text = self.tally.prompt();
        let text = text.unwrap_or_else(|| self.estimator.tokens(family, Side::Prompt, bytes));
        text + media * MEDIA
    }

    /// Bytes of the request that are text, and its images and files.
    fn sent(&self) -> (u64, u64) {
        match &self.asked.intent {
            Some(intent) if intent.object().is_some() => intent.prompt(),
            _ => {
                let length = self.asked.length;
                (length.unwrap_or_else(|| self.asked.record.bytes_in()), 0)
            }
        }
    }

    /// An estimate of what was delivered.
    fn completion(&self, end: End) -> u64 {
        let family = self.family();
        let found = self.answer.found();
        let unread = self.answer.is_opaque() || self.document && end == End::Cut;
        if unread {
            let bytes = if self.generates() { self.bytes } else { 0 };
            return self.estimator.tokens(family, Side::Prompt, bytes);
        }
        let around = family.around(found);
        if let Some(counted) = self.tally.completion(found.length.units) {
            return counted.max(found.outputs) + around + family.between_calls(found);
        }
        // A stream whose events are a word each on average tells a token at a time: then they need only be counted. No
        // provider cuts a token in two, so they are the least in any case.
        let singly = found.outputs >= FEW && found.length.units * 2 <= found.outputs * 3;
        let said = if singly {
            0
        } else {
            family.units(found.length)
        };
        let said = self.estimator.tokens(family, Side::Completion, said);
        said.max(found.outputs) + around
    }

    fn learn(&self) {
        let (family, found) = (self.family(), self.answer.found());
        let usage = found.usage;
        // Thoughts that are counted may not have been shown.
        if let Some(completion) = usage.completion
            && usage.reasoning.unwrap_or(0) == 0
        {
            let around = family.around(found);
            let (side, said) = (Side::Completion, completion.saturating_sub(around));
            self.estimator
                .learn(family, side, family.units(found.length), said);
        }
        if let (Some(prompt), (bytes, 0)) = (usage.prompt, self.sent()) {
            let apart = self.asked.surface().is_some_and(|surface| {
                matches!(surface.dialect, Dialect::Anthropic | Dialect::Bedrock)
            });
            let cached = usage.cached.unwrap_or(0) + usage.cache_write.unwrap_or(0);
            let prompt = if apart { prompt + cached } else { prompt };
            self.estimator.learn(family, Side::Prompt, bytes, prompt);
        }
    }
}

/// The estimates of an answer that ended so.
struct Guess<'a, C>(&'a Metering<C>, End);

impl<C: Clock> charge::Estimate for Guess<'_, C> {
    fn prompt(&self) -> u64 {
        self.0.prompt()
    }

    fn completion(&self) -> u64 {
        self.0.completion(self.1)
    }
}

impl Outputs {
    /// There are so many now.
    fn come(&mut self, count: u64, now: Instant) {
        let more = count.saturating_sub(std::mem::replace(&mut self.count, count));
        match self.last.replace(now) {
            Some(last) => self.gaps.add(now.saturating_duration_since(last), more),
            None => self.gaps.together(more.saturating_sub(1)),
        }
    }
}

/// Whether an answer is one document as far as its head says.
pub(super) fn is_document(framing: Framing, stream: bool) -> bool {
    framing == Framing::Document && !stream
}

/// Outputs from which on their average says something.
const FEW: u64 = 8;
