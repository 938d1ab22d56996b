//! A store that comes back older than it was, one whose clock is set back, and what must not grow.

use proptest::prelude::*;

use super::{
    super::{
        super::{
            account::Terms,
            money::{Dates, Period, Usd},
            tokens::Rate,
        },
        call::{Amount, Answer, Known, Outcome},
        place::Place,
    },
    NOON, Server, played,
    script::{Account, LIMIT, budget, cost, dates},
};
use std::time::Duration;

const MICROS: u64 = 1_000_000;

impl Account {
    pub(super) fn reserves(&mut self, server: &Server, id: &str, amount: u64) -> Known {
        let call = self.about().reserve(id, cost(amount));
        let answer = self.hear(&server.run(&call));
        assert_eq!(answer.outcome, Outcome::Done, "{id}");
        answer.known
    }

    pub(super) fn settles(
        &mut self,
        server: &Server,
        id: &str,
        amount: u64,
        at: &Known,
    ) -> Outcome {
        let at = Some((at.epoch, at.dates));
        let call = self.about().settle(id, cost(amount), at);
        self.hear(&server.run(&call)).outcome
    }

    /// What is spent in all, and reserved.
    pub(super) fn has(&self) -> (u64, u64) {
        let known = self.known.expect("it was heard");
        (known.spent[3].units(), known.reserved.units())
    }
}

/// R08: a store that was killed comes back from a snapshot. What was spent since is told to it; what was reserved in it runs no more, or is
/// charged when it ends; what was reserved since is charged, too; all of it once.
#[test]
fn a_store_that_is_older_is_told_and_holds_no_ghosts() {
    let Some(server) = Server::start() else {
        return;
    };
    let mut account = Account::new(budget(LIMIT, Period::Ever));
    let long = account.reserves(&server, "p-0.1", 10);
    let ghost = account.reserves(&server, "p-0.2", 20);
    server.saves();
    assert_eq!(account.settles(&server, "p-0.2", 15, &ghost), Outcome::Done);
    let late = account.reserves(&server, "p-0.3", 5);
    assert_eq!(account.has(), (15, 15));
    let before = account.known;

    server.is_older();
    let call = account.about().look("p-0");
    let known = account.hear(&server.run(&call)).known;
    assert_eq!(account.has(), (15, 0));
    assert!(known.epoch > late.epoch);
    // Answers of before come late, and one more tells what it knew.
    let mut slow = Account::new(account.terms);
    slow.known = before;
    assert_eq!(slow.settles(&server, "p-0.3", 4, &late), Outcome::Done);
    assert_eq!(slow.has(), (19, 0));
    assert_eq!(account.settles(&server, "p-0.3", 4, &late), Outcome::Before);
    assert_eq!(account.settles(&server, "p-0.1", 9, &long), Outcome::Done);
    assert_eq!(account.has(), (28, 0));
    // The money that is left is left, and no more.
    let call = account.about().reserve("p-0.4", cost(LIMIT - 27));
    let answer = account.hear(&server.run(&call));
    assert_eq!(answer.outcome, Outcome::MoneyShort);
    account.reserves(&server, "p-0.5", LIMIT - 28);
}

/// Who looks where there is no account hears of an epoch that never begins. Where the clock was set back just then, that of the account was
/// lower, the account was taken for an older one, and what others held in it was dropped.
#[test]
fn that_there_was_no_account_says_nothing_of_a_later_one() {
    let Some(server) = Server::start() else {
        return;
    };
    let mut one = Account::new(budget(LIMIT, Period::Ever));
    let call = one.about().look("p-0");
    let none = Answer::read(&server.run(&call)).unwrap();
    one.known = Some(none.known);
    server.at((NOON - 1) * MICROS);
    let mut other = Account::new(one.terms);
    other.reserves(&server, "q-0.1", 7);
    let call = one.about().look("p-0");
    let some = Answer::read(&server.run(&call)).unwrap();
    assert!(some.known.epoch < none.known.epoch);
    assert_eq!(some.known.reserved.units(), 7);
    let place = Place::of(None);
    for (at, answer) in [&none, &some, &none].into_iter().enumerate() {
        place.heard(answer, at as u64);
    }
    assert_eq!(place.known(), Some(some.known));
}

/// R08: a replica that was behind takes over, and another process writes more to it than was lost before this one comes: what this one
/// has reserved is charged all the same.
#[test]
fn what_a_process_has_lost_is_seen_also_after_others_wrote() {
    let Some(server) = Server::start() else {
        return;
    };
    let mut one = Account::new(budget(LIMIT, Period::Ever));
    let mut other = Account::new(one.terms);
    let at = other.reserves(&server, "q-0.0", 1);
    server.saves();
    let lost = one.reserves(&server, "p-0.1", 30);
    server.is_older();
    for number in 1..6 {
        other.reserves(&server, &format!("q-0.{number}"), 1);
    }
    assert!(other.known.unwrap().seq > lost.seq);
    assert_eq!(other.known.unwrap().epoch, at.epoch);
    assert_eq!(one.settles(&server, "p-0.1", 25, &lost), Outcome::Done);
    assert_eq!(one.has(), (25, 0));
    // What the other holds is charged when it ends.
    for number in 0..6 {
        let id = format!("q-0.{number}");
        assert_eq!(other.settles(&server, &id, 1, &at), Outcome::Done);
    }
    assert_eq!(other.has(), (31, 0));
}

/// R05: a clock of the store that is set back opens no window again, gives no tokens and takes none; also where all is forgotten just then.
#[test]
fn a_clock_that_is_set_back_refills_nothing() {
    let Some(server) = Server::start() else {
        return;
    };
    let rate = Rate::new(100, Duration::from_secs(100));
    let mut account = Account::new(Terms {
        tokens: rate,
        ..budget(LIMIT, Period::Day)
    });
    let used = |tokens, units| Amount {
        cost: Usd::from_units(units),
        tokens,
    };
    let call = account.about().reserve("p-0.1", used(60, 40));
    let at = account.hear(&server.run(&call)).known;
    let admitted = Some((at.epoch, at.dates));
    let call = account.about().settle("p-0.1", used(50, 30), admitted);
    account.hear(&server.run(&call));
    let mut epoch = at.epoch;
    for (back, forgets) in [
        (3_600, false),
        (3_600, true),
        (2 * 86_400, false),
        (3 * 86_400, true),
    ] {
        server.at((NOON - back) * MICROS);
        if forgets {
            server.ask(&["DEL", &server.key("sums")]);
        }
        let call = account.about().look("p-0");
        let known = account.hear(&server.run(&call)).known;
        let told = format!("{back} {forgets}");
        assert_eq!(known.spent[0].units(), 30, "{told}");
        assert_eq!(known.dates, dates(NOON), "{told}");
        assert_eq!(known.bucket(rate.unwrap(), 0).left(0), 50, "{told}");
        assert_eq!(known.epoch > epoch, forgets, "{told}");
        epoch = known.epoch;
        // It goes on from there: so does what is taken.
        let call = account
            .about()
            .reserve(&format!("p-0.{back}{forgets}"), used(51, 1));
        assert_eq!(
            account.hear(&server.run(&call)).outcome,
            Outcome::TokensShort
        );
    }
    server.at((NOON - 3 * 86_400 + 10) * MICROS);
    let call = account.about().reserve("p-0.9", used(60, 71));
    assert_eq!(
        account.hear(&server.run(&call)).outcome,
        Outcome::MoneyShort
    );
    let call = account.about().reserve("p-0.10", used(60, 70));
    assert_eq!(account.hear(&server.run(&call)).outcome, Outcome::Done);
}

/// Reports without sense cost what they say, and no sum ceases to be whole.
#[test]
fn absurd_reports_leave_the_numbers_whole() {
    let Some(server) = Server::start() else {
        return;
    };
    let rate = Rate::new(7, Duration::from_secs(366 * 86_400)).unwrap();
    let mut account = Account::new(Terms {
        tokens: Some(rate),
        ..budget(LIMIT, Period::Ever)
    });
    let absurd = Amount {
        cost: Usd::from_units(3),
        tokens: u64::MAX,
    };
    for number in 1..4 {
        let call = account.about().add("p", number, 1, 1 << 60, dates(NOON));
        account.hear(&server.run(&call));
        let id = format!("p-0.{number}");
        let call = account.about().settle(&id, absurd, Some((1, dates(NOON))));
        let known = account.hear(&server.run(&call)).known;
        assert!(known.full.0 <= known.now + (1 << 52), "{known:?}");
        assert_eq!(known.seq, 2 * number);
        assert_eq!(known.bucket(rate, 0).left(0), 0);
        assert_eq!(account.has(), (4 * number, 0));
    }
    let odd = Known {
        full: (u64::MAX, u64::MAX),
        ..account.known.unwrap()
    };
    assert_eq!(odd.taken(rate), u64::MAX);
}

/// What was lost is kept for an hour, also where more is lost meanwhile; a process that is silent is forgotten after a day.
#[test]
fn what_nobody_asks_for_any_more_is_forgotten() {
    let Some(server) = Server::start() else {
        return;
    };
    let count = |part: &str| server.redis.command(&["HLEN", &server.key(part)]);
    let mut second = NOON;
    for turn in 0..6_u64 {
        let mut account = Account::new(budget(LIMIT, Period::Ever));
        let id = format!("p{turn}-0.1");
        account.reserves(&server, &id, 1);
        // Half an hour later it is lost, and another process comes.
        second += 1_800;
        server.at(second * MICROS);
        let mut next = Account::new(account.terms);
        let call = next.about().look("");
        next.hear(&server.run(&call));
        assert_eq!(next.has(), (turn + 1, 0));
        assert_eq!(count("lost"), (turn + 1).min(2).to_string());
    }
    // The first of these had its hour.
    let mut late = Account::new(budget(LIMIT, Period::Ever));
    for (id, outcome) in [("p0-0.1", Outcome::Before), ("p5-0.1", Outcome::Done)] {
        let call = late.about().settle(id, cost(0), None);
        assert_eq!(late.hear(&server.run(&call)).outcome, outcome, "{id}");
        late.known = None;
    }
    let peers = || {
        let all = server.redis.command(&["HKEYS", &server.key("sums")]);
        all.lines().filter(|name| name.starts_with("of.")).count()
    };
    assert_eq!(peers(), 6);
    second += 86_400;
    server.at(second * MICROS);
    Account::new(late.terms).reserves(&server, "new-0.1", 1);
    assert_eq!(peers(), 1);
}

#[derive(Clone, Debug)]
enum Step {
    /// Of one of two processes.
    Reserve(usize, u64),
    /// The one at this place among those that run has cost so much.
    Settle(usize, u64),
    /// Seconds, forth or back.
    Pass(i64),
    Save,
    Older,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let reserve = (0..2_usize, 0..20_u64).prop_map(|(who, cost)| Step::Reserve(who, cost));
    let settle = (any::<usize>(), 0..30_u64).prop_map(|(at, cost)| Step::Settle(at, cost));
    let pass = prop_oneof![4 => 0..5_i64, 1 => Just(-3_600), 1 => Just(-2 * 86_400)];
    let step = prop_oneof![
        4 => reserve,
        4 => settle,
        1 => pass.prop_map(Step::Pass),
        1 => Just(Step::Save),
        1 => Just(Step::Older),
    ];
    prop::collection::vec(step, 0..40)
}

struct Running {
    id: String,
    who: usize,
    at: (u64, Dates),
    cost: u64,
    // The store knows it.
    held: bool,
}

/// Two processes, and what they have asked for.
struct World<'a> {
    server: &'a Server,
    all: [Account; 2],
    running: Vec<Running>,
    spent: u64,
    // Since the store was saved.
    wrote: bool,
}

impl World<'_> {
    fn reserves(&mut self, who: usize, number: usize, amount: u64) -> Result<(), TestCaseError> {
        let id = format!("p{who}-0.{number}");
        let call = self.all[who].about().reserve(&id, cost(amount));
        let answer = self.all[who].hear(&self.server.run(&call));
        prop_assert_eq!(answer.outcome, Outcome::Done);
        let at = (answer.known.epoch, answer.known.dates);
        self.running.push(Running {
            id,
            who,
            at,
            cost: amount,
            held: true,
        });
        self.wrote = true;
        Ok(())
    }

    fn settles(&mut self, at: usize, amount: u64) -> Result<usize, TestCaseError> {
        let it = self.running.swap_remove(at % self.running.len());
        let about = self.all[it.who].about();
        let call = about.settle(&it.id, cost(amount), Some(it.at));
        let answer = self.all[it.who].hear(&self.server.run(&call));
        prop_assert_eq!(answer.outcome, Outcome::Done);
        self.spent += amount;
        self.wrote = true;
        Ok(it.who)
    }

    /// It comes back as it was saved; the first who comes is one who had heard more.
    fn is_older(&mut self) -> usize {
        self.server.is_older();
        if self.wrote {
            self.running.iter_mut().for_each(|it| it.held = false);
        }
        let most = |it: &usize| self.all[*it].known.map(|known| (known.epoch, known.seq));
        (0..2).max_by_key(most).unwrap_or_default()
    }

    /// Both hear that all is as it should be, this one first.
    fn is_right(&mut self, first: usize, after: &Step) -> Result<(), TestCaseError> {
        for who in [first, 1 - first] {
            let call = self.all[who].about().renew(&format!("p{who}-0"));
            self.all[who].hear(&self.server.run(&call));
            let held = self.running.iter().filter(|it| it.held);
            let held = held.map(|it| it.cost).sum();
            prop_assert_eq!(self.all[who].has(), (self.spent, held), "{:?}", after);
        }
        Ok(())
    }
}

fn play(server: &Server, steps: &[Step]) -> Result<(), TestCaseError> {
    server.clear();
    server.saves();
    let mut world = World {
        server,
        all: [(); 2].map(|()| Account::new(budget(1_000_000, Period::Ever))),
        running: Vec::new(),
        spent: 0,
        wrote: false,
    };
    let (mut second, mut saved) = (NOON, NOON);
    for (number, step) in steps.iter().enumerate() {
        let mut first = 0;
        match *step {
            Step::Reserve(who, amount) => {
                world.reserves(who, number, amount)?;
                first = who;
            }
            Step::Settle(at, amount) if !world.running.is_empty() => {
                first = world.settles(at, amount)?;
            }
            Step::Pass(seconds) => {
                second = second.saturating_add_signed(seconds);
                server.at(second * MICROS);
            }
            // What lived then lives still.
            Step::Older if second < saved + 20 => first = world.is_older(),
            Step::Save => {}
            Step::Settle(..) | Step::Older => continue,
        }
        world.is_right(first, step)?;
        if matches!(step, Step::Save | Step::Older) {
            server.saves();
            (saved, world.wrote) = (second, false);
        }
    }
    Ok(())
}

/// R05, R08: a store that is saved and comes back older any number of times, while its clock goes back and forth: all that ends is
/// charged once, and what is reserved is what still runs.
#[test]
fn however_often_a_store_is_older_it_has_the_sum_of_what_ended() {
    played([50, 1_000], steps(), |server, steps| play(server, &steps));
}
