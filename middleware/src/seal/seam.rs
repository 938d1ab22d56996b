use bytes::Bytes;

use crate::{
    conn::{Answering, Cut},
    dialect::{self, Framing, Surface, Told},
    error::{BoxError, Reason, Rejection},
    record::{Ended, Record},
    sse::{Boundary, Sniff, sniff},
};

/// What is known of an answer's bytes so far, and how it may be broken off.
#[derive(Debug)]
pub(super) struct Seam {
    /// The answer lasts as long as this.
    pub(super) conn: Option<Answering>,
    pub(super) record: Option<Record>,
    /// Where there is no record. Boxed: that is rare, and each body would be as large.
    surface: Option<Box<Surface>>,
    framing: Framing,
    /// Bytes of the announced length that are still to come.
    left: Option<u64>,
    /// Nothing but the close of the connection ends the answer.
    unframed: bool,
    begun: bool,
    boundary: Boundary,
    /// The last byte was a line feed, or there was none.
    line_ended: bool,
    /// Something was put in between.
    added: bool,
}

impl Seam {
    pub(super) fn new(
        conn: Option<Answering>,
        record: Option<Record>,
        surface: Option<Box<Surface>>,
        framing: Framing,
        length: Option<u64>,
        unframed: bool,
    ) -> Self {
        Self {
            conn,
            record,
            surface,
            framing,
            left: length,
            unframed,
            begun: false,
            boundary: Boundary::new(),
            line_ended: true,
            added: false,
        }
    }

    /// A frame is about to be handed over.
    pub(super) fn pass(&mut self, frame: &Bytes) {
        let Some(last) = frame.last() else { return };
        if let (true, Some(record)) = (self.added, &self.record) {
            record.set_unchanged(frame, "seal");
        }
        if !self.begun {
            self.begun = true;
            // A label can lie: a page of text is no place for an event.
            if self.framing == Framing::Sse && sniff(frame) == Sniff::Other {
                self.framing = Framing::Opaque;
            }
        }
        match self.framing {
            Framing::Sse => self.boundary.feed(frame),
            Framing::Lines => {}
            _ => return self.count(frame),
        }
        self.line_ended = *last == b'\n';
        self.count(frame);
    }

    fn surface(&self) -> Option<&Surface> {
        match &self.record {
            Some(record) => record.surface(),
            None => self.surface.as_deref(),
        }
    }

    fn count(&mut self, frame: &[u8]) {
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(frame.len() as u64);
        }
    }

    /// What may be put between the events of this answer: nothing where its length is announced.
    pub(super) fn keep_alive(&self) -> Option<&'static str> {
        let frame = dialect::keep_alive(self.surface(), self.framing);
        frame.filter(|_| self.left.is_none())
    }

    /// Puts the frame in, if something may stand here: between two events of a stream that goes on, for a client that is there.
    pub(super) fn put_in(&mut self, frame: &'static str) -> Option<Bytes> {
        let between = self.boundary.at_boundary() && self.line_ended;
        let stands = self.framing == Framing::Sse && between;
        let record = self.record.as_ref();
        let over = record.is_some_and(|it| it.is_gone() || it.ended().is_some());
        if !stands || over {
            return None;
        }
        if let Some(record) = record {
            record.set_edited_by("seal");
        }
        self.added = true;
        let frame = Bytes::from_static(frame.as_bytes());
        self.boundary.feed(&frame);
        Some(frame)
    }

    /// Whether the server asks for the answer to be cut.
    pub(super) fn cut(&self) -> Option<Rejection> {
        let (reason, message) = match self.conn.as_ref()?.asked_to_cut()? {
            Cut::Drain => (Reason::Draining, "the gateway is shutting down; ask again"),
            Cut::SlowReader => (Reason::SlowReader, "the client took nothing for too long"),
        };
        Some(Rejection::new(reason, "seal", message))
    }

    /// Whether something inside may have kept back what has come.
    pub(super) fn is_withheld(&self) -> bool {
        self.conn.as_ref().is_some_and(|conn| conn.is_withholding())
    }

    /// The answer has failed: known from now on, also if the client leaves before it has been told.
    pub(super) fn failed(&self, error: &BoxError) {
        if let Some(record) = &self.record {
            let why = Rejection::find(&**error);
            record.set_broke(why.map_or(Reason::Internal, Rejection::reason));
        }
    }

    /// The event that tells the client of `error`, if one can stand here.
    pub(super) fn last_words(&self, error: &BoxError) -> Option<Bytes> {
        let stands = match self.framing {
            Framing::Sse => self.boundary.at_boundary(),
            Framing::Lines => self.line_ended,
            _ => false,
        };
        let why = Rejection::find(&**error);
        let ended = self.record.as_ref().and_then(Record::ended);
        let settled = matches!(ended, Some(Ended::Complete | Ended::UpstreamError));
        if !stands || settled || why.is_some_and(Rejection::is_silent) {
            return None;
        }
        let told = told(why, self.record.as_ref().map_or("", Record::request_id));
        let event = dialect::error_event(self.surface(), self.framing, &told)?;
        // One that fills the announced length would make a cut a clean end.
        if self.left.is_some_and(|left| event.len() as u64 >= left) {
            return None;
        }
        if let Some(record) = &self.record {
            record.set_edited_by("seal");
        }
        Some(event.into())
    }

    /// Everything is written that will be; the failure follows.
    pub(super) fn broken(&self) {
        if let (true, Some(conn)) = (self.unframed, &self.conn) {
            conn.reset();
        }
    }
}

/// Fixed words for each reason: nothing that a provider said is quoted.
fn told<'a>(why: Option<&Rejection>, request_id: &'a str) -> Told<'a> {
    let (status, kind, code, message) = match why.map(Rejection::reason) {
        Some(Reason::UpstreamTimeout) => (
            504,
            "upstream_error",
            "upstream_timeout",
            "tollgate: the provider's stream stalled and was given up; ask again",
        ),
        Some(Reason::Draining) => (
            503,
            "server_error",
            "draining",
            "tollgate: the gateway is shutting down and had to cut this stream; ask again",
        ),
        Some(Reason::SlowReader) => (
            408,
            "server_error",
            "slow_reader",
            "tollgate: nothing was read from this stream for too long",
        ),
        Some(Reason::ResponseRejected) => (
            502,
            "server_error",
            "response_rejected",
            "tollgate: a rule stopped this answer",
        ),
        Some(Reason::Truncated | Reason::Closed | Reason::Protocol | Reason::Tls) => (
            502,
            "upstream_error",
            "stream_truncated",
            "tollgate: the provider's stream broke off before its end; what came is incomplete",
        ),
        _ => (
            500,
            "server_error",
            "internal",
            "tollgate: this stream failed inside the gateway",
        ),
    };
    Told {
        status,
        kind,
        code,
        message,
        request_id,
    }
}
