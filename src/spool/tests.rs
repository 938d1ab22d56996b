mod directory;
mod strangers;

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, SystemTime},
};

use proptest::prelude::*;
use tollgate_middleware::{
    budget::{Account, Admission, Dates, Period, Rate, Receipt, Settlement, Usd},
    clock::{Clock, SystemClock},
    record::{Charge, Ended, Source, Waste},
};

use super::{
    files,
    line::{Admitted, Line, Settled},
    state::State,
    writer::{Disk, Queue, Writer},
};

/// A disk in memory, which may be full, and may take as little of a write as it likes.
#[derive(Clone)]
struct Paper(Arc<Mutex<Sheets>>);

struct Sheets {
    files: Vec<Vec<u8>>,
    /// Bytes that it takes yet.
    room: usize,
    /// Bytes that it takes at once.
    most: usize,
    /// Every second write is interrupted.
    interrupts: bool,
    calls: usize,
}

/// A file of it, by its place.
struct Sheet(Paper, usize);

impl Paper {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Sheets {
            files: Vec::new(),
            room: usize::MAX,
            most: usize::MAX,
            interrupts: false,
            calls: 0,
        })))
    }

    fn with<R>(&self, change: impl FnOnce(&mut Sheets) -> R) -> R {
        change(&mut self.0.lock().unwrap())
    }

    /// All lines of all files, the last one's torn end left out.
    fn lines(&self) -> Vec<Line> {
        self.with(|sheets| {
            let files = sheets.files.iter();
            files.flat_map(|text| files::parse(text).lines).collect()
        })
    }
}

impl Disk for Paper {
    type File = Sheet;

    fn create(&mut self) -> io::Result<Sheet> {
        self.with(|sheets| {
            if sheets.room == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            sheets.files.push(Vec::new());
            Ok(Sheet(self.clone(), sheets.files.len() - 1))
        })
    }
}

impl Write for Sheet {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.with(|sheets| {
            sheets.calls += 1;
            if sheets.interrupts && sheets.calls.is_multiple_of(2) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let count = text.len().min(sheets.room).min(sheets.most);
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            sheets.room -= count;
            sheets.files[self.1].extend_from_slice(&text[..count]);
            Ok(count)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A writer at its work; dropping it lets it end.
struct Work {
    queue: Queue,
    thread: Option<thread::JoinHandle<()>>,
}

impl Work {
    fn over(paper: &Paper, state: State, most: u64) -> Self {
        let writer = Writer::begin(paper.clone(), state, 0, most).expect("room for a head");
        let queue = Queue::default();
        let thread = thread::spawn({
            let queue = queue.clone();
            move || writer.run(&queue, |_| {})
        });
        Self {
            queue,
            thread: Some(thread),
        }
    }

    /// Waits until the disk takes what is there again.
    fn recovers(&self) {
        let began = SystemClock.now();
        while self.queue.is_failing() {
            let waited = SystemClock.now() - began;
            assert!(waited < Duration::from_secs(60), "it never does");
            thread::yield_now();
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.queue.close();
        let thread = self.thread.take().expect("once");
        // A panic in it has been told.
        let _ = thread.join();
    }
}

fn dates(day: u32) -> Dates {
    Dates::of_numbers([day, day / 7, day / 30])
}

fn admission(number: u64, waits: bool) -> Admission {
    Admission {
        number,
        request_id: format!("r-{number}").into(),
        at: SystemTime::UNIX_EPOCH + Duration::from_secs(86_400 * 20_000 + number),
        nanos: number * 1_000_000,
        caller: Some("a".into()),
        account: "a".into(),
        passing: false,
        model: Some("m".into()),
        rate: Rate::new(1_000, Duration::from_secs(3600)),
        tokens: 10,
        cost: Usd::from_units(10),
        dates: dates(20_000),
        waits,
    }
}

fn settlement(number: u64, spent: u64) -> Settlement {
    Settlement {
        number,
        ended: Ended::Complete,
        charge: Charge {
            prompt: 1,
            completion: spent,
            source: Source::Provider,
        },
        waste: Waste::default(),
        tokens: spent,
        cost: Some(Usd::from_units(spent)),
    }
}

/// Whether a receipt is signed; it is, or has failed, once the queue is flushed.
fn signed(mut receipt: Receipt) -> Option<bool> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(&mut receipt).poll(&mut cx) {
        std::task::Poll::Ready(written) => Some(written.is_ok()),
        std::task::Poll::Pending => None,
    }
}

fn state_of(text: &[u8]) -> State {
    let mut state = State::default();
    for line in files::parse(text).lines {
        state.apply(&line);
    }
    state
}

/// What a state comes to: the money of the accounts, and what runs; and the tokens that are left.
fn told(state: &State) -> (String, u64) {
    let (global, accounts) = state.accounts(state.moment);
    let running: Vec<_> = state.running().map(|line| line.id).collect();
    let own = accounts.first().map(|(_, account)| account);
    let left = own.and_then(|own| Some(own.bucket()?.left(0)));
    let recent: u64 = own.into_iter().flat_map(Account::recent).sum();
    let sums = [Some(global.sums()), own.map(|own| own.sums())];
    (
        format!("{sums:?} {running:?} {recent:?}"),
        left.unwrap_or(1_000),
    )
}

/// A disk that takes a few bytes at a time, and is interrupted meanwhile.
#[test]
fn what_is_taken_in_pieces_is_the_same_in_the_end() {
    let write = |most, interrupts| {
        let paper = Paper::new();
        paper.with(|sheets| (sheets.most, sheets.interrupts) = (most, interrupts));
        let work = Work::over(&paper, State::default(), u64::MAX);
        for number in 0..50 {
            let receipt = work.queue.admitted(admission(number, true));
            work.queue.flush();
            assert_eq!(signed(receipt), Some(true));
            if number % 3 > 0 {
                work.queue.ended(settlement(number, number % 20));
            }
        }
        work.queue.flush();
        drop(work);
        paper.with(|sheets| sheets.files.concat())
    };
    let whole = write(usize::MAX, false);
    for most in [1, 2, 7, 100] {
        assert_eq!(write(most, true), whole, "{most} at a time");
    }
}

/// R10: a full disk. Who waits for its line is refused, who does not goes on and is counted; when there is room again, what was
/// cut in the middle of a line goes on there, and each request that was admitted is in the file once.
#[test]
fn a_full_disk_refuses_who_waits_and_counts_who_does_not() {
    let paper = Paper::new();
    let work = Work::over(&paper, State::default(), u64::MAX);
    let ask = |number, waits| {
        let receipt = work.queue.admitted(admission(number, waits));
        work.queue.flush();
        signed(receipt)
    };
    assert_eq!(ask(0, true), Some(true));
    // Enough for some of the next line.
    paper.with(|sheets| sheets.room = 30);
    assert_eq!(ask(1, true), Some(false));
    work.queue.ended(Settlement {
        ended: Ended::Refused,
        ..settlement(1, 0)
    });
    assert_eq!((ask(2, true), ask(3, false)), (Some(false), Some(false)));
    work.queue.ended(settlement(3, 9));
    work.queue.ended(settlement(0, 9));
    work.queue.flush();
    assert!(work.queue.is_failing() && work.queue.failures() >= 2);
    assert_eq!(work.queue.dropped(), 2);

    paper.with(|sheets| sheets.room = usize::MAX);
    work.recovers();
    assert_eq!(ask(4, true), Some(true));
    assert_eq!(work.queue.dropped(), 2, "and nobody else");
    drop(work);
    let mut seen = Vec::new();
    for line in paper.lines() {
        match line {
            Line::Admitted(line) => seen.push((line.id, "admitted".to_owned())),
            Line::Ended(line) => seen.push((line.id, line.ended.into())),
            _ => {}
        }
    }
    let words = |id: u64, word: &str| (id, word.to_owned());
    assert_eq!(
        seen,
        [
            words(0, "admitted"),
            words(1, "admitted"),
            words(1, "refused"),
            words(0, "complete"),
            words(4, "admitted"),
        ]
    );
    assert!(paper.with(|sheets| files::parse(&sheets.files[0]).torn == 0));
}

/// R10: the disk is away for ten minutes of a hundred requests a second, comes back, and the process is killed meanwhile and after:
/// every record that was promised is there once, in the order of its number, what is not is counted, and nothing piles up.
#[test]
fn an_outage_loses_only_what_is_counted_and_doubles_nothing() {
    let (before, away, after) = (1_000, 60_000, 1_000);
    let paper = Paper::new();
    let mut number = 0;
    let mut promised = Vec::new();
    let mut dropped = 0;
    let mut state = State::default();
    for round in 0..2 {
        let work = Work::over(&paper, state, 1 << 20);
        for (count, room) in [(before, usize::MAX), (away, 0), (after, usize::MAX)] {
            paper.with(|sheets| sheets.room = room);
            if room > 0 {
                work.recovers();
            }
            for turn in 0..count {
                let receipt = work.queue.admitted(admission(number, false));
                // The first of an outage finds out, as do some that came meanwhile.
                if turn % 500 == 0 {
                    work.queue.flush();
                }
                match signed(receipt.clone()) {
                    Some(false) => {}
                    _ => promised.push((number, receipt)),
                }
                work.queue.ended(settlement(number, 1));
                number += 1;
            }
            work.queue.flush();
        }
        dropped += work.queue.dropped();
        let text = paper.with(|sheets| sheets.files.last().cloned().expect("a file"));
        drop(work);
        // Killed in the middle of a line: the head of the newest file and what is behind it are all there is.
        state = state_of(&[&text[..], b"{\"ended\":{\"id\":9"].concat());
        assert!(state.next > number - after, "round {round}");
        state.next = number;
    }
    let (mut admitted, mut ended) = (Vec::new(), Vec::new());
    for line in paper.lines() {
        match line {
            Line::Admitted(line) => admitted.push(line.id),
            Line::Ended(line) => ended.push(line.id),
            _ => {}
        }
    }
    assert!(
        admitted.is_sorted_by(|one, other| one < other),
        "once, and in order"
    );
    ended.sort_unstable();
    assert_eq!(admitted, ended, "each has ended, once");
    for (id, _) in promised
        .iter()
        .filter(|(_, receipt)| signed(receipt.clone()) == Some(true))
    {
        assert!(admitted.binary_search(id).is_ok(), "{id} was promised");
    }
    assert_eq!(admitted.len() as u64 + dropped, number);
    assert!(dropped >= 2 * (away - 1_000), "{dropped}");
}

/// A file that ends anywhere, in the middle of a line or of its head, is read up to there.
#[test]
fn a_file_that_is_cut_anywhere_is_read_as_far_as_it_goes() {
    let paper = Paper::new();
    let mut state = State::default();
    for line in [3_u64, 4] {
        state.apply(&Line::Admitted(Admitted::of(&admission(line, true), 0)));
    }
    let work = Work::over(&paper, state, u64::MAX);
    for number in 5..9 {
        work.queue.admitted(admission(number, true));
        work.queue.ended(settlement(number, 1));
    }
    drop(work);
    let text = paper.with(|sheets| sheets.files[0].clone());
    let whole = files::parse(&text);
    let head = 6;
    assert!(whole.begun && whole.torn == 0 && whole.lines.len() == head + 8);
    for cut in 0..text.len() {
        let held = files::parse(&text[..cut]);
        let lines = text[..cut].iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(held.lines, whole.lines[..lines], "cut at {cut}");
        assert_eq!(held.begun, lines >= head, "cut at {cut}");
        let ends = text[..cut].ends_with(b"\n") || cut == 0;
        assert_eq!(held.torn, usize::from(!ends), "cut at {cut}");
    }
}

/// With so many accounts that the head of a file is more than a file may hold, each write began another one: a file is full when as much
/// stands behind its head.
#[test]
fn a_head_that_is_larger_than_a_file_makes_no_file_full() {
    let mut state = State::default();
    for number in 0..500 {
        let account = format!("account-{number}").into();
        let admission = Admission {
            account,
            ..admission(number, true)
        };
        state.apply(&Line::Admitted(Admitted::of(&admission, 0)));
        state.apply(&Line::Ended(Settled::of(&settlement(number, 7))));
    }
    let mut head = Vec::new();
    state.head(&mut head);
    let most = 2_000;
    assert!(head.len() > 10 * most);
    let paper = Paper::new();
    let work = Work::over(&paper, state, most as u64);
    for number in 500..1_000 {
        work.queue.admitted(admission(number, true));
        work.queue.ended(settlement(number, 7));
        work.queue.flush();
    }
    drop(work);
    let sizes: Vec<_> = paper.with(|sheets| sheets.files.iter().map(Vec::len).collect());
    let behind = sizes.iter().sum::<usize>() - sizes.len() * head.len();
    // So that no more is written for heads than for lines.
    let (files, full) = (sizes.len(), behind / head.len());
    assert!(files > 1 && files <= 1 + full, "{files} files, {full} full");
    let newest = paper.with(|sheets| state_of(sheets.files.last().unwrap()));
    assert_eq!(newest.accounts(0).1.len(), 501);
    assert_eq!(
        newest.accounts(0).0.sums().spent(Period::Ever),
        Usd::from_units(7 * 1_000)
    );
}

/// The mean of what an account used stands in a head as a count and a sum; files that have each of them are read as before.
#[test]
fn what_an_account_used_lately_is_short_in_a_head() {
    let old = r#"{"account":{"of":"a","windows":[1,2,3],"spent":[1,1,1,1],"tokens":{"rate":{"tokens":1000,"per":1000},"until":0},"recent":[5,6,8]}}"#;
    let mut state = State::default();
    state.apply(&Line::read(old.as_bytes()).expect("a line"));
    for _ in 0..2 {
        let (_, accounts) = state.accounts(0);
        let recent: Vec<_> = accounts[0].1.recent().collect();
        assert_eq!((recent.len(), recent.iter().sum::<u64>()), (3, 19));
        let mut head = Vec::new();
        state.head(&mut head);
        let text = std::str::from_utf8(&head).unwrap();
        assert!(text.contains(r#""lately":[3,19]}}"#), "{text}");
        state = state_of(&head);
    }
}

/// What a process does with its accounts.
#[derive(Clone, Debug)]
enum Step {
    Admit,
    End(usize, u64),
    /// The file is full.
    Fill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Admit),
        3 => (any::<usize>(), 0..30_u64).prop_map(|(at, spent)| Step::End(at, spent)),
        1 => Just(Step::Fill),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Each file begins with all that came before: the newest one alone says what all of them say.
    #[test]
    fn the_newest_file_says_all(steps in steps()) {
        let paper = Paper::new();
        let mut work = Work::over(&paper, State::default(), u64::MAX);
        let (mut number, mut open) = (0, Vec::new());
        for step in steps {
            match step {
                Step::Admit => {
                    work.queue.admitted(admission(number, true));
                    open.push(number);
                    number += 1;
                }
                Step::End(at, spent) if !open.is_empty() => {
                    let id = open.remove(at % open.len());
                    work.queue.ended(settlement(id, spent));
                }
                Step::End(..) => {}
                Step::Fill => {
                    drop(work);
                    let state = paper.with(|sheets| state_of(sheets.files.last().unwrap()));
                    work = Work::over(&paper, state, u64::MAX);
                }
            }
        }
        drop(work);
        let mut all = State::default();
        let mut first = true;
        for line in paper.lines() {
            // Of all files, what is new in each.
            match line {
                Line::Admitted(_) | Line::Ended(_) => {
                    all.apply(&line);
                }
                _ if first => {
                    all.apply(&line);
                }
                _ => {}
            }
            first &= !matches!(line, Line::Begun(_));
        }
        let newest = paper.with(|sheets| state_of(sheets.files.last().unwrap()));
        let ((newest_sums, newest_left), (all_sums, all_left)) = (told(&newest), told(&all));
        prop_assert_eq!(newest_sums, all_sums);
        // A token is not told apart from a nanosecond less than one.
        prop_assert!(newest_left.abs_diff(all_left) <= 1, "{} is not {}", newest_left, all_left);
        let running: Vec<_> = newest.running().map(|line| line.id).collect();
        prop_assert_eq!(running, open);
        let spent = |state: &State| state.accounts(0).0.sums().spent(Period::Ever);
        prop_assert_eq!(spent(&newest), spent(&all));
    }
}
