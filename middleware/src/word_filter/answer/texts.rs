//! The texts of one answer, each searched by itself.

use std::ops::Range;

use super::{
    super::{
        rules::{Action, RuleIndex, Rules},
        search::{Match, Search},
    },
    walk::{State, Walk},
};
use crate::dialect::said::{Form, Key, Text, Whose};

/// The texts that have begun.
#[derive(Debug, Default)]
pub(super) struct Texts {
    slots: Vec<Option<Slot>>,
    found: Vec<Match>,
}

/// One text.
#[derive(Debug)]
struct Slot {
    key: Key,
    form: Form,
    state: State,
    search: Search,
    /// Where the text that `search` sees begins.
    base: u64,
    /// Arguments are searched as one as well: what is found there and reaches over the end of a value counts.
    joined: Option<Box<Joined>>,
    /// What was found, as far as it is not behind what has been handed on; in order.
    hits: Vec<Hit>,
    /// Strings that wait.
    held: usize,
    ended: bool,
    /// It was finished, and what was said was handed on; it may go on all the same.
    paused: bool,
    /// Its last string is under a signature.
    signed: bool,
    /// Each of its strings may be asked for again.
    keeps: bool,
    /// From here on nothing is handed on.
    stop: Option<u64>,
}

/// All values of arguments, one behind the other.
#[derive(Debug)]
struct Joined {
    search: Search,
    /// Where values end.
    ends: Vec<u64>,
}

/// What is to be done at a place of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) rule: RuleIndex,
}

/// One string of a text.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    slot: usize,
    /// Where it lies in the event's data, quotes included.
    pub(super) span: Range<usize>,
    pub(super) form: Form,
    pub(super) signed: bool,
    /// Of the text before it.
    pub(super) before: State,
    /// What begins before this has its mask in an earlier string.
    pub(super) start: u64,
    pub(super) end: u64,
}

/// Something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) rule: RuleIndex,
    /// What comes of it.
    pub(super) action: Action,
}

/// There are more texts than anybody has at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct TooMany;

// ===== impl Texts =====

impl Texts {
    /// Takes the next string of a text; what stands between its quotes is `inner`.
    pub(super) fn push(
        &mut self,
        rules: &Rules,
        text: &Text,
        inner: &[u8],
        on: &mut impl FnMut(Found),
    ) -> Result<Piece, TooMany> {
        let at = self.slot(rules, text)?;
        let Self { slots, found, .. } = self;
        let Some(slot) = &mut slots[at] else {
            return Err(TooMany);
        };
        let before = slot.state;
        // What began in a text that was finished has gone with its beginning: the rest of it is masked here.
        let gone = std::mem::take(&mut slot.paused) && slot.held == 0;
        slot.push(rules, text.form, inner, text.signed, found, on);
        slot.held += 1;
        Ok(Piece {
            slot: at,
            span: text.span.clone(),
            form: text.form,
            signed: text.signed,
            start: if gone { 0 } else { before.next() },
            end: slot.state.next(),
            before,
        })
    }

    /// The text of this key so far: a piece that is all of it, unless it is of another length.
    pub(super) fn so_far(&mut self, text: &Text, inner: &[u8]) -> Option<Piece> {
        let at = self.position(text.key)?;
        let slot = self.slots[at].as_mut()?;
        let mut state = State::default();
        state.walk(text.form, inner, |_| {});
        if slot.form != text.form || state.next() != slot.state.next() {
            return None;
        }
        slot.keeps = true;
        slot.held += 1;
        Some(Piece {
            slot: at,
            span: text.span.clone(),
            form: text.form,
            signed: text.signed,
            before: State::default(),
            start: 0,
            end: state.next(),
        })
    }

    /// These texts have ended.
    pub(super) fn end(&mut self, rules: &Rules, whose: Whose, on: &mut impl FnMut(Found)) {
        let Self { slots, found, .. } = self;
        for place in slots {
            let Some(slot) = place else { continue };
            let ends = match whose {
                Whose::Finished(choice) => {
                    if slot.key.choice == choice && !slot.ended {
                        slot.pause(rules, found, on);
                    }
                    false
                }
                Whose::All => true,
                Whose::Choice(choice) => slot.key.choice == choice,
                Whose::Part(choice, part) => slot.key.choice == choice && slot.key.part == part,
                Whose::Key(key) => slot.key == key,
            };
            if ends && !slot.ended {
                slot.finish(rules, found, on);
                if slot.held == 0 {
                    *place = None;
                }
            }
        }
    }

    /// Whether it is decided what becomes of a string.
    pub(super) fn is_decided(&self, piece: &Piece) -> bool {
        self.slots[piece.slot]
            .as_ref()
            .is_none_or(|slot| slot.decided() >= piece.end)
    }

    /// What was found in a string, in order.
    pub(super) fn hits(&self, piece: &Piece) -> &[Hit] {
        let hits = self.slots[piece.slot]
            .as_ref()
            .map_or(&[][..], |slot| &slot.hits);
        // Those before it were done with it; a string that says all again begins at the first.
        let from = hits.partition_point(|hit| hit.end <= piece.before.at);
        let to = hits.partition_point(|hit| hit.start < piece.end);
        &hits[from.min(to)..to]
    }

    /// A string has been handed on.
    pub(super) fn done(&mut self, piece: &Piece) {
        let Some(slot) = &mut self.slots[piece.slot] else {
            return;
        };
        slot.held -= 1;
        if slot.ended && slot.held == 0 {
            self.slots[piece.slot] = None;
        } else if !slot.keeps && !slot.hits.is_empty() {
            // What has begun in it may go on in the next one.
            let over = slot.hits.partition_point(|hit| hit.end < piece.end);
            slot.hits.drain(..over);
        }
    }

    fn position(&self, key: Key) -> Option<usize> {
        let mut slots = self.slots.iter();
        slots.position(|slot| {
            slot.as_ref()
                .is_some_and(|slot| slot.key == key && !slot.ended)
        })
    }

    fn slot(&mut self, rules: &Rules, text: &Text) -> Result<usize, TooMany> {
        if let Some(at) = self.position(text.key) {
            return Ok(at);
        }
        let slot = Some(Slot::new(rules, text));
        if let Some(free) = self.slots.iter().position(Option::is_none) {
            self.slots[free] = slot;
            return Ok(free);
        }
        if self.slots.len() >= MOST {
            return Err(TooMany);
        }
        self.slots.push(slot);
        Ok(self.slots.len() - 1)
    }
}

/// Searches a text that is whole; what is found is added to `hits`. True if it may not be handed on at all.
pub(super) fn whole(
    rules: &Rules,
    text: &Text,
    inner: &[u8],
    hits: &mut Vec<Hit>,
    on: &mut impl FnMut(Found),
) -> bool {
    let mut slot = Slot::new(rules, text);
    let mut found = Vec::new();
    slot.push(rules, text.form, inner, text.signed, &mut found, on);
    slot.finish(rules, &mut found, on);
    hits.append(&mut slot.hits);
    slot.stop.is_some()
}

// ===== impl Slot =====

impl Slot {
    fn new(rules: &Rules, text: &Text) -> Self {
        let joined = || Joined {
            search: Search::new(rules),
            ends: Vec::new(),
        };
        Self {
            key: text.key,
            form: text.form,
            state: State::default(),
            search: Search::new(rules),
            base: 0,
            joined: (text.form != Form::Plain).then(|| Box::new(joined())),
            hits: Vec::new(),
            held: 0,
            ended: false,
            paused: false,
            signed: false,
            keeps: false,
            stop: None,
        }
    }

    fn push(
        &mut self,
        rules: &Rules,
        form: Form,
        inner: &[u8],
        signed: bool,
        found: &mut Vec<Match>,
        on: &mut impl FnMut(Found),
    ) {
        self.signed = signed;
        let mut state = self.state;
        state.walk(form, inner, |walk| match walk {
            Walk::Piece { text, .. } => {
                self.search.push(rules, text, found);
                self.take(rules, signed, found, on);
                if let Some(joined) = &mut self.joined {
                    joined.search.push(rules, text, found);
                    self.take_joined(rules, signed, found, on);
                }
            }
            Walk::Ends => self.end_value(rules, signed, found, on),
            Walk::Over => self.end_values(rules, found, on),
            Walk::Open { .. } => {}
        });
        self.state = state;
        if form == Form::Value {
            self.end_value(rules, signed, found, on);
        }
    }

    /// A string value has ended, and with it a text.
    fn end_value(
        &mut self,
        rules: &Rules,
        signed: bool,
        found: &mut Vec<Match>,
        on: &mut impl FnMut(Found),
    ) {
        self.search.finish(rules, found);
        self.take(rules, signed, found, on);
        self.base += self.search.taken();
        self.search = Search::new(rules);
        if let Some(joined) = &mut self.joined {
            let over = joined.search.decided();
            joined.ends.retain(|end| *end > over);
            joined.ends.push(self.base);
        }
    }

    /// No value follows: what reaches over the end of one has been found, or will not be.
    fn end_values(&mut self, rules: &Rules, found: &mut Vec<Match>, on: &mut impl FnMut(Found)) {
        if let Some(joined) = &mut self.joined {
            joined.search.finish(rules, found);
            self.take_joined(rules, self.signed, found, on);
            self.joined = None;
        }
    }

    fn finish(&mut self, rules: &Rules, found: &mut Vec<Match>, on: &mut impl FnMut(Found)) {
        let mut state = self.state;
        state.finish(self.form, |walk| {
            if let Walk::Piece { text, .. } = walk {
                self.search.push(rules, text, found);
            }
        });
        self.state = state;
        self.search.finish(rules, found);
        self.take(rules, self.signed, found, on);
        self.end_values(rules, found, on);
        self.ended = true;
    }

    /// The text is finished, as far as anybody says: what is found if that is so is found now.
    fn pause(&mut self, rules: &Rules, found: &mut Vec<Match>, on: &mut impl FnMut(Found)) {
        self.paused = true;
        if self.base + self.search.decided() < self.state.at {
            self.search.clone().finish(rules, found);
            if !found.is_empty() {
                self.take(rules, self.signed, found, on);
                self.base += self.search.taken();
                self.search = Search::new(rules);
            }
        }
        if let Some(joined) = &self.joined
            && joined.search.decided() < self.state.at
        {
            joined.search.clone().finish(rules, found);
            if self.take_joined(rules, self.signed, found, on) {
                // Told once; arguments that go on all the same are searched value by value.
                self.joined = None;
            }
        }
    }

    /// Takes over what was found in the text at hand.
    fn take(
        &mut self,
        rules: &Rules,
        signed: bool,
        found: &mut Vec<Match>,
        on: &mut impl FnMut(Found),
    ) {
        for one in found.drain(..) {
            let (start, end) = (self.base + one.start, self.base + one.end);
            let action = match rules.action(one.rule) {
                Action::Mask if signed => Action::Log,
                action => action,
            };
            match action {
                Action::Log => {}
                Action::Mask => self.hits.push(Hit {
                    start,
                    end,
                    rule: one.rule,
                }),
                Action::Reject => self.stop_at(start),
            }
            on(Found {
                rule: one.rule,
                action,
            });
        }
    }

    /// Takes over what was found in all values together: only what none of them holds alone. It cannot be masked. True if there
    /// was something.
    fn take_joined(
        &mut self,
        rules: &Rules,
        signed: bool,
        found: &mut Vec<Match>,
        on: &mut impl FnMut(Found),
    ) -> bool {
        let ends = self.joined.as_ref().map_or(&[][..], |joined| &joined.ends);
        let (mut stop, mut any) = (None, false);
        for one in found.drain(..) {
            if !ends.iter().any(|end| one.start < *end && *end < one.end) {
                continue;
            }
            let action = match rules.action(one.rule) {
                Action::Log => Action::Log,
                Action::Mask if signed => Action::Log,
                Action::Mask | Action::Reject => Action::Reject,
            };
            if action == Action::Reject {
                stop = stop.or(Some(one.start));
            }
            any = true;
            on(Found {
                rule: one.rule,
                action,
            });
        }
        if let Some(start) = stop {
            self.stop_at(start);
        }
        any
    }

    fn stop_at(&mut self, start: u64) {
        self.stop = Some(self.stop.map_or(start, |stop| stop.min(start)));
    }

    /// How much of the text is decided.
    fn decided(&self) -> u64 {
        let decided = if self.ended || self.paused {
            u64::MAX
        } else {
            let joined = self.joined.as_ref();
            let joined = joined.map_or(u64::MAX, |joined| joined.search.decided());
            joined.min(self.base + self.search.decided())
        };
        decided.min(self.stop.unwrap_or(u64::MAX))
    }
}

/// The most texts of one answer that are open at once.
const MOST: usize = 1024;
