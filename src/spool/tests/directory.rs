//! Over files of a directory: which are kept, whose they are, what a start reads, and what is summed up of them.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use tempfile::tempdir;
use tollgate_middleware::{
    budget::{Account, Admission, Journal, Period, Rate, Reserve, Settlement, Terms, Usd},
    clock::{Clock, SystemClock},
};

use super::{admission, settlement, signed};
use crate::spool::{By, Spool, StartError, files, table, usage};

fn newest(dir: &Path) -> std::path::PathBuf {
    files::list(dir).unwrap().pop().expect("a file").1
}

/// Bounded by rotation, and a start reads the newest file, or the one before where the newest has no whole head.
#[test]
fn files_are_rotated_and_old_ones_go() {
    let folder = tempdir().unwrap();
    let (spool, lost) = Spool::open_with(folder.path(), None, 2_000).unwrap();
    assert!(lost.is_empty());
    for number in 0..400 {
        let receipt = spool.admitted(admission(number, true));
        spool.ended(settlement(number, 2));
        spool.flush();
        assert_eq!(signed(receipt), Some(true));
    }
    drop(spool);
    let files = files::list(folder.path()).unwrap();
    let sizes = files
        .iter()
        .map(|(_, path)| fs::metadata(path).unwrap().len());
    assert!(files.len() <= 17, "{} files", files.len());
    assert!(sizes.max() < Some(4_000));
    assert!(files[0].0 > 20, "the first ones are gone");
    // The newest one comes to nothing: what it was to begin with stands in the one before.
    let text = fs::read(newest(folder.path())).unwrap();
    let head = text.iter().position(|byte| *byte == b'\n').unwrap();
    let next = files.last().unwrap().0 + 1;
    fs::write(files::name(folder.path(), next), &text[..=head]).unwrap();
    let (spool, lost) = Spool::open(folder.path(), None).unwrap();
    assert!(lost.is_empty());
    let spent = spool
        .ledger()
        .read("a", |account| account.sums().spent(Period::Ever));
    assert_eq!(
        spent,
        Some(Usd::from_units(800)),
        "of all 400, whatever files are left"
    );
}

#[test]
fn a_directory_is_of_one_process_and_is_free_when_that_has_ended() {
    let folder = tempdir().unwrap();
    let first = Spool::open(folder.path(), None).unwrap();
    let second = Spool::open(folder.path(), None);
    assert!(matches!(second, Err(StartError::Taken(_))));
    drop(first);
    Spool::open(folder.path(), None).unwrap();
    // What cannot be made is told.
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(matches!(Spool::open(&file, None), Err(StartError::Io(..))));
}

/// R05: a clock that was put back does not keep tokens away for as long as it was put back, and one that jumps to and fro while a
/// process runs gives none away: time in the spool goes on by the monotonic clock.
#[test]
fn a_clock_that_jumps_neither_takes_tokens_nor_gives_them() {
    let days = 2 * 86_400_000_000_000_u64;
    let left = |folder: &Path| {
        let (spool, lost) = Spool::open(folder, None).unwrap();
        assert!(lost.is_empty());
        spool
            .ledger()
            .read("a", |account| account.bucket().unwrap().left(0))
    };
    let folder = tempdir().unwrap();
    let (spool, _) = Spool::open(folder.path(), None).unwrap();
    for number in 0..4 {
        // There, back, and there again, by the wall.
        let jumps = if number % 2 == 0 { 0 } else { 2 * 86_400 };
        spool.admitted(Admission {
            at: SystemClock.wall() + Duration::from_secs(jumps),
            nanos: number,
            tokens: 100,
            ..admission(number, true)
        });
        spool.ended(settlement(number, 100));
    }
    drop(spool);
    assert!((600..605).contains(&left(folder.path()).unwrap()));
    // As if the wall had been two days ahead when it was written.
    let text = fs::read_to_string(newest(folder.path())).unwrap();
    let mut ahead = String::new();
    for line in text.lines() {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        for at in ["/usage/moment", "/account/tokens/until"] {
            if let Some(value) = line.pointer_mut(at) {
                *value = (value.as_u64().unwrap() + days).into();
            }
        }
        ahead += &format!("{line}\n");
    }
    fs::write(newest(folder.path()), ahead).unwrap();
    assert!((600..605).contains(&left(folder.path()).unwrap()));
}

/// What `reserve: typical` goes by is there again after a restart, and after another.
#[test]
fn what_is_typical_of_a_caller_survives() {
    let folder = tempdir().unwrap();
    let typical = Terms {
        tokens: Rate::new(1_000, Duration::from_secs(3600)),
        reserve: Reserve::Typical,
        ..Terms::default()
    };
    let (spool, _) = Spool::open(folder.path(), None).unwrap();
    for number in 0..3 {
        spool.admitted(admission(number, true));
        spool.ended(settlement(number, 5 + number));
    }
    drop(spool);
    for restart in 0..2 {
        let (spool, _) = Spool::open(folder.path(), None).unwrap();
        let read = |account: &Account| {
            (
                (account.recent().count(), account.recent().sum::<u64>()),
                account.tokens_of(&typical, 900),
            )
        };
        let (recent, reserved) = spool.ledger().read("a", read).unwrap();
        assert_eq!((recent, reserved), ((3, 18), 24), "{restart}");
    }
}

/// Sums by caller, by model and by day, and as people read them.
#[test]
fn usage_is_summed_up_by_caller_model_and_day() {
    let folder = tempdir().unwrap();
    let (spool, _) = Spool::open_with(folder.path(), None, 3_000).unwrap();
    for number in 0..40_u64 {
        let mut one = admission(number, true);
        let (even, early) = (number.is_multiple_of(2), number < 30);
        one.caller = Some(if even { "even" } else { "o\u{7}dd" }.into());
        one.model = Some(if early { "small" } else { "large" }.into());
        one.at = SystemTime::UNIX_EPOCH
            + Duration::from_secs(86_400 * (20_000 + u64::from(number >= 20)));
        spool.admitted(one);
        // One runs, and of one nobody knows the price.
        if number < 39 {
            spool.ended(Settlement {
                cost: (number != 0).then(|| Usd::new(0.5)),
                ..settlement(number, 3)
            });
        }
        spool.flush();
    }
    let of = |by| usage(folder.path(), by).unwrap();
    let callers: Vec<_> = of(Some(By::Caller))
        .into_iter()
        .map(|it| {
            (
                it.caller.unwrap(),
                it.requests,
                it.running,
                it.cost_usd,
                it.unpriced,
            )
        })
        .collect();
    assert_eq!(
        callers,
        [
            ("even".to_owned(), 20, 0, 9.5, 1),
            ("o\u{7}dd".to_owned(), 19, 1, 9.5, 0)
        ]
    );
    let models: Vec<_> = of(Some(By::Model))
        .into_iter()
        .map(|it| (it.model.unwrap(), it.prompt, it.completion))
        .collect();
    assert_eq!(
        models,
        [("large".to_owned(), 9, 27), ("small".to_owned(), 30, 90)]
    );
    let days: Vec<_> = of(Some(By::Day))
        .into_iter()
        .map(|it| (it.day.unwrap(), it.requests))
        .collect();
    assert_eq!(
        days,
        [("2024-10-04".to_owned(), 20), ("2024-10-05".to_owned(), 19)]
    );
    let all = of(None);
    assert_eq!(all.len(), 6, "each day, caller and model that there was");
    let json = serde_json::to_value(of(Some(By::Day))).unwrap();
    assert_eq!(json[0]["day"], "2024-10-04");
    assert!(json[0].get("caller").is_none());
    let shown = table(&of(Some(By::Caller)));
    let mut lines = shown.lines();
    assert_eq!(
        lines.next().unwrap().split_whitespace().collect::<Vec<_>>(),
        [
            "caller",
            "requests",
            "prompt",
            "completion",
            "usd",
            "lost",
            "running"
        ]
    );
    assert!(lines.next().unwrap().starts_with("even "));
    assert!(
        lines.next().unwrap().starts_with("o?dd "),
        "nothing moves the cursor"
    );
    drop(spool);
}
