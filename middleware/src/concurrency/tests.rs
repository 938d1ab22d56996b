use std::{
    collections::HashMap,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::{HeaderMap, Method, Request, Response};
use proptest::prelude::*;
use tollgate_testing::{
    body::Script,
    laws::{self, Outcome},
    splits::Split,
};
use tower::{Layer, ServiceExt, service_fn};

use super::{
    ConcurrencyLayer, Hold, Limits, Permits,
    permits::{Entry, Full, Permit, Waiting, Whose},
};
use crate::{
    body::Guarded,
    clock::{Clock, SystemClock},
    error::{BoxError, Reason, Rejection},
    facts::{Caller, Terms},
    record::{Attempt, Mark, Record},
};

const SECOND: Duration = Duration::from_secs(1);

fn limits(most: usize, queue: usize) -> Limits {
    Limits {
        most,
        queue,
        ..Limits::default()
    }
}

fn by(name: &str, priority: i32) -> Request<()> {
    let mut req = Request::new(());
    let terms = Terms {
        priority,
        ..Terms::default()
    };
    req.extensions_mut().insert(Caller::new(name, terms));
    req
}

type Answer = Result<Response<Guarded<Script, Hold>>, BoxError>;
type Asking = Pin<Box<dyn Future<Output = Answer>>>;

fn ask(permits: &Permits, req: Request<()>) -> Asking {
    let inner = service_fn(|_: Request<()>| {
        let body = Script::data(b"data: 1\n\ndata: 2\n\n", &Split::Bytes(9));
        std::future::ready(Ok::<_, BoxError>(Response::new(body)))
    });
    Box::pin(
        ConcurrencyLayer::new(permits.clone())
            .layer(inner)
            .oneshot(req),
    )
}

fn poll(asking: &mut Asking) -> Poll<Answer> {
    asking
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
}

#[track_caller]
fn admitted(asking: &mut Asking) -> Response<Guarded<Script, Hold>> {
    match poll(asking) {
        Poll::Ready(Ok(response)) => response,
        other => panic!("not admitted: {other:?}"),
    }
}

#[track_caller]
fn refused(asking: &mut Asking) -> Reason {
    let Poll::Ready(Err(error)) = poll(asking) else {
        panic!("not refused");
    };
    let why = Rejection::find(&*error).expect("a rejection");
    assert_eq!((why.layer(), why.wait()), ("concurrency", Some(SECOND)));
    why.reason()
}

#[tokio::test(start_paused = true)]
async fn keeps_the_laws() {
    let permits = Permits::new(Limits::default());
    let bounded = ConcurrencyLayer::new(permits.clone());
    let of_target = bounded.clone().of_target(Attempt::default());
    laws::types::<ConcurrencyLayer>();
    for layer in [bounded, of_target, ConcurrencyLayer::off()] {
        laws::transparent(&layer, laws::cases()).await;
        laws::ready(&layer).await;
        laws::absent_facts(&layer, |outcome| matches!(outcome, Outcome::Answered(..))).await;
    }
    assert_eq!(permits.held(), 0);
}

/// Each ending gives the permit back, once: at the end, not before.
#[tokio::test(start_paused = true)]
async fn the_permit_is_given_back_once_however_the_body_ends() {
    let endings = laws::endings(
        |script| {
            let permits = Permits::new(limits(5, 0));
            let Ok(Entry::Permit(permit)) = permits.enter(&Whose::default()) else {
                panic!("there is room");
            };
            (Guarded::new(script, Hold::of(permit)), permits)
        },
        |permits| vec![(); 1 - permits.held()],
    );
    assert_eq!(endings.await.len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_permit_is_held_to_the_end_of_the_body_and_by_nobody_after() {
    let permits = Permits::new(limits(1, 0));
    let answer = admitted(&mut ask(&permits, Request::new(())));
    assert_eq!(permits.held(), 1);
    assert_eq!(
        refused(&mut ask(&permits, Request::new(()))),
        Reason::Overloaded
    );
    tollgate_testing::body::collect(answer.into_body()).await;
    assert_eq!(permits.held(), 0);
    // Dropped before there is an answer, or when there is none.
    drop(ask(&permits, Request::new(())));
    let failing = service_fn(|_: Request<()>| {
        std::future::ready(Err::<Response<Script>, BoxError>("no".into()))
    });
    let layer = ConcurrencyLayer::new(permits.clone());
    layer
        .layer(failing)
        .oneshot(Request::new(()))
        .await
        .unwrap_err();
    assert_eq!(permits.held(), 0);
}

/// What a target refuses is an attempt of its own; callers are one queue, in their classes.
#[tokio::test(start_paused = true)]
async fn a_full_target_is_told_from_all_else_and_from_a_failing_one() {
    let permits = Permits::new(Limits {
        wait: 3 * SECOND,
        per_caller: 1,
        ..limits(1, 1)
    });
    let layer = ConcurrencyLayer::new(permits.clone()).of_target(Attempt {
        provider: "p".into(),
        target: "p/m".into(),
        ..Attempt::default()
    });
    let ask = |mut req: Request<()>| {
        let record = record();
        req.extensions_mut().insert(record.clone());
        let inner = service_fn(|_: Request<()>| {
            std::future::ready(Ok::<_, BoxError>(Response::new(Script::empty())))
        });
        let asking: Asking = Box::pin(layer.layer(inner).oneshot(req));
        (asking, record)
    };
    let running = admitted(&mut ask(by("c", 0)).0);
    // The same caller waits: only the target counts here.
    let (mut waits, waited) = ask(by("c", 5));
    assert!(poll(&mut waits).is_pending());
    let (mut full, told) = ask(by("c", 0));
    assert_eq!(
        refused(&mut full),
        Reason::Overloaded,
        "the lower class goes"
    );
    let attempts = told.attempts();
    let words: Vec<_> = attempts.iter().map(|it| (&*it.target, it.error)).collect();
    assert_eq!(words, [("p/m", Some("saturated"))]);
    tokio::time::advance(2 * SECOND).await;
    drop(running);
    admitted(&mut waits);
    assert_eq!(waited.attempts().len(), 0, "it was no attempt of ours");
    waited.mark(Mark::Head, SystemClock.now());
    assert_eq!(
        waited.gateway_time(),
        Some(Duration::ZERO),
        "waits are not our share"
    );
    assert_eq!(waited.queued(), Some(2 * SECOND));
    assert_eq!(told.queued(), None, "it never stood there");
}

/// In the queue of all callers no time is ours of which the body has not been read; of a request without one that is all of it.
#[tokio::test(start_paused = true)]
async fn a_wait_before_or_behind_the_body_is_no_time_of_ours() {
    let permits = Permits::new(limits(1, 1));
    for empty in [false, true] {
        let (record, mut req) = (record(), by("c", 0));
        req.extensions_mut().insert(record.clone());
        if empty {
            record.mark(Mark::BodyRead, record.started());
        }
        let running = admitted(&mut ask(&permits, by("c", 0)));
        let mut waits = ask(&permits, req);
        assert!(poll(&mut waits).is_pending());
        tokio::time::advance(2 * SECOND).await;
        drop(running);
        let _answer = admitted(&mut waits);
        record.mark(Mark::BodyRead, SystemClock.now());
        tokio::time::advance(SECOND).await;
        record.mark(Mark::Head, SystemClock.now());
        assert_eq!(record.queued(), Some(2 * SECOND));
        let own = record.gateway_time().expect("there is a head");
        // What was read at once was read in the first nanosecond.
        let nanosecond = Duration::from_nanos(1);
        assert!(own.abs_diff(SECOND) <= nanosecond, "empty {empty}: {own:?}");
    }
}

/// Nor has who is refused behind a wait, and whose body nobody has read.
#[tokio::test(start_paused = true)]
async fn a_wait_that_ends_in_a_refusal_is_no_time_of_ours() {
    let permits = Permits::new(Limits {
        wait: 3 * SECOND,
        ..limits(1, 1)
    });
    let _running = admitted(&mut ask(&permits, by("c", 0)));
    let (record, mut req) = (record(), by("c", 0));
    req.extensions_mut().insert(record.clone());
    let mut waits = ask(&permits, req);
    assert!(poll(&mut waits).is_pending());
    tokio::time::advance(3 * SECOND).await;
    assert_eq!(refused(&mut waits), Reason::Overloaded);
    record.mark(Mark::Head, SystemClock.now());
    assert_eq!(record.queued(), Some(3 * SECOND));
    assert_eq!(record.gateway_time(), Some(Duration::ZERO));
}

fn record() -> Record {
    let (clock, uri) = (SystemClock, "/".parse().unwrap());
    Record::new(
        "id".parse().unwrap(),
        (&Method::POST, &uri, &HeaderMap::new()),
        clock.now(),
        clock.wall(),
    )
}

/// D13.
#[tokio::test(start_paused = true)]
async fn one_caller_with_nine_thousand_streams_takes_nobody_elses_place() {
    let permits = Permits::new(Limits {
        callers: HashMap::from([("b".into(), 1)]),
        ..Limits::default()
    });
    let mut running = Vec::new();
    let mut over = 0;
    for _ in 0..9000 {
        match poll(&mut ask(&permits, by("greedy", 9))) {
            Poll::Ready(Ok(answer)) => running.push(answer),
            Poll::Ready(Err(error)) => {
                let reason = Rejection::find(&*error).map(Rejection::reason);
                assert_eq!(reason, Some(Reason::RateLimit));
                over += 1;
            }
            Poll::Pending => panic!("a caller's own cap is no queue"),
        }
    }
    assert_eq!((running.len(), over), (200, 8800));
    let _a = admitted(&mut ask(&permits, by("a", 0)));
    let _b = admitted(&mut ask(&permits, by("b", 0)));
    assert_eq!(refused(&mut ask(&permits, by("b", 0))), Reason::RateLimit);
    drop(running.pop());
    admitted(&mut ask(&permits, by("greedy", 9)));
}

#[tokio::test(start_paused = true)]
async fn whom_a_claim_names_counts_by_itself_on_the_terms_of_its_caller() {
    let permits = Permits::new(Limits {
        callers: HashMap::from([("b".into(), 1)]),
        ..Limits::default()
    });
    let claims = |name: &str| {
        let mut req = Request::new(());
        let caller = Caller::new("b", Terms::default()).derive(name);
        req.extensions_mut().insert(caller);
        req
    };
    let _x = admitted(&mut ask(&permits, claims("x")));
    assert_eq!(refused(&mut ask(&permits, claims("x"))), Reason::RateLimit);
    let _y = admitted(&mut ask(&permits, claims("y")));
}

#[tokio::test(start_paused = true)]
async fn the_highest_class_is_served_first_and_in_it_who_came_first() {
    let permits = Permits::new(limits(1, 10));
    let running = admitted(&mut ask(&permits, Request::new(())));
    let mut waiting = Vec::new();
    for (name, class) in [("low", -1), ("first", 5), ("second", 5), ("none", 0)] {
        let mut asking = ask(&permits, by(name, class));
        assert!(poll(&mut asking).is_pending());
        waiting.push((name, asking));
    }
    let mut served = Vec::new();
    let mut running = Some(running);
    while !waiting.is_empty() {
        drop(running.take());
        for index in 0..waiting.len() {
            if let Poll::Ready(answer) = poll(&mut waiting[index].1) {
                running = Some(answer.unwrap());
                served.push(waiting.remove(index).0);
                break;
            }
        }
        assert!(running.is_some(), "nobody was served");
    }
    assert_eq!(served, ["first", "second", "none", "low"]);
}

#[tokio::test(start_paused = true)]
async fn of_a_full_queue_the_oldest_of_the_lowest_class_is_dropped() {
    let permits = Permits::new(limits(1, 2));
    let _running = admitted(&mut ask(&permits, Request::new(())));
    let pending = |class| {
        let mut asking = ask(&permits, by(&format!("{class}"), class));
        assert!(poll(&mut asking).is_pending());
        asking
    };
    let (mut old, mut new) = (pending(1), pending(1));
    let mut newest = pending(1);
    assert_eq!(refused(&mut old), Reason::Overloaded);
    let mut high = pending(2);
    assert_eq!(refused(&mut new), Reason::Overloaded);
    // Who is of a lower class than all that wait has no place.
    assert_eq!(
        refused(&mut ask(&permits, by("low", 0))),
        Reason::Overloaded
    );
    assert!(poll(&mut newest).is_pending() && poll(&mut high).is_pending());
    assert_eq!(permits.queued(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_is_refused_and_leaves_the_queue() {
    let permits = Permits::new(limits(1, 2));
    let _running = admitted(&mut ask(&permits, Request::new(())));
    let start = tokio::time::Instant::now();
    let error = ask(&permits, by("a", 0)).await.unwrap_err();
    assert_eq!(start.elapsed(), 2 * SECOND);
    let reason = Rejection::find(&*error).map(Rejection::reason);
    assert_eq!(reason, Some(Reason::Overloaded));
    assert_eq!((permits.held(), permits.queued()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_while_it_waits_gives_its_place_back_even_with_a_permit_on_its_way() {
    let permits = Permits::new(limits(1, 2));
    let running = admitted(&mut ask(&permits, Request::new(())));
    let (mut one, mut two) = (ask(&permits, by("a", 0)), ask(&permits, by("b", 0)));
    assert!(poll(&mut one).is_pending() && poll(&mut two).is_pending());
    // The permit is handed to the first, who never hears of it.
    drop(running);
    assert_eq!((permits.held(), permits.queued()), (1, 1));
    drop(one);
    let answer = admitted(&mut two);
    drop(answer);
    assert_eq!((permits.held(), permits.queued()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_woken() {
    let permits = Permits::new(limits(1, 2));
    let running = admitted(&mut ask(&permits, Request::new(())));
    let inner =
        service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new(Script::empty())) });
    let service = ConcurrencyLayer::new(permits.clone()).layer(inner);
    let (answer, ()) = tokio::join!(service.oneshot(Request::new(())), async {
        assert_eq!(permits.queued(), 1);
        drop(running);
    });
    answer.unwrap();
}

#[tokio::test(start_paused = true)]
async fn other_limits_serve_or_drop_what_waits() {
    let permits = Permits::new(limits(1, 3));
    let _running = admitted(&mut ask(&permits, Request::new(())));
    let mut asking = [1, 2, 3].map(|class| ask(&permits, by("a", class)));
    assert!(asking.iter_mut().all(|it| poll(it).is_pending()));
    permits.set(limits(2, 1));
    let [low, middle, high] = &mut asking;
    let _high = admitted(high);
    assert!(poll(middle).is_pending());
    assert_eq!(refused(low), Reason::Overloaded);
    permits.set(limits(0, 1));
    assert!(poll(middle).is_pending(), "what is held is not taken away");
    assert_eq!(permits.held(), 2);
}

/// Sixteen threads that take, wait, leave and give back: never more than there are, and none is lost.
#[test]
fn never_more_run_than_may_and_no_permit_is_lost_under_threads() {
    let permits = Permits::new(limits(5, 8));
    let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..16_usize {
            let (permits, running, most) = (&permits, &running, &most);
            scope.spawn(move || {
                for round in 0..2000_usize {
                    let whose = Whose {
                        who: Some(("c".into(), format!("c{}", thread % 3).into())),
                        class: i32::try_from((thread + round) % 4).unwrap(),
                    };
                    let permit = match permits.enter(&whose) {
                        Ok(Entry::Permit(permit)) => Some(permit),
                        Ok(Entry::Waiting(mut waiting, _)) => {
                            let tries = 0..round % 7;
                            tries
                                .into_iter()
                                .find_map(|_| match waiting.poll(Waker::noop()) {
                                    Poll::Ready(Ok(permit)) => Some(Ok(permit)),
                                    Poll::Ready(Err(full)) => Some(Err(full)),
                                    Poll::Pending => None,
                                })
                                .and_then(Result::ok)
                        }
                        Err(Full::Queue) => None,
                        Err(Full::Caller) => panic!("200 of a caller may run"),
                    };
                    if permit.is_some() {
                        most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                        std::thread::yield_now();
                        running.fetch_sub(1, SeqCst);
                    }
                }
            });
        }
    });
    assert!((1..=5).contains(&most.into_inner()));
    assert_eq!((permits.held(), permits.queued()), (0, 0));
    let all: Vec<_> = (0..5)
        .map(|_| permits.enter(&Whose::default()).unwrap())
        .collect();
    assert!(all.iter().all(|entry| matches!(entry, Entry::Permit(_))));
}

#[derive(Clone, Debug)]
enum Op {
    Enter(u8, i32),
    Finish(usize),
    Leave(usize),
    Look(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0_u8..3, -1_i32..2).prop_map(|(name, class)| Op::Enter(name, class)),
        2 => any::<usize>().prop_map(Op::Finish),
        1 => any::<usize>().prop_map(Op::Leave),
        2 => any::<usize>().prop_map(Op::Look),
    ]
}

/// The rules in a list: one entry a request, in the order of their coming.
#[derive(Default)]
struct Model {
    requests: Vec<(usize, u8, i32, Stage)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Runs,
    Waits,
    /// Left the queue without having been told.
    Dropped,
}

const MOST: usize = 2;
const QUEUE: usize = 2;
const EACH: usize = 3;

impl Model {
    fn count(&self, stage: Stage) -> usize {
        self.requests.iter().filter(|it| it.3 == stage).count()
    }

    fn enter(&mut self, id: usize, name: u8, class: i32) -> Result<Stage, Full> {
        let own = self.requests.iter().filter(|it| it.1 == name);
        if own.count() == EACH {
            return Err(Full::Caller);
        }
        if self.count(Stage::Runs) < MOST {
            self.requests.push((id, name, class, Stage::Runs));
            return Ok(Stage::Runs);
        }
        self.requests.push((id, name, class, Stage::Waits));
        if self.count(Stage::Waits) > QUEUE {
            let waits = self.requests.iter_mut().filter(|it| it.3 == Stage::Waits);
            // Of equals the first is the smallest.
            let worst = waits.min_by_key(|it| it.2).expect("some wait");
            worst.3 = Stage::Dropped;
            if worst.0 == id {
                self.forget(id);
                return Err(Full::Queue);
            }
        }
        Ok(Stage::Waits)
    }

    fn forget(&mut self, id: usize) {
        self.requests.retain(|it| it.0 != id);
        while self.count(Stage::Runs) < MOST && self.count(Stage::Waits) > 0 {
            let waits = self.requests.iter_mut().filter(|it| it.3 == Stage::Waits);
            // Of equals the last is the greatest: the other way round, the first.
            let best = waits.rev().max_by_key(|it| it.2).expect("some wait");
            best.3 = Stage::Runs;
        }
    }

    fn stage(&self, id: usize) -> Stage {
        let found = self.requests.iter().find(|it| it.0 == id);
        found.expect("it is there").3
    }
}

enum Real {
    Runs(#[expect(dead_code, reason = "held")] Permit),
    Waits(Waiting),
}

proptest! {
    #[test]
    fn the_bookkeeping_does_what_the_rules_say(ops in proptest::collection::vec(op(), 1..120)) {
        let permits = Permits::new(Limits {
            per_caller: EACH,
            ..limits(MOST, QUEUE)
        });
        let mut model = Model::default();
        let mut real: Vec<(usize, Real)> = Vec::new();
        for (id, op) in ops.into_iter().enumerate() {
            match op {
                Op::Enter(name, class) => {
                    let whose = Whose {
                        who: Some((name.to_string().into(), name.to_string().into())),
                        class,
                    };
                    let expected = model.enter(id, name, class);
                    match permits.enter(&whose) {
                        Ok(Entry::Permit(permit)) => {
                            prop_assert_eq!(expected, Ok(Stage::Runs));
                            real.push((id, Real::Runs(permit)));
                        }
                        Ok(Entry::Waiting(waiting, _)) => {
                            prop_assert_eq!(expected, Ok(Stage::Waits));
                            real.push((id, Real::Waits(waiting)));
                        }
                        Err(full) => prop_assert_eq!(expected, Err(full)),
                    }
                }
                Op::Finish(which) | Op::Leave(which) if !real.is_empty() => {
                    let (id, entry) = real.remove(which % real.len());
                    drop(entry);
                    model.forget(id);
                }
                Op::Look(which) if !real.is_empty() => {
                    let index = which % real.len();
                    let (id, entry) = &mut real[index];
                    let id = *id;
                    if let Real::Waits(waiting) = entry {
                        match waiting.poll(Waker::noop()) {
                            Poll::Ready(Ok(permit)) => {
                                prop_assert_eq!(model.stage(id), Stage::Runs);
                                real[index].1 = Real::Runs(permit);
                            }
                            Poll::Ready(Err(_)) => {
                                prop_assert_eq!(model.stage(id), Stage::Dropped);
                                real.remove(index);
                                model.forget(id);
                            }
                            Poll::Pending => prop_assert_eq!(model.stage(id), Stage::Waits),
                        }
                    }
                }
                _ => {}
            }
            prop_assert_eq!(permits.held(), model.count(Stage::Runs));
            prop_assert_eq!(permits.queued(), model.count(Stage::Waits));
        }
        drop(real);
        prop_assert_eq!((permits.held(), permits.queued()), (0, 0));
    }
}
