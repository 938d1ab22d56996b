//! How a target has been doing of late: what runs there, how fast it answers, how often it fails, when it wants to be asked again.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::refusals::{Begun, Bounds, Refusals, Row};

/// What is measured of one target. Each moment is given by who measures.
#[derive(Debug, Default)]
pub struct Pulse {
    running: AtomicUsize,
    // So that a target that nothing is held against costs no lock.
    parked: AtomicBool,
    refusals: Refusals,
    state: Mutex<State>,
}

/// When a target wants to be asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parked {
    /// From then on.
    pub until: Instant,
    /// It said so itself: before that it is not to be asked by whom it said it to.
    pub told: bool,
}

/// How a target has been doing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// Requests that run there.
    pub running: usize,
    /// How long it takes to its first output, in seconds; `None` where that is not known, or was long ago.
    pub latency: Option<f64>,
    /// The same, the worst of late: it jumps to a slow answer at once, and sinks while nothing comes.
    pub peak: Option<f64>,
    /// Answers of the last 10 seconds.
    pub answers: u32,
    /// The share of failures among them; 0 of fewer than 5.
    pub failing: f64,
}

/// A bound for second attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio {
    /// Of the requests of the last 10 seconds, in hundredths of a percent.
    pub share: u32,
}

impl Default for Ratio {
    /// One in ten.
    fn default() -> Self {
        Self { share: 1000 }
    }
}

#[derive(Debug, Default)]
struct State {
    origin: Option<Instant>,
    park: Option<Parked>,
    /// Refusals without a word of when to come again, since the last success.
    stumbles: Row,
    /// Refusals because nothing was left to spend, likewise.
    spent: Row,
    speed: Option<Speed>,
    seconds: [Second; SECONDS],
    /// When the floor of the budget will be full, in nanoseconds since the origin: each second of it is one attempt.
    floor: u64,
}

#[derive(Clone, Copy, Debug)]
struct Speed {
    at: Instant,
    mean: f64,
    peak: f64,
}

/// What happened in one second.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    // One more than its number since the origin; zero is none.
    number: u64,
    requests: u32,
    answers: u32,
    failures: u32,
    spent: u32,
}

impl Pulse {
    /// One more runs; to be taken back by [`leave`](Self::leave).
    pub(super) fn come(&self) {
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn leave(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    /// Requests that run.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// How it has been doing.
    pub fn read(&self, now: Instant) -> Reading {
        let mut state = self.lock();
        let (answers, failures) = state.answers(now);
        let fresh = state
            .speed
            .filter(|speed| now.saturating_duration_since(speed.at) < MEMORY);
        let sunk = |speed: Speed| speed.peak * faded(now.saturating_duration_since(speed.at));
        Reading {
            running: self.running(),
            latency: fresh.map(|speed| speed.mean),
            peak: fresh.map(sunk),
            answers,
            failing: if answers < FEW {
                0.0
            } else {
                f64::from(failures) / f64::from(answers)
            },
        }
    }

    /// It answered: the request's first attempt or another one, and whether that was a failure that may be tried again. Tells whether
    /// refusals are known that [`recovered`](Self::recovered) may end.
    pub fn answered(&self, first: bool, failed: bool, now: Instant) -> bool {
        let mut state = self.lock();
        let second = state.second(now);
        second.requests += u32::from(first);
        second.answers += 1;
        second.failures += u32::from(failed);
        let refused = !state.stumbles.is_empty() || !state.spent.is_empty();
        refused && !failed
    }

    /// It took an attempt that began so: the next refusal is the first again. An attempt that had begun before the last one changes
    /// nothing. A moment that it named stands.
    pub fn recovered(&self, begun: Begun) {
        let mut state = self.lock();
        let State {
            stumbles, spent, ..
        } = &mut *state;
        for row in [stumbles, spent] {
            if row.is_known(begun) {
                *row = Row::default();
            }
        }
    }

    /// The answer that came last was a failure after all.
    pub fn failed_after_all(&self, now: Instant) {
        self.lock().second(now).failures += 1;
    }

    /// It took so long to the first output.
    pub fn took(&self, time: Duration, now: Instant) {
        let (sample, mut state) = (time.as_secs_f64(), self.lock());
        let old = state
            .speed
            .filter(|speed| now.saturating_duration_since(speed.at) < MEMORY);
        state.speed = Some(match old {
            None => Speed {
                at: now,
                mean: sample,
                peak: sample,
            },
            Some(old) => {
                let kept = faded(now.saturating_duration_since(old.at)).min(MOST_KEPT);
                let blend = |old: f64| old * kept + sample * (1.0 - kept);
                Speed {
                    at: now,
                    mean: blend(old.mean),
                    peak: blend(old.peak).max(sample),
                }
            }
        });
    }

    /// Whether more than half of the answers of the last 10 seconds, at least 5, were failures.
    pub fn is_failing(&self, now: Instant) -> bool {
        let (answers, failures) = self.lock().answers(now);
        answers >= FEW && failures * 2 > answers
    }

    /// Takes leave for a second attempt here; false if there is none.
    ///
    /// There is a share of the requests of the last 10 seconds, and one attempt a second beside it, with room for 10.
    pub fn spend(&self, ratio: Ratio, now: Instant) -> bool {
        let mut state = self.lock();
        let (requests, spent) = state.sum(now, |second| (second.requests, second.spent));
        if (u64::from(spent) + 1) * 10_000 <= u64::from(requests) * u64::from(ratio.share) {
            state.second(now).spent += 1;
            return true;
        }
        let nanos = state.nanos(now);
        let full = state.floor.max(nanos) + SECOND;
        let room = full - nanos <= FLOOR * SECOND;
        if room {
            state.floor = full;
        }
        room
    }

    /// It wants to be asked again then, and said so or not; callers give it no more than [`LONGEST_PARK`]. A later moment stands over an earlier one.
    pub fn park(&self, until: Instant, told: bool) {
        let mut state = self.lock();
        let later = state.park.is_none_or(|old| old.until < until);
        if later {
            state.park = Some(Parked { until, told });
        }
        self.parked.store(true, Ordering::Release);
    }

    /// An attempt begins; what it knows is to be told with a refusal that it meets.
    pub fn begin(&self) -> Begun {
        self.refusals.begin()
    }

    /// What an attempt knows that began so and was sent at this moment: it may have waited between.
    pub fn sent(&self, begun: Begun, at: Instant) -> Begun {
        let state = self.lock();
        state.spent.sent(state.stumbles.sent(begun, at), at)
    }

    /// It refused without a word of when to come again: 5 seconds, each time after the other twice as long, up to a minute. What an
    /// attempt meets that had begun before the last time changes nothing.
    pub fn stumble(&self, begun: Begun, now: Instant) {
        self.refused(|state| &mut state.stumbles, UNTOLD, begun, now);
    }

    /// Nothing is left to spend there: 10 seconds, each time after the other twice as long, up to an hour. What an attempt meets that
    /// had begun before the last time changes nothing.
    pub fn spent(&self, begun: Begun, now: Instant) {
        self.refused(|state| &mut state.spent, REFUSED, begun, now);
    }

    fn refused(&self, row: fn(&mut State) -> &mut Row, bounds: Bounds, begun: Begun, now: Instant) {
        let wait = self
            .refusals
            .count(row(&mut self.lock()), begun, bounds, now);
        if let Some(wait) = wait {
            self.park(now + wait, false);
        }
    }

    /// Whether something may be held against it; never locks.
    pub fn may_be_parked(&self) -> bool {
        self.parked.load(Ordering::Acquire)
    }

    /// When it wants to be asked again, if that is not now.
    pub fn parked(&self, now: Instant) -> Option<Parked> {
        if !self.may_be_parked() {
            return None;
        }
        let mut state = self.lock();
        let park = state.park.filter(|park| park.until > now);
        if park.is_none() {
            state.park = None;
            self.parked.store(false, Ordering::Release);
        }
        park
    }

    /// Whether nothing is known that would be missed.
    pub(super) fn is_blank(&self) -> bool {
        !self.may_be_parked() && self.running() == 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock: numbers stay whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn nanos(&mut self, now: Instant) -> u64 {
        let origin = *self.origin.get_or_insert(now);
        let since = now.saturating_duration_since(origin);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX / 2)
    }

    fn second(&mut self, now: Instant) -> &mut Second {
        let number = self.nanos(now) / SECOND + 1;
        let place = usize::try_from(number).unwrap_or(0) % SECONDS;
        let second = &mut self.seconds[place];
        if second.number != number {
            *second = Second {
                number,
                ..Second::default()
            };
        }
        second
    }

    fn answers(&mut self, now: Instant) -> (u32, u32) {
        self.sum(now, |second| (second.answers, second.failures))
    }

    /// Two numbers of each of the last seconds, this one included.
    fn sum(&mut self, now: Instant, of: impl Fn(&Second) -> (u32, u32)) -> (u32, u32) {
        let number = self.nanos(now) / SECOND + 1;
        let oldest = number.saturating_sub(SECONDS as u64 - 1).max(1);
        let late = self
            .seconds
            .iter()
            .filter(|it| (oldest..=number).contains(&it.number));
        late.map(of).fold((0, 0), |(a, b), (c, d)| (a + c, b + d))
    }
}

/// How much of a measured time is still worth after so long.
fn faded(age: Duration) -> f64 {
    (-age.as_secs_f64() / FADES.as_secs_f64()).exp()
}

/// The window of answers and of the budget, in seconds.
const SECONDS: usize = 10;
/// So few answers say nothing.
const FEW: u32 = 5;
/// Attempts that the floor of the budget has room for.
const FLOOR: u64 = 10;
const SECOND: u64 = 1_000_000_000;
/// Who has nothing left, or does not take a credential.
pub(super) const REFUSED: Bounds = (Duration::from_secs(10), LONGEST_PARK);
/// Who does not say when to come again.
pub(super) const UNTOLD: Bounds = (Duration::from_secs(5), Duration::from_secs(60));
/// Nobody is left alone for longer, whatever it says: who was wrong about its clock or its unit would be lost for a year, and one
/// refusal an hour costs nothing.
pub const LONGEST_PARK: Duration = Duration::from_secs(3600);
/// The time constant of a measured time, that of finagle's peak EWMA.
const FADES: Duration = Duration::from_secs(10);
/// However fast answers follow each other, each counts for a tenth.
const MOST_KEPT: f64 = 0.9;
/// What was measured longer ago is forgotten.
const MEMORY: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    const TENTH: Ratio = Ratio { share: 1000 };
    /// Tells of a refusal, whose first one parks for so many seconds.
    type Kind = (fn(&Pulse, Begun, Instant), u64);
    const KINDS: [Kind; 2] = [(Pulse::stumble, 5), (Pulse::spent, 10)];

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn the_budget_is_a_tenth_of_ten_seconds_and_a_floor() {
        let (pulse, start) = (Pulse::default(), SystemClock.now());
        let spend = |now| (0..1000).take_while(|_| pulse.spend(TENTH, now)).count();
        assert_eq!(spend(start), 10, "the floor's room");
        assert_eq!(spend(start + seconds(1)), 1, "one a second");
        for _ in 0..100 {
            pulse.answered(true, false, start + seconds(2));
        }
        assert_eq!(
            spend(start + seconds(2)),
            11,
            "a tenth, and the floor's one"
        );
        pulse.answered(false, false, start + seconds(2));
        assert_eq!(spend(start + seconds(2)), 0, "second attempts earn nothing");
        assert_eq!(
            spend(start + seconds(13)),
            10,
            "what is long past counts neither way"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_is_failing_once_more_than_half_of_five_answers_failed() {
        let (pulse, now) = (Pulse::default(), SystemClock.now());
        for _ in 0..4 {
            pulse.answered(true, true, now);
        }
        assert!(!pulse.is_failing(now), "four are too few");
        assert_eq!(pulse.read(now).failing, 0.0);
        for _ in 0..4 {
            pulse.answered(true, false, now);
        }
        assert!(!pulse.is_failing(now), "half is not more than half");
        pulse.answered(true, true, now);
        assert!(pulse.is_failing(now));
        assert!((pulse.read(now).failing - 5.0 / 9.0).abs() < 1e-9);
        assert!(
            !pulse.is_failing(now + seconds(10)),
            "ten seconds later nothing is known"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_without_a_word_parks_for_longer_each_time_until_a_success() {
        let (pulse, mut now) = (Pulse::default(), SystemClock.now());
        for expected in [5, 10, 20, 40, 60, 60] {
            pulse.stumble(pulse.begin(), now);
            let park = pulse.parked(now).unwrap();
            assert_eq!((park.until - now, park.told), (seconds(expected), false));
            now += seconds(expected);
            assert_eq!(pulse.parked(now), None);
        }
        pulse.recovered(pulse.begin());
        pulse.stumble(pulse.begin(), now);
        assert_eq!(pulse.parked(now).unwrap().until - now, seconds(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_that_began_before_a_refusal_changes_nothing() {
        for (refuse, first) in KINDS {
            let (pulse, now) = (Pulse::default(), SystemClock.now());
            let older = pulse.begin();
            refuse(&pulse, pulse.begin(), now);
            pulse.recovered(older);
            assert_eq!(pulse.parked(now).unwrap().until - now, seconds(first));
            refuse(&pulse, pulse.begin(), now);
            assert_eq!(pulse.parked(now).unwrap().until - now, seconds(2 * first));
        }
    }

    /// As if it had begun when it was sent.
    #[tokio::test(start_paused = true)]
    async fn what_waited_before_it_was_sent_knows_of_refusals_between() {
        for (refuse, first) in KINDS {
            let (pulse, now) = (Pulse::default(), SystemClock.now());
            let waits = pulse.begin();
            refuse(&pulse, pulse.begin(), now);
            let sent = now + seconds(1);
            refuse(&pulse, pulse.sent(waits, sent), sent);
            assert_eq!(pulse.parked(sent).unwrap().until - sent, seconds(2 * first));
        }
    }

    /// Answers are asked to end a row only while there is one.
    #[tokio::test(start_paused = true)]
    async fn a_success_is_told_of_refusals_until_they_are_ended() {
        for (refuse, _) in KINDS {
            let (pulse, now) = (Pulse::default(), SystemClock.now());
            assert!(!pulse.answered(true, false, now));
            refuse(&pulse, pulse.begin(), now);
            assert!(!pulse.answered(true, true, now), "a failure ends none");
            assert!(pulse.answered(true, false, now));
            pulse.recovered(pulse.begin());
            assert!(!pulse.answered(true, false, now));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_of_attempts_that_ran_at_once_park_as_one() {
        for (refuse, first) in KINDS {
            let (pulse, start) = (Pulse::default(), SystemClock.now());
            let at_once = [(); 10].map(|()| pulse.begin());
            for (second, begun) in (0..).zip(at_once) {
                refuse(&pulse, begun, start + seconds(second));
            }
            let until = |now| pulse.parked(now).map(|park| park.until - start);
            assert_eq!(until(start), Some(seconds(first)), "nor was it extended");
            // Somebody tries whether it is over.
            let now = start + seconds(first);
            refuse(&pulse, pulse.begin(), now);
            assert_eq!(until(now), Some(seconds(3 * first)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_later_of_two_moments_stands() {
        let (pulse, now) = (Pulse::default(), SystemClock.now());
        pulse.park(now + seconds(30), true);
        pulse.park(now + seconds(3), false);
        let expected = Parked {
            until: now + seconds(30),
            told: true,
        };
        assert_eq!(pulse.parked(now), Some(expected));
        assert_eq!(pulse.parked(now + seconds(30)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn times_fade_jump_to_a_peak_and_are_forgotten() {
        let (pulse, now) = (Pulse::default(), SystemClock.now());
        assert_eq!(pulse.read(now), Reading::default());
        pulse.took(seconds(1), now);
        pulse.took(seconds(11), now);
        let at_once = pulse.read(now);
        assert!(
            (at_once.latency.unwrap() - 2.0).abs() < 1e-9,
            "a tenth of the way"
        );
        assert!(
            (at_once.peak.unwrap() - 11.0).abs() < 1e-9,
            "all of the way"
        );
        let later = pulse.read(now + seconds(10)).peak.unwrap();
        assert!((later - 11.0 / std::f64::consts::E).abs() < 1e-9);
        assert!(pulse.read(now + seconds(299)).latency.is_some());
        assert_eq!(pulse.read(now + seconds(300)).latency, None);
    }
}
