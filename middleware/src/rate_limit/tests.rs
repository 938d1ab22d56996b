use std::{
    net::IpAddr,
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body_util::Empty;
use tollgate_testing::laws::{self, Outcome};
use tower::{Layer, ServiceExt, service_fn};

use super::{
    Asked, ByAddress, ByCaller, ByModel, ByUser, Cells, Everyone, Id, Limit, Quota, Quotas,
    RateLimitLayer, UserSource, service::admit,
};
use crate::{
    clock::{Clock, SystemClock},
    conn::Conn,
    error::{BoxError, Reason, Rejection},
    facts::{Caller, ClientAddress, Route, Terms},
    record::Record,
};

mod exact;
mod script;
mod shared;

const MINUTE: Duration = Duration::from_secs(60);

fn per_minute(count: u32) -> Quotas {
    Quota::new(count, MINUTE).unwrap().into()
}

fn everyone(count: u32) -> Limit {
    Limit::new("all", Everyone(per_minute(count)), Cells::new(0))
}

fn request() -> Request<()> {
    Request::new(())
}

fn from(address: &str) -> Request<()> {
    let mut req = request();
    let address: IpAddr = address.parse().unwrap();
    req.extensions_mut().insert(ClientAddress::new(address));
    req
}

fn by(name: &str) -> Request<()> {
    let mut req = request();
    req.extensions_mut()
        .insert(Caller::new(name, Terms::default()));
    req
}

type Answer = Result<Response<Empty<Bytes>>, BoxError>;

async fn ask<C: Clock>(layer: &RateLimitLayer<C>, req: Request<()>) -> Answer {
    ask_of(layer, req, || Ok(Response::new(Empty::new()))).await
}

async fn ask_of<C: Clock>(
    layer: &RateLimitLayer<C>,
    req: Request<()>,
    inner: impl Fn() -> Answer,
) -> Answer {
    let inner = service_fn(|_: Request<()>| std::future::ready(inner()));
    layer.layer(inner).oneshot(req).await
}

fn refused(answer: Answer) -> Duration {
    let error = answer.expect_err("it was admitted");
    let why = Rejection::find(&*error).expect("a rejection");
    assert_eq!(
        (why.reason(), why.layer()),
        (Reason::RateLimit, "rate_limit")
    );
    why.wait().expect("the wait is known")
}

#[tokio::test(start_paused = true)]
async fn keeps_the_laws() {
    let address = Limit::new("address", ByAddress(per_minute(1)), Cells::new(16));
    let callers = ByCaller::new([("a".into(), per_minute(1))]);
    let caller = Limit::new("caller", callers, Cells::new(0));
    let model = Limit::new("m", ByModel::new(|_| true, per_minute(1)), Cells::new(0));
    let user = ByUser::new([UserSource::Body], per_minute(1));
    let user = Limit::new("user", user, Cells::new(16));
    let layer = RateLimitLayer::new([address, caller, model, user]);
    laws::types::<RateLimitLayer>();
    laws::transparent(&RateLimitLayer::new([]), laws::cases()).await;
    laws::transparent(&layer, laws::cases()).await;
    laws::ready(&layer).await;
    laws::absent_facts(&layer, |outcome| matches!(outcome, Outcome::Answered(..))).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_over_the_burst_waits_as_long_as_it_is_told_and_no_longer() {
    let layer = RateLimitLayer::new([everyone(3)]);
    for _ in 0..3 {
        ask(&layer, request()).await.unwrap();
    }
    let wait = refused(ask(&layer, request()).await);
    assert_eq!(wait, Duration::from_secs(20));
    tokio::time::advance(wait - Duration::from_millis(1)).await;
    refused(ask(&layer, request()).await);
    tokio::time::advance(Duration::from_millis(1)).await;
    ask(&layer, request()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_refusal_names_the_limit_and_the_wait() {
    let layer = RateLimitLayer::new([everyone(3)]);
    for _ in 0..3 {
        ask(&layer, request()).await.unwrap();
    }
    let error = ask(&layer, request()).await.unwrap_err();
    let told = Rejection::find(&*error).map(Rejection::message);
    let text = "over 3 requests per minute (limit all); ask again in 20 s";
    assert_eq!(told, Some(text));
}

#[tokio::test(start_paused = true)]
async fn all_limits_admit_or_none_is_charged() {
    let callers = ByCaller::new([("a".into(), per_minute(5)), ("b".into(), per_minute(5))]);
    let caller = Limit::new("caller", callers, Cells::new(0));
    let layer = RateLimitLayer::new([caller, everyone(6)]);
    for _ in 0..5 {
        ask(&layer, by("a")).await.unwrap();
    }
    // The outer one refuses: the inner one, which has one left, is not charged for it.
    for _ in 0..20 {
        refused(ask(&layer, by("a")).await);
    }
    ask(&layer, by("b")).await.unwrap();
    // Now the inner one refuses, and the outer one is not charged.
    for _ in 0..20 {
        assert_eq!(refused(ask(&layer, by("b")).await), Duration::from_secs(10));
    }
    tokio::time::advance(MINUTE).await;
    let quota = Quota::new(5, MINUTE).unwrap().with_burst(5).unwrap();
    for _ in 0..quota.burst() {
        ask(&layer, by("b")).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn several_windows_of_one_key_hold_together() {
    let second = Quota::new(2, Duration::from_secs(1)).unwrap();
    let hour = Quota::new(3, Duration::from_secs(3600)).unwrap();
    let quotas = [second, hour].into_iter().collect();
    let layer = RateLimitLayer::new([Limit::new("x", Everyone(quotas), Cells::new(0))]);
    ask(&layer, request()).await.unwrap();
    ask(&layer, request()).await.unwrap();
    assert_eq!(
        refused(ask(&layer, request()).await),
        Duration::from_millis(500)
    );
    tokio::time::advance(Duration::from_secs(1)).await;
    ask(&layer, request()).await.unwrap();
    let wait = refused(ask(&layer, request()).await);
    assert_eq!(wait, Duration::from_secs(1199));
}

fn refusal(reason: Reason) -> BoxError {
    Rejection::new(reason, "inside", "no").into()
}

#[tokio::test(start_paused = true)]
async fn what_a_limit_inside_refuses_is_given_back_but_not_to_the_address() {
    let address = Limit::new("address", ByAddress(per_minute(4)), Cells::new(16));
    let layer = RateLimitLayer::new([address.gives_back(false), everyone(3)]);
    let inner = [
        Reason::RateLimit,
        Reason::InsufficientQuota,
        Reason::Overloaded,
    ];
    for reason in inner {
        let answer = ask_of(&layer, from("192.0.2.1"), || Err(refusal(reason))).await;
        answer.unwrap_err();
    }
    ask(&layer, from("192.0.2.1")).await.unwrap();
    // The address has asked four times.
    refused(ask(&layer, from("192.0.2.1")).await);
    for address in ["192.0.2.2", "192.0.2.3"] {
        ask(&layer, from(address)).await.unwrap();
    }
    // Everyone has been let in three times.
    refused(ask(&layer, from("192.0.2.4")).await);
}

#[tokio::test(start_paused = true)]
async fn what_fails_otherwise_and_what_is_dropped_has_counted() {
    let layer = RateLimitLayer::new([everyone(3)]);
    let failed = ask_of(&layer, request(), || Err(refusal(Reason::Connect))).await;
    failed.unwrap_err();
    // The provider's own 429 is an answer.
    let theirs = || {
        let answer = Response::builder().status(429);
        Ok(answer.body(Empty::new()).unwrap())
    };
    ask_of(&layer, request(), theirs).await.unwrap();
    let never = service_fn(|_: Request<()>| std::future::pending::<Answer>());
    drop(layer.layer(never).oneshot(request()));
    let mut dropped = Box::pin(layer.layer(never).oneshot(request()));
    assert!(futures_pending(dropped.as_mut()).await);
    drop(dropped);
    refused(ask(&layer, request()).await);
}

/// Whether a future is pending at its first poll.
async fn futures_pending<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
    std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

#[tokio::test(start_paused = true)]
async fn addresses_count_by_network_and_as_what_they_are() {
    let limit = Limit::new("address", ByAddress(per_minute(1)), Cells::new(1024));
    let layer = RateLimitLayer::new([limit]);
    ask(&layer, from("2001:db8:1:2::1")).await.unwrap();
    refused(ask(&layer, from("2001:db8:1:2:ffff::9")).await);
    ask(&layer, from("2001:db8:1:3::1")).await.unwrap();
    ask(&layer, from("192.0.2.7")).await.unwrap();
    refused(ask(&layer, from("::ffff:192.0.2.7")).await);
    // The peer, where no proxy speaks for somebody.
    let mut peer = request();
    let conn = Conn::of(Some("[::ffff:192.0.2.7]:4000".parse().unwrap()));
    peer.extensions_mut().insert(conn);
    refused(ask(&layer, peer).await);
    // Over a unix socket there is no address.
    for _ in 0..3 {
        let mut unix = request();
        unix.extensions_mut().insert(Conn::of(None));
        ask(&layer, unix).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn callers_count_by_name_and_claims_by_themselves() {
    let callers = ByCaller::new([("a".into(), per_minute(1))]);
    let layer = RateLimitLayer::new([Limit::new("caller", callers, Cells::new(1024))]);
    ask(&layer, by("a")).await.unwrap();
    refused(ask(&layer, by("a")).await);
    let derived = |name: &str| {
        let mut req = request();
        let caller = Caller::new("a", Terms::default()).derive(name);
        req.extensions_mut().insert(caller);
        req
    };
    ask(&layer, derived("x")).await.unwrap();
    refused(ask(&layer, derived("x")).await);
    ask(&layer, derived("y")).await.unwrap();
    // Somebody who calls themselves as a listed caller is called is not that caller.
    ask(&layer, derived("a")).await.unwrap();
    for _ in 0..3 {
        ask(&layer, by("unlimited")).await.unwrap();
        ask(&layer, request()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_left_is_told_of_a_name_and_of_all_whom_no_list_names() {
    let callers = ["a", "b"].map(|name| (name.into(), per_minute(4)));
    let cells = Cells::new(1024);
    let limit = Limit::new("caller", ByCaller::new(callers), cells.clone());
    let layer = RateLimitLayer::new([limit]);
    let left = || {
        let now = SystemClock.now();
        let of = |name| cells.left(&Id::Name(name), now);
        (of("a"), of("b"), cells.least_left_unlisted(now))
    };
    assert_eq!(left(), (None, None, None), "nobody has come");
    ask(&layer, by("a")).await.unwrap();
    for (name, times) in [("x", 3), ("y", 2)] {
        for _ in 0..times {
            let mut req = request();
            let caller = Caller::new("b", Terms::default()).derive(name);
            req.extensions_mut().insert(caller);
            ask(&layer, req).await.unwrap();
        }
    }
    assert_eq!(left(), (Some(0.75), None, Some(0.25)));
    tokio::time::advance(MINUTE / 4).await;
    assert_eq!(left(), (Some(1.0), None, Some(0.5)));
}

#[tokio::test(start_paused = true)]
async fn models_count_by_what_the_alias_leads_to() {
    let fits = |model: &str| model.starts_with("gpt-4o");
    let limit = Limit::new("gpt-4o", ByModel::new(fits, per_minute(1)), Cells::new(0));
    let layer = RateLimitLayer::new([limit]);
    let routed = |model: &str| {
        let mut req = request();
        let model = Some(model.into());
        req.extensions_mut().insert(Route {
            name: None,
            model,
            pin: None,
        });
        req
    };
    ask(&layer, routed("gpt-4o")).await.unwrap();
    refused(ask(&layer, routed("gpt-4o-mini")).await);
    ask(&layer, routed("o3")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn end_users_count_within_their_caller() {
    let sources = ["x-user-id", "x-session"].map(|it| UserSource::Header(it.try_into().unwrap()));
    let user = ByUser::new(sources, per_minute(1));
    let layer = RateLimitLayer::new([Limit::new("user", user, Cells::new(1024))]);
    let user = |caller: &str, header: &'static str, user: &'static str| {
        let mut req = by(caller);
        req.headers_mut()
            .insert(header, HeaderValue::from_static(user));
        req
    };
    ask(&layer, user("a", "x-user-id", "u")).await.unwrap();
    refused(ask(&layer, user("a", "x-user-id", "u")).await);
    refused(ask(&layer, user("a", "x-session", "u")).await);
    ask(&layer, user("b", "x-user-id", "u")).await.unwrap();
    ask(&layer, user("a", "x-user-id", "v")).await.unwrap();
    for _ in 0..2 {
        ask(&layer, user("a", "x-user-id", "")).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_the_callers_own_is_told_to_the_record() {
    let layer = RateLimitLayer::new([everyone(3).told(true), everyone(100)]);
    let mut seen = Vec::new();
    for _ in 0..4 {
        let mut req = request();
        let headers = HeaderMap::new();
        let record = Record::new(
            HeaderValue::from_static("r"),
            (&Method::GET, &Uri::from_static("/"), &headers),
            SystemClock.now(),
            SystemTime::UNIX_EPOCH,
        );
        req.extensions_mut().insert(record.clone());
        let _ = ask(&layer, req).await;
        let told = record.with_standings(|all| {
            let told = |it: &crate::record::Standing| (it.left, it.reset.as_secs());
            all.iter().map(told).collect::<Vec<_>>()
        });
        seen.push(told);
    }
    assert_eq!(seen, [[(2, 20)], [(1, 40)], [(0, 20)], [(0, 20)]]);
}

/// R05: windows follow the monotonic clock only.
#[tokio::test(start_paused = true)]
async fn the_wall_clock_is_never_asked() {
    #[derive(Clone)]
    struct NoWall;
    impl Clock for NoWall {
        type Sleep = tokio::time::Sleep;
        fn now(&self) -> Instant {
            SystemClock.now()
        }
        fn wall(&self) -> SystemTime {
            panic!("a limit asked for the time of day")
        }
        fn sleep_until(&self, at: Instant) -> Self::Sleep {
            SystemClock.sleep_until(at)
        }
    }
    let layer = RateLimitLayer::new([everyone(2)]).clock(NoWall);
    for _ in 0..2 {
        ask(&layer, request()).await.unwrap();
    }
    assert_eq!(refused(ask(&layer, request()).await), MINUTE / 2);
    tokio::time::advance(MINUTE / 2).await;
    ask(&layer, request()).await.unwrap();
}

/// A reload hands the cells on.
#[tokio::test(start_paused = true)]
async fn what_is_spent_stays_spent_when_the_quota_changes() {
    let cells = Cells::new(0);
    let layer = |count| {
        let limit = Limit::new("all", Everyone(per_minute(count)), cells.clone());
        RateLimitLayer::new([limit])
    };
    let (small, large) = (layer(4), layer(6));
    for _ in 0..4 {
        ask(&small, request()).await.unwrap();
    }
    for _ in 0..2 {
        ask(&large, request()).await.unwrap();
    }
    refused(ask(&large, request()).await);
    refused(ask(&small, request()).await);
    tokio::time::advance(MINUTE).await;
    ask(&small, request()).await.unwrap();
}

#[test]
#[should_panic(expected = "cells of its own")]
fn two_limits_of_a_layer_do_not_share_cells() {
    let limit = everyone(1);
    let _ = RateLimitLayer::new([limit.clone(), limit]);
}

/// Asks once, without a service around.
fn admits(limits: &[Limit], facts: &Extensions, now: Instant) -> bool {
    let headers = HeaderMap::new();
    let asked = Asked {
        headers: &headers,
        facts,
    };
    admit(limits, true, &asked, now, None, &mut Vec::new()).is_ok()
}

fn address(index: u32) -> Extensions {
    let mut facts = Extensions::new();
    facts.insert(ClientAddress::new(IpAddr::from(index.to_be_bytes())));
    facts
}

/// B08: each round sixteen threads ask for more than there is, all at the same moment of their clock.
#[test]
fn the_count_is_exact_under_sixteen_threads() {
    const ROUNDS: u32 = 50;
    let quota = Quota::new(7, Duration::from_millis(3)).unwrap();
    let quota = quota.with_burst(100).unwrap();
    let limit = |name| Limit::new(name, Everyone(quota.into()), Cells::new(0));
    // Two of them: the locks of both are taken in one order.
    let limits = [limit("one"), limit("two")];
    let start = SystemClock.now();
    let (barrier, admitted) = (Barrier::new(16), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let facts = Extensions::new();
                for round in 0..ROUNDS {
                    barrier.wait();
                    let now = start + Duration::from_millis(10) * round;
                    for _ in 0..20 {
                        admitted.fetch_add(usize::from(admits(&limits, &facts, now)), Relaxed);
                    }
                    barrier.wait();
                }
            });
        }
    });
    // 490 ms at 7 per 3 ms are 1143.3.
    assert_eq!(admitted.into_inner(), 100 + 1143);
}

/// B08: a million addresses, and one that is over all the while.
#[test]
fn a_million_keys_take_bounded_room_and_forgive_nobody_who_is_over() {
    let cells = Cells::new(4096);
    let limit = Limit::new("address", ByAddress(per_minute(60)), cells.clone());
    let limits = [limit];
    let start = SystemClock.now();
    let greedy = address(u32::MAX);
    let mut admitted = 0;
    for index in 0..1_000_000 {
        let now = start + Duration::from_micros(100) * index;
        admits(&limits, &address(index), now);
        admitted += u32::from(admits(&limits, &greedy, now));
        if index % 50_000 == 0 {
            assert!(cells.len() <= 4096, "{} cells", cells.len());
        }
    }
    assert!(cells.len() <= 4096);
    // 100 s at one a second, and the burst.
    assert_eq!(admitted, 60 + 99);
}

#[test]
fn callers_keep_their_cells_and_strangers_without_room_share_one() {
    let callers = (0..1000).map(|it| (Arc::from(format!("c{it}")), per_minute(1)));
    let cells = Cells::new(16);
    let names: Vec<Arc<str>> = (0..1000).map(|it| Arc::from(format!("c{it}"))).collect();
    let limits = [Limit::new("caller", ByCaller::new(callers), cells.clone())];
    let now = SystemClock.now();
    let facts = |caller: Caller| {
        let mut facts = Extensions::new();
        facts.insert(caller);
        facts
    };
    let listed = |name: &Arc<str>| facts(Caller::new(name.clone(), Terms::default()));
    assert!(names.iter().all(|name| admits(&limits, &listed(name), now)));
    assert!(!names.iter().any(|name| admits(&limits, &listed(name), now)));
    assert_eq!(cells.len(), 1000);
    // Sixteen cells of their own, and sixteen that the others share.
    let derived = |it| facts(Caller::new("c0", Terms::default()).derive(format!("d{it}")));
    let admitted = (0..10_000).filter(|it| admits(&limits, &derived(*it), now));
    assert_eq!(admitted.count(), 32);
    // When the sixteen are full again, others take their places.
    let later = now + MINUTE;
    let admitted = (20_000..30_000).filter(|it| admits(&limits, &derived(*it), later));
    assert_eq!(admitted.count(), 32);
    assert_eq!(cells.len(), 1016);
}

/// B08: a rate that divides no second, asked for more often than it allows, for a day.
#[test]
fn a_day_admits_the_burst_and_the_rate_and_not_one_more() {
    let quota = Quota::new(7, MINUTE).unwrap().with_burst(5).unwrap();
    let limits = [Limit::new("all", Everyone(quota.into()), Cells::new(0))];
    let (start, facts) = (SystemClock.now(), Extensions::new());
    let mut admitted = 0;
    for second in 0..=86_400 {
        let now = start + Duration::from_secs(second);
        while admits(&limits, &facts, now) {
            admitted += 1;
        }
    }
    assert_eq!(admitted, 5 + 7 * 60 * 24);
}
