//! The layer over a shared store: two processes, and a store that is there, mute or away.

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use http::{Request, Response};
use http_body_util::BodyExt;
use tollgate_testing::{
    body::{Item, Script},
    splits::Random,
};
use tower::{Service, service_fn};

use super::{
    super::{
        super::{
            BudgetLayer, Happened, Ledger, OnShort, Period, Policy, Rate, Shared, Terms, Usd,
            money::Budget,
            tests::{Book, ask, chat, policy, post, why},
        },
        Settle,
        call::{About, Amount, Answer, Keys, Known, words},
        keep::KEPT,
    },
    Mood, NOON, Server, Wire,
};
use crate::{
    body::Held,
    clock::{Clock, SystemClock},
    error::{BoxError, Reason, Rejection},
    facts::OutputLimit,
    record::{Attempt, Charge, Record, Source},
    store::{Away, Contact, OnError, Store, fake::Fake},
};

/// One process: its store, and its layer.
struct Process {
    wire: Arc<Wire>,
    shared: Shared,
    layer: BudgetLayer,
}

impl Process {
    fn new(wire: Wire, policy: Policy) -> Self {
        let wire = Arc::new(wire);
        let shared = Shared::new(wire.clone() as Arc<dyn Store>, 16);
        let layer = BudgetLayer::new(policy, Ledger::new(0)).shared(shared.clone());
        let process = Self {
            wire,
            shared,
            layer,
        };
        process.turn();
        process.turn();
        process
    }

    /// What runs beside it has its turn.
    fn turn(&self) {
        self.shared.turn(SystemClock.now(), SystemClock.wall());
    }
}

/// Two of them, over one server; none if there is none.
fn two(terms: Terms) -> Option<(Arc<Server>, [Process; 2])> {
    let server = Arc::new(Server::start()?);
    let process = || Process::new(Wire::to(&server), policy(terms));
    let both = [process(), process()];
    Some((server, both))
}

/// Prepaid: the clock of the server is not that of the process.
fn money(usd: f64) -> Terms {
    Terms {
        money: Some(Budget {
            amount: Usd::new(usd),
            per: Period::Ever,
        }),
        ..Terms::default()
    }
}

/// What the store has of an account, asked by nobody of the two.
fn known(server: &Arc<Server>, name: Option<&str>, terms: &Terms) -> Known {
    let about = About {
        keys: &Keys::of(name),
        terms,
        known: None,
        before: None,
    };
    let answer = server.run(&about.look(""));
    Answer::read(&answer).unwrap().known
}

fn spent(server: &Arc<Server>) -> (f64, f64) {
    let known = known(server, Some("a"), &money(1.0));
    (
        known.spent[Period::Ever as usize].usd(),
        known.reserved.usd(),
    )
}

/// Time passes here and at the server.
async fn pass(server: &Arc<Server>, since: &mut u64, seconds: u64) {
    *since += seconds;
    server.at((NOON + *since) * 1_000_000);
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

/// An answer that is charged with so many tokens, each a USD.
fn charging(
    tokens: u64,
) -> impl Service<Request<Held<Script>>, Response = Response<Script>, Error = BoxError, Future: Send>
+ Clone {
    service_fn(move |req: Request<Held<Script>>| {
        let record: &Record = req.extensions().get().unwrap();
        record.begin_attempt(Attempt::default());
        record.begin_metering();
        record.update_metered(|metered| {
            metered.charge = Charge {
                prompt: 0,
                completion: tokens,
                source: Source::Provider,
            };
        });
        std::future::ready(Ok(Response::new(Script::new([Item::Data("x".into())]))))
    })
}

async fn served(process: &Process, tokens: u64) {
    let answer = ask(&process.layer, charging(tokens), chat()).await.unwrap();
    answer.into_body().collect().await.unwrap();
}

/// B01: two processes, a thousand requests, a budget for ten.
#[tokio::test(start_paused = true)]
async fn two_processes_admit_no_more_than_one_would() {
    let Some((server, both)) = two(money(10.0)) else {
        return;
    };
    let mut running = Vec::new();
    for turn in 0..1_000 {
        let answer = ask(&both[turn % 2].layer, charging(1), chat()).await;
        match answer {
            Ok(answer) => running.push(answer),
            refused => assert_eq!(why(refused), Reason::InsufficientQuota),
        }
    }
    assert_eq!((running.len(), spent(&server)), (10, (0.0, 10.0)));
    // Half of them are read to their end, half are left.
    for (at, answer) in running.into_iter().enumerate() {
        if at % 2 == 0 {
            answer.into_body().collect().await.unwrap();
        }
    }
    assert_eq!(spent(&server), (10.0, 0.0));
    both[0].turn();
    pass(&server, &mut 0, 1).await;
    both[0].turn();
    both[0].turn();
    let sums = both[0].shared.sums(Some("a")).unwrap();
    assert_eq!(sums.spent(Period::Ever), Usd::new(10.0));
}

/// What is not used comes back to the other, and an error costs nothing.
#[tokio::test(start_paused = true)]
async fn what_one_gives_back_the_other_may_take() {
    let Some((server, [one, other])) = two(money(10.0)) else {
        return;
    };
    let body = r#"{"model":"m","max_tokens":10}"#;
    let first = ask(&one.layer, charging(3), post("/v1/chat/completions", body))
        .await
        .unwrap();
    assert_eq!(
        why(ask(&other.layer, charging(1), chat()).await),
        Reason::InsufficientQuota
    );
    drop(first);
    served(&other, 2).await;
    let failing = service_fn(async |_: Request<Held<Script>>| {
        Err::<Response<Script>, BoxError>(
            Rejection::new(Reason::UpstreamTimeout, "timeout", "late").into(),
        )
    });
    ask(&one.layer, failing, chat()).await.err().unwrap();
    assert_eq!(spent(&server), (5.0, 0.0));
}

/// The caller is asked first; where all together are short, it gets back what it had.
#[tokio::test(start_paused = true)]
async fn the_first_is_given_back_where_the_second_says_no() {
    let Some(server) = Server::start() else {
        return;
    };
    let server = Arc::new(server);
    let of_all = Budget {
        amount: Usd::new(2.0),
        per: Period::Day,
    };
    let policy = Policy {
        global: Some(of_all),
        ..policy(money(10.0))
    };
    let process = Process::new(Wire::to(&server), policy);
    let running = ask(&process.layer, charging(2), chat()).await.unwrap();
    served(&process, 1).await;
    assert_eq!(spent(&server), (1.0, 1.0));
    let refused = ask(&process.layer, charging(1), chat())
        .await
        .err()
        .unwrap();
    let told = Rejection::find(&*refused).unwrap().message().to_owned();
    assert!(told.contains("all together"), "{told}");
    assert_eq!(spent(&server), (1.0, 1.0));
    drop(running);
    let terms = Terms {
        money: Some(of_all),
        ..Terms::default()
    };
    let all = known(&server, None, &terms);
    assert_eq!((all.spent[0], all.reserved), (Usd::new(3.0), Usd::ZERO));
}

/// R08: what is not answered in time may have been reserved: it is given back, and this process decides over its half.
#[tokio::test(start_paused = true)]
async fn what_is_not_answered_is_given_back() {
    let Some((server, [one, other])) = two(money(10.0)) else {
        return;
    };
    one.wire.is(Mood::Mute);
    let running = ask(&one.layer, charging(4), chat()).await.unwrap();
    assert_eq!(
        spent(&server),
        (0.0, 0.0),
        "it was reserved, and given back"
    );
    assert_eq!(one.shared.happened().alone, 1);
    one.wire.is(Mood::Up);
    served(&one, 1).await;
    // What runs was told first.
    assert_eq!(spent(&server), (2.0, 0.0));
    drop(running);
    for _ in 0..3 {
        pass(&server, &mut 0, 1).await;
        one.turn();
    }
    assert_eq!(spent(&server), (5.0, 0.0));
    assert_eq!(one.shared.untold(), 0);
    served(&other, 5).await;
    assert_eq!(spent(&server), (10.0, 0.0));
}

/// R08: while the store is away each process has its part of what was left when it heard last; what it spent is added, once.
#[tokio::test(start_paused = true)]
async fn away_each_has_its_part_of_what_was_left() {
    let Some((server, both)) = two(money(10.0)) else {
        return;
    };
    served(&both[0], 2).await;
    both.iter().for_each(Process::turn);
    let mut since = 0;
    pass(&server, &mut since, 2).await;
    both.iter().for_each(Process::turn);
    both.iter().for_each(Process::turn);
    both.iter().for_each(|it| it.wire.is(Mood::Away));
    for process in &both {
        for _ in 0..4 {
            served(process, 1).await;
        }
        let refused = ask(&process.layer, charging(1), chat()).await;
        assert_eq!(why(refused), Reason::InsufficientQuota);
        assert_eq!(
            process.shared.happened(),
            Happened {
                alone: 4,
                ..Happened::default()
            }
        );
    }
    assert_eq!(spent(&server), (2.0, 0.0));
    // The first telling is not answered.
    both[0].wire.is(Mood::Mute);
    for mood in [Mood::Mute, Mood::Up, Mood::Up] {
        both.iter().for_each(|it| it.wire.is(mood));
        for _ in 0..2 {
            pass(&server, &mut since, 1).await;
            both.iter().for_each(Process::turn);
        }
    }
    assert_eq!(spent(&server), (10.0, 0.0));
    assert_eq!(both[0].shared.untold() + both[1].shared.untold(), 0);
    assert_eq!(
        why(ask(&both[1].layer, charging(1), chat()).await),
        Reason::InsufficientQuota
    );
}

/// R08: `on_error: refuse` refuses while the store is away; and so does any process that never heard of it.
#[tokio::test(start_paused = true)]
async fn away_or_never_there_it_is_refused() {
    let Some(server) = Server::start() else {
        return;
    };
    let server = Arc::new(server);
    let refuses = Wire {
        on_error: OnError::Refuse,
        ..Wire::to(&server)
    };
    let strict = Process::new(refuses, policy(money(10.0)));
    served(&strict, 1).await;
    strict.wire.is(Mood::Away);
    let never = Wire::to(&server);
    never.is(Mood::Never);
    let never = Process::new(never, policy(money(10.0)));
    for process in [&strict, &never] {
        let refused = ask(&process.layer, charging(1), chat())
            .await
            .err()
            .unwrap();
        let rejection = Rejection::find(&*refused).unwrap();
        assert_eq!(
            (rejection.reason(), rejection.layer()),
            (Reason::Overloaded, "budget")
        );
        assert!(rejection.wait().is_some());
        assert_eq!(process.shared.happened().away, 1);
        process.wire.is(Mood::Up);
        served(process, 1).await;
    }
}

/// Tokens of a process that is alone come back at its part of the rate.
#[tokio::test(start_paused = true)]
async fn away_tokens_come_back_at_a_part_of_their_rate() {
    let rate = Rate::new(100, Duration::from_secs(100));
    let terms = Terms {
        tokens: rate,
        ..Terms::default()
    };
    let Some((server, [process, other])) = two(terms) else {
        return;
    };
    let ask_for = |tokens: u64| {
        let body = format!(r#"{{"model":"m","max_tokens":{tokens}}}"#);
        post("/v1/chat/completions", &body)
    };
    let standing = |req: &Request<Held<Script>>| {
        let record = req.extensions().get::<Record>().unwrap().clone();
        move || record.with_standings(|all| (all[0].quota, all[0].left))
    };
    let req = ask_for(20);
    let told = standing(&req);
    let answer = ask(&other.layer, charging(40), req).await.unwrap();
    let (quota, left) = told();
    // What is reserved for the input is the estimate's affair.
    let input = 100 - left - 20;
    assert!(quota == 100 && (1..20).contains(&input), "{left}");
    drop(answer);
    let mut since = 0;
    pass(&server, &mut since, 10).await;
    process.turn();
    process.turn();
    process.wire.is(Mood::Away);
    // 30 of 100 are taken, and so 15 of 50.
    let req = ask_for(10);
    let told = standing(&req);
    let answer = ask(&process.layer, charging(35), req).await.unwrap();
    assert_eq!(told(), (50, 35 - 10 - input));
    drop(answer);
    let refused = ask(&process.layer, charging(1), ask_for(10))
        .await
        .err()
        .unwrap();
    let wait = Rejection::find(&*refused).unwrap().wait().unwrap();
    // None is there, and half a token comes back each second.
    assert_eq!(wait, Duration::from_secs(2 * (10 + input)));
    pass(&server, &mut since, wait.as_secs()).await;
    ask(&process.layer, charging(1), ask_for(10)).await.unwrap();
}

/// R10: an end that could not be told, or of which nobody knows whether it was, is told again, and counts once.
#[tokio::test(start_paused = true)]
async fn an_end_that_could_not_be_told_is_told_later() {
    let Some((server, [process, _])) = two(money(100.0)) else {
        return;
    };
    let mut since = 0;
    for (mood, at_once) in [(Mood::Away, 0.0), (Mood::Mute, 7.0)] {
        let answer = ask(&process.layer, charging(7), chat()).await.unwrap();
        let before = spent(&server).0;
        process.wire.is(mood);
        answer.into_body().collect().await.unwrap();
        assert_eq!(spent(&server).0 - before, at_once, "{mood:?}");
        for _ in 0..3 {
            pass(&server, &mut since, 1).await;
            process.turn();
        }
        assert_eq!(process.shared.untold(), 1);
        process.wire.is(Mood::Up);
        for _ in 0..3 {
            pass(&server, &mut since, 1).await;
            process.turn();
        }
        assert_eq!(
            (spent(&server).0 - before, process.shared.untold()),
            (7.0, 0),
            "{mood:?}"
        );
    }
    assert_eq!(spent(&server), (14.0, 0.0));
    assert!(process.shared.happened().late >= 2);
}

/// What a process reserved holds as long as it is heard; what a dead one held is lost, and charged as it stood.
#[tokio::test(start_paused = true)]
async fn what_a_silent_process_held_is_charged_and_put_right_if_it_ends_after_all() {
    let Some((server, [silent, other])) = two(money(10.0)) else {
        return;
    };
    let mut since = 0;
    let held = ask(&silent.layer, charging(3), chat()).await.unwrap();
    let runs = ask(&other.layer, charging(2), chat()).await.unwrap();
    for _ in 0..6 {
        pass(&server, &mut since, 10).await;
        other.turn();
        other.turn();
    }
    assert_eq!(
        spent(&server),
        (1.0, 1.0),
        "one is lost, the other still runs"
    );
    assert_eq!(other.shared.happened().lost, 1);
    // It was only asleep.
    drop(held);
    assert_eq!(spent(&server), (3.0, 1.0));
    drop(runs);
    assert_eq!(spent(&server), (5.0, 0.0));
}

/// R08: a store that has forgotten everything is told, and nobody gets a budget twice.
#[tokio::test(start_paused = true)]
async fn a_store_that_has_forgotten_is_told() {
    let Some((server, both)) = two(money(10.0)) else {
        return;
    };
    served(&both[0], 4).await;
    let runs = ask(&both[1].layer, charging(2), chat()).await.unwrap();
    let mut since = 0;
    pass(&server, &mut since, 1).await;
    both.iter().for_each(Process::turn);
    both.iter().for_each(Process::turn);
    server.ask(&["FLUSHALL"]);
    pass(&server, &mut since, 1).await;
    served(&both[1], 1).await;
    assert_eq!(spent(&server), (5.0, 0.0));
    drop(runs);
    assert_eq!(spent(&server), (7.0, 0.0));
    served(&both[0], 3).await;
    assert_eq!(
        why(ask(&both[0].layer, charging(1), chat()).await),
        Reason::InsufficientQuota
    );
}

/// Where less is left than a request asks for, it is made to ask for that.
#[tokio::test(start_paused = true)]
async fn clamped_it_asks_for_what_the_store_has_left() {
    let Some(server) = Server::start() else {
        return;
    };
    let server = Arc::new(server);
    let clamps = Policy {
        on_short: OnShort::Clamp,
        ..policy(money(10.0))
    };
    let process = Process::new(Wire::to(&server), clamps);
    served(&process, 3).await;
    let limits = Arc::new(Mutex::new(Vec::new()));
    let heard = limits.clone();
    let inner = service_fn(move |req: Request<Held<Script>>| {
        let heard = heard.clone();
        async move {
            let limit = req.extensions().get::<OutputLimit>().map(|it| it.tokens);
            let body = req.into_body().collect().await.map_err(|_| "a body")?;
            let body = String::from_utf8(body.to_bytes().to_vec()).unwrap();
            heard.lock().unwrap().push((limit, body));
            Ok::<_, BoxError>(Response::new(Script::empty()))
        }
    });
    let body = r#"{"model":"m","max_tokens":20}"#;
    let answer = ask(&process.layer, inner, post("/v1/chat/completions", body))
        .await
        .unwrap();
    assert_eq!(spent(&server), (3.0, 7.0));
    let asked = limits.lock().unwrap().remove(0);
    let expected = r#"{"model":"m","max_tokens":7}"#;
    assert_eq!((asked.0, &*asked.1), (Some(7), expected));
    drop(answer);
    // Nobody metered it: all that was reserved is charged.
    assert_eq!(spent(&server), (10.0, 0.0));
}

/// What is written down of a request that is made to ask for less is what it is admitted with, and it says how its tokens stand then; one
/// that is refused all the same is not written down at all.
#[tokio::test(start_paused = true)]
async fn clamped_it_is_written_down_and_told_as_it_is_admitted() {
    let Some(server) = Server::start() else {
        return;
    };
    let server = Arc::new(server);
    let terms = Terms {
        tokens: Rate::new(100, Duration::from_secs(100)),
        ..money(1e6)
    };
    let clamps = Policy {
        on_short: OnShort::Clamp,
        ..policy(terms)
    };
    let process = Process::new(Wire::to(&server), clamps);
    let book = Book::default();
    let layer = process.layer.clone().journal(Arc::new(book.clone()));
    let lines = || {
        let lines = book.admitted.lock().unwrap();
        let lines = lines.iter();
        lines
            .map(|(line, _)| (line.tokens, line.cost))
            .collect::<Vec<_>>()
    };
    served(&process, 30).await;
    let body = r#"{"model":"m","max_tokens":90}"#;
    let req = post("/v1/chat/completions", body);
    let record = req.extensions().get::<Record>().unwrap().clone();
    let mut asking = Box::pin(ask(&layer, charging(30), req));
    assert!(
        futures_poll(&mut asking).await,
        "its line is not written yet"
    );
    let known = known(&server, Some("a"), &terms);
    assert_eq!(lines(), [(70, known.reserved)]);
    let left = record.with_standings(|all| {
        let all = all.iter().map(|it| (&*it.limit, it.left));
        all.map(|(limit, left)| (limit.to_owned(), left))
            .collect::<Vec<_>>()
    });
    assert_eq!(left, [("tokens".to_owned(), 0)]);
    book.admitted.lock().unwrap()[0].1.sign();
    let answer = asking.await.unwrap();
    let refused = ask(&layer, charging(1), post("/v1/chat/completions", body)).await;
    assert_eq!(why(refused), Reason::RateLimit);
    answer.into_body().collect().await.unwrap();
    assert_eq!(lines().len(), 1, "nobody was admitted meanwhile");
    let ended = book.ended.lock().unwrap();
    assert_eq!((ended.len(), ended[0].tokens), (1, 30));
}

/// Without limits the store is left alone: nobody looks at an account in which nothing can be lost.
#[test]
fn without_limits_the_store_is_not_asked() {
    let fake = Fake::new(|_| Err(Away::Refused));
    let shared = Shared::new(Arc::new(fake.clone()), 16);
    let off = BudgetLayer::new(policy(Terms::default()), Ledger::new(0)).shared(shared.clone());
    let turn = || shared.turn(SystemClock.now(), SystemClock.wall());
    turn();
    assert_eq!(fake.calls().len(), 0);
    let with = |usd: Option<f64>| {
        let global = usd.map(|usd| Budget {
            amount: Usd::new(usd),
            per: Period::Day,
        });
        let policy = Policy {
            global,
            ..Policy::off()
        };
        shared.all.scanned.store(u64::MAX, Ordering::Relaxed);
        drop(BudgetLayer::new(policy, Ledger::new(0)).shared(shared.clone()));
        turn();
        fake.calls().len()
    };
    // There is one, and a reload takes it away.
    assert_eq!((with(Some(1.0)), with(None)), (1, 1));
    drop(off);
}

/// Ends are kept within bounds; what was reserved for the one that is dropped is left to be lost, under a name that nobody renews.
#[test]
fn ends_that_are_too_many_are_dropped_and_counted() {
    let shared = Shared::new(Arc::new(Fake::new(|_| Err(Away::Refused))), 0);
    let before = shared.process();
    let mut failed = Vec::new();
    failed.resize_with(KEPT + 1, || Settle {
        place: shared.all.global.clone(),
        id: "p.1".into(),
        terms: Terms::default(),
        used: Amount::default(),
        at: None,
    });
    let (any, dropped) = shared.errands().keep(&mut failed);
    assert!(any);
    shared.dropped(dropped);
    assert_eq!((shared.untold(), shared.happened().dropped), (KEPT, 1));
    assert_ne!(shared.process(), before);
}

/// A client that leaves while the store is asked leaves nothing behind.
#[tokio::test(start_paused = true)]
async fn who_leaves_while_the_store_is_asked_takes_nothing() {
    let fake = Fake::new(|_| Err(Away::Refused));
    let shared = Shared::new(Arc::new(fake.clone()), 16);
    let layer = BudgetLayer::new(policy(money(10.0)), Ledger::new(0)).shared(shared);
    fake.hold();
    let mut asking = Box::pin(ask(&layer, charging(1), chat()));
    assert!(futures_poll(&mut asking).await);
    drop(asking);
    let calls = fake.calls();
    let said: Vec<_> = calls.iter().map(|call| words(call)[..2].to_vec()).collect();
    assert_eq!(
        (said[0][0].as_str(), said[1][0].as_str()),
        ("reserve", "settle")
    );
    assert_eq!(said[0][1], said[1][1]);
    assert_eq!(fake.contact(), Contact::Up);
}

/// Polls once; true if it waits.
async fn futures_poll(future: &mut (impl Future + Unpin)) -> bool {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_pending())
    })
    .await
}

/// Shares of a budget are told once, whichever process comes to them.
#[tokio::test(start_paused = true)]
async fn a_threshold_is_told_by_the_one_that_crosses_it() {
    let Some(server) = Server::start() else {
        return;
    };
    let server = Arc::new(server);
    let told = Arc::new(Mutex::new(Vec::new()));
    let process = || {
        let wire: Arc<dyn Store> = Arc::new(Wire::to(&server));
        let told = told.clone();
        let shared = Shared::new(wire, 16).telling(move |it| {
            told.lock()
                .unwrap()
                .push((it.percent, it.spent, it.account.clone()));
        });
        let layer = BudgetLayer::new(policy(money(10.0)), Ledger::new(0)).shared(shared.clone());
        (shared, layer)
    };
    let both = [process(), process()];
    for turn in 0..10 {
        let (shared, layer) = &both[turn % 2];
        let answer = ask(layer, charging(1), chat()).await.unwrap();
        answer.into_body().collect().await.unwrap();
        shared.turn(SystemClock.now(), SystemClock.wall());
    }
    let told = told.lock().unwrap();
    let expected = [(50, 5.0), (80, 8.0), (100, 10.0)]
        .map(|(percent, usd)| (percent, Usd::new(usd), Some("a".into())));
    assert_eq!(*told, expected);
}

/// B03, B04, R08: requests that end in all ways, at a store that is there, mute or away: in the end it has the sum of the charges, and nothing
/// is reserved.
#[tokio::test(start_paused = true)]
async fn random_endings_and_faults_leave_the_sum_of_their_charges() {
    let Some((server, both)) = two(money(1e6)) else {
        return;
    };
    let count = if tollgate_testing::long() {
        20_000
    } else {
        1_000
    };
    let seed = 8;
    let mut random = Random::new(seed);
    let (mut charged, mut since) = (0, 0);
    let mut running = Vec::new();
    for _ in 0..count {
        let process = &both[random.below(2)];
        match random.below(20) {
            0..3 => {
                let mood = [Mood::Up, Mood::Mute, Mood::Away][random.below(3)];
                process.wire.is(mood);
            }
            3 => {
                pass(&server, &mut since, 1).await;
                both.iter().for_each(Process::turn);
            }
            _ => {
                let tokens = random.below(4) as u64;
                let answer = ask(&process.layer, charging(tokens), chat()).await;
                running.push(answer.unwrap_or_else(|error| panic!("seed {seed}: {error}")));
                charged += tokens;
            }
        }
        if running.len() > 20 {
            let answer = running.swap_remove(random.below(20));
            if random.below(2) == 0 {
                answer.into_body().collect().await.unwrap();
            }
        }
    }
    running.clear();
    both.iter().for_each(|it| it.wire.is(Mood::Up));
    for _ in 0..6 {
        pass(&server, &mut since, 1).await;
        both.iter().for_each(Process::turn);
    }
    println!(
        "seed {seed}: {count} steps, {charged} charged, {:?} and {:?}",
        both[0].shared.happened(),
        both[1].shared.happened()
    );
    assert_eq!(spent(&server), (charged as f64, 0.0), "seed {seed}");
    assert_eq!(
        both[0].shared.untold() + both[1].shared.untold(),
        0,
        "seed {seed}"
    );
}
