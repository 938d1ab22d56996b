//! The accounts of names that third parties make: how many there are, and which are forgotten.

use proptest::prelude::*;
use tollgate_middleware::budget::{Account, Admission, Period, Usd};

use super::{admission, dates, settlement, state_of};
use crate::spool::{
    STRANGERS,
    line::{Admitted, Line, Settled},
    state::State,
};

/// Seconds between two admissions of these tests: at a token per 3.6 seconds ten are back by then.
const STEP: u64 = 36;

fn admit(state: &mut State, number: u64, account: &str, day: u32, passing: bool) {
    let admission = Admission {
        account: account.into(),
        passing,
        nanos: number * STEP * 1_000_000_000,
        dates: dates(day),
        ..admission(number, true)
    };
    state.apply(&Line::Admitted(Admitted::of(&admission, 0)));
}

fn settle(state: &mut State, number: u64, spent: u64) {
    state.apply(&Line::Ended(Settled::of(&settlement(number, spent))));
}

fn head(state: &mut State) -> String {
    let mut head = Vec::new();
    state.head(&mut head);
    String::from_utf8(head).unwrap()
}

fn account(state: &State, name: &str) -> Option<Account> {
    let (_, accounts) = state.accounts(state.moment);
    let found = accounts.into_iter().find(|(of, _)| &**of == name);
    found.map(|(_, account)| account)
}

fn spent(state: &State, name: &str, period: Period) -> Option<u64> {
    account(state, name).map(|account| account.sums().spent(period).units())
}

/// Names that third parties make are bounded also after restarts, and in what is written; files of an earlier version, which told more of
/// them than were charged, come to the account that was.
#[test]
fn accounts_of_strangers_are_bounded_over_restarts_and_in_heads() {
    let mut state = State::default();
    let all = STRANGERS as u64 + 500;
    for number in 0..all {
        admit(
            &mut state,
            number,
            &format!("team\nuser-{number}"),
            20_000,
            false,
        );
        settle(&mut state, number, 7);
    }
    let told = |state: &State| {
        let (global, accounts) = state.accounts(state.moment);
        let spent = spent(state, "team\n", Period::Month);
        (global.sums().spent(Period::Ever), accounts.len(), spent)
    };
    let bounded = (Usd::from_units(7 * all), STRANGERS + 1, Some(7 * 500));
    assert_eq!(told(&state), bounded);
    let text = head(&mut state);
    assert_eq!(told(&state_of(text.as_bytes())), bounded, "of its head");
    // Heads of the earlier version, one of them with an account that is shared.
    let more = ["user-x", "", "user-y"].map(|own| {
        format!("{{\"account\":{{\"of\":\"team\\n{own}\",\"windows\":[20001,2857,666],\"spent\":[1,1,1,1]}}}}")
    });
    let (first, rest) = text.split_at(text.find("{\"begun\"").unwrap());
    let text = [first, &more.join("\n"), "\n", rest].concat();
    let state = state_of(text.as_bytes());
    assert_eq!(told(&state).1, STRANGERS + 1);
    let shared = |period| spent(&state, "team\n", period);
    assert_eq!(shared(Period::Month), Some(7 * 500 + 3));
    assert_eq!(shared(Period::Day), Some(3), "of the later day");
    assert_eq!(shared(Period::Ever), Some(7 * 500 + 3));
}

/// What is out of its windows, and whose tokens are back, is neither written nor kept; a caller of the list, what runs, and what is
/// prepaid or typical of somebody is.
#[test]
fn a_stranger_is_forgotten_when_nothing_of_it_counts() {
    let mut state = State::default();
    let names = ["team\nx", "team\nruns", "team\nprepaid", "team\n", "team"];
    for (number, name) in (0..).zip(names) {
        admit(&mut state, number, name, 20_000, name != "team\nprepaid");
        if name != "team\nruns" {
            settle(&mut state, number, 7);
        }
    }
    let known = |state: &State| names.map(|name| account(state, name).is_some());
    assert!(head(&mut state).contains("team\\nx"));
    assert_eq!(known(&state), [true; 5]);
    // Another month, and an hour later, in which all tokens are back.
    admit(&mut state, 100, "other", 20_100, false);
    let text = head(&mut state);
    assert!(!text.contains("team\\nx"), "{text}");
    assert_eq!(known(&state), [false, true, true, true, true]);
    assert_eq!(known(&state_of(text.as_bytes())), known(&state));
    // Its room is free, and what ran is forgotten when it has ended.
    settle(&mut state, 1, 7);
    head(&mut state);
    assert_eq!(known(&state), [false, false, true, true, true]);
    assert_eq!(spent(&state, "team\nprepaid", Period::Ever), Some(7));
    // Who was once prepaid is kept, whatever is agreed later.
    admit(&mut state, 101, "team\nprepaid", 20_200, true);
    settle(&mut state, 101, 1);
    admit(&mut state, 300, "other", 20_400, false);
    let mut state = state_of(head(&mut state).as_bytes());
    head(&mut state);
    assert_eq!(spent(&state, "team\nprepaid", Period::Ever), Some(8));
}

/// R05: a clock that goes back finds no window anew for somebody who was forgotten.
#[test]
fn who_was_forgotten_finds_no_window_that_is_over() {
    let mut state = State::default();
    admit(&mut state, 0, "team\nx", 20_000, true);
    settle(&mut state, 0, 7);
    admit(&mut state, 100, "other", 20_100, false);
    head(&mut state);
    assert!(account(&state, "team\nx").is_none());
    admit(&mut state, 101, "team\nx", 20_000, true);
    settle(&mut state, 101, 3);
    let sums = *account(&state, "team\nx").unwrap().sums();
    assert_eq!(sums.dates(), dates(20_100));
    assert_eq!(sums.spent(Period::Day), Usd::ZERO, "of a day that is over");
}

/// Tokens come back by the time that runs, whatever day it is.
#[test]
fn a_stranger_is_kept_until_its_tokens_are_back() {
    let mut state = State::default();
    admit(&mut state, 0, "team\nx", 20_000, true);
    settle(&mut state, 0, 7);
    // A second later it is another month.
    let other = Admission {
        account: "other".into(),
        nanos: 1_000_000_000,
        dates: dates(20_100),
        ..admission(1, true)
    };
    state.apply(&Line::Admitted(Admitted::of(&other, 0)));
    head(&mut state);
    assert!(account(&state, "team\nx").is_some());
    admit(&mut state, 100, "other", 20_100, false);
    head(&mut state);
    assert!(account(&state, "team\nx").is_none());
}

/// R05: a clock that was years ahead for one request makes nobody's window over that is open when it is right again.
#[test]
fn nobody_is_forgotten_because_a_clock_ran_ahead() {
    let mut state = State::default();
    admit(&mut state, 0, "team\nx", 20_000, true);
    settle(&mut state, 0, 7);
    admit(&mut state, 100, "other", 30_000, false);
    admit(&mut state, 101, "other", 20_000, false);
    let text = head(&mut state);
    assert_eq!(spent(&state, "team\nx", Period::Day), Some(7));
    // A start that has read no admission yet does not know what day it is.
    let mut state = state_of(text.as_bytes());
    head(&mut state);
    assert_eq!(spent(&state, "team\nx", Period::Day), Some(7));
}

/// What a process does with the accounts of a few.
#[derive(Clone, Debug)]
enum Step {
    Admit(usize, bool),
    End(usize, u64),
    Days(u32),
    /// The file is full, and perhaps the process ends.
    Fill(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..NAMES.len(), prop::bool::weighted(0.9)).prop_map(|(who, passing)| Step::Admit(who, passing)),
        4 => (any::<usize>(), 0..30_u64).prop_map(|(at, spent)| Step::End(at, spent)),
        2 => (1..40_u32).prop_map(Step::Days),
        2 => any::<bool>().prop_map(Step::Fill),
    ];
    prop::collection::vec(step, 0..80)
}

const NAMES: [&str; 4] = ["team\nx", "team\ny", "team\n", "team"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whether accounts are forgotten or not, what is left of each budget of a window and of each rate is the same.
    #[test]
    fn what_is_forgotten_changes_nothing(steps in steps()) {
        let (mut all, mut some) = (State::default(), State::default());
        let (mut number, mut day, mut open) = (0, 20_000, Vec::new());
        let mut lasting = [None, None, Some(true), Some(true)];
        for step in steps {
            match step {
                Step::Admit(who, passing) => {
                    for state in [&mut all, &mut some] {
                        admit(state, number, NAMES[who], day, passing);
                    }
                    lasting[who].get_or_insert(!passing);
                    open.push(number);
                    number += 1;
                }
                Step::End(at, spent) if !open.is_empty() => {
                    let id = open.remove(at % open.len());
                    for state in [&mut all, &mut some] {
                        settle(state, id, spent);
                    }
                }
                Step::End(..) => {}
                Step::Days(days) => {
                    day += days;
                    number += 100;
                }
                Step::Fill(ends) => {
                    let text = head(&mut some);
                    // What runs over a restart holds a few tokens more than before, forgotten or not.
                    if ends && open.is_empty() {
                        some = state_of(text.as_bytes());
                    }
                }
            }
        }
        let today = all.accounts(0).0.sums().dates();
        let told = |state: &State, name: &str, lasting: bool| {
            let account = account(state, name).unwrap_or_default();
            let mut sums = *account.sums();
            sums.open(today);
            let left = account.bucket().map_or(1_000, |bucket| bucket.left(0));
            let prepaid = lasting.then(|| (sums.spent(Period::Ever), account.recent().sum::<u64>()));
            ([Period::Day, Period::Week, Period::Month].map(|it| sums.spent(it)), prepaid, left)
        };
        for (name, lasting) in NAMES.into_iter().zip(lasting) {
            // Who came back as lasting after it was forgotten counts from then on.
            let lasting = lasting == Some(true);
            let (windows, prepaid, left) = told(&all, name, lasting);
            let (kept, kept_prepaid, kept_left) = told(&some, name, lasting);
            prop_assert_eq!(prepaid, kept_prepaid, "{}", name);
            prop_assert_eq!(windows, kept, "{}", name);
            // A token is not told apart from a nanosecond less than one.
            prop_assert!(left.abs_diff(kept_left) <= 1, "{} of {:?}: {}", left, name, kept_left);
        }
    }
}
