//! The events of a stream, told as their last byte passes.

use std::fmt;

use super::{
    kept::{Kept, NAME_CAP, cut},
    line::{Field, Line, Mark, classify, split},
};

/// How much data of one event is kept unless told otherwise: 1 MiB.
pub const CAP: usize = 1024 * 1024;

/// Watches an event stream and tells its events.
///
/// An event that lies in one frame and has one data line is told in slices of that frame. Only what is split over frames
/// or joined of several lines is copied, up to a cap.
#[derive(Debug)]
pub struct Scanner {
    cap: usize,
    dispatched: u64,
    mark: Mark,
    line: Line,
    /// The last byte was a CR that ended a line.
    after_cr: bool,
    kept: Kept,
}

/// One event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// The value of its last `event` line; empty if it has none, which stands for `message`.
    pub name: &'a [u8],
    /// The values of its `data` lines, joined by line feeds.
    pub data: &'a [u8],
    /// The event was over the cap: the end of its data is missing, or the end of a name over 256 bytes.
    pub truncated: bool,
}

/// The lines of an event so far that lie in the frame at hand.
#[derive(Clone, Copy, Default)]
struct Open<'a> {
    name: Option<&'a [u8]>,
    data: Option<&'a [u8]>,
    pending: bool,
}

// ===== impl Scanner =====

impl Scanner {
    /// Before the first byte of a stream; `cap` is how many bytes of data are kept of one event.
    pub fn new(cap: usize) -> Self {
        Self {
            cap,
            dispatched: 0,
            mark: Mark::default(),
            line: Line::default(),
            after_cr: false,
            kept: Kept::default(),
        }
    }

    /// Takes the next frame and tells the events that end in it, in order.
    pub fn feed(&mut self, frame: &[u8], on_event: impl FnMut(Event<'_>)) {
        let mut rest = self.mark.skip(frame, &mut self.line);
        if rest.is_empty() {
            return;
        }
        if self.after_cr {
            self.after_cr = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        if self.line != Line::Start {
            let Some((line, after)) = split(rest) else {
                return self.extend(rest);
            };
            self.extend(line);
            self.end_line();
            rest = after;
        }
        self.lines(rest, on_event);
        self.after_cr = frame.ends_with(b"\r");
    }

    /// Tells what the stream's end leaves undispatched, as an event, if it has data.
    ///
    /// The rules drop an event without its blank line, and a line without its end; but some providers' streams end so,
    /// and what they carry was sent. It is not counted as dispatched.
    pub fn finish(&mut self, mut on_event: impl FnMut(Event<'_>)) {
        self.end_line();
        let event = self.kept_event();
        if !event.data.is_empty() || (event.truncated && self.kept.has_data) {
            on_event(event);
        }
        self.kept.clear();
    }

    /// Whether an event put in now would stand alone: nothing of an event is pending.
    ///
    /// That is so at the start, after a blank line, and after comments and ignored fields that followed one, each with its
    /// line end. It is not so after an `id` line, which an event put in would take for its own.
    pub fn at_boundary(&self) -> bool {
        self.line == Line::Start && !self.kept.pending && !self.mark.is_partial()
    }

    /// How many events the stream has had.
    pub fn dispatched(&self) -> u64 {
        self.dispatched
    }

    /// How much memory holds what is kept of an event.
    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> usize {
        self.kept.name.capacity() + self.kept.data.capacity()
    }

    /// Passes lines from a line's start on.
    fn lines(&mut self, mut rest: &[u8], mut on_event: impl FnMut(Event<'_>)) {
        let mut open = Open::default();
        while let Some((line, after)) = split(rest) {
            rest = after;
            if line.is_empty() {
                self.dispatch(std::mem::take(&mut open), &mut on_event);
                continue;
            }
            let (field, value) = classify(line);
            if self.kept.pending || !open.add(field, value) {
                self.keep(std::mem::take(&mut open));
                self.kept.begin(field, self.cap);
                self.kept.append(field, value, self.cap);
            }
        }
        self.keep(open);
        self.extend(rest);
    }

    /// At a blank line: tells the event, if it has data.
    #[inline]
    fn dispatch(&mut self, open: Open<'_>, on_event: &mut impl FnMut(Event<'_>)) {
        if self.kept.pending {
            if self.kept.has_data {
                self.dispatched += 1;
                on_event(self.kept_event());
            }
            self.kept.clear();
        } else if let Some(data) = open.data {
            self.dispatched += 1;
            let (data, data_cut) = cut(data, self.cap);
            let (name, name_cut) = cut(open.name.unwrap_or_default(), NAME_CAP);
            on_event(Event {
                name,
                data,
                truncated: data_cut || name_cut,
            });
        }
    }

    fn kept_event(&self) -> Event<'_> {
        Event {
            name: &self.kept.name,
            data: &self.kept.data,
            truncated: self.kept.is_cut(),
        }
    }

    /// Copies the lines of an event whose end is not in this frame, or that has several data lines.
    fn keep(&mut self, open: Open<'_>) {
        self.kept.pending |= open.pending;
        for (field, value) in [(Field::Event, open.name), (Field::Data, open.data)] {
            if let Some(value) = value {
                self.kept.begin(field, self.cap);
                self.kept.append(field, value, self.cap);
            }
        }
    }

    /// Takes more of a line whose end is not in this frame, or whose start was not.
    fn extend(&mut self, bytes: &[u8]) {
        let begun = self.line.field().is_some();
        let value = self.line.extend(bytes);
        if let Some(field) = self.line.field() {
            if !begun {
                self.kept.begin(field, self.cap);
            }
            self.kept.append(field, value, self.cap);
        }
    }

    /// Ends a line that was taken piece by piece.
    fn end_line(&mut self) {
        if let (None, Some(field)) = (self.line.field(), self.line.end()) {
            self.kept.begin(field, self.cap);
        }
        self.line = Line::Start;
    }
}

/// With a cap of [`CAP`].
impl Default for Scanner {
    fn default() -> Self {
        Self::new(CAP)
    }
}

// ===== impl Event =====

/// Sizes only; what a stream says may be private and stays out of logs.
impl fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("name", &self.name.len())
            .field("data", &self.data.len())
            .field("truncated", &self.truncated)
            .finish()
    }
}

// ===== impl Open =====

impl<'a> Open<'a> {
    /// Adds a line; false, and nothing added, if it is a second data line.
    #[inline]
    fn add(&mut self, field: Field, value: &'a [u8]) -> bool {
        match field {
            Field::Data if self.data.is_some() => return false,
            Field::Data => self.data = Some(value),
            Field::Event => self.name = Some(value),
            Field::Id => {}
            Field::Ignored => return true,
        }
        self.pending = true;
        true
    }
}
