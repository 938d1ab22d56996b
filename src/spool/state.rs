//! What the lines of a spool come to: the accounts, and what runs.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tollgate_middleware::budget::{self, Account, Bucket, Reserved, Terms, Usd, Worst};

use super::line::{Admitted, FORMAT, First, Line, Per, Settled, Sums, Taken};

/// The accounts after so many lines. Times in their buckets are those of the spool: nanoseconds since 1970 that never go back, and
/// that go on by the monotonic clock as long as a process runs.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    global: Account,
    accounts: HashMap<Arc<str>, Account>,
    open: BTreeMap<u64, Open>,
    pub(super) next: u64,
    /// How far time had come.
    pub(super) moment: u64,
}

#[derive(Clone, Debug)]
struct Open {
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
            Line::Account(sums) => {
                let account = restored(sums);
                match &sums.of {
                    None => self.global = account,
                    Some(name) => {
                        self.accounts.insert(name.clone(), account);
                    }
                }
            }
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
        let terms = Terms {
            tokens: line.rate.and_then(Per::rate),
            ..Terms::default()
        };
        let worst = Worst {
            tokens: line.tokens,
            cost: line.cost(),
        };
        let account = self.accounts.entry(line.account.clone()).or_default();
        let reserve = |account: &mut Account, terms| {
            let mut reserved = account.reserve(terms, &worst, line.moment, line.dates());
            reserved.at = line.dates();
            reserved
        };
        let open = Open {
            own: reserve(account, &terms),
            all: reserve(&mut self.global, &Terms::default()),
            line: line.clone(),
        };
        self.open.insert(line.id, open);
        true
    }

    pub(super) fn settle(&mut self, line: &Settled) -> bool {
        let Some(open) = self.open.remove(&line.id) else {
            return false;
        };
        if let Some(account) = self.accounts.get_mut(&open.line.account) {
            account.settle(&open.own, line.tokens, line.cost());
        }
        self.global.settle(&open.all, line.tokens, line.cost());
        true
    }

    /// What runs, in the order of admission.
    pub(super) fn running(&self) -> impl Iterator<Item = &Admitted> {
        self.open.values().map(|open| &open.line)
    }

    /// The head of a file that goes on from here.
    pub(super) fn head(&self, out: &mut Vec<u8>) {
        let first = Line::Usage(First {
            format: FORMAT,
            next: self.next,
            moment: self.moment,
        });
        let global = Line::Account(sums(None, &self.global, []));
        let mut open: HashMap<&str, Vec<&Open>> = HashMap::new();
        for one in self.open.values() {
            open.entry(&one.line.account).or_default().push(one);
        }
        let accounts = self.accounts.iter().map(|(name, account)| {
            let reserved = open.get(&**name).into_iter().flatten().copied();
            Line::Account(sums(Some(name.clone()), account, reserved))
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
        let accounts = accounts.map(|(name, account)| (name.clone(), of(account)));
        (of(&self.global), accounts.collect())
    }
}

fn restored_sums(account: &Account) -> budget::Sums {
    budget::Sums::restored(account.sums().dates(), account.sums().spent_in_all())
}

/// As it is written: without what is reserved, which is told with what runs.
fn sums<'a>(
    of: Option<Arc<str>>,
    account: &Account,
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
    }
}

fn restored(line: &Sums) -> Account {
    let dates = budget::Dates::of_numbers(line.windows);
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
