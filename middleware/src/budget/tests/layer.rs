//! What the layer decides, and when it asks.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use http::{Request, Response};
use http_body_util::BodyExt;
use tollgate_testing::{
    body::Script,
    laws::{self, Inner, Outcome},
};
use tower::{Layer, Service, service_fn};

use super::{Book, ask, chat, held, money, policy, post, reserved, spent, why};
use crate::{
    body::Held,
    budget::{
        Account, Budget, BudgetLayer, Dates, Ledger, Offer, Period, Policy, Rate, Reserve, Terms,
        Unpriced, Usd, Waste,
    },
    clock::{Clock, SystemClock},
    error::{BoxError, Reason, Rejection},
    facts::{self, Caller, OutputLimit},
    prices::Price,
    record::{Charge, Record, Source, Unit},
};

#[tokio::test(start_paused = true)]
async fn keeps_the_laws() {
    let off = BudgetLayer::new(Policy::off(), Ledger::new(0));
    let limited = BudgetLayer::new(policy(money(1.0)), Ledger::new(0));
    for layer in [&off, &limited] {
        laws::transparent_over(|inner: Inner| held(layer, inner), laws::cases()).await;
        let request = || Request::new(Script::empty());
        laws::ready_over(|inner: Inner| held(layer, inner), request).await;
        // Nobody is known, and so nobody's account is asked.
        let passes = |outcome: &Outcome| matches!(outcome, Outcome::Answered(..));
        laws::absent_facts_over(|inner: Inner| held(layer, inner), passes).await;
    }
    fn types<S: Service<Request<Held<Script>>> + Clone + Send + Sync + 'static>(_: S)
    where
        S::Future: Send,
    {
    }
    types(off.layer(Inner::<BoxError>::answering(Response::new(Script::empty()))));
}

/// An answer that the meter charges with so many tokens.
fn charging(
    prompt: u64,
    completion: u64,
) -> impl Service<Request<Held<Script>>, Response = Response<Script>, Error = BoxError, Future: Send>
+ Clone {
    service_fn(move |req: Request<Held<Script>>| {
        let record: &Record = req.extensions().get().unwrap();
        record.begin_attempt(crate::record::Attempt::default());
        record.begin_metering();
        record.update_metered(|metered| {
            metered.charge = Charge {
                prompt,
                completion,
                source: Source::Provider,
            };
        });
        std::future::ready(Ok(Response::new(Script::empty())))
    })
}

async fn served(layer: &BudgetLayer<impl Clock>, used: u64) {
    let answer = ask(layer, charging(0, used), chat()).await.unwrap();
    answer.into_body().collect().await.unwrap();
}

/// B04: what a request is charged beyond what was reserved is owed, and is all that a budget is over.
#[tokio::test]
async fn what_is_used_is_settled_and_no_request_is_stopped_for_it() {
    let ledger = Ledger::new(0);
    let layer = BudgetLayer::new(policy(money(10.0)), ledger.clone());
    served(&layer, 12).await;
    assert_eq!(
        (spent(&ledger), reserved(&ledger)),
        (Usd::new(12.0), Usd::ZERO)
    );
    assert_eq!(
        why(ask(&layer, charging(0, 1), chat()).await),
        Reason::InsufficientQuota
    );
    assert_eq!(spent(&ledger), Usd::new(12.0));
}

#[tokio::test]
async fn the_dearest_target_is_reserved() {
    let dear = Price {
        output: 4e6,
        ..Price::default()
    };
    for (offers, status) in [
        (
            vec![Some(dear), Some(Price::default())],
            Some(Reason::InsufficientQuota),
        ),
        (vec![Some(Price::default())], None),
        // What has no price is left out, and refused only where nothing else is there.
        (vec![Some(dear), None], Some(Reason::InsufficientQuota)),
        (vec![None, Some(Price::default())], None),
        (vec![None, None], Some(Reason::ModelUnpriced)),
        (vec![], Some(Reason::ModelUnpriced)),
    ] {
        let offers: Vec<_> = offers
            .into_iter()
            .map(|price| Offer { model: None, price })
            .collect();
        let policy = Policy {
            offers: Some(Arc::new(move |_| offers.clone())),
            ..policy(money(3.0))
        };
        let layer = BudgetLayer::new(policy, Ledger::new(0));
        let answer = ask(&layer, charging(0, 1), chat()).await;
        assert_eq!(answer.err().map(|error| why::<()>(Err(error))), status);
    }
}

#[tokio::test]
async fn the_limit_of_the_request_is_reserved_for_each_alternative() {
    let rows = [
        (r#"{"model":"m","max_tokens":3}"#, None, 3),
        (r#"{"model":"m","max_tokens":3,"n":4}"#, None, 12),
        (r#"{"model":"m"}"#, None, 4096),
        (r#"{"model":"m","max_tokens":9000}"#, Some(20), 20),
    ];
    for (body, limit, usd) in rows {
        let ledger = Ledger::new(0);
        let layer = BudgetLayer::new(policy(money(1e6)), ledger.clone());
        let mut req = post("/v1/chat/completions", body);
        if let Some(tokens) = limit {
            let limit = OutputLimit {
                tokens,
                inserted: None,
            };
            req.extensions_mut().insert(limit);
        }
        let answer = ask(&layer, charging(0, 1), req).await.unwrap();
        assert_eq!(reserved(&ledger), Usd::new(f64::from(usd)), "{body}");
        drop(answer);
        assert_eq!(reserved(&ledger), Usd::ZERO);
    }
}

#[tokio::test]
async fn what_is_billed_out_of_sight_is_refused_and_what_is_free_passes() {
    let background = r#"{"model":"m","background":true,"max_output_tokens":1}"#;
    let rows = [
        ("/v1/batches", "{}", Some(Reason::ModelUnpriced)),
        (
            "/v1/fine_tuning/jobs",
            r#"{"model":"m"}"#,
            Some(Reason::ModelUnpriced),
        ),
        ("/v1/responses", background, Some(Reason::ModelUnpriced)),
        (
            "/v1/responses",
            r#"{"model":"m","max_output_tokens":1,"input":"background"}"#,
            None,
        ),
        ("/v1/messages/count_tokens", r#"{"model":"odd"}"#, None),
    ];
    for (path, body, refused) in rows {
        let layer = BudgetLayer::new(policy(money(10.0)), Ledger::new(0));
        let answer = ask(&layer, charging(0, 1), post(path, body)).await;
        assert_eq!(
            answer.err().map(|error| why::<()>(Err(error))),
            refused,
            "{path} {body}"
        );
        let free = Policy {
            unpriced: Unpriced::Free,
            ..policy(money(10.0))
        };
        let layer = BudgetLayer::new(free, Ledger::new(0));
        ask(&layer, charging(0, 1), post(path, body)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_wait_as_long_as_is_told() {
    let terms = Terms {
        tokens: Rate::new(100, Duration::from_secs(100)),
        ..Terms::default()
    };
    let layer = BudgetLayer::new(policy(terms), Ledger::new(0));
    served(&layer, 90).await;
    let refused = ask(
        &layer,
        charging(0, 1),
        post("/v1/chat/completions", r#"{"model":"m","max_tokens":20}"#),
    )
    .await;
    let error = refused.err().unwrap();
    let rejection = Rejection::find(&*error).unwrap();
    assert_eq!(rejection.reason(), Reason::RateLimit);
    // 29 bytes are 7 tokens and a quarter more; 29 are asked for, and 10 are there.
    let wait = rejection.wait().unwrap();
    assert_eq!(wait, Duration::from_secs(19));
    tokio::time::advance(wait).await;
    let req = post("/v1/chat/completions", r#"{"model":"m","max_tokens":20}"#);
    let record = req.extensions().get::<Record>().unwrap().clone();
    ask(&layer, charging(0, 1), req).await.unwrap();
    record.with_standings(|all| {
        let told: Vec<_> = all
            .iter()
            .map(|it| (&*it.limit, it.left, it.unit))
            .collect();
        assert_eq!(told, [("tokens", 0, Unit::Tokens)]);
    });
}

#[tokio::test(start_paused = true)]
async fn more_than_the_limit_is_the_whole_limit() {
    let terms = Terms {
        tokens: Rate::new(100, Duration::from_secs(100)),
        ..Terms::default()
    };
    let layer = BudgetLayer::new(policy(terms), Ledger::new(0));
    let large = || {
        post(
            "/v1/chat/completions",
            r#"{"model":"m","max_tokens":100000}"#,
        )
    };
    let first = ask(&layer, charging(0, 150), large()).await.unwrap();
    assert_eq!(
        why(ask(&layer, charging(0, 1), chat()).await),
        Reason::RateLimit
    );
    first.into_body().collect().await.unwrap();
    // Fifty are owed: the next one waits until they are there again, too.
    tokio::time::advance(Duration::from_secs(100)).await;
    assert_eq!(
        why(ask(&layer, charging(0, 1), large()).await),
        Reason::RateLimit
    );
    tokio::time::advance(Duration::from_secs(50)).await;
    ask(&layer, charging(0, 1), large()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_typical_reservation_is_four_times_the_mean_and_the_rest_is_owed() {
    let terms = Terms {
        tokens: Rate::new(10_000, Duration::from_secs(10_000)),
        reserve: Reserve::Typical,
        money: None,
    };
    let ledger = Ledger::new(0);
    let layer = BudgetLayer::new(policy(terms), ledger.clone());
    let large = || post("/v1/chat/completions", r#"{"model":"m","max_tokens":9000}"#);
    let left = || {
        ledger
            .read("a", |account| account.bucket().unwrap().left(0))
            .unwrap()
    };
    // Nothing is known yet: the worst case.
    let first = ask(&layer, charging(0, 100), large()).await.unwrap();
    assert!(left() < 1000);
    first.into_body().collect().await.unwrap();
    assert_eq!(left(), 9900);
    let second = ask(&layer, charging(0, 3000), large()).await.unwrap();
    assert_eq!(left(), 9500, "four times a hundred");
    second.into_body().collect().await.unwrap();
    assert_eq!(left(), 6900);
}

#[tokio::test]
async fn waste_is_nobodys_unless_it_is_charged() {
    for (waste, usd, kept) in [(Waste::Free, 1.0, 1.0), (Waste::Charge, 3.0, 2.0)] {
        let ledger = Ledger::new(0);
        let policy = Policy {
            waste,
            attempts: 3,
            ..policy(money(100.0))
        };
        let layer = BudgetLayer::new(policy, ledger.clone());
        // Two attempts, of which the first was thrown away.
        let inner = service_fn(|req: Request<Held<Script>>| {
            let record = req.extensions().get::<Record>().unwrap();
            for _ in 0..2 {
                record.begin_attempt(crate::record::Attempt::default());
                record.begin_metering();
                record.update_metered(|metered| {
                    metered.charge = Charge {
                        prompt: 0,
                        completion: 1,
                        source: Source::Provider,
                    };
                });
            }
            std::future::ready(Ok::<_, BoxError>(Response::new(Script::empty())))
        });
        let answer = ask(&layer, inner, chat()).await.unwrap();
        assert_eq!(reserved(&ledger), Usd::new(usd));
        answer.into_body().collect().await.unwrap();
        assert_eq!(spent(&ledger), Usd::new(kept));
    }
}

/// Nothing is sent before its admission is written down, and never if it cannot be.
#[tokio::test]
async fn money_waits_for_the_journal_and_tokens_do_not() {
    let (book, ledger) = (Book::default(), Ledger::new(0));
    let journal = Arc::new(book.clone());
    let layer = BudgetLayer::new(policy(money(10.0)), ledger.clone()).journal(journal.clone());
    let sent = Arc::new(Mutex::new(0));
    let counted = sent.clone();
    let inner = service_fn(move |_: Request<Held<Script>>| {
        *counted.lock().unwrap() += 1;
        std::future::ready(Ok::<_, BoxError>(Response::new(Script::empty())))
    });
    let mut asking = watched(ask(&layer, inner.clone(), chat()));
    assert!(asking.pending().await);
    assert_eq!(*sent.lock().unwrap(), 0);
    let receipt = book.admitted.lock().unwrap()[0].1.clone();
    assert!(book.admitted.lock().unwrap()[0].0.waits);
    receipt.sign();
    asking.done().await.unwrap();
    assert_eq!(*sent.lock().unwrap(), 1);

    let mut asking = watched(ask(&layer, inner.clone(), chat()));
    assert!(asking.pending().await);
    let receipt = book.admitted.lock().unwrap()[1].1.clone();
    receipt.fail();
    assert_eq!(why(asking.done().await), Reason::Overloaded);
    assert_eq!(*sent.lock().unwrap(), 1);
    assert_eq!(reserved(&ledger), Usd::ZERO);
    let last = *book.ended.lock().unwrap().last().unwrap();
    assert_eq!((last.number, last.cost), (1, Some(Usd::ZERO)));

    // Somebody without a budget of money is sent at once, and written down all the same.
    let layer = BudgetLayer::new(policy(Terms::default()), ledger.clone()).journal(journal);
    ask(&layer, inner, chat()).await.unwrap();
    assert_eq!(*sent.lock().unwrap(), 2);
    assert!(!book.admitted.lock().unwrap()[2].0.waits);
}

#[tokio::test]
async fn each_threshold_is_told_once() {
    let book = Book::default();
    let terms = Terms {
        tokens: None,
        ..money(10.0)
    };
    let policy = Policy {
        global: Some(Budget {
            amount: Usd::new(20.0),
            per: Period::Ever,
        }),
        ..policy(terms)
    };
    let layer = BudgetLayer::new(policy, Ledger::new(0)).journal(Arc::new(Signing(book.clone())));
    for used in [4, 2, 1, 1, 1] {
        served(&layer, used).await;
    }
    let told = |own| {
        let all = book.crossed.lock().unwrap().clone();
        let all = all.into_iter().filter(|it| it.account.is_some() == own);
        all.map(|it| (it.percent, it.spent.usd()))
            .collect::<Vec<_>>()
    };
    assert_eq!(told(true), [(50, 6.0), (80, 8.0)]);
    served(&layer, 1).await;
    assert_eq!(told(true), [(50, 6.0), (80, 8.0), (100, 10.0)]);
    assert_eq!(told(false), [(50, 10.0)]);
}

/// A journal whose paper is always dry.
struct Signing(Book);

impl super::Journal for Signing {
    fn admitted(&self, admission: super::Admission) -> super::Receipt {
        let receipt = self.0.admitted(admission);
        receipt.sign();
        receipt
    }

    fn ended(&self, settlement: super::Settlement) {
        self.0.ended(settlement);
    }

    fn crossed(&self, threshold: &super::Threshold) {
        self.0.crossed(threshold);
    }
}

/// Somebody whom a third party names has an account of its own.
#[tokio::test]
async fn claims_have_accounts_of_their_own_as_long_as_there_is_room() {
    let layer = BudgetLayer::new(policy(money(1.0)), Ledger::new(2));
    for name in ["x", "y", "z"] {
        let answer = ask(&layer, charging(0, 1), named(name)).await.unwrap();
        answer.into_body().collect().await.unwrap();
        assert_eq!(
            why(ask(&layer, charging(0, 1), named(name)).await),
            Reason::InsufficientQuota,
            "{name}"
        );
    }
    // The third found no room, and shares its account with the fourth.
    assert_eq!(
        why(ask(&layer, charging(0, 1), named("w")).await),
        Reason::InsufficientQuota
    );
    served(&layer, 1).await;
}

fn named(name: &str) -> Request<Held<Script>> {
    let mut req = chat();
    let caller = Caller::new("a", facts::Terms::default()).derive(name);
    req.extensions_mut().insert(caller);
    req
}

/// What is written down is the account that was charged: what all of those spent who found no room is theirs after a restart, too.
#[tokio::test]
async fn who_shares_an_account_is_written_down_with_it() {
    let book = Book::default();
    let limits = Terms {
        tokens: Rate::new(1_000, Duration::from_secs(60)),
        ..money(10.0)
    };
    let journal = Arc::new(Signing(book.clone()));
    let ledger = Ledger::new(1);
    let layer = BudgetLayer::new(policy(limits), ledger.clone()).journal(journal);
    for name in ["x", "y", "z"] {
        let answer = ask(&layer, charging(0, 4), named(name)).await.unwrap();
        answer.into_body().collect().await.unwrap();
    }
    let told = |book: &Book| {
        let admitted = book.admitted.lock().unwrap().clone();
        let of = admitted.into_iter();
        of.map(|(it, _)| (it.account, it.passing))
            .collect::<Vec<_>>()
    };
    let told_of = |name: &str, passing| (Arc::from(name), passing);
    assert_eq!(
        told(&book),
        [
            told_of("a\nx", true),
            told_of("a\n", false),
            told_of("a\n", false)
        ]
    );
    let of = |name| ledger.read(name, |account| account.sums().spent(Period::Ever));
    assert_eq!(of("a\n"), Some(Usd::new(8.0)));
    assert_eq!((of("a\ny"), of("a\nz")), (None, None));
    let thresholds = book.crossed.lock().unwrap().clone();
    let crossed: Vec<_> = thresholds.iter().map(|it| it.account.as_deref()).collect();
    assert_eq!(crossed, [Some("a\n")], "of the 8 USD that two spent");
}

/// What never begins anew, and what is typical of somebody, is asked for as long as there is a ledger.
#[tokio::test]
async fn an_account_is_passing_where_nothing_asks_for_its_past() {
    let prepaid = Terms {
        money: Some(Budget {
            amount: Usd::new(10.0),
            per: Period::Ever,
        }),
        ..Terms::default()
    };
    let typical = Terms {
        tokens: Rate::new(1_000, Duration::from_secs(60)),
        reserve: Reserve::Typical,
        ..Terms::default()
    };
    for (terms, req, passing) in [
        (Terms::default(), named("x"), true),
        (money(10.0), named("x"), true),
        (prepaid, named("x"), false),
        (typical, named("x"), false),
        (money(10.0), chat(), false),
    ] {
        let book = Book::default();
        let journal = Arc::new(Signing(book.clone()));
        let layer = BudgetLayer::new(policy(terms), Ledger::new(1)).journal(journal);
        ask(&layer, charging(0, 1), req).await.unwrap();
        let told = book.admitted.lock().unwrap()[0].0.passing;
        assert_eq!(told, passing, "{terms:?}");
    }
}

/// Accounts that were there before a restart take of the room that there is.
#[tokio::test]
async fn claims_that_were_restored_have_taken_their_room() {
    let accounts = ["a\nx", "a\ny", "a\n", "a"].map(|name| (name.into(), Account::default()));
    let ledger = Ledger::restored(3, 0, Account::default(), accounts);
    let layer = BudgetLayer::new(policy(money(10.0)), ledger.clone());
    for name in ["x", "z", "w", "v"] {
        let answer = ask(&layer, charging(0, 1), named(name)).await.unwrap();
        answer.into_body().collect().await.unwrap();
    }
    let of = |name| ledger.read(name, |account| account.sums().spent(Period::Ever).usd());
    assert_eq!((of("a\nx"), of("a\nz")), (Some(1.0), Some(1.0)));
    assert_eq!((of("a\nw"), of("a\nv"), of("a\n")), (None, None, Some(2.0)));
}

/// R05: an account may have been forgotten with its windows; a clock that goes back opens none of these for it.
#[tokio::test]
async fn the_account_of_a_claim_begins_in_the_windows_that_are_open() {
    let dates = Dates::of_numbers([1 << 20, 1 << 18, 1 << 16]);
    let ledger = Ledger::restored(1, 0, Account::opened(dates), []);
    let layer = BudgetLayer::new(policy(money(10.0)), ledger.clone());
    ask(&layer, charging(0, 1), named("x")).await.unwrap();
    let of = |name| ledger.read(name, |account| account.sums().dates());
    assert_eq!(of("a\nx"), Some(dates));
}

/// R05, B06: the wall clock says in which window, and a clock that goes back opens none a second time.
#[tokio::test]
async fn a_clock_that_jumps_fills_no_window_twice() {
    #[derive(Clone)]
    struct Jumps(Arc<Mutex<u64>>);
    impl Clock for Jumps {
        type Sleep = tokio::time::Sleep;
        fn now(&self) -> Instant {
            SystemClock.now()
        }
        fn wall(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH + Duration::from_secs(*self.0.lock().unwrap())
        }
        fn sleep_until(&self, at: Instant) -> Self::Sleep {
            SystemClock.sleep_until(at)
        }
    }
    let clock = Jumps(Arc::new(Mutex::new(0)));
    let terms = Terms {
        money: Some(Budget {
            amount: Usd::new(1.0),
            per: Period::Day,
        }),
        ..Terms::default()
    };
    let layer = BudgetLayer::new(policy(terms), Ledger::new(0)).clock(clock.clone());
    let (hour, day) = (3600, 86_400);
    let noon = 20_000 * day + 12 * hour;
    let mut passed = Vec::new();
    for at in [
        noon,
        noon + hour,
        noon - hour,
        noon + 2 * day,
        noon,
        noon + 2 * day,
        noon + day,
        noon - 2 * day,
    ] {
        *clock.0.lock().unwrap() = at;
        for _ in 0..2 {
            match ask(&layer, charging(0, 1), chat()).await {
                Ok(answer) => {
                    answer.into_body().collect().await.unwrap();
                    passed.push(at);
                }
                Err(error) => assert_eq!(why::<()>(Err(error)), Reason::InsufficientQuota),
            }
        }
    }
    assert_eq!(passed, [noon, noon + 2 * day]);
}

struct Task<F: Future>(std::pin::Pin<Box<F>>);

/// A future that is looked at before it is ready.
fn watched<F: Future>(future: F) -> Task<F> {
    Task(Box::pin(future))
}

impl<F: Future> Task<F> {
    async fn pending(&mut self) -> bool {
        std::future::poll_fn(|cx| std::task::Poll::Ready(self.0.as_mut().poll(cx).is_pending()))
            .await
    }

    async fn done(&mut self) -> F::Output {
        self.0.as_mut().await
    }
}
