//! What is copied of an event that does not lie in one frame.

use std::fmt;

use super::line::Field;

/// The lines of an event so far, as much of them as is kept.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) name: Vec<u8>,
    pub(super) data: Vec<u8>,
    /// A line that matters to the event has begun.
    pub(super) pending: bool,
    /// A data line has begun.
    pub(super) has_data: bool,
    name_cut: bool,
    data_cut: bool,
}

/// As much of a value as is kept, and whether that is not all.
pub(super) fn cut(value: &[u8], cap: usize) -> (&[u8], bool) {
    match value.split_at_checked(cap) {
        Some((kept, rest)) => (kept, !rest.is_empty()),
        None => (value, false),
    }
}

// ===== impl Kept =====

impl Kept {
    /// Begins a line of the event.
    pub(super) fn begin(&mut self, field: Field, cap: usize) {
        match field {
            Field::Data if self.has_data => self.append(Field::Data, b"\n", cap),
            Field::Data => self.has_data = true,
            Field::Event => {
                self.name.clear();
                self.name_cut = false;
            }
            Field::Id => {}
            Field::Ignored => return,
        }
        self.pending = true;
    }

    /// Adds to the value of the line that has begun last.
    pub(super) fn append(&mut self, field: Field, value: &[u8], cap: usize) {
        match field {
            Field::Data => self.data_cut |= append(&mut self.data, value, cap),
            Field::Event => self.name_cut |= append(&mut self.name, value, NAME_CAP),
            Field::Id | Field::Ignored => {}
        }
    }

    /// Whether something of the event was not kept.
    pub(super) fn is_cut(&self) -> bool {
        self.name_cut || self.data_cut
    }

    /// Forgets the event.
    pub(super) fn clear(&mut self) {
        let Self {
            mut name, mut data, ..
        } = std::mem::take(self);
        name.clear();
        if data.capacity() <= REUSED {
            data.clear();
        } else {
            data = Vec::new();
        }
        *self = Self {
            name,
            data,
            ..Self::default()
        };
    }
}

/// Sizes only; what a stream says may be private and stays out of logs.
impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept")
            .field("name", &self.name.len())
            .field("data", &self.data.len())
            .field("pending", &self.pending)
            .finish_non_exhaustive()
    }
}

/// Appends what is kept of `value`; true if that is not all. The room never grows beyond `cap`.
fn append(kept: &mut Vec<u8>, value: &[u8], cap: usize) -> bool {
    let (value, is_cut) = cut(value, cap - kept.len());
    let needed = kept.len() + value.len();
    if needed > kept.capacity() {
        let room = needed.max(kept.len() * 2).min(cap);
        kept.reserve_exact(room - kept.len());
    }
    kept.extend_from_slice(value);
    is_cut
}

/// So much is kept of an event's name; the names in use are a tenth of that.
pub(super) const NAME_CAP: usize = 256;
/// Room beyond this is given back after the event: most streams never need it again.
const REUSED: usize = 64 * 1024;
