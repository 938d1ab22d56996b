//! A streamed answer, told event by event, each made only when it is asked for.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use super::{
    answer::{Answer, Api},
    body::{BREATH, Cut, Step},
    model::Model,
    text,
};

/// Opening events, one event for each word, closing events; may break off before its end.
pub(super) struct Script {
    api: Api,
    answer: Answer,
    array: bool,
    /// What stands before and behind a word's JSON in its event, the same for all words.
    before: String,
    after: String,
    ready: VecDeque<String>,
    /// Bytes of the text that are said.
    at: usize,
    events: usize,
    pace: Duration,
    breaks_after: Option<usize>,
    closed: bool,
}

impl Script {
    /// `array`: a JSON array instead of server-sent events.
    pub(super) fn new(api: Api, answer: Answer, array: bool, model: Model) -> Self {
        let (before, after) = api.around_word(&answer, array);
        Self {
            before,
            after,
            ready: api.opening(&answer).into(),
            api,
            array,
            at: 0,
            events: 0,
            pace: model.pace(),
            breaks_after: (model == Model::Cut).then_some(EVENTS_BEFORE_CUT),
            closed: false,
            answer,
        }
    }

    pub(super) fn step(&mut self) -> Option<Step> {
        if self.is_over() {
            return None;
        }
        if self.breaks_after == Some(self.events) {
            self.ready.clear();
            self.at = self.answer.text.len();
            self.closed = true;
            return Some((BREATH, Err(Cut)));
        }
        let (wait, event) = match self.ready.pop_front() {
            Some(event) => (Duration::ZERO, event),
            None => self.word(),
        };
        if self.at == self.answer.text.len() && !self.closed {
            let number = self.events + 1 + self.ready.len();
            let closing = self.api.closing(&self.answer, self.array, number);
            self.ready.extend(closing);
            self.closed = true;
        }
        self.events += 1;
        Some((wait, Ok(Bytes::from(event))))
    }

    pub(super) fn is_over(&self) -> bool {
        self.closed && self.ready.is_empty()
    }

    /// The first event of a stream never waits.
    fn word(&mut self) -> (Duration, String) {
        let word = text::first_word(&self.answer.text[self.at..]);
        let json = text::json(word);
        let event = match (self.api, self.array) {
            (Api::Gemini, true) => {
                let mark = if self.events == 0 { "[" } else { ",\n" };
                format!("{mark}{}{json}{}", self.before, self.after)
            }
            (Api::Responses, _) => {
                let number = self.events;
                format!(
                    "{}{json},\"sequence_number\":{number}{}",
                    self.before, self.after
                )
            }
            _ => format!("{}{json}{}", self.before, self.after),
        };
        self.at += word.len();
        let wait = if self.events == 0 {
            Duration::ZERO
        } else {
            self.pace
        };
        (wait, event)
    }
}

const EVENTS_BEFORE_CUT: usize = 3;
