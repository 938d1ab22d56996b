//! The filter of one answer, and who is told what it does.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body::SizeHint;

use super::{
    super::rules::{Action, Rules},
    hold::{Hold, Stop},
};
use crate::{
    body::{Room, Taken},
    conn::{Conn, Withholding},
    error::{BoxError, Reason, Rejection},
    record::Record,
};

/// A filter with the record that it writes in.
#[derive(Debug)]
pub(super) struct Watch {
    hold: Hold,
    rules: Rules,
    record: Option<Record>,
    /// Tells when the answer is to be ended from outside.
    conn: Option<Withholding>,
    /// For a document; given back when it has gone.
    taken: Option<Taken>,
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
            record,
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

    /// What is kept of the document is counted there.
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
        self.hold.feed(frame);
        self.tell();
    }

    pub(super) fn finish(&mut self) {
        self.over = true;
        self.hold.finish();
        self.tell();
    }

    pub(super) fn cut_off(&mut self) {
        self.over = true;
        self.hold.cut_off();
        self.tell();
    }

    pub(super) fn next(&mut self) -> Option<Bytes> {
        self.hold.next()
    }

    /// The refusal that nothing more comes of, once.
    pub(super) fn take_stop(&mut self) -> Option<BoxError> {
        let stop = self.hold.stopped().filter(|_| !self.told)?;
        let rejection = rejection(stop);
        if let Some(record) = &self.record {
            record.set_refused(&rejection);
        }
        self.told = true;
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

    fn tell(&mut self) {
        let edited = self.hold.is_edited();
        let Some(record) = &self.record else {
            self.hold.take_hits();
            return;
        };
        for (rule, action) in self.hold.take_hits() {
            tell(record, &self.rules, rule, action);
        }
        if edited {
            record.set_edited_by("word_filter");
        }
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
                format!("the answer was refused by the rule {id}; ask for something else"),
            );
        }
        Stop::Unreadable => "the answer cannot be inspected, and is not let through unread",
        Stop::TooLarge => "the answer is too large to be inspected, and is not let through unread",
    };
    Rejection::new(Reason::ResponseRejected, "word_filter", message)
}
