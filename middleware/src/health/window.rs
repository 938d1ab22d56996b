//! Failures and requests of the last while, counted in tenths of it.

/// How many steps a window has.
const STEPS: u64 = 10;
/// How many lengths of windows are kept for one target: routes may ask for different ones.
const LENGTHS: usize = 4;

/// The windows of one target: one for each length that was asked for.
#[derive(Debug, Default)]
pub(super) struct Windows(Vec<Window>);

#[derive(Debug)]
struct Window {
    /// Length of a step; at least 1.
    step: u64,
    slots: [Slot; STEPS as usize],
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Which step it counts, from 1; 0 is none.
    number: u64,
    failures: u32,
    requests: u32,
}

impl Windows {
    /// A request has ended, at this moment; judged by a window of this length.
    pub(super) fn count(&mut self, length: u64, failed: bool, now: u64) {
        let step = step(length);
        if !self.0.iter().any(|window| window.step == step) {
            self.0.truncate(LENGTHS - 1);
            self.0.insert(0, Window::new(step));
        }
        for window in &mut self.0 {
            window.count(failed, now);
        }
    }

    /// Failures and requests of the last `length`.
    pub(super) fn sum(&self, length: u64, now: u64) -> (u64, u64) {
        let step = step(length);
        let window = self.0.iter().find(|window| window.step == step);
        window.map_or((0, 0), |window| window.sum(now))
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether a failure stands in them, however long ago.
    pub(super) fn hold_failures(&self) -> bool {
        let mut slots = self.0.iter().flat_map(|window| &window.slots);
        slots.any(|slot| slot.failures > 0)
    }
}

fn step(length: u64) -> u64 {
    (length / STEPS).max(1)
}

impl Window {
    fn new(step: u64) -> Self {
        Self {
            step,
            slots: [Slot::default(); STEPS as usize],
        }
    }

    fn number(&self, now: u64) -> u64 {
        now / self.step + 1
    }

    fn count(&mut self, failed: bool, now: u64) {
        let number = self.number(now);
        // The remainder of ten is in the range of the array.
        let slot = &mut self.slots[(number % STEPS) as usize];
        if slot.number > number {
            // Who counts now has been held up for as long as the window is.
            return;
        }
        if slot.number < number {
            *slot = Slot {
                number,
                ..Slot::default()
            };
        }
        slot.requests = slot.requests.saturating_add(1);
        slot.failures = slot.failures.saturating_add(u32::from(failed));
    }

    fn sum(&self, now: u64) -> (u64, u64) {
        let newest = self.number(now);
        let counts = |slot: &&Slot| slot.number != 0 && slot.number + STEPS > newest;
        let sum = |(failures, requests): (u64, u64), slot: &Slot| {
            (
                failures + u64::from(slot.failures),
                requests + u64::from(slot.requests),
            )
        };
        self.slots.iter().filter(counts).fold((0, 0), sum)
    }
}
