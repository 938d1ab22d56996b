//! The filter of one answer, and who is told what it does.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body::SizeHint;
use xxhash_rust::xxh3::Xxh3;

use super::{
    super::rules::{Action, Rules},
    bounds::Stop,
    hold::Hold,
};
use crate::{
    body::{Room, Taken},
    conn::{Conn, Withholding},
    error::{BoxError, Reason, Rejection},
    record::Record,
};

/// A filter with the record that it writes in.
pub(super) struct Watch {
    hold: Hold,
    rules: Rules,
    record: Option<Record>,
    /// Tells when the answer is to be ended from outside.
    conn: Option<Withholding>,
    /// Room for what is kept; that of a document is given back when it has gone.
    taken: Option<Taken>,
    /// Of what came from inside, for the record.
    hash: Option<Box<Xxh3>>,
    /// Somebody inside has changed bytes.
    edited: bool,
    /// It has been told that bytes are changed here.
    edits: bool,
    /// The reason why nothing more comes has been given.
    told: bool,
    /// Its head says that it is one document.
    document: bool,
    over: bool,
}

impl Watch {
    pub(super) fn new(
        hold: Hold,
        rules: Rules,
        document: bool,
        record: Option<Record>,
        conn: Option<&Conn>,
    ) -> Self {
        Self {
            hold,
            rules,
            hash: record.as_ref().map(|_| Box::new(Xxh3::new())),
            record,
            edited: false,
            edits: false,
            conn: conn.map(Conn::withhold),
            taken: None,
            told: false,
            document,
            over: false,
        }
    }

    /// Whether the head of the answer waits for its end.
    pub(super) fn holds_head(&self) -> bool {
        self.document && !self.over && self.hold.is_document()
    }

    /// Makes the announced length what will come, or takes it back where nobody knows yet.
    pub(super) fn announce(&self, headers: &mut HeaderMap) {
        let Some(length) = headers.get_mut(header::CONTENT_LENGTH) else {
            return;
        };
        if self.over {
            if self.hold.is_edited() {
                *length = HeaderValue::from(self.hold.remaining());
            }
        } else if self.rules.masks() {
            headers.remove(header::CONTENT_LENGTH);
        }
    }

    /// What is kept of the answer is counted there.
    pub(super) fn holds_in(&mut self, room: Option<&Room>) {
        self.taken = room.map(Room::take);
    }

    /// Whether there is room for so many bytes more, which are taken then.
    pub(super) fn has_room(&mut self, bytes: usize) -> bool {
        self.taken.as_mut().is_none_or(|taken| taken.more(bytes))
    }

    /// Whether the answer is to be ended from outside.
    pub(super) fn is_cut(&self) -> bool {
        !self.over && self.conn.as_ref().is_some_and(Withholding::is_over)
    }

    pub(super) fn feed(&mut self, frame: Bytes) {
        if let (Some(hash), Some(record)) = (&mut self.hash, &self.record) {
            // A layer inside may have changed it already, and then says what it was.
            let original = record.is_edited().then(|| record.take_original()).flatten();
            self.edited |= original.is_some();
            hash.update(original.as_ref().unwrap_or(&frame));
        }
        self.hold.feed(frame);
        if !self.holds_head() {
            self.account();
        }
        self.tell();
    }

    /// Counts what is kept of a stream, which is nothing most of the time.
    fn account(&mut self) {
        let Some(taken) = &mut self.taken else {
            return;
        };
        match self.hold.held() {
            0 if taken.bytes() > 0 => taken.give_back(),
            0 => {}
            held => {
                let more = held.saturating_sub(taken.bytes());
                let more = usize::try_from(more).unwrap_or(usize::MAX);
                if more > 0 && !taken.more(more) {
                    self.hold.no_room();
                }
            }
        }
    }

    pub(super) fn finish(&mut self) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        self.hold.finish();
        self.tell();
        self.settle();
    }

    pub(super) fn cut_off(&mut self) {
        self.over = true;
        self.hold.cut_off();
        self.tell();
        self.settle();
    }

    pub(super) fn next(&mut self) -> Option<Bytes> {
        self.hold.next()
    }

    /// The refusal that nothing more comes of, once.
    pub(super) fn take_stop(&mut self) -> Option<BoxError> {
        let stop = self.hold.stopped().filter(|_| !self.told)?;
        let rejection = rejection(stop);
        if let Some(record) = &self.record {
            record.set_stopped(&rejection);
        }
        self.told = true;
        self.settle();
        Some(rejection.into())
    }

    /// Whether nothing waits to go.
    pub(super) fn is_done(&self) -> bool {
        self.hold.ready() == 0 && (self.hold.stopped().is_none() || self.told)
    }

    /// How many bytes are to go, once the answer has ended.
    pub(super) fn remaining(&self) -> u64 {
        self.hold.remaining()
    }

    /// What is to come, if so much comes from inside.
    pub(super) fn size_hint(&self, inner: SizeHint) -> SizeHint {
        if self.rules.masks() {
            return SizeHint::default();
        }
        let waits = self.hold.waits();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + waits);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + waits);
        }
        hint
    }

    /// What came is what it is: the record is told, if what goes is something else.
    fn settle(&mut self) {
        let changed = self.edited || self.hold.is_edited() || self.hold.stopped().is_some();
        if let (Some(hash), Some(record), true) = (self.hash.take(), &self.record, changed) {
            record.set_upstream_digest(hash.digest128());
        }
    }

    fn tell(&mut self) {
        let edits =
            self.hold.is_edited() && !std::mem::replace(&mut self.edits, self.hold.is_edited());
        let Some(record) = &self.record else {
            self.hold.take_hits();
            return;
        };
        for (rule, action) in self.hold.take_hits() {
            tell(record, &self.rules, rule, action);
        }
        if edits {
            record.set_edited_by("word_filter");
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.settle();
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("waits", &self.hold.waits())
            .field("edited", &self.hold.is_edited())
            .finish_non_exhaustive()
    }
}

/// Writes down that a rule has found something.
fn tell(record: &Record, rules: &Rules, rule: super::super::rules::RuleIndex, action: Action) {
    record.add_found(rules.id(rule), action.as_str(), 1);
}

/// What is said of an answer that goes no further. It names the rule, never the text.
pub(super) fn rejection(stop: &Stop) -> Rejection {
    let message = match stop {
        Stop::Rule(id) => {
            return Rejection::new(
                Reason::ResponseRejected,
                "word_filter",
                format!(
                    "the rule {id:?} of this gateway's word filter does not let this answer pass"
                ),
            );
        }
        Stop::Unreadable => "the answer cannot be inspected, and is not let through unread",
        Stop::TooLarge => "the answer is too large to be inspected, and is not let through unread",
        Stop::NoRoom => return no_room(),
    };
    Rejection::new(Reason::ResponseRejected, "word_filter", message)
}

/// All answers together hold as much as they may.
pub(super) fn no_room() -> Rejection {
    let told = "the gateway holds as many answers as its memory allows; ask again";
    Rejection::new(Reason::Overloaded, "word_filter", told).retry_after(Duration::from_secs(1))
}
