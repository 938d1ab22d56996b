//! Our own credential in a text that passes: found in any split, and masked with as many `*`.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use memchr::memmem;

use super::secrets::Secrets;

/// How the text is cut into events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// A blank line ends an event.
    Blank,
    /// A line is an event.
    Line,
    /// It is not cut: all of it is one.
    Never,
}

/// Masks the key in the events of a text that tell of an error, while the text passes.
///
/// Of a text nothing is kept back but what might become the key, and that only in an event that has not ended: in one
/// that tells of an error, whatever its key could begin with; in another one the key itself, and a good part of it, until
/// it is known what the event is. A frame that ends with its event is never kept back.
#[derive(Debug)]
pub(super) struct Masker {
    secrets: Arc<Secrets>,
    ends: Ends,
    /// The event that has begun tells of an error.
    marked: bool,
    /// The end of what was let go of that event: less than a key.
    tail: Vec<u8>,
    held: Vec<u8>,
    /// The key is held, and whether its event tells of an error is not known.
    undecided: bool,
}

/// What may be shown now.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) data: Bytes,
    /// What it was, if something of it was masked.
    pub(super) original: Option<Bytes>,
}

// ===== impl Masker =====

impl Masker {
    /// For a text that tells of an error from its first byte on.
    pub(super) fn of_error(secrets: Arc<Secrets>) -> Self {
        Self {
            marked: true,
            ..Self::of_events(secrets, Ends::Never)
        }
    }

    /// For a text in which events may tell of an error.
    pub(super) fn of_events(secrets: Arc<Secrets>, ends: Ends) -> Self {
        Self {
            secrets,
            ends,
            marked: false,
            tail: Vec::new(),
            held: Vec::new(),
            undecided: false,
        }
    }

    /// Masks the key in trailers.
    pub(super) fn mask_headers(&self, trailers: &mut HeaderMap) {
        self.secrets.mask_headers(trailers);
    }

    /// How much is kept back.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Takes the next frame; nothing is kept back of the `last`.
    pub(super) fn feed(&mut self, frame: Bytes, last: bool) -> Shown {
        if self.held.is_empty() && !self.is_suspect(&frame, last) {
            self.note(&frame);
            return Shown {
                data: frame,
                original: None,
            };
        }
        if self.undecided && !last && !self.decides(&frame) {
            self.held.extend_from_slice(&frame);
            return Shown {
                data: Bytes::new(),
                original: None,
            };
        }
        self.mask(&frame, last)
    }

    /// Whether there is more to do with a frame than to pass it on.
    fn is_suspect(&mut self, frame: &[u8], last: bool) -> bool {
        if self.secrets.is_in(frame) {
            return true;
        }
        // No key holds a line break, so none begins where a line ends.
        let ends = last || frame.last() == Some(&b'\n');
        if ends && self.tail.is_empty() {
            return false;
        }
        let before = self.seam(frame);
        let short = frame.len() < self.secrets.longest();
        let text = if short { &self.tail } else { frame };
        let suspect = self.secrets.is_in(&self.tail)
            || !ends && self.is_begun(text, self.open(frame, before).1);
        self.tail.truncate(before);
        suspect
    }

    /// Whether a key may have begun at the end of `text` that has to be kept back.
    fn is_begun(&self, text: &[u8], marked: bool) -> bool {
        let begun = self.secrets.begun_in(text);
        begun >= self.secrets.suspect() || marked && begun > 0
    }

    /// Puts behind what was let go last what follows it, as far as a key could reach; the length without that.
    fn seam(&mut self, frame: &[u8]) -> usize {
        let before = self.tail.len();
        let reach = frame.len().min(self.secrets.longest());
        self.tail.extend_from_slice(&frame[..reach]);
        before
    }

    /// Where in a frame the event begins in which it ends, and whether that tells of an error; with the seam in the tail,
    /// of which this many bytes had been there.
    fn open(&self, frame: &[u8], before: usize) -> (usize, bool) {
        // A line break may have come in two frames.
        let start = match self.last_end(frame) {
            0 => self.last_end(&self.tail).checked_sub(before),
            start => Some(start),
        };
        match start.filter(|start| *start > 0) {
            Some(start) => (start, is_marked(&frame[start..])),
            None => (0, self.marked || is_marked(&self.tail) || is_marked(frame)),
        }
    }

    /// Remembers what a frame leaves open that is passed on.
    fn note(&mut self, frame: &[u8]) {
        if self.is_end(frame, frame.len()) {
            self.tail.clear();
            self.marked = false;
            return;
        }
        let before = self.seam(frame);
        let (start, marked) = self.open(frame, before);
        self.marked = marked;
        let most = self.secrets.longest() - 1;
        if start == 0 && frame.len() < most {
            // The seam holds all of it.
            self.tail.drain(..self.tail.len().saturating_sub(most));
        } else {
            let kept = frame.len().saturating_sub(most);
            self.tail.clear();
            self.tail.extend_from_slice(&frame[start.max(kept)..]);
        }
    }

    /// Whether a frame, behind a key that is held, tells what its event is.
    fn decides(&self, frame: &[u8]) -> bool {
        let held = &self.held[self.held.len().saturating_sub(MARK.len() - 1)..];
        let text = [held, frame].concat();
        let most = self.held.len() + frame.len() > MOST;
        most || is_marked(&text) || self.first_end(&text).is_some()
    }

    /// Judges all that was kept back, and a frame, event by event.
    fn mask(&mut self, frame: &[u8], last: bool) -> Shown {
        let released = self.tail.len();
        let mut text = std::mem::take(&mut self.tail);
        text.append(&mut self.held);
        text.extend_from_slice(frame);
        self.undecided = false;
        let mut stars = Vec::new();
        let mut start = 0;
        let mut kept = text.len();
        while let Some(end) = self.first_end(&text[start..]) {
            let event = start..start + end;
            if start == 0 && self.marked || is_marked(&text[event.clone()]) {
                self.secrets.find_in(&text, event, &mut stars);
            }
            start += end;
        }
        // What is left is an event that goes on, unless nothing follows.
        self.marked = start == 0 && self.marked || is_marked(&text[start..]);
        let mut found = Vec::new();
        self.secrets.find_in(&text, start..text.len(), &mut found);
        let first = found.iter().map(|it| it.start).min();
        let open = |first: &usize| !last && text.len() - first <= MOST;
        match first.filter(|_| !self.marked) {
            Some(first) if open(&first) => {
                self.undecided = true;
                kept = first;
            }
            Some(_) if last => {}
            _ => {
                let behind = found.iter().map(|it| it.end).max().unwrap_or(start);
                if !last && self.is_begun(&text[behind..], self.marked) {
                    kept -= self.secrets.begun_in(&text[behind..]);
                }
                // Nothing begins in what is masked.
                start = behind;
                stars.append(&mut found);
            }
        }
        let kept = kept.max(released);
        self.held.extend_from_slice(&text[kept..]);
        let from = start.max(kept.saturating_sub(self.secrets.longest() - 1));
        self.tail
            .extend_from_slice(text.get(from..kept).unwrap_or_default());
        text.truncate(kept);
        stars.retain(|star| star.end > released);
        let original = (!stars.is_empty()).then(|| Bytes::copy_from_slice(&text[released..]));
        for star in stars {
            text[star.start.max(released)..star.end].fill(b'*');
        }
        Shown {
            data: Bytes::from(text).slice(released..),
            original,
        }
    }

    /// Behind the last event that ends in `text`.
    fn last_end(&self, text: &[u8]) -> usize {
        let mut breaks = memchr::memrchr_iter(b'\n', text).map(|at| at + 1);
        match self.ends {
            Ends::Never => 0,
            _ => breaks
                .find(|end| self.is_end(text, *end))
                .unwrap_or_default(),
        }
    }

    /// Behind the first event that ends in `text`.
    fn first_end(&self, text: &[u8]) -> Option<usize> {
        let mut breaks = memchr::memchr_iter(b'\n', text).map(|at| at + 1);
        match self.ends {
            Ends::Never => None,
            _ => breaks.find(|end| self.is_end(text, *end)),
        }
    }

    /// Whether an event ends just before this place.
    fn is_end(&self, text: &[u8], end: usize) -> bool {
        let text = &text[..end];
        match self.ends {
            Ends::Blank => text.ends_with(b"\n\n") || text.ends_with(b"\n\r\n"),
            Ends::Line => text.ends_with(b"\n"),
            Ends::Never => false,
        }
    }
}

/// Whether an event may tell of an error: every dialect has the word in its own ones.
fn is_marked(event: &[u8]) -> bool {
    memmem::find(event, MARK).is_some()
}

const MARK: &[u8] = b"error";

/// How much of an event is kept back at most until it is known what it is: what one stream may hold.
const MOST: usize = 64 * 1024;
