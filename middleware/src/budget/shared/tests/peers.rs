//! Processes that were silent for so long that the account has forgotten them, and a clock that jumps as far.

use proptest::prelude::*;

use super::{
    super::{
        super::{account::Terms, money::Period},
        call::{Known, Outcome},
        place::Place,
    },
    NOON, Server, played,
    script::{Account, LIMIT, budget, dates},
};

const MICROS: u64 = 1_000_000;
const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

impl Account {
    /// A request from its beginning to its end.
    fn spends(&mut self, server: &Server, id: &str, amount: u64) -> Known {
        let at = self.reserves(server, id, amount);
        assert_eq!(self.settles(server, id, amount, &at), Outcome::Done, "{id}");
        at
    }

    fn looks(&mut self, server: &Server, process: &str) -> Known {
        let call = self.about().look(process);
        self.hear(&server.run(&call)).known
    }

    /// Tells what was spent without the store; whether it has counted.
    fn adds(&self, server: &Server, process: &str, number: u64, amount: i64) -> Vec<i64> {
        let call = self.about().add(process, number, amount, 0, dates(NOON));
        server.run(&call)
    }
}

fn peers(server: &Server) -> Vec<String> {
    let all = server.redis.command(&["HKEYS", &server.key("sums")]);
    let names = all.lines().filter(|name| name.starts_with("of."));
    let mut names: Vec<_> = names.map(str::to_owned).collect();
    names.sort();
    names
}

/// R08: a process that was forgotten meanwhile was taken for one that knows more than the store does: the account began anew, and what the
/// others had reserved was dropped. It finds all as it is, is known again, and what it finds lost later is lost.
#[test]
fn who_comes_back_after_days_finds_the_account_as_it_is() {
    let Some(server) = Server::start() else {
        return;
    };
    let mut one = Account::new(budget(LIMIT, Period::Ever));
    let mut other = Account::new(one.terms);
    let at = one.spends(&server, "p-0.1", 2);
    let place = Place::of(None);
    let answer = one.about().look("p-0");
    place.heard(&one.hear(&server.run(&answer)), 0);

    server.at((NOON + 2 * DAY) * MICROS);
    other.reserves(&server, "q-0.1", 10);
    assert_eq!(peers(&server), ["of.q"]);
    // Once by a look, which writes nothing else, and once more.
    for turn in 1..3 {
        let call = one.about().look("p-0");
        let answer = one.hear(&server.run(&call));
        assert_eq!((answer.known.epoch, one.has()), (at.epoch, (2, 10)));
        assert_eq!(peers(&server), ["of.p", "of.q"]);
        place.heard(&answer, turn);
        assert_eq!(place.known(), Some(answer.known));
    }
    one.spends(&server, "p-0.2", 3);
    assert_eq!(one.has(), (5, 10));

    server.saves();
    let lost = one.reserves(&server, "p-0.3", 30);
    server.is_older();
    for number in 2..6 {
        other.reserves(&server, &format!("q-0.{number}"), 1);
    }
    assert!(other.known.unwrap().seq > lost.seq);
    assert_eq!(one.settles(&server, "p-0.3", 25, &lost), Outcome::Done);
    assert_eq!(one.has(), (30, 0));
}

/// R08: that some were forgotten at some time does not hide that the store has lost what others wrote since.
#[test]
fn who_was_not_silent_is_not_taken_for_forgotten() {
    let Some(server) = Server::start() else {
        return;
    };
    let mut one = Account::new(budget(LIMIT, Period::Ever));
    let mut other = Account::new(one.terms);
    Account::new(one.terms).spends(&server, "old-0.1", 1);
    server.at((NOON + 2 * DAY) * MICROS);
    other.spends(&server, "q-0.1", 1);
    assert_eq!(peers(&server), ["of.q"]);
    server.saves();
    let lost = one.reserves(&server, "p-0.1", 30);
    server.is_older();
    for number in 2..6 {
        other.spends(&server, &format!("q-0.{number}"), 1);
    }
    assert!(other.known.unwrap().seq > lost.seq);
    assert_eq!(one.settles(&server, "p-0.1", 25, &lost), Outcome::Done);
    assert!(one.known.unwrap().epoch > lost.epoch);
    assert_eq!(one.has(), (31, 0));
}

/// R08: a store that is older than what a forgotten process knows, and that nobody has written to since, is told so by it, too.
#[test]
fn who_was_forgotten_by_a_store_that_is_older_too_tells_it() {
    let Some(server) = Server::start() else {
        return;
    };
    let mut one = Account::new(budget(LIMIT, Period::Ever));
    let mut other = Account::new(one.terms);
    other.spends(&server, "q-0.1", 1);
    server.saves();
    for number in 1..10 {
        one.spends(&server, &format!("p-0.{number}"), 2);
    }
    server.is_older();
    server.at((NOON + 2 * DAY) * MICROS);
    other.known = None;
    other.reserves(&server, "r-0.1", 1);
    assert_eq!(peers(&server), ["of.r"]);
    let known = one.looks(&server, "p-0");
    assert!(known.epoch > other.known.unwrap().epoch);
    assert_eq!(one.has(), (19, 0));
}

/// R08: what was told, and nobody heard that it was, is told again when the store is reached again, and counts once: also after weeks.
#[test]
fn what_was_told_before_weeks_of_silence_counts_once() {
    let Some(server) = Server::start() else {
        return;
    };
    let mut one = Account::new(budget(LIMIT, Period::Ever));
    one.spends(&server, "p-0.1", 2);
    one.adds(&server, "p", 1, 7);
    for days in [2, 20, 40] {
        server.at((NOON + days * DAY) * MICROS);
        Account::new(one.terms).spends(&server, &format!("new{days}-0.1"), 1);
    }
    let answer = one.adds(&server, "p", 1, 7);
    assert_eq!(one.hear(&answer).outcome, Outcome::Before);
    assert_eq!(one.has(), (12, 0));
    // It is not kept for ever.
    server.at((NOON + 100 * DAY) * MICROS);
    Account::new(one.terms).spends(&server, "last-0.1", 1);
    assert_eq!(peers(&server), ["of.last"]);
}

#[derive(Clone, Debug)]
enum Step {
    Spend(usize, u64),
    Look(usize),
    /// It is told, nobody hears of it, and it is told again when this one comes the next time.
    Tell(usize, u64),
    /// Another process takes its place, which knows nothing.
    New(usize),
    Jump(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = 0..3_usize;
    let hours = prop::sample::select(vec![1, 11, 13, 25, 49, 24 * 15]);
    let jump = (hours, any::<bool>()).prop_map(|(hours, back)| {
        let seconds = hours * HOUR as i64;
        Step::Jump(if back { -seconds } else { seconds })
    });
    let step = prop_oneof![
        4 => (who.clone(), 0..20_u64).prop_map(|(who, cost)| Step::Spend(who, cost)),
        2 => who.clone().prop_map(Step::Look),
        1 => (who.clone(), 1..20_u64).prop_map(|(who, cost)| Step::Tell(who, cost)),
        1 => who.prop_map(Step::New),
        4 => jump,
    ];
    prop::collection::vec(step, 0..40)
}

/// A process, the number of what it told last, and how much that was if nobody has heard of it.
struct Process {
    name: String,
    account: Account,
    number: u64,
    unheard: Option<u64>,
}

impl Process {
    fn new(name: String, terms: Terms) -> Self {
        Self {
            name,
            account: Account::new(terms),
            number: 0,
            unheard: None,
        }
    }

    fn tells_again(&mut self, server: &Server) {
        if let Some(amount) = self.unheard.take() {
            let amount = i64::try_from(amount).unwrap();
            let answer = self.account.adds(server, &self.name, self.number, amount);
            assert_eq!(self.account.hear(&answer).outcome, Outcome::Before);
        }
    }
}

fn play(server: &Server, steps: &[Step]) -> Result<(), TestCaseError> {
    server.clear();
    let terms = budget(1_000_000, Period::Ever);
    let mut all = [0, 1, 2].map(|who| Process::new(format!("p{who}"), terms));
    let began = all[0].account.spends(server, "p0-0.0", 0);
    let (mut second, mut spent) = (NOON, 0);
    for (number, step) in steps.iter().enumerate() {
        match *step {
            Step::Spend(who, amount) => {
                let id = format!("{}-0.{}", all[who].name, number + 1);
                all[who].tells_again(server);
                all[who].account.spends(server, &id, amount);
                spent += amount;
            }
            Step::Look(who) => {
                let name = format!("{}-0", all[who].name);
                all[who].tells_again(server);
                all[who].account.looks(server, &name);
            }
            Step::Tell(who, amount) => {
                let process = &mut all[who];
                process.tells_again(server);
                process.number += 1;
                process.unheard = Some(amount);
                let amount_told = i64::try_from(amount).unwrap();
                process
                    .account
                    .adds(server, &process.name, process.number, amount_told);
                spent += amount;
            }
            Step::New(who) => all[who] = Process::new(format!("new{number}"), terms),
            Step::Jump(seconds) => {
                let to = second.saturating_add_signed(seconds);
                // For so long it is remembered what was told.
                second = to.clamp(NOON, NOON + 39 * DAY);
                server.at(second * MICROS);
            }
        }
        let mut nobody = Account::new(terms);
        let known = nobody.looks(server, "");
        prop_assert_eq!(known.epoch, began.epoch, "{:?}", step);
        prop_assert_eq!(nobody.has(), (spent, 0), "{:?}", step);
    }
    Ok(())
}

/// R05, R08: however far the clock jumps, and however long some are silent: the account never begins anew, and all counts once.
#[test]
fn however_long_processes_are_silent_the_account_is_the_same() {
    played([50, 1_000], steps(), |server, steps| play(server, &steps));
}
