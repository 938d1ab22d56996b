//! What the lines of a spool come to: the accounts, and what runs.

use std::{
    array,
    cmp::Ordering,
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tollgate_middleware::budget::{
    self, Account, Bucket, Dates, Ledger, Reserved, Terms, Usd, Worst,
};

use super::{
    STRANGERS,
    line::{Admitted, FORMAT, First, Line, Per, Settled, Sums, Taken},
};

/// The accounts after so many lines. Times in their buckets are those of the spool: nanoseconds since 1970 that never go back, and
/// that go on by the monotonic clock as long as a process runs.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    global: Account,
    accounts: HashMap<Arc<str>, Kept>,
    // Of the accounts, those of names that third parties make.
    strangers: usize,
    open: BTreeMap<u64, Open>,
    pub(super) next: u64,
    /// How far time had come.
    pub(super) moment: u64,
    /// The windows of the last admission; a clock may have gone back since the latest that there were.
    dates: Dates,
}

#[derive(Clone, Debug)]
struct Kept {
    account: Account,
    // As said of each request that it was charged with.
    passing: bool,
}

#[derive(Clone, Debug)]
struct Open {
    // With the account that is charged.
    line: Admitted,
    own: Reserved,
    all: Reserved,
}

/// Nanoseconds since 1970.
pub(super) fn nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    let nanos = since.unwrap_or(Duration::ZERO).as_nanos();
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

impl State {
    /// Applies a line; false if it says what is known already, or nothing that is known.
    pub(super) fn apply(&mut self, line: &Line) -> bool {
        match line {
            Line::Usage(first) => {
                self.next = self.next.max(first.next);
                self.moment = self.moment.max(first.moment);
            }
            Line::Begun(_) => {}
            Line::Account(sums) => match &sums.of {
                None => self.global = restored(sums),
                Some(name) => self.restore(name, sums),
            },
            Line::Open(admitted) | Line::Admitted(admitted) => return self.admit(admitted),
            Line::Ended(settled) => return self.settle(settled),
        }
        true
    }

    pub(super) fn admit(&mut self, line: &Admitted) -> bool {
        if self.open.contains_key(&line.id) {
            return false;
        }
        self.next = self.next.max(line.id + 1);
        self.moment = self.moment.max(line.moment);
        self.dates = line.dates();
        let terms = Terms {
            tokens: line.rate.and_then(Per::rate),
            ..Terms::default()
        };
        let worst = Worst {
            tokens: line.tokens,
            cost: line.cost(),
        };
        let mut line = line.clone();
        line.account = self.charged(&line.account);
        let reserve = |account: &mut Account, terms| {
            let mut reserved = account.reserve(terms, &worst, line.moment, line.dates());
            reserved.at = line.dates();
            reserved
        };
        let kept = self.kept(&line.account, line.passing);
        kept.passing &= line.passing;
        let open = Open {
            own: reserve(&mut kept.account, &terms),
            all: reserve(&mut self.global, &Terms::default()),
            line,
        };
        self.open.insert(open.line.id, open);
        true
    }

    /// The account that is charged for this one. More of names that third parties make than there is room for are in files of an earlier
    /// version alone, which told the name of an account where the one that is used instead was charged.
    fn charged(&self, name: &Arc<str>) -> Arc<str> {
        match Ledger::else_of(name) {
            Some(shared) if self.strangers >= STRANGERS && !self.accounts.contains_key(name) => {
                shared.into()
            }
            _ => name.clone(),
        }
    }

    /// The account of this name; a new one begins in the windows that are open, as in the ledger, if it may have been forgotten.
    fn kept(&mut self, name: &Arc<str>, passing: bool) -> &mut Kept {
        let (strangers, dates) = (&mut self.strangers, self.global.sums().dates());
        self.accounts.entry(name.clone()).or_insert_with(|| {
            let mut account = Account::default();
            if Ledger::else_of(name).is_some() {
                *strangers += 1;
                account = Account::opened(dates);
            }
            Kept { account, passing }
        })
    }

    /// An account as a head tells it, on top of what is charged to it already.
    fn restore(&mut self, name: &Arc<str>, told: &Sums) {
        let name = self.charged(name);
        let (moment, more) = (self.moment, self.accounts.contains_key(&name));
        let kept = self.kept(&name, told.passing);
        kept.account = if more {
            restored(&both(sums(None, kept, []), told, moment))
        } else {
            restored(told)
        };
    }

    pub(super) fn settle(&mut self, line: &Settled) -> bool {
        let Some(open) = self.open.remove(&line.id) else {
            return false;
        };
        if let Some(kept) = self.accounts.get_mut(&open.line.account) {
            kept.account.settle(&open.own, line.tokens, line.cost());
        }
        self.global.settle(&open.all, line.tokens, line.cost());
        true
    }

    /// What runs, in the order of admission.
    pub(super) fn running(&self) -> impl Iterator<Item = &Admitted> {
        self.open.values().map(|open| &open.line)
    }

    /// Forgets the accounts of names that third parties made of which nothing counts any more: none of what they spent is in a window
    /// that is open, their tokens are back, nothing runs, and they are [passing](budget::Admission::passing). Where a clock ran ahead and
    /// was set right, the windows that it had come to are not those of who asks now.
    fn forget(&mut self, running: &HashSet<Arc<str>>) {
        let latest = self.global.sums().dates().numbers();
        let last = self.dates.numbers();
        let today: [u32; 3] = array::from_fn(|at| latest[at].min(last[at]));
        let moment = self.moment;
        let strangers = &mut self.strangers;
        self.accounts.retain(|name, kept| {
            let sums = kept.account.sums();
            let windows = sums.dates().numbers().into_iter().zip(today);
            let open = windows
                .zip(sums.spent_in_all())
                .any(|((window, today), spent)| spent > Usd::ZERO && window >= today);
            let bucket = kept.account.bucket();
            let taken = bucket.is_some_and(|bucket| bucket.taken_for(moment) > 0);
            let keeps = !kept.passing || open || taken || running.contains(name);
            let stranger = Ledger::else_of(name).is_some();
            *strangers -= usize::from(stranger && !keeps);
            keeps || !stranger
        });
    }

    /// The head of a file that goes on from here. What nobody asks for any more is not in it, and is forgotten.
    pub(super) fn head(&mut self, out: &mut Vec<u8>) {
        let running = self.running().map(|line| line.account.clone());
        self.forget(&running.collect());
        let first = Line::Usage(First {
            format: FORMAT,
            next: self.next,
            moment: self.moment,
        });
        let all = Kept {
            account: self.global.clone(),
            passing: false,
        };
        let global = Line::Account(sums(None, &all, []));
        let mut open: HashMap<&str, Vec<&Open>> = HashMap::new();
        for one in self.open.values() {
            open.entry(&one.line.account).or_default().push(one);
        }
        let accounts = self.accounts.iter().map(|(name, kept)| {
            let reserved = open.get(&**name).into_iter().flatten().copied();
            Line::Account(sums(Some(name.clone()), kept, reserved))
        });
        let running = self.running().cloned().map(Line::Open);
        let mut lines = 0;
        for line in [first, global].into_iter().chain(accounts).chain(running) {
            line.write(out);
            lines += 1;
        }
        Line::Begun(lines).write(out);
    }

    /// The accounts for a ledger whose clock is at zero now.
    pub(super) fn accounts(&self, now: u64) -> (Account, Vec<(Arc<str>, Account)>) {
        let of = |account: &Account| {
            let bucket = account
                .bucket()
                .map(|bucket| Bucket::restored(bucket.rate(), bucket.taken_for(now), 0));
            Account::restored(restored_sums(account), bucket).remembering(account.recent())
        };
        let accounts = self.accounts.iter();
        let accounts = accounts.map(|(name, kept)| (name.clone(), of(&kept.account)));
        (of(&self.global), accounts.collect())
    }
}

fn restored_sums(account: &Account) -> budget::Sums {
    budget::Sums::restored(account.sums().dates(), account.sums().spent_in_all())
}

/// As it is written: without what is reserved, which is told with what runs.
fn sums<'a>(
    of: Option<Arc<str>>,
    Kept { account, passing }: &Kept,
    open: impl IntoIterator<Item = &'a Open>,
) -> Sums {
    let mut settled = account.clone();
    for open in open {
        settled.settle(&open.own, 0, Usd::ZERO);
    }
    let tokens = settled.bucket().map(|bucket| Taken {
        rate: Per::of(bucket.rate()),
        until: bucket.taken_for(0),
    });
    let (count, used) = account
        .recent()
        .fold((0_u8, 0), |(count, sum), one| (count + 1, sum + one));
    Sums {
        of,
        windows: account.sums().dates().numbers(),
        spent: account.sums().spent_in_all().map(Usd::units),
        tokens,
        lately: (count > 0).then_some((count, used)),
        recent: Vec::new(),
        passing: *passing,
    }
}

/// What two accounts come to that are one.
fn both(one: Sums, other: &Sums, moment: u64) -> Sums {
    let mut spent = one.spent;
    for (at, (sum, more)) in spent.iter_mut().zip(other.spent).enumerate() {
        let windows = one.windows.get(at).cmp(&other.windows.get(at));
        *sum = match windows {
            Ordering::Less => more,
            Ordering::Equal => sum.saturating_add(more),
            Ordering::Greater => *sum,
        };
    }
    let later = |at: usize| one.windows[at].max(other.windows[at]);
    let tokens = match (one.tokens, other.tokens) {
        (Some(own), Some(more)) if own.rate == more.rate => Some(Taken {
            until: own.until.max(moment) + more.until.saturating_sub(moment),
            ..own
        }),
        (own, more) => own.or(more),
    };
    Sums {
        windows: [later(0), later(1), later(2)],
        spent,
        tokens,
        ..one
    }
}

fn restored(line: &Sums) -> Account {
    let dates = Dates::of_numbers(line.windows);
    let spent = line.spent.map(Usd::from_units);
    let bucket = line.tokens.and_then(|taken| {
        let rate = taken.rate.rate()?;
        Some(Bucket::restored(rate, taken.until, 0))
    });
    let sums = budget::Sums::restored(dates, spent);
    let account = Account::restored(sums, bucket).remembering(line.recent.iter().copied());
    let Some((count, used)) = line.lately else {
        return account;
    };
    // All that is asked of them is their mean.
    let (each, over) = (
        used / u64::from(count.max(1)),
        used % u64::from(count.max(1)),
    );
    account.remembering((0..u64::from(count)).map(|at| each + u64::from(at < over)))
}
