//! The bytes of an answer between their arrival and their departure.

use std::{collections::VecDeque, ops::Range};

use bytes::{Buf, Bytes, BytesMut};

/// Frames that wait, and what is to be changed in them. Places are bytes from the beginning of the answer, as it arrived.
#[derive(Debug, Default)]
pub(super) struct Frames {
    queue: VecDeque<Bytes>,
    /// Small frames that were copied together, behind those in the queue.
    crumbs: BytesMut,
    /// Where the first of them begins, and where the last ends.
    start: u64,
    end: u64,
    /// Up to here they may go.
    free: u64,
    edits: VecDeque<(Range<u64>, Bytes)>,
}

impl Frames {
    /// Takes the next frame.
    pub(super) fn push(&mut self, frame: Bytes) {
        self.end += frame.len() as u64;
        if self.queue.len() >= FREE && frame.len() < CRUMB {
            self.crumbs.extend_from_slice(&frame);
            if self.crumbs.len() >= MANY_CRUMBS {
                self.flush();
            }
            return;
        }
        self.flush();
        self.queue.push_back(frame);
    }

    /// Bytes that have not gone.
    pub(super) fn waits(&self) -> u64 {
        self.end - self.start
    }

    /// Bytes that may go.
    pub(super) fn ready(&self) -> u64 {
        self.free - self.start
    }

    /// How many bytes wait that may not go.
    pub(super) fn held(&self) -> u64 {
        self.end.saturating_sub(self.free)
    }

    /// Where the bytes end that have arrived.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// What stands before this place may go.
    pub(super) fn release(&mut self, to: u64) {
        self.free = self.free.max(to);
    }

    /// Forgets what may not go.
    pub(super) fn drop_held(&mut self) {
        self.flush();
        let mut keep = usize::try_from(self.ready()).unwrap_or(usize::MAX);
        self.queue.retain_mut(|frame| {
            frame.truncate(keep);
            keep -= frame.len();
            !frame.is_empty()
        });
        self.end = self.free;
        self.edits.retain(|(place, _)| place.start < self.free);
    }

    /// How many bytes are to go that may, after their changes; once all are there.
    pub(super) fn remaining(&self) -> u64 {
        let (mut put, mut taken) = (0, 0);
        for (place, with) in &self.edits {
            put += with.len() as u64;
            taken += place.end - place.start;
        }
        self.ready() + put - taken
    }

    /// A change at a place that is not free yet, behind all others.
    pub(super) fn edit(&mut self, at: Range<u64>, with: Bytes) {
        self.edits.push_back((at, with));
    }

    /// The bytes at a place that has not gone yet; copied only if they lie in several frames.
    pub(super) fn bytes(&mut self, at: Range<u64>) -> Bytes {
        self.flush();
        let length = usize::try_from(at.end - at.start).unwrap_or(usize::MAX);
        let mut skip = usize::try_from(at.start - self.start).unwrap_or(usize::MAX);
        let mut joined = Vec::new();
        for frame in &self.queue {
            if skip >= frame.len() {
                skip -= frame.len();
                continue;
            }
            let from = std::mem::take(&mut skip);
            let rest = &frame[from..];
            if joined.is_empty() && rest.len() >= length {
                return frame.slice(from..from + length);
            }
            joined.extend_from_slice(&rest[..rest.len().min(length - joined.len())]);
            if joined.len() == length {
                break;
            }
        }
        joined.into()
    }

    fn flush(&mut self) {
        if !self.crumbs.is_empty() {
            let crumbs = self.crumbs.split().freeze();
            self.queue.push_back(crumbs);
        }
    }

    /// The next frame that may go, or what of it may.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.queue.is_empty() {
                self.flush();
            }
            let room = usize::try_from(self.ready()).unwrap_or(usize::MAX);
            let first = self.queue.front_mut()?;
            if room == 0 {
                return None;
            }
            let frame = if first.len() <= room {
                self.queue.pop_front()?
            } else {
                first.split_to(room)
            };
            let at = self.start..self.start + frame.len() as u64;
            self.start = at.end;
            let frame = match self.edits.front() {
                Some((place, _)) if place.start < at.end => self.spliced(frame, at),
                _ => frame,
            };
            // All of it may have been taken out.
            if !frame.is_empty() {
                return Some(frame);
            }
        }
    }

    /// A frame with the changes that begin or go on in it.
    fn spliced(&mut self, mut frame: Bytes, at: Range<u64>) -> Bytes {
        let mut out = BytesMut::with_capacity(frame.len() + 64);
        let mut from = at.start;
        while let Some((place, with)) = self.edits.front_mut() {
            if place.start >= at.end {
                break;
            }
            let plain = usize::try_from(place.start - from).unwrap_or(usize::MAX);
            out.extend_from_slice(&frame[..plain]);
            out.extend_from_slice(&std::mem::take(with));
            let end = place.end.min(at.end);
            frame.advance(usize::try_from(end - from).unwrap_or(usize::MAX));
            from = end;
            if place.end > at.end {
                // The rest of what is taken out is in the next frame.
                place.start = at.end;
                break;
            }
            self.edits.pop_front();
        }
        out.extend_from_slice(&frame);
        out.freeze()
    }
}

/// So many frames wait as they came, whatever their size.
const FREE: usize = 16;
/// From then on, frames smaller than this are copied together,
const CRUMB: usize = 1024;
/// up to so many bytes.
const MANY_CRUMBS: usize = 16 * CRUMB;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_that_may_go_whole_is_the_one_that_came() {
        let mut frames = Frames::default();
        let frame = Bytes::from("abc");
        frames.push(frame.clone());
        assert_eq!((frames.next(), frames.held()), (None, 3));
        frames.release(3);
        assert_eq!(frames.next().map(|out| out.as_ptr()), Some(frame.as_ptr()));
    }

    proptest! {
        #[test]
        fn what_goes_is_what_came_with_its_changes(
            text in "[a-z]{1,400}",
            size in 1usize..9,
            marks in prop::collection::btree_set(0u64..400, 0..12),
            step in 1u64..40,
        ) {
            let (mut frames, mut out) = (Frames::default(), Vec::new());
            let (length, mut expected) = (text.len() as u64, text.clone());
            let marks: Vec<_> = marks.into_iter().filter(|mark| *mark <= length).collect();
            for piece in text.as_bytes().chunks(size) {
                frames.push(Bytes::copy_from_slice(piece));
            }
            for pair in marks.chunks_exact(2) {
                frames.edit(pair[0]..pair[1], Bytes::from("XY"));
            }
            for pair in marks.chunks_exact(2).rev() {
                expected.replace_range(pair[0] as usize..pair[1] as usize, "XY");
            }
            let inside = |at: u64| marks.chunks_exact(2).any(|pair| pair[0] < at && at < pair[1]);
            for to in (0..length).step_by(step as usize).chain([length]) {
                if !inside(to) {
                    frames.release(to);
                }
                while let Some(frame) = frames.next() {
                    prop_assert!(!frame.is_empty());
                    out.extend_from_slice(&frame);
                }
            }
            prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
        }

        #[test]
        fn bytes_are_found_wherever_they_lie(text in "[a-z]{1,300}", size in 1usize..40, at in 0usize..300, end in 0usize..300) {
            let mut frames = Frames::default();
            text.as_bytes().chunks(size).for_each(|piece| frames.push(Bytes::copy_from_slice(piece)));
            let end = end.min(text.len());
            let at = at.min(end);
            prop_assert_eq!(&*frames.bytes(at as u64..end as u64), &text.as_bytes()[at..end]);
        }
    }
}
