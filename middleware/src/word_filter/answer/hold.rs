//! What is kept of an answer until it is decided, and what becomes of it.

use std::{collections::VecDeque, ops::Range};

use bytes::Bytes;

use super::{
    super::rules::{Action, RuleIndex, Rules},
    alike::Alike,
    bounds::{Limits, Stop},
    frames::Frames,
    splice,
    texts::{Found, Texts, TooMany, whole},
    waiting::{Said, Waiting},
};
use crate::dialect::{
    Framing,
    events::{SNIFFED, sniffed},
    said::{Reader, Text, Times, Told, Whose},
    units::{Carried, Edit, Scratch, Step, Units, carried, edits},
};

/// The filter of one answer: bytes go in, those that are decided come out.
#[derive(Debug)]
pub(super) struct Hold {
    rules: Rules,
    reader: Reader,
    alike: Alike,
    /// Events of another API come in base64.
    wrapped: bool,
    /// None before the first bytes have told how the answer is cut.
    units: Option<Units>,
    sniff: Sniff,
    limits: Limits,
    texts: Texts,
    frames: Frames,
    /// Units that are not decided, or stand behind one that is not.
    waiting: VecDeque<Waiting>,
    /// The beginning of a unit, for as long as its end has not come.
    open: Vec<u8>,
    /// Where the unit at hand begins, and how far the answer has been cut.
    begins: u64,
    position: u64,
    /// The unit at hand is too large: the rest of it passes.
    passing: bool,
    /// Nothing is looked at any more.
    blind: bool,
    /// A text came in pieces: where it is told again, nothing new is told.
    pieces: bool,
    stopped: Option<Stop>,
    hits: Vec<(RuleIndex, Action)>,
    edited: bool,
    scratch: Scratch,
    told: Vec<Told>,
    /// What the unit at hand says.
    said: Said,
}

/// What the head says of the framing, and what besides it may be true.
#[derive(Clone, Copy, Debug)]
struct Sniff {
    told: Framing,
    other: Option<Framing>,
}

// ===== impl Hold =====

impl Hold {
    pub(super) fn new(
        rules: Rules,
        reader: Reader,
        wrapped: bool,
        framing: Framing,
        other: Option<Framing>,
        limits: Limits,
    ) -> Self {
        let unclear = matches!(framing, Framing::Sse | Framing::Array | Framing::Document);
        Self {
            rules,
            reader,
            alike: Alike::default(),
            wrapped,
            units: (!unclear).then(|| Units::new(framing)),
            sniff: Sniff {
                told: framing,
                other,
            },
            limits,
            texts: Texts::default(),
            frames: Frames::default(),
            waiting: VecDeque::new(),
            open: Vec::new(),
            begins: 0,
            position: 0,
            passing: false,
            blind: false,
            pieces: false,
            stopped: None,
            hits: Vec::new(),
            edited: false,
            scratch: Scratch::default(),
            told: Vec::new(),
            said: Said::default(),
        }
    }

    /// How the answer is cut, once that is known.
    pub(super) fn framing(&self) -> Option<Framing> {
        self.units.as_ref().map(Units::framing)
    }

    /// Whether the answer is one document, or may be, and is looked at whole.
    pub(super) fn is_document(&self) -> bool {
        !self.blind
            && self
                .framing()
                .is_none_or(|framing| framing == Framing::Document)
    }

    /// Bytes that have arrived and have not gone.
    pub(super) fn waits(&self) -> u64 {
        self.frames.waits()
    }

    /// Bytes that have arrived and may not go.
    pub(super) fn held(&self) -> u64 {
        self.frames.held()
    }

    /// There is no room for what is held.
    pub(super) fn no_room(&mut self) {
        if self.stopped.is_none() {
            self.give_up(Stop::NoRoom);
            self.settle();
        }
    }

    /// Takes the next bytes.
    pub(super) fn feed(&mut self, frame: Bytes) {
        if self.stopped.is_some() {
            return;
        }
        if !self.blind && self.clear(&frame) {
            self.cut(&frame);
        }
        self.frames.push(frame);
        self.settle();
        let limit = match self.framing() {
            Some(Framing::Document) => self.limits.document,
            _ => self.limits.event,
        };
        if self.frames.held() > limit as u64 && self.stopped.is_none() {
            self.give_up(Stop::TooLarge);
            self.settle();
        }
    }

    /// The answer is over, and well: what has begun is an event too.
    pub(super) fn finish(&mut self) {
        if self.stopped.is_some() {
            return;
        }
        if self.units.is_none() {
            let framing = self.sniff.told;
            self.begin(framing);
        }
        let end = self.frames.end();
        if self.begins < end && !self.passing && !self.blind {
            let rest = self.frames.bytes(self.begins..end);
            self.position = end;
            self.unit(&rest);
        }
        self.end(Whose::All);
        self.settle();
        if self.stopped.is_none() {
            self.frames.release(end);
        }
    }

    /// The answer breaks off: what it says is over, and an event that has only begun is not handed on.
    pub(super) fn cut_off(&mut self) {
        if self.stopped.is_some() {
            return;
        }
        self.end(Whose::All);
        self.settle();
        if self.stopped.is_none() {
            self.frames.drop_held();
        }
    }

    /// What is decided, frame by frame.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        self.frames.next()
    }

    /// Why nothing more comes, once all is out that is decided.
    pub(super) fn stopped(&self) -> Option<&Stop> {
        self.stopped.as_ref()
    }

    /// What was found since this was asked last.
    pub(super) fn take_hits(&mut self) -> std::vec::Drain<'_, (RuleIndex, Action)> {
        self.hits.drain(..)
    }

    /// Whether bytes were changed.
    pub(super) fn is_edited(&self) -> bool {
        self.edited
    }

    /// Bytes that may go, before their changes.
    pub(super) fn ready(&self) -> u64 {
        self.frames.ready()
    }

    /// How long an answer is that has ended, after its changes, as far as it has not gone.
    pub(super) fn remaining(&self) -> u64 {
        self.frames.remaining()
    }

    /// Whether the first bytes have told how the answer is cut.
    fn clear(&mut self, frame: &[u8]) -> bool {
        if self.units.is_some() {
            return true;
        }
        let room = SNIFFED.saturating_sub(self.open.len());
        let joined;
        let first = if self.open.is_empty() {
            &frame[..frame.len().min(room)]
        } else {
            joined = [&self.open, &frame[..frame.len().min(room)]].concat();
            &joined
        };
        let Some(framing) = sniffed(self.sniff.told, self.sniff.other, first) else {
            self.open.extend_from_slice(frame);
            return false;
        };
        self.begin(framing);
        true
    }

    /// The answer is cut so; what was kept to find that out is looked at first.
    fn begin(&mut self, framing: Framing) {
        if framing == Framing::Document {
            self.reader = self.reader.of_document();
        }
        self.units = Some(Units::new(framing));
        let head = std::mem::take(&mut self.open);
        self.cut(&head);
    }

    /// Cuts the next bytes into units. They need not be among the frames yet.
    fn cut(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let (Some(units), false) = (&mut self.units, rest.is_empty() || self.blind) {
            let document = units.framing() == Framing::Document;
            match units.take(rest) {
                Step::Ends(length) => {
                    let (unit, after) = rest.split_at(length);
                    rest = after;
                    self.position += length as u64;
                    self.ends(unit);
                }
                Step::GoesOn => {
                    self.position += rest.len() as u64;
                    if !self.passing && !document {
                        self.open.extend_from_slice(rest);
                    }
                    return;
                }
                Step::Broken => return self.give_up(Stop::Unreadable),
            }
        }
    }

    /// A unit ends with these bytes.
    fn ends(&mut self, bytes: &[u8]) {
        if std::mem::take(&mut self.passing) {
            self.begins = self.position;
            self.frames.release(self.position);
        } else if self.open.is_empty() {
            self.unit(bytes);
        } else {
            let mut open = std::mem::take(&mut self.open);
            open.extend_from_slice(bytes);
            self.unit(&open);
            open.clear();
            // One that was large is not kept for those that come.
            open.shrink_to(KEPT);
            self.open = open;
        }
    }

    /// Looks at one whole unit.
    fn unit(&mut self, unit: &[u8]) {
        let at = self.begins..self.position;
        self.begins = at.end;
        if self.stopped.is_some() {
            return;
        }
        let mut said = std::mem::take(&mut self.said);
        let mut scratch = std::mem::take(&mut self.scratch);
        let framing = self.framing().unwrap_or(self.sniff.told);
        if let Some(carried) = carried(framing, self.wrapped, unit, &mut scratch) {
            self.read(&carried, &mut said);
        }
        if self.blind {
            // It says more at once than can be followed, and all passes.
        } else if self.waiting.is_empty() && self.is_decided(&said) {
            if self.changes(&said) {
                let changes = self.edits(framing, unit, &mut scratch, &said);
                self.edit(&at, changes);
            }
            self.done(&said);
            self.frames.release(at.end);
            said.clear();
            self.said = said;
        } else if let (Some(last), true) = (self.waiting.back_mut(), said.is_empty()) {
            last.end = at.end;
        } else {
            self.waiting.push_back(Waiting {
                end: at.end,
                unit: at,
                said,
            });
        }
        self.scratch = scratch;
    }

    /// Finds the texts of an event and passes them on to be searched.
    fn read(&mut self, carried: &Carried<'_>, said: &mut Said) {
        if let Some(text) = self.alike.text(carried) {
            return self.text(&text, carried.data, said);
        }
        let mut told = std::mem::take(&mut self.told);
        self.reader.read(carried.name, carried.data, &mut told);
        self.alike.learn(carried, &told);
        for told in told.drain(..) {
            match told {
                Told::Text(text) => self.text(&text, carried.data, said),
                Told::Ends(whose) => self.end(whose),
                Told::Logprobs(span) => said.logprobs.push(span),
            }
        }
        self.told = told;
    }

    fn text(&mut self, text: &Text, data: &[u8], said: &mut Said) {
        let inner = &data[text.span.start + 1..text.span.end - 1];
        let Self {
            rules,
            texts,
            stopped,
            hits,
            ..
        } = self;
        let quiet = text.told == Times::Again && self.pieces;
        let mut on = |found: Found| {
            if !quiet {
                hits.push((found.rule, found.action));
            }
            if found.action == Action::Reject {
                stopped.get_or_insert_with(|| Stop::Rule(rules.id(found.rule).clone()));
            }
        };
        if text.told == Times::SoFar
            && let Some(piece) = texts.so_far(text, inner)
        {
            return said.pieces.push(piece);
        }
        if text.told == Times::Piece {
            self.pieces = true;
            match texts.push(rules, text, inner, &mut on) {
                Ok(piece) => said.pieces.push(piece),
                Err(TooMany) => {
                    self.blind |= self.limits.passes;
                    self.give_up(Stop::TooLarge);
                }
            }
            return;
        }
        let mut found = Vec::new();
        said.refused |= whole(rules, text, inner, &mut found, &mut on);
        if !text.signed {
            splice::whole(rules, text, data, &found, &mut said.edits);
        }
    }

    fn end(&mut self, whose: Whose) {
        let Self {
            rules,
            texts,
            stopped,
            hits,
            ..
        } = self;
        texts.end(rules, whose, &mut |found: Found| {
            hits.push((found.rule, found.action));
            if found.action == Action::Reject {
                stopped.get_or_insert_with(|| Stop::Rule(rules.id(found.rule).clone()));
            }
        });
    }

    fn is_decided(&self, said: &Said) -> bool {
        let mut pieces = said.pieces.iter();
        !said.refused && pieces.all(|piece| self.texts.is_decided(piece))
    }

    /// Whether something is to be changed in a unit that is decided.
    fn changes(&self, said: &Said) -> bool {
        let mut pieces = said.pieces.iter();
        !said.edits.is_empty()
            || pieces.any(|piece| !piece.signed && !self.texts.hits(piece).is_empty())
    }

    /// What is to be changed in it.
    fn edits(
        &self,
        framing: Framing,
        unit: &[u8],
        scratch: &mut Scratch,
        said: &Said,
    ) -> Vec<Edit> {
        let mut changes = said.edits.clone();
        if let Some(carried) = carried(framing, self.wrapped, unit, scratch) {
            for piece in said.pieces.iter().filter(|piece| !piece.signed) {
                let hits = self.texts.hits(piece);
                splice::piece(&self.rules, piece, carried.data, hits, &mut changes);
            }
        }
        if !changes.is_empty() {
            let null = |span: &Range<usize>| (span.clone(), Bytes::from_static(b"null"));
            changes.extend(said.logprobs.iter().map(null));
            changes.sort_by_key(|(span, _)| span.start);
        }
        edits(framing, self.wrapped, unit, scratch, changes)
    }

    fn edit(&mut self, unit: &Range<u64>, changes: Vec<Edit>) {
        self.edited |= !changes.is_empty();
        for (span, with) in changes {
            let (start, end) = (span.start as u64, span.end as u64);
            self.frames.edit(unit.start + start..unit.start + end, with);
        }
    }

    fn done(&mut self, said: &Said) {
        said.pieces.iter().for_each(|piece| self.texts.done(piece));
    }

    /// Hands on what is decided, in order.
    fn settle(&mut self) {
        while let Some(first) = self.waiting.pop_front() {
            if !self.is_decided(&first.said) {
                self.waiting.push_front(first);
                return;
            }
            if self.changes(&first.said) {
                let mut scratch = std::mem::take(&mut self.scratch);
                let framing = self.framing().unwrap_or(self.sniff.told);
                let unit = self.frames.bytes(first.unit.clone());
                let changes = self.edits(framing, &unit, &mut scratch, &first.said);
                self.scratch = scratch;
                self.edit(&first.unit, changes);
            }
            self.done(&first.said);
            self.frames.release(first.end);
        }
        if self.passing || self.blind {
            self.frames.release(self.frames.end());
        }
    }

    /// The answer cannot be followed from here on.
    fn give_up(&mut self, why: Stop) {
        if !self.limits.passes {
            self.stopped.get_or_insert(why);
            return;
        }
        for waiting in std::mem::take(&mut self.waiting) {
            self.done(&waiting.said);
        }
        let follows = matches!(why, Stop::TooLarge | Stop::NoRoom)
            && self
                .framing()
                .is_some_and(|framing| framing != Framing::Document);
        if !follows {
            self.blind = true;
        }
        self.passing = self.begins < self.position;
        self.open = Vec::new();
    }
}

/// How much memory is kept for the beginnings of events.
const KEPT: usize = 16 * 1024;
