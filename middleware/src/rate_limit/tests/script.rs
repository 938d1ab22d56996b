//! The script of the store: against a model that keeps one number, with a real server, and the model against the cells of this process.

use std::time::Duration;

use proptest::{collection::vec, prelude::*};
use tollgate_testing::redis::Redis;

use crate::{
    rate_limit::{
        Quota, Quotas,
        cell::Cell,
        script::{self, GCRA, Told},
    },
    store::{Arg, Call, Owner},
};

/// What the script does, in thirty lines: what is spent of each quota, in parts of a microsecond, and since when it is so.
#[derive(Clone, Debug, Default)]
pub(super) struct Model(Vec<(u64, u128)>);

impl Model {
    pub(super) fn run(&mut self, call: &Call, now: u64) -> Vec<i64> {
        let args: Vec<u128> = call
            .args
            .iter()
            .map(|arg| arg.int().unwrap().unsigned_abs().into())
            .collect();
        let (mut granted, known, quotas) = (args[0], args[1], args[2..].chunks(8));
        let known = u128::from(now).saturating_sub(known);
        self.0.resize(call.keys.len(), (0, 0));
        for ((since, spent), it) in self.0.iter_mut().zip(quotas.clone()) {
            let [count, step, room] = [it[0], it[1] * it[0] + it[2], it[3] * it[0] + it[4]];
            *spent = spent.saturating_sub(u128::from(now.saturating_sub(*since)) * count);
            *spent = (*spent)
                .max(it[5].saturating_sub(known) * count)
                .saturating_sub(it[6] * step);
            let whole = (*spent / count + it[7]).min(2 * it[3]);
            *spent = whole * count + *spent % count;
            *since = now;
            granted = granted.min(room.saturating_sub(*spent) / step);
        }
        let (mut answer, mut wait) = (Vec::new(), (0, 0));
        for (at, ((_, spent), it)) in self.0.iter_mut().zip(quotas).enumerate() {
            let [count, step, room] = [it[0], it[1] * it[0] + it[2], it[3] * it[0] + it[4]];
            let over = (*spent + step).saturating_sub(room).div_ceil(count);
            if granted == 0 && over > wait.0 {
                wait = (over, at as u128);
            }
            *spent += granted * step;
            answer.extend([*spent / count, *spent % count]);
        }
        let all = [granted, wait.0, wait.1, now.into()]
            .into_iter()
            .chain(answer);
        all.map(|it| i64::try_from(it).unwrap()).collect()
    }
}

fn quotas() -> impl Strategy<Value = Quotas> {
    let quota = (
        1..2000_u32,
        1..5000_u32,
        prop_oneof![Just(1_u64), Just(60), Just(86_400)],
    );
    let quota = quota.prop_map(|(count, burst, per)| {
        Quota::new(count, Duration::from_secs(per))
            .unwrap()
            .with_burst(burst)
            .unwrap()
    });
    vec(quota, 1..=2).prop_map(|all| all.into_iter().collect())
}

#[derive(Clone, Debug)]
struct Op {
    later: i64,
    want: u32,
    least: u32,
    back: u32,
    owed: u32,
    // Microseconds since that was so.
    known: i64,
}

fn op() -> impl Strategy<Value = Op> {
    let rarely = || prop_oneof![5 => Just(0_u32), 1 => 1..50_u32];
    let later = prop_oneof![4 => 0..2_000_000_i64, 1 => -90_000_000..0_i64, 1 => 0..90_000_000_i64];
    let known = prop_oneof![3 => 0..2_000_000_i64, 1 => -9_000_000..0_i64];
    let told = (rarely(), rarely(), rarely());
    (later, 1..300_u32, told, known).prop_map(|(later, want, (least, back, owed), known)| Op {
        later,
        want,
        least,
        back,
        owed,
        known,
    })
}

fn call(quotas: &Quotas, op: &Op, now: u64) -> Call {
    let told = quotas.iter().map(|quota| Told {
        least: quota.step() * u128::from(op.least),
        back: op.back,
        owed: quota.step() * u128::from(op.owed) / 3,
    });
    let known = now.saturating_add_signed(-op.known) as i64;
    let owner = Owner::Named(&["team-a"]);
    script::call(owner, "requests", quotas, op.want, (known, told))
}

/// The script itself, told the time.
fn eval(redis: &Redis, call: &Call, now: u64) -> Vec<i64> {
    let source = GCRA.source();
    let timed = source.replace("redis.call('TIME')", "{ ARGV[#ARGV - 1], ARGV[#ARGV] }");
    assert_ne!(source, timed);
    let mut words = vec!["EVAL".to_owned(), timed, call.keys.len().to_string()];
    words.extend(call.keys.iter().map(|key| key.to_string()));
    words.extend(call.args.iter().map(|arg| {
        let mut text = String::new();
        Arg::write(arg, &mut text);
        text
    }));
    words.extend([(now / 1_000_000).to_string(), (now % 1_000_000).to_string()]);
    let words: Vec<&str> = words.iter().map(|it| &**it).collect();
    let answer = redis.command(&words);
    answer.lines().map(|line| line.parse().unwrap()).collect()
}

/// B08, across processes. R05: the clock of the server goes where it likes: nothing is refilled twice, and nobody is shut out.
#[test]
fn the_script_does_what_the_model_does() {
    let Some(redis) = Redis::start() else { return };
    let redis = std::cell::RefCell::new(redis);
    let config = ProptestConfig::with_cases(if tollgate_testing::long() { 2000 } else { 60 });
    proptest!(config, |(quotas in quotas(), ops in vec(op(), 1..25))| {
        let redis = redis.borrow_mut();
        redis.command(&["FLUSHALL"]);
        let (mut model, mut now) = (Model::default(), 1_700_000_000_000_000_u64);
        for op in &ops {
            now = now.saturating_add_signed(op.later);
            let call = call(&quotas, op, now);
            prop_assert_eq!(eval(&redis, &call, now), model.run(&call, now), "{:?} {:?}", op, call);
        }
    });
}

/// What stands under our key and is none of ours is written over; what Redis kept is gone when it says nothing more.
#[test]
fn a_key_of_another_type_is_taken_over_and_none_is_kept_for_ever() {
    let Some(redis) = Redis::start() else { return };
    let quotas: Quotas = Quota::new(60, Duration::from_secs(60)).unwrap().into();
    let op = Op {
        later: 0,
        want: 1,
        least: 0,
        back: 0,
        owed: 0,
        known: 0,
    };
    let call = call(&quotas, &op, 0);
    let key = &*call.keys[0];
    for wrong in [
        &["LPUSH", key, "x"][..],
        &["SET", key, "x y z"],
        &["SET", key, "1 2"],
    ] {
        redis.command(&["DEL", key]);
        redis.command(wrong);
        assert_eq!(
            eval(&redis, &call, 1_700_000_000_000_000),
            [1, 0, 0, 1_700_000_000_000_000, 1_000_000, 0]
        );
    }
    let left: i64 = redis.command(&["PTTL", key]).parse().unwrap();
    assert!((1..=2000).contains(&left), "{left}");
    assert!(!key.contains("team-a"));
}

proptest! {
    /// One request after the other: as the cells of this process decide, to the microsecond.
    #[test]
    fn the_model_decides_as_the_cells_of_this_process(quotas in quotas(), steps in vec(0..40_000_000_u64, 1..200)) {
        let (mut model, mut cell, mut now) = (Model::default(), Cell::new(&quotas), 0);
        let op = Op { later: 0, want: 1, least: 0, back: 0, owed: 0, known: 0 };
        let call = call(&quotas, &op, 0);
        for step in steps {
            now += step;
            let said = model.run(&call, now);
            match cell.wait(now * 1000) {
                None => {
                    prop_assert_eq!(said[0], 1);
                    cell.charge(now * 1000, false);
                }
                Some((wait, _)) => {
                    prop_assert_eq!(said[0], 0);
                    prop_assert_eq!(said[1] as u64, wait.div_ceil(1000));
                }
            }
        }
    }
}
