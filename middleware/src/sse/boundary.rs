//! Where an event could be put in, told for less than reading the events.

use super::line::{Field, Line, Mark, classify};

/// Follows an event stream and knows whether an event put in now would stand alone.
///
/// It agrees with [`Scanner::at_boundary`](super::Scanner::at_boundary) for every split of the bytes. A frame that ends with
/// a blank line, as most do, costs nothing; of another only the lines since its last blank line are looked at, backwards, and
/// no further than the answer needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Boundary {
    mark: Mark,
    line: Line,
    /// The last byte was a CR that ended a line.
    after_cr: bool,
    /// A whole line that matters to an event has come since the last blank line.
    pending: bool,
}

// ===== impl Boundary =====

impl Boundary {
    /// Before the first byte of a stream, which is a boundary.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next frame.
    pub fn feed(&mut self, frame: &[u8]) {
        if frame.ends_with(b"\n\n") || frame.ends_with(b"\r\n\r\n") || frame.ends_with(b"\r\r") {
            *self = Self {
                mark: Mark::Passed,
                after_cr: frame.ends_with(b"\r"),
                ..Self::default()
            };
            return;
        }
        let mut rest = self.mark.skip(frame, &mut self.line);
        if rest.is_empty() {
            return;
        }
        if self.after_cr {
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        self.after_cr = frame.ends_with(b"\r");
        let tail = line_start(rest);
        if tail > 0 {
            self.pending = self.is_pending(&rest[..tail]);
            self.line = Line::Start;
        }
        self.line.extend(&rest[tail..]);
    }

    /// Whether an event put in now would stand alone.
    pub fn at_boundary(&self) -> bool {
        self.line == Line::Start && !self.pending && !self.mark.is_partial()
    }

    /// Whether something of an event is pending after `lines`, whose last byte ends a line.
    fn is_pending(&mut self, mut lines: &[u8]) -> bool {
        loop {
            let ([line @ .., b'\r', b'\n'] | [line @ .., _]) = lines else {
                return self.pending;
            };
            let start = line_start(line);
            let field = if start == 0 {
                // It may have begun in an earlier frame.
                self.line.extend(line);
                self.line.end()
            } else {
                (start < line.len()).then(|| classify(&line[start..]).0)
            };
            match field {
                None => return false,
                Some(Field::Ignored) if start == 0 => return self.pending,
                Some(Field::Ignored) => lines = &lines[..start],
                Some(Field::Data | Field::Event | Field::Id) => return true,
            }
        }
    }
}

/// Where the last line of `bytes` begins, which may have no end yet.
fn line_start(bytes: &[u8]) -> usize {
    memchr::memrchr2(b'\n', b'\r', bytes).map_or(0, |end| end + 1)
}
