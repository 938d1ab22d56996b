//! Open loop: requests leave at fixed times whether or not the earlier ones were answered, and every latency is
//! counted from the time at which the request *should* have left, so a stall is not hidden by asking less.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use super::{Call, Exchange, Faults};
use crate::BoxError;
use crate::procfs;

/// Connections, each with a thread of its own: a sleeping thread wakes more exactly than a runtime's timer,
/// which counts milliseconds.
const CONNECTIONS: usize = 32;

/// What was measured in the window.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// From the intended time to the first event (to the end if the answer is no stream), in nanoseconds.
    pub(crate) first: Vec<u64>,
    /// From the intended time to the end of the answer, in nanoseconds.
    pub(crate) whole: Vec<u64>,
    /// CPU time of the watched processes.
    pub(crate) cpu_micros: u64,
    pub(crate) faults: Faults,
}

/// Sends `rate` requests a second for `warm` and then for `window`, in which it measures.
pub(crate) fn run(
    call: &Call,
    rate: u32,
    warm: Duration,
    window: Duration,
    watched: &[u32],
) -> Outcome {
    let schedule = Schedule {
        begin: Instant::now() + Duration::from_millis(50),
        gap: Duration::from_secs(1) / rate,
        warm: slots(rate, warm),
        end: slots(rate, warm + window),
        next: AtomicU64::new(0),
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|_| scope.spawn(|| keep_time(call, &schedule)))
            .collect();
        sleep_until(schedule.begin + warm);
        let before = procfs::cpu_micros(watched);
        let mut all = Outcome::default();
        for thread in threads {
            let one = thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            all.first.extend(one.first);
            all.whole.extend(one.whole);
            all.faults.merge(one.faults);
        }
        all.cpu_micros = procfs::cpu_micros(watched) - before;
        all
    })
}

/// Which request leaves when. Whoever is free takes the next slot.
#[derive(Debug)]
struct Schedule {
    begin: Instant,
    gap: Duration,
    /// The first slot that is measured.
    warm: u64,
    end: u64,
    next: AtomicU64,
}

// ===== impl Schedule =====

impl Schedule {
    fn take(&self) -> Option<(u64, Instant)> {
        let slot = self.next.fetch_add(1, Relaxed);
        let offset = u64::try_from(self.gap.as_nanos())
            .unwrap_or(u64::MAX)
            .saturating_mul(slot);
        (slot < self.end).then(|| (slot, self.begin + Duration::from_nanos(offset)))
    }
}

fn keep_time(call: &Call, schedule: &Schedule) -> Outcome {
    let mut outcome = Outcome::default();
    let mut open = None;
    let mut buffer = vec![0; 64 * 1024];
    while let Some((slot, due)) = schedule.take() {
        sleep_until(due);
        match exchange(call, &mut open, &mut buffer, due) {
            Ok((first, whole)) if slot >= schedule.warm => {
                outcome.first.push(first);
                outcome.whole.push(whole);
            }
            Ok(_) => {}
            Err(fault) => {
                open = None;
                outcome.faults.note(&fault);
            }
        }
    }
    outcome
}

/// One exchange on the open connection or a new one: nanoseconds from `due` to the first event and to the end.
fn exchange(
    call: &Call,
    open: &mut Option<TcpStream>,
    buffer: &mut [u8],
    due: Instant,
) -> Result<(u64, u64), BoxError> {
    let mut stream = match open.take() {
        Some(stream) => stream,
        None => super::connect(call.to)?,
    };
    stream.write_all(&call.request)?;
    let mut exchange = Exchange::new();
    let mut first = None;
    loop {
        let read = stream.read(buffer)?;
        if read == 0 {
            return Err("the connection ended before the answer".into());
        }
        let done = exchange.feed(&buffer[..read], &call.expected)?;
        let now = u64::try_from(due.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if first.is_none() && exchange.has_first_event(&call.expected) {
            first = Some(now);
        }
        if done {
            if !exchange.closes() {
                *open = Some(stream);
            }
            return Ok((first.unwrap_or(now), now));
        }
    }
}

fn sleep_until(due: Instant) {
    while let Some(left) = due
        .checked_duration_since(Instant::now())
        .filter(|left| !left.is_zero())
    {
        thread::sleep(left);
    }
}

fn slots(rate: u32, time: Duration) -> u64 {
    u64::try_from(u128::from(rate) * time.as_nanos() / 1_000_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_leave_at_fixed_times_until_the_end() {
        let begin = Instant::now();
        let schedule = Schedule {
            begin,
            gap: Duration::from_secs(1) / 5000,
            warm: 1,
            end: slots(5000, Duration::from_micros(600)),
            next: AtomicU64::new(0),
        };
        let due: Vec<_> = std::iter::from_fn(|| schedule.take()).collect();
        let at = |micros| begin + Duration::from_micros(micros);
        assert_eq!(due, [(0, at(0)), (1, at(200)), (2, at(400))]);
    }
}
