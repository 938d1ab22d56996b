use super::*;
use crate::clock::{Clock, SystemClock};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn keys(count: u64) -> Keys {
    let wallet = Wallet::new();
    Keys::new((0..count).map(|id| (Some(format!("key-{id}").into()), wallet.key("p", id))))
}

fn picks(keys: &Keys, now: Instant, count: usize) -> Vec<usize> {
    let want = Want {
        model: Some("m"),
        ..Want::default()
    };
    (0..count)
        .filter_map(|_| keys.pick(&want, || now))
        .collect()
}

/// An attempt that begins now is refused now.
fn refuse(keys: &Keys, at: usize, why: Refused<'_>, now: Instant) {
    keys.refused(at, Some("m"), why, keys.begin(at), now);
}

/// An attempt that begins now is taken now.
fn take(keys: &Keys, at: usize) {
    keys.taken(at, Some("m"), keys.begin(at));
}

fn returns(keys: &Keys, at: usize, now: Instant) -> Option<Duration> {
    let want = Want {
        model: Some("m"),
        ..Want::default()
    };
    let parked = keys.0.keys[at].1.parked(want.model, || now);
    parked.map(|park| park.until - now)
}

#[tokio::test(start_paused = true)]
async fn credentials_take_turns_and_a_parked_one_is_left_out() {
    let (keys, now) = (keys(3), SystemClock.now());
    assert_eq!(picks(&keys, now, 6), [0, 1, 2, 0, 1, 2]);
    refuse(&keys, 1, Refused::Rejected, now);
    assert!(!picks(&keys, now, 12).contains(&1));
    assert!(picks(&keys, now + seconds(10), 12).contains(&1));
}

#[tokio::test(start_paused = true)]
async fn a_rejected_one_is_parked_for_ten_seconds_doubling_to_an_hour() {
    let (keys, mut now) = (keys(2), SystemClock.now());
    let expected = [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600];
    for expected in expected.map(seconds) {
        refuse(&keys, 0, Refused::Rejected, now);
        assert_eq!(returns(&keys, 0, now), Some(expected));
        now += expected;
    }
    take(&keys, 0);
    refuse(&keys, 0, Refused::Rejected, now);
    assert_eq!(returns(&keys, 0, now), Some(seconds(10)));
}

#[tokio::test(start_paused = true)]
async fn a_limit_is_that_of_one_model_until_its_reset() {
    let (keys, now) = (keys(2), SystemClock.now());
    refuse(&keys, 0, Refused::Limited(Some(seconds(7))), now);
    assert_eq!(returns(&keys, 0, now), Some(seconds(7)));
    let other = Want {
        model: Some("other"),
        ..Want::default()
    };
    assert!((0..4).any(|_| keys.pick(&other, || now) == Some(0)));
    for expected in [5, 10, 20, 40, 60, 60].map(seconds) {
        refuse(&keys, 1, Refused::Limited(None), now);
        assert!(returns(&keys, 1, now) >= Some(expected));
    }
    assert_eq!(returns(&keys, 1, now), Some(seconds(60)));
    let first = picks(&keys, now, 4);
    assert_eq!(first, [0; 4], "all are parked: the one that returns first");
}

#[tokio::test(start_paused = true)]
async fn three_403s_in_a_row_park_only_if_two_callers_had_them() {
    let (one, two): (Arc<str>, Arc<str>) = ("one".into(), "two".into());
    let (keys, now) = (keys(2), SystemClock.now());
    let forbid = |who| refuse(&keys, 0, Refused::Forbidden(Some(who)), now);
    (0..5).for_each(|_| forbid(&one));
    assert_eq!(returns(&keys, 0, now), None, "flagged input of one caller");
    forbid(&two);
    assert_eq!(returns(&keys, 0, now), Some(seconds(10)));
    take(&keys, 0);
    forbid(&one);
    take(&keys, 0);
    forbid(&two);
    forbid(&one);
    assert_eq!(
        returns(&keys, 0, now),
        None,
        "a success between breaks the row"
    );
}

/// Of whatever kind they are, and however late.
#[tokio::test(start_paused = true)]
async fn refusals_of_attempts_that_ran_at_once_park_as_one() {
    let callers: [Arc<str>; 2] = ["one".into(), "two".into()];
    let forbidden = [
        Refused::Forbidden(Some(&callers[0])),
        Refused::Forbidden(Some(&callers[1])),
    ];
    for (kinds, first) in [
        ([Refused::Rejected; 2], 10),
        ([Refused::Limited(None); 2], 5),
        (forbidden, 10),
    ] {
        let (keys, start) = (keys(2), SystemClock.now());
        let at_once = [(); 10].map(|()| keys.begin(0));
        let kind = kinds.into_iter().cycle();
        for (begun, kind) in at_once.into_iter().zip(kind) {
            keys.refused(0, Some("m"), kind, begun, start);
        }
        let late = start + seconds(1);
        keys.refused(0, Some("m"), kinds[0], at_once[0], late);
        assert_eq!(returns(&keys, 0, start), Some(seconds(first)), "{kinds:?}");
        // Somebody tries whether it is over.
        let now = start + seconds(first);
        refuse(&keys, 0, kinds[0], now);
        assert_eq!(
            returns(&keys, 0, now),
            Some(seconds(2 * first)),
            "{kinds:?}"
        );
    }
}

/// Nor one of the credential as a whole, which the success of another model ends only if it is asked behind it.
#[tokio::test(start_paused = true)]
async fn a_success_that_began_before_a_rejection_does_not_end_it() {
    let (keys, now) = (keys(2), SystemClock.now());
    let older = keys.begin(0);
    refuse(&keys, 0, Refused::Rejected, now);
    keys.taken(0, Some("other"), older);
    assert_eq!(returns(&keys, 0, now), Some(seconds(10)));
    refuse(&keys, 0, Refused::Rejected, now);
    assert_eq!(returns(&keys, 0, now), Some(seconds(20)), "nor the row");
    keys.taken(0, Some("other"), keys.begin(0));
    assert_eq!(returns(&keys, 0, now), None);
}

/// What one model has met is no other's.
#[tokio::test(start_paused = true)]
async fn attempts_for_several_models_that_ran_at_once_are_limited_each() {
    let (keys, now) = (keys(2), SystemClock.now());
    let begun = keys.begin(0);
    for model in ["other", "m"] {
        keys.refused(0, Some(model), Refused::Limited(None), begun, now);
    }
    assert_eq!(returns(&keys, 0, now), Some(seconds(5)));
}

/// Of ten that run at once one is told to wait, and the head of another one comes later.
#[tokio::test(start_paused = true)]
async fn a_success_that_began_before_a_limit_does_not_end_it() {
    let (keys, now) = (keys(2), SystemClock.now());
    let older = keys.begin(0);
    refuse(&keys, 0, Refused::Limited(Some(seconds(30))), now);
    keys.taken(0, Some("m"), older);
    assert_eq!(returns(&keys, 0, now), Some(seconds(30)));
    take(&keys, 0);
    assert_eq!(returns(&keys, 0, now), None, "it was asked behind it");
}

#[tokio::test(start_paused = true)]
async fn a_sole_one_is_never_parked() {
    let (keys, now) = (keys(1), SystemClock.now());
    refuse(&keys, 0, Refused::Rejected, now);
    assert_eq!(
        (returns(&keys, 0, now), picks(&keys, now, 2)),
        (None, vec![0, 0])
    );
}

#[tokio::test(start_paused = true)]
async fn a_pinned_one_is_used_and_no_other() {
    let (keys, now) = (keys(3), SystemClock.now());
    let mut want = Want {
        pins: [Some("of another provider"), Some("key-2")],
        ..Want::default()
    };
    assert_eq!(keys.pick(&want, || now), Some(2));
    want.tried = 0b100;
    assert_eq!(keys.pick(&want, || now), None);
    assert!(!keys.has_other(&want, now));
    want.pins = [Some("of another provider"), None];
    assert!(keys.pick(&want, || now).is_some());
}

#[test]
fn what_is_known_of_a_credential_survives_whoever_asks_for_it() {
    let wallet = Wallet::new();
    let one = wallet.key("p", 1);
    assert!(Arc::ptr_eq(&one.0, &wallet.key("p", 1).0));
    assert!(!Arc::ptr_eq(&one.0, &wallet.key("q", 1).0));
}
