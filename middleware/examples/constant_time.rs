//! Whether the time that a comparison of keys takes tells where they differ: Welch's t of two classes (as in dudect), for digests that
//! differ in their first byte, in their last, or not at all. Prints the figures; exit 1 if one is 4.5 or more.
//!
//! ```sh
//! cargo run --release -p tollgate-middleware --features auth --example constant_time
//! ```

use std::{hint::black_box, process::ExitCode, time::Duration};

use tollgate_middleware::{
    auth::Digest,
    clock::{Clock, SystemClock},
};

const MEASURED: usize = 1_000_000;
/// One comparison takes less than what a clock can tell.
const AT_ONCE: usize = 32;
const BOUND: f64 = 4.5;

fn main() -> ExitCode {
    let known = digest(|_| 0x5a);
    let first = digest(|at| if at == 0 { 0xa5 } else { 0x5a });
    let last = digest(|at| if at == 31 { 0xa5 } else { 0x5a });
    let mut good = true;
    for (name, one, other) in [
        ("first byte, last byte", first, last),
        ("first byte, equal", first, known),
        ("last byte, equal", last, known),
    ] {
        let t = t_of(known, [one, other]).abs();
        good &= t < BOUND;
        println!("{name}: |t| = {t:.2} of {MEASURED} measurements, {BOUND} is the bound");
    }
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn digest(byte: impl Fn(usize) -> u8) -> Digest {
    let hex: String = (0..32).map(|at| format!("{:02x}", byte(at))).collect();
    format!("sha256:{hex}").parse().expect("64 digits")
}

/// Welch's t of the times that both classes take, measured in an order of chance, without the slowest tenth: what interrupts a
/// measurement has nothing to do with what is measured.
fn t_of(known: Digest, classes: [Digest; 2]) -> f64 {
    let mut times = [Vec::new(), Vec::new()];
    // xorshift64 of Marsaglia.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..MEASURED {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let class = usize::from(state >> 40 & 1 == 1);
        times[class].push(time(known, classes[class]).as_nanos() as f64);
    }
    let mut all: Vec<_> = times.iter().flatten().copied().collect();
    all.sort_unstable_by(f64::total_cmp);
    let most = all[all.len() / 10 * 9];
    let [one, other] = times.map(|mut times| {
        times.retain(|time| *time <= most);
        moments(&times)
    });
    let error = (one.variance / one.count + other.variance / other.count).sqrt();
    (one.mean - other.mean) / error.max(f64::MIN_POSITIVE)
}

fn time(known: Digest, other: Digest) -> Duration {
    let began = SystemClock.now();
    for _ in 0..AT_ONCE {
        black_box(black_box(known) == black_box(other));
    }
    SystemClock.now() - began
}

struct Moments {
    count: f64,
    mean: f64,
    variance: f64,
}

fn moments(times: &[f64]) -> Moments {
    let count = times.len() as f64;
    let mean = times.iter().sum::<f64>() / count;
    let squares = times.iter().map(|time| (time - mean).powi(2));
    let variance = squares.sum::<f64>() / (count - 1.0);
    Moments {
        count,
        mean,
        variance,
    }
}
