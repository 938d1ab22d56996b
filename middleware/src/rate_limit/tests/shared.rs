//! Limits that several processes count together: with a store that does what the script does.

use std::sync::Mutex;

use super::{script::Model, *};
use crate::{
    rate_limit::Limit,
    store::{Away, Contact, Store, fake::Fake},
};

/// A store of the test's own time, and what it knows; it counts for one key.
fn store() -> (Fake, Arc<Mutex<Model>>) {
    let model = Arc::<Mutex<Model>>::default();
    let (inside, origin) = (model.clone(), SystemClock.now());
    let fake = Fake::new(move |call| {
        let now = (SystemClock.now() - origin).as_micros();
        Ok(inside.lock().unwrap().run(call, 1_000_000_000 + now as u64))
    });
    (fake, model)
}

fn layer(limits: impl IntoIterator<Item = Limit>, fake: &Fake) -> RateLimitLayer {
    RateLimitLayer::new(limits).shared(Some(Arc::new(fake.clone()) as Arc<dyn Store>))
}

fn quota(count: u32, burst: u32) -> Quota {
    Quota::new(count, MINUTE)
        .unwrap()
        .with_burst(burst)
        .unwrap()
}

fn all(quota: Quota) -> Limit {
    Limit::new("all", Everyone(quota.into()), Cells::new(0))
}

async fn sleep(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// How many of so many are admitted.
async fn admitted(layer: &RateLimitLayer, times: usize) -> usize {
    let mut admitted = 0;
    for _ in 0..times {
        admitted += usize::from(ask(layer, request()).await.is_ok());
    }
    admitted
}

#[tokio::test(start_paused = true)]
async fn keeps_the_laws_with_a_store() {
    let (fake, _) = store();
    let limits = || [all(quota(1_000_000, 1_000_000)).told(true)];
    let layer = layer(limits(), &fake);
    laws::transparent(&layer, laws::cases()).await;
    laws::ready(&layer).await;
    laws::absent_facts(&layer, |outcome| matches!(outcome, Outcome::Answered(..))).await;
}

#[tokio::test(start_paused = true)]
async fn one_process_admits_the_burst_and_tells_the_wait() {
    let (fake, _) = store();
    let layer = layer([all(quota(60, 10))], &fake);
    assert_eq!(admitted(&layer, 15).await, 10);
    let wait = refused(ask(&layer, request()).await);
    assert_eq!(wait, Duration::from_secs(1));
    sleep(999).await;
    assert_eq!(
        refused(ask(&layer, request()).await),
        Duration::from_millis(1)
    );
    sleep(1).await;
    assert_eq!(admitted(&layer, 2).await, 1);
}

/// The wait is told in full, however often it is asked for.
#[tokio::test(start_paused = true)]
async fn a_long_wait_is_told_without_asking_each_time() {
    let (fake, _) = store();
    let hourly = Quota::new(1, Duration::from_secs(3600)).unwrap();
    let layer = layer([all(hourly)], &fake);
    assert_eq!(admitted(&layer, 1).await, 1);
    for _ in 0..100 {
        sleep(50).await;
        assert!(refused(ask(&layer, request()).await) > Duration::from_secs(3590));
    }
    let calls = fake.calls().len();
    assert!(calls <= 8, "{calls} calls in 5 s");
}

#[tokio::test(start_paused = true)]
async fn what_is_leased_admits_without_a_trip() {
    let (fake, _) = store();
    let layer = layer([all(quota(60_000, 60_000))], &fake);
    for _ in 0..5000 {
        assert!(ask(&layer, request()).await.is_ok());
        sleep(1).await;
    }
    let calls = fake.calls();
    assert!(calls.len() < 60, "{} calls for 5000 requests", calls.len());
    // A tenth of the limit for both, and what comes in a second.
    let most = calls.iter().filter_map(|call| call.args[0].int()).max();
    assert!(most <= Some(1000), "{most:?}");
}

/// Two processes: no more than the rate, the burst and a lease each, and nearly all of it.
#[tokio::test(start_paused = true)]
async fn two_processes_admit_as_much_as_one() {
    for (count, seed) in [(600, 1_u64), (6000, 2), (60_000, 3), (90, 4)] {
        let (fake, _) = store();
        let quota = quota(count, count / 6);
        let both = [layer([all(quota)], &fake), layer([all(quota)], &fake)];
        let (mut passed, seconds, mut random) = (0, 30_u64, seed);
        // Three times as many as pass, more to one than to the other.
        let pause = 60_000_000 / u64::from(count) / 3;
        for _ in 0..seconds * 1_000_000 / pause {
            tokio::time::advance(Duration::from_micros(pause)).await;
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let one = usize::from(random >> 60 < 4);
            passed += usize::from(ask(&both[one], request()).await.is_ok());
        }
        let whole = u64::from(count) * seconds / 60 + u64::from(count / 6);
        let lease = u64::from((count / 6 / 20).min(count / 60).max(1));
        let passed = passed as u64;
        assert!(passed <= whole + 2 * lease, "{count}: {passed} of {whole}");
        assert!(passed * 100 >= whole * 95, "{count}: {passed} of {whole}");
    }
}

/// Less than half the rate each, unevenly: nobody is refused, though what one leased and did not need is not there for the other.
#[tokio::test(start_paused = true)]
async fn who_keeps_below_the_limit_is_never_refused() {
    let (fake, _) = store();
    let quota = quota(6000, 100);
    let both = [layer([all(quota)], &fake), layer([all(quota)], &fake)];
    for turn in 0..2000 {
        // In bursts of 20, at 90 a second together.
        let layer = &both[turn / 20 % 2];
        assert!(ask(layer, request()).await.is_ok(), "turn {turn}");
        if turn % 20 == 19 {
            sleep(222).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_the_answer_and_one_that_leaves_loses_nothing() {
    let (fake, _) = store();
    let layer = layer([all(quota(60, 2))], &fake);
    fake.hold();
    {
        let leaves = ask(&layer, request());
        let mut leaves = std::pin::pin!(leaves);
        assert!(futures_pending(leaves.as_mut()).await);
    }
    let stays = ask(&layer, request());
    let mut stays = std::pin::pin!(stays);
    assert!(futures_pending(stays.as_mut()).await);
    fake.release();
    assert!(stays.await.is_ok());
    // Two are counted: the one that left is at hand.
    assert_eq!(admitted(&layer, 2).await, 1);
    assert_eq!(fake.calls().len(), 3);
}

/// Table 5.4: this process alone, at its share; what it admitted is told when the store is back.
#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_each_process_has_its_share() {
    let (fake, _) = store();
    let (one, other) = (
        layer([all(quota(60, 20))], &fake),
        layer([all(quota(60, 20))], &fake),
    );
    fake.set(Contact::Never);
    assert_eq!(
        (admitted(&one, 30).await, admitted(&other, 30).await),
        (10, 10)
    );
    assert_eq!(refused(ask(&one, request()).await), Duration::from_secs(2));
    sleep(2000).await;
    assert_eq!(admitted(&one, 3).await, 1);
    fake.set(Contact::Up);
    // 21 were admitted, and 2 of them are there again. The second calls tell it.
    for layer in [&one, &one, &other, &other] {
        _ = ask(layer, request()).await;
    }
    assert_eq!(admitted(&one, 5).await + admitted(&other, 5).await, 0);
    sleep(5000).await;
    let again = admitted(&one, 20).await + admitted(&other, 20).await;
    assert!((3..=5).contains(&again), "{again}");
}

/// What was used before an outage counts for the share, too.
#[tokio::test(start_paused = true)]
async fn the_share_is_kept_warm() {
    let (fake, _) = store();
    let layer = layer([all(quota(60, 20))], &fake);
    assert_eq!(admitted(&layer, 8).await, 8);
    fake.set(Contact::Away);
    assert_eq!(admitted(&layer, 8).await, 2);
}

#[tokio::test(start_paused = true)]
async fn nothing_passes_without_the_store_if_it_is_to_refuse() {
    let (fake, _) = store();
    let layer = layer([all(quota(60, 20))], &fake);
    let fake = fake.refuses();
    assert_eq!(admitted(&layer, 1).await, 1);
    fake.set(Contact::Away);
    let error = ask(&layer, request()).await.unwrap_err();
    let refusal = Rejection::find(&*error).unwrap();
    assert_eq!(
        (refusal.reason(), refusal.wait()),
        (Reason::Overloaded, Some(Duration::from_secs(1)))
    );
    fake.set(Contact::Up);
    assert_eq!(admitted(&layer, 1).await, 1);
}

/// R08: a call that is not answered, or that the store refuses, is decided here.
#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_is_decided_alone() {
    for away in [Away::Unanswered, Away::Unsent, Away::Refused] {
        let (fake, _) = store();
        let layer = layer([all(quota(60, 4))], &fake);
        fake.hold();
        let mut passed = 0;
        for _ in 0..4 {
            let asks = ask(&layer, request());
            let mut asks = std::pin::pin!(asks);
            assert!(futures_pending(asks.as_mut()).await);
            fake.fail(away);
            passed += usize::from(asks.await.is_ok());
        }
        assert_eq!(passed, 2, "{away:?}");
    }
}

/// R08: flushed. What this process knows to be spent stays spent, but for what may have been given back since.
#[tokio::test(start_paused = true)]
async fn a_store_that_forgot_all_gives_no_second_burst() {
    let (fake, model) = store();
    let layer = layer([all(quota(60, 40))], &fake);
    assert_eq!(admitted(&layer, 50).await, 40);
    *model.lock().unwrap() = Model::default();
    sleep(1000).await;
    let again = admitted(&layer, 50).await;
    assert!(again <= 1 + 2 * 2, "{again}");
}

#[tokio::test(start_paused = true)]
async fn what_a_limit_inside_refuses_is_given_back_to_the_store() {
    let (fake, _) = store();
    let layer = layer([all(quota(60, 5))], &fake);
    for _ in 0..20 {
        let answer = ask_of(&layer, request(), || Err(refusal(Reason::RateLimit))).await;
        answer.unwrap_err();
    }
    assert_eq!(admitted(&layer, 10).await, 5);
}

/// All limits admit, or none is charged.
#[tokio::test(start_paused = true)]
async fn a_refusal_by_one_limit_costs_the_others_nothing() {
    let (fake, _) = store();
    // The fake counts for one key: the inner one is by caller, and counts here.
    let (outer, inner) = (
        all(quota(60, 5)),
        Limit::new("none", ByCaller::new([]), Cells::new(0)),
    );
    let layer = layer([outer, inner], &fake);
    assert_eq!(admitted(&layer, 3).await, 3);
    let tight = RateLimitLayer::new([all(quota(60, 1)), all(quota(1, 1))])
        .shared(Some(Arc::new(Fake::new(two_keys())) as Arc<dyn Store>));
    assert_eq!(admitted(&tight, 10).await, 1);
    let wait = refused(ask(&tight, request()).await);
    assert_eq!(wait, MINUTE, "the longest of both");
}

/// A model for each key.
fn two_keys() -> impl FnMut(&crate::store::Call) -> Result<Vec<i64>, Away> {
    let mut models = std::collections::HashMap::<Box<str>, Model>::new();
    let origin = SystemClock.now();
    move |call| {
        let now = (SystemClock.now() - origin).as_micros() as u64;
        Ok(models
            .entry(call.keys[0].clone())
            .or_default()
            .run(call, now))
    }
}

#[tokio::test(start_paused = true)]
async fn how_the_limit_stands_is_told_by_what_the_store_said() {
    let (fake, _) = store();
    let layer = layer([all(quota(60, 10)).told(true)], &fake);
    let standing = async |layer: &RateLimitLayer| {
        let mut req = request();
        let headers = HeaderMap::new();
        let record = Record::new(
            HeaderValue::from_static("r"),
            (&Method::GET, &Uri::from_static("/"), &headers),
            SystemClock.now(),
            SystemTime::UNIX_EPOCH,
        );
        req.extensions_mut().insert(record.clone());
        _ = ask(layer, req).await;
        record.with_standings(|all| all.iter().map(|it| (it.quota, it.left)).collect::<Vec<_>>())
    };
    assert_eq!(standing(&layer).await, [(10, 9)]);
    assert_eq!(standing(&layer).await, [(10, 8)]);
    assert_eq!(admitted(&layer, 10).await, 8);
    assert_eq!(standing(&layer).await, [(10, 0)]);
    // While it is away: of the share.
    fake.set(Contact::Away);
    sleep(10_000).await;
    assert_eq!(standing(&layer).await, [(5, 4)]);
}

/// C05. Names are never part of what the store sees.
#[tokio::test(start_paused = true)]
async fn the_store_sees_digests_and_tells_keys_apart() {
    let (fake, _) = store();
    let caller = "' OR '1'='1 redis.call('FLUSHALL') * ../";
    let key = ByCaller::new([
        (caller.into(), per_minute(60)),
        ("b".into(), per_minute(60)),
    ]);
    let layer = layer([Limit::new("requests", key, Cells::new(0))], &fake);
    for name in [caller, "b", caller] {
        _ = ask(&layer, by(name)).await;
    }
    let models = ["a", "b"].map(|pattern| {
        let limit = Limit::new("model", Everyone(per_minute(60)), Cells::new(0));
        RateLimitLayer::new([limit.apart(pattern)])
            .shared(Some(Arc::new(fake.clone()) as Arc<dyn Store>))
    });
    for layer in &models {
        _ = ask(layer, request()).await;
    }
    let mut keys: Vec<_> = fake
        .calls()
        .into_iter()
        .flat_map(|call| call.keys)
        .collect();
    assert!(
        keys.iter()
            .all(|key| !key.contains("OR") && !key.contains("call"))
    );
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 4);
}
