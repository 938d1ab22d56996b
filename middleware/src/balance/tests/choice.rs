//! What is left out of a choice, what is never chosen otherwise, and what follows a failure.

use tollgate_testing::{body::collect, splits::Split};

use super::{
    super::{Candidate, Choose},
    *,
};
use crate::{
    attempt::{Attempt, Failure, Next},
    facts::{Caller, Route, Terms},
    health::{Keys, Ratio, Refused, Wallet, Want},
};

fn refused(
    answer: Result<Response<ResponseBody<Empty<Bytes>, SystemClock>>, BoxError>,
) -> (Reason, Option<Duration>) {
    let error = answer.map(|_| ()).expect_err("a refusal");
    let why = Rejection::find(&*error).expect("a rejection");
    assert_eq!(why.layer(), "balance");
    (why.reason(), why.wait())
}

/// An attempt that begins now is refused now.
fn refuse(keys: &Keys, at: usize, why: Refused<'_>) {
    keys.refused(at, Some("m"), why, keys.begin(at), SystemClock.now());
}

#[tokio::test(start_paused = true)]
async fn targets_of_which_nothing_can_be_made_are_refused() {
    let rig = Rig::new();
    let of = |targets: Vec<Target<Stub>>| Balance::new(targets, Strategy::Weighted).err();
    assert_eq!(of(vec![]), Some(Unusable::None));
    assert_eq!(
        of((0..65).map(|_| rig.target("one", 200)).collect()),
        Some(Unusable::TooMany)
    );
    let drained = || rig.target("one", 200).weight(0);
    assert_eq!(of(vec![drained(), drained()]), Some(Unusable::Drained));
    assert_eq!(of(vec![drained(), rig.target("two", 200)]), None);
}

/// U15: if every circuit is open, the answer is there at once, with the time of the next probe.
#[tokio::test(start_paused = true)]
async fn u15_every_circuit_open_is_answered_at_once_with_the_next_probe() {
    let rig = Rig::new();
    let balance = in_order([rig.target("one", 200), rig.target("two", 200)]);
    rig.open("one", seconds(30));
    assert!(ask(&balance, chat()).await.is_ok());
    assert_eq!(rig.asked(), ["two"], "an open circuit is skipped");
    tokio::time::advance(seconds(5)).await;
    rig.open("two", seconds(30));
    let before = tokio::time::Instant::now();
    let (reason, wait) = refused(ask(&balance, chat()).await);
    assert_eq!((reason, wait), (Reason::NoTarget, Some(seconds(25))));
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert!(rig.asked().is_empty());
    tokio::time::advance(seconds(25)).await;
    assert!(ask(&balance, chat()).await.is_ok(), "the probe may go");
    let rig = Rig::new();
    rig.open("two", seconds(30));
    let sole = in_order([rig.target("two", 200)]);
    assert!(
        ask(&sole, chat()).await.is_ok(),
        "a sole target's own breaker has the last word"
    );
}

/// U16: a weight of 0 drains a target under every strategy.
#[tokio::test(start_paused = true)]
async fn u16_a_weight_of_zero_gets_nothing() {
    let all = [
        Strategy::Fallback,
        Strategy::Weighted,
        Strategy::RoundRobin,
        Strategy::LeastInflight,
        Strategy::P2c,
        Strategy::LeastLatency,
        Strategy::Cheapest,
        Strategy::Sticky,
    ];
    for strategy in all {
        let rig = Rig::new();
        let targets = [
            rig.target("none", 200).weight(0),
            rig.target("one", 200),
            rig.target("two", 200),
        ];
        let balance = Balance::new(targets, strategy.clone()).unwrap();
        for _ in 0..50 {
            ask(&balance, chat()).await.unwrap();
        }
        assert!(!rig.asked().contains(&"none"), "{strategy:?}");
    }
}

/// The last of those that may be asked, and once a place that is not there.
struct Last(std::sync::atomic::AtomicUsize);

impl Choose for Last {
    fn choose(&self, ask: &crate::attempt::Ask, candidates: &[Candidate<'_>]) -> usize {
        assert_eq!(ask.tokens, (0, 4096), "what a request costs is told");
        let seen: Vec<_> = candidates.iter().map(Candidate::index).collect();
        assert!(seen.is_sorted() && candidates.len() > 1, "{seen:?}");
        match self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => usize::MAX,
            _ => candidates.len() - 1,
        }
    }
}

/// One's own strategy is asked where there is a choice, about those that may be asked, and for what follows a failure.
#[tokio::test(start_paused = true)]
async fn ones_own_strategy_is_asked_about_those_that_may_be_asked() {
    let rig = Rig::new();
    let targets = ["one", "two", "three"].map(|name| rig.target(name, 500));
    let own = Strategy::Own(Arc::new(Last(0.into())));
    let balance = Balance::new(targets, own).unwrap();
    ask(&balance, chat()).await.unwrap();
    rig.open("three", seconds(30));
    let trial = Trial::start(&balance).await;
    assert_eq!(rig.asked(), ["three", "two"]);
    assert_eq!(
        trial.next(Failure::Retryable),
        other_at(0),
        "the only one left"
    );
}

#[tokio::test(start_paused = true)]
async fn a_target_that_said_when_is_left_alone_until_then() {
    let rig = Rig::new();
    let busy = service_fn(|_: Request<()>| {
        let response = Response::builder().status(503).header("retry-after", "7");
        std::future::ready(Ok(response.body(Empty::new()).unwrap()))
    });
    let balance = in_order([
        rig.with("busy", BoxCloneSyncService::new(busy)),
        rig.target("two", 200),
    ]);
    assert_eq!(ask(&balance, chat()).await.unwrap().status(), 503);
    for _ in 0..3 {
        assert_eq!(ask(&balance, chat()).await.unwrap().status(), 200);
    }
    rig.open("two", seconds(60));
    let parked = ask(&balance, chat()).await.unwrap();
    assert_eq!(
        parked.status(),
        503,
        "the one that returns first is asked, rather than nobody"
    );
    tokio::time::advance(seconds(7)).await;
    assert_eq!(ask(&balance, chat()).await.unwrap().status(), 503);
}

/// A sole credential is never parked: a 429 parks the target in its stead.
#[tokio::test(start_paused = true)]
async fn a_429_parks_the_target_of_a_sole_credential_and_no_other() {
    let rig = Rig::new();
    let wallet = Wallet::new();
    let keys = |count| Keys::new((0..count).map(|id| (None, wallet.key("p", id))));
    let sole = rig.target("sole", 429).keys(keys(1), None);
    let balance = in_order([sole, rig.target("two", 200)]);
    assert_eq!(ask(&balance, chat()).await.unwrap().status(), 429);
    assert_eq!(ask(&balance, chat()).await.unwrap().status(), 200);
    let park = rig
        .health("sole")
        .pulse()
        .parked(SystemClock.now())
        .unwrap();
    assert_eq!(park.until - SystemClock.now(), seconds(5));
    let several = rig.target("several", 429).keys(keys(2), None);
    let balance = in_order([several, rig.target("two", 200)]);
    for _ in 0..2 {
        assert_eq!(ask(&balance, chat()).await.unwrap().status(), 429);
    }
    assert_eq!(
        rig.health("several").pulse().parked(SystemClock.now()),
        None
    );
}

/// What a target without other credentials says of an account that is spent is heard while its answer passes, whether it is tried
/// again or not; and who asks to be left alone for a year is not.
#[tokio::test(start_paused = true)]
async fn a_spent_account_parks_its_target_for_longer_and_nobody_is_parked_for_a_year() {
    let rig = Rig::new();
    let of = |name: &'static str, text: &'static str, wait: Option<&'static str>| {
        let service = service_fn(move |_: Request<()>| {
            let mut response = Response::builder().status(429);
            if let Some(wait) = wait {
                response = response.header("retry-after", wait);
            }
            let body = Script::data(text.as_bytes(), &Split::Bytes(1));
            std::future::ready(Ok::<_, BoxError>(response.body(body).unwrap()))
        });
        let endpoint = Endpoint::new(name, name, None);
        let source = Source::fixed(&rig.board, name, "m");
        Balance::new([Target::new(endpoint, source, service)], Strategy::Fallback).unwrap()
    };
    let parked = |name: &str| {
        let parked = rig.health(name).pulse().parked(SystemClock.now());
        parked.map(|park| park.until - SystemClock.now())
    };
    let spent = r#"{"error":{"code":"insufficient_quota","message":"spent"}}"#;
    let balance = of("spent", spent, Some("1"));
    for wait in [10, 20, 40] {
        let answer = balance.clone().oneshot(chat()).await.unwrap();
        collect(answer.into_body()).await;
        assert_eq!(parked("spent"), Some(seconds(wait)));
        tokio::time::advance(seconds(wait)).await;
    }
    for (name, text) in [
        ("limited", r#"{"error":{"code":"rate_limit_exceeded"}}"#),
        ("cut", &spent[..spent.len() - 1]),
    ] {
        let answer = of(name, text, None).oneshot(chat()).await.unwrap();
        collect(answer.into_body()).await;
        assert_eq!(parked(name), Some(seconds(5)), "{name}");
    }
    let answer = of("far", "{}", Some("31536000")).oneshot(chat()).await;
    assert_eq!(answer.unwrap().headers()["retry-after"], "31536000");
    assert_eq!(parked("far"), Some(seconds(3600)));
}

/// A caller's own credential is never parked: its 429 is no other caller's, and this request's own wait.
#[tokio::test(start_paused = true)]
async fn a_429_to_a_caller_s_own_credential_binds_that_request_alone() {
    let rig = Rig::new();
    let busy = service_fn(|_: Request<()>| {
        let response = Response::builder().status(429).header("retry-after", "7");
        std::future::ready(Ok(response.body(Empty::new()).unwrap()))
    });
    let busy = rig.with("busy", BoxCloneSyncService::new(busy));
    let other = || rig.target("two", 500);
    let balance = in_order([busy.callers_own(true), other().attempts(1)]);
    let trial = Trial::start(&balance).await;
    assert_eq!(rig.health("busy").pulse().parked(SystemClock.now()), None);
    assert_eq!(trial.next(Failure::Retryable), other_at(1));
    trial.attempt.begin();
    trial.send(&balance).await;
    let again = trial.next(Failure::Retryable).unwrap();
    let until = again.not_before.map(|until| until - SystemClock.now());
    assert_eq!((again.index, until), (0, Some(seconds(7))));
    // Another request begins there.
    assert_eq!(ask(&balance, chat()).await.unwrap().status(), 429);
}

#[tokio::test(start_paused = true)]
async fn a_target_whose_credentials_are_all_parked_is_skipped() {
    let rig = Rig::new();
    let wallet = Wallet::new();
    let keys = Keys::new((0..2).map(|id| (None, wallet.key("p", id))));
    let balance = in_order([
        rig.target("one", 200).keys(keys.clone(), None),
        rig.target("two", 200),
    ]);
    refuse(&keys, 0, Refused::Rejected);
    ask(&balance, chat()).await.unwrap();
    refuse(&keys, 1, Refused::Limited(Some(seconds(4))));
    ask(&balance, chat()).await.unwrap();
    tokio::time::advance(seconds(4)).await;
    ask(&balance, chat()).await.unwrap();
    assert_eq!(rig.asked(), ["one", "two", "one"]);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_does_not_serve_the_model_is_left_out_and_a_named_provider_is_the_only_one() {
    let rig = Rig::new();
    let balance = in_order([
        rig.target("one", 200).serves(|model| model == "a"),
        rig.target("two", 200),
        rig.target("three", 200),
    ]);
    let routed = |model: &str, pin: Option<&str>| {
        let mut req = chat();
        req.extensions_mut().insert(Route {
            name: None,
            model: Some(model.into()),
            pin: pin.map(Into::into),
        });
        req
    };
    for (model, pin) in [("a", None), ("b", None), ("b", Some("three"))] {
        ask(&balance, routed(model, pin)).await.unwrap();
    }
    assert_eq!(rig.asked(), ["one", "two", "three"]);
    let (reason, _) = refused(ask(&balance, routed("b", Some("one"))).await);
    assert_eq!(reason, Reason::NoTarget);
}

/// Files, batches and stored responses go where they are kept, whatever the strategy, and nowhere else.
#[tokio::test(start_paused = true)]
async fn what_a_provider_keeps_is_never_balanced() {
    let rig = Rig::new();
    let targets = [
        rig.target("one", 200),
        rig.target("two", 200),
        rig.target("three", 200),
    ];
    let balance = Balance::new(targets, Strategy::RoundRobin)
        .unwrap()
        .state_target(1);
    for path in [
        "/v1/files",
        "/v1/batches/b",
        "/v1/responses/r",
        "/v1/files/f/content",
    ] {
        let req = Request::get(path).body(()).unwrap();
        ask(&balance, req).await.unwrap();
    }
    assert_eq!(rig.asked(), ["two"; 4]);
    rig.open("two", seconds(9));
    let req = Request::get("/v1/files").body(()).unwrap();
    ask(&balance, req).await.unwrap();
    assert_eq!(
        rig.asked(),
        ["two"],
        "its breaker refuses, and nobody else is asked"
    );
}

#[tokio::test(start_paused = true)]
async fn the_same_key_sticks_to_its_target_and_replicas_agree() {
    let of = |rig: &Rig| {
        let targets = ["one", "two", "three", "four"].map(|name| rig.target(name, 200));
        Balance::new(targets, Strategy::Sticky).unwrap()
    };
    let (rigs, mut seen) = ([Rig::new(), Rig::new()], std::collections::HashSet::new());
    let replicas = [of(&rigs[0]), of(&rigs[1])];
    for session in 0..40 {
        for balance in &replicas {
            for _ in 0..3 {
                let mut req = chat();
                let value = format!("session-{session}").parse().unwrap();
                req.headers_mut().insert("x-session-id", value);
                ask(balance, req).await.unwrap();
            }
        }
        let (one, other) = (rigs[0].asked(), rigs[1].asked());
        assert!(
            one == other && one.iter().all(|name| *name == one[0]),
            "{one:?}, {other:?}"
        );
        seen.insert(one[0]);
    }
    assert_eq!(seen.len(), 4, "keys are spread");
}

/// A key whose target goes away moves; no other does.
#[tokio::test(start_paused = true)]
async fn only_the_keys_of_a_target_that_is_left_out_move() {
    let rig = Rig::new();
    let targets = ["one", "two", "three"].map(|name| rig.target(name, 200));
    let balance = Balance::new(targets, Strategy::Sticky).unwrap();
    let all = || async {
        for caller in 0..60 {
            let mut req = chat();
            req.extensions_mut()
                .insert(Caller::new(format!("caller-{caller}"), Terms::default()));
            ask(&balance, req).await.unwrap();
        }
        rig.asked()
    };
    let before = all().await;
    rig.open("two", seconds(60));
    let after = all().await;
    for (before, after) in before.iter().zip(&after) {
        assert!(after != &"two" && (before == &"two" || before == after));
    }
}

#[tokio::test(start_paused = true)]
async fn sticky_on_says_what_a_weighted_choice_sticks_to() {
    let rig = Rig::new();
    let targets = || ["one", "two", "three", "four"].map(|name| rig.target(name, 200));
    let of = |on| {
        Balance::new(targets(), Strategy::Weighted)
            .unwrap()
            .sticky(on)
    };
    let spread = |balance: Balance<Stub>, named: bool| {
        let rig = &rig;
        async move {
            for n in 0..60 {
                let mut req = chat();
                req.extensions_mut()
                    .insert(Caller::new("the caller", Terms::default()));
                if named {
                    req.headers_mut().insert("session-id", n.into());
                }
                ask(&balance, req).await.unwrap();
            }
            rig.asked()
                .into_iter()
                .collect::<std::collections::HashSet<_>>()
                .len()
        }
    };
    assert_eq!(spread(of(StickyOn::Caller), true).await, 1);
    assert_eq!(spread(of(StickyOn::Session), true).await, 4);
    assert_eq!(
        spread(of(StickyOn::User), true).await,
        4,
        "no user: by chance"
    );
    let first = Balance::new(targets(), Strategy::Sticky).unwrap();
    assert_eq!(
        spread(first, false).await,
        1,
        "the caller, where no session is named"
    );
}

/// Clients that name their session, as they are known to.
#[tokio::test(start_paused = true)]
async fn session_headers_of_known_clients_stick() {
    let rig = Rig::new();
    let targets = ["one", "two", "three", "four"].map(|name| rig.target(name, 200));
    let balance = Balance::new(targets, Strategy::Sticky).unwrap();
    for header in [
        "x-claude-code-session-id",
        "session-id",
        "x-session-id",
        "x-session-affinity",
    ] {
        let mut seen = std::collections::HashSet::new();
        for caller in 0..20 {
            let mut req = chat();
            req.extensions_mut()
                .insert(Caller::new(format!("caller-{caller}"), Terms::default()));
            req.headers_mut()
                .insert(header, "the same".parse().unwrap());
            ask(&balance, req).await.unwrap();
            seen.extend(rig.asked());
        }
        assert_eq!(seen.len(), 1, "{header}");
    }
}

// ===== what follows a failure =====

/// A request with an attempt, sent once; what it would do next.
struct Trial {
    attempt: Attempt,
}

impl Trial {
    async fn start(balance: &Balance<Stub>) -> Self {
        let attempt = Attempt::new();
        attempt.begin();
        let trial = Self { attempt };
        trial.send(balance).await;
        trial
    }

    async fn send(&self, balance: &Balance<Stub>) {
        let mut req = chat();
        req.extensions_mut().insert(self.attempt.clone());
        ask(balance, req).await.unwrap();
    }

    fn next(&self, failure: Failure) -> Option<Next> {
        self.attempt
            .plan(failure, Ratio::default(), SystemClock.now())
    }
}

fn other_at(index: usize) -> Option<Next> {
    Some(Next {
        index,
        again: false,
        not_before: None,
    })
}

#[tokio::test(start_paused = true)]
async fn a_target_is_asked_again_only_when_no_untried_one_is_left() {
    let rig = Rig::new();
    let balance = in_order(["one", "two", "three"].map(|name| rig.target(name, 500)));
    let trial = Trial::start(&balance).await;
    for index in [1, 2] {
        assert_eq!(trial.next(Failure::Retryable), other_at(index));
        trial.attempt.begin();
        trial.send(&balance).await;
    }
    assert_eq!(rig.asked(), ["one", "two", "three"]);
    assert_eq!(
        trial.next(Failure::Elsewhere),
        None,
        "never the same for what will not change"
    );
    let again = trial.next(Failure::Retryable).unwrap();
    assert!(again.again && again.index == 0);
}

#[tokio::test(start_paused = true)]
async fn every_strategy_goes_on_to_its_next_choice() {
    let all = [
        Strategy::Weighted,
        Strategy::RoundRobin,
        Strategy::LeastInflight,
        Strategy::P2c,
        Strategy::LeastLatency,
        Strategy::Cheapest,
        Strategy::Sticky,
    ];
    for strategy in all {
        let rig = Rig::new();
        let balance = Balance::new(
            ["one", "two", "three"].map(|name| rig.target(name, 500)),
            strategy.clone(),
        )
        .unwrap();
        let trial = Trial::start(&balance).await;
        for _ in 0..2 {
            assert!(
                !trial.next(Failure::Retryable).unwrap().again,
                "{strategy:?}"
            );
            trial.attempt.begin();
            trial.send(&balance).await;
        }
        let mut asked = rig.asked();
        asked.sort_unstable();
        assert_eq!(asked, ["one", "three", "two"], "{strategy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_barred_target_is_never_asked_again() {
    let rig = Rig::new();
    let balance = in_order(["one", "two"].map(|name| rig.target(name, 500)));
    let trial = Trial::start(&balance).await;
    assert_eq!(trial.next(Failure::Elsewhere), other_at(1));
    trial.attempt.begin();
    trial.send(&balance).await;
    let again = trial.next(Failure::Retryable).unwrap();
    assert_eq!(
        (again.index, again.again),
        (1, true),
        "the other one, and not the barred one"
    );
}

#[tokio::test(start_paused = true)]
async fn a_target_with_a_number_of_its_own_is_asked_no_more_often() {
    let rig = Rig::new();
    let balance = in_order([
        rig.target("one", 500).attempts(1),
        rig.target("two", 500).attempts(2),
    ]);
    let trial = Trial::start(&balance).await;
    assert_eq!(trial.next(Failure::Retryable), other_at(1));
    for _ in 0..2 {
        trial.attempt.begin();
        trial.send(&balance).await;
        trial.next(Failure::Retryable);
    }
    assert_eq!(rig.asked(), ["one", "two", "two"]);
    assert_eq!(trial.next(Failure::Retryable), None);
}

/// Going on costs nothing while the other one is healthy, and takes from its budget while it fails.
#[tokio::test(start_paused = true)]
async fn a_healthy_second_provider_takes_all_and_a_failing_one_only_its_budget() {
    for (status, expected) in [(200, 1000), (500, 10 + 5)] {
        let rig = Rig::new();
        let balance = in_order([rig.target("one", 500), rig.target("two", status)]);
        let mut gone_on = 0;
        for _ in 0..1000 {
            let trial = Trial::start(&balance).await;
            if trial
                .next(Failure::Retryable)
                .is_some_and(|next| !next.again)
            {
                gone_on += 1;
                trial.attempt.begin();
                trial.send(&balance).await;
            }
        }
        // Five answers have to come before anything is known of it.
        assert_eq!(gone_on, expected, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_credential_is_followed_by_another_and_then_by_another_target() {
    let rig = Rig::new();
    let wallet = Wallet::new();
    let keys = Keys::new((0..3).map(|id| (None, wallet.key("p", id))));
    let balance = in_order([
        rig.target("one", 401).keys(keys.clone(), None),
        rig.target("two", 200),
    ]);
    let trial = Trial::start(&balance).await;
    let limited = Failure::Credential { limited: false };
    for at in 0..2 {
        trial.attempt.use_key(at);
        refuse(&keys, at, Refused::Rejected);
        assert_eq!(
            trial.next(limited),
            other_at(0),
            "the same target, another credential"
        );
        trial.attempt.begin();
        trial.send(&balance).await;
        let want = Want {
            tried: trial.attempt.read(|course| course.keys),
            ..Want::default()
        };
        assert_ne!(keys.pick(&want, || SystemClock.now()), Some(at));
    }
    trial.attempt.use_key(2);
    refuse(&keys, 2, Refused::Rejected);
    assert_eq!(trial.next(limited), other_at(1));
}
