//! The circuits: their states in the metrics, and the event of a change.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    time::{Instant, SystemTime},
};

use prometheus_client::{encoding::DescriptorEncoder, metrics::MetricType};
use tollgate_middleware::{
    health::{Board, Change, State},
    json,
};

use super::{line, series::Place};

/// The label of the models that no configuration and no price names: callers made them up.
const OTHER: &str = "other";

/// The state of each circuit at one moment, by provider and model; and which providers may be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Circuits {
    states: BTreeMap<(String, String), i64>,
    healthy: BTreeMap<String, bool>,
}

impl Circuits {
    /// What stands on the board now. Models that `places` do not name are one, in the worst of their states. A provider is healthy
    /// if one of its models may be asked, or none was.
    pub fn of(board: &Board, places: impl Iterator<Item = Place>, now: Instant) -> Self {
        let mut named = HashSet::new();
        let mut known = BTreeMap::new();
        for place in places {
            let provider = place.provider;
            let pair = |model| (provider.clone(), model);
            named.extend(place.models.into_iter().map(pair));
            known.insert(provider, None);
        }
        let mut all = BTreeMap::new();
        for health in board.all() {
            if let Some(healthy) = known.get_mut(&**health.provider()) {
                let asked = health.admits(now) && health.pulse().parked(now).is_none();
                *healthy = Some(healthy.unwrap_or(false) || asked);
            }
            let model = health.model().map_or("", |model| &**model);
            let mut key = (health.provider().to_string(), model.to_owned());
            if !model.is_empty() && !named.contains(&key) {
                OTHER.clone_into(&mut key.1);
            }
            let state = number(health.state(now));
            let shown = all.entry(key).or_insert(state);
            *shown = state.max(*shown);
        }
        let healthy = known.into_iter();
        Self {
            states: all,
            healthy: healthy
                .map(|(provider, healthy)| (provider, healthy.unwrap_or(true)))
                .collect(),
        }
    }

    /// As families of gauges; nothing where there is none.
    pub(crate) fn encode(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        if !self.healthy.is_empty() {
            let help = "1 if one of a provider's models may be asked: its circuit is not open, nor has it said when to come again";
            let name = "tollgate_endpoint_healthy";
            let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (provider, healthy) in &self.healthy {
                family
                    .encode_family(&[("provider", provider.as_str())])?
                    .encode_gauge(&i64::from(*healthy))?;
            }
        }
        if self.states.is_empty() {
            return Ok(());
        }
        let help = "0: requests pass; 1: some try whether they can; 2: none is let in";
        let mut family =
            to.encode_descriptor("tollgate_circuit_state", help, None, MetricType::Gauge)?;
        for ((provider, model), state) in &self.states {
            let labels = [("provider", provider.as_str()), ("model", model.as_str())];
            family.encode_family(&labels)?.encode_gauge(state)?;
        }
        Ok(())
    }
}

fn number(state: State) -> i64 {
    match state {
        State::Closed => 0,
        State::HalfOpen { .. } => 1,
        State::Open { .. } => 2,
    }
}

/// The word for a state.
pub(crate) fn word(state: State) -> &'static str {
    match state {
        State::Closed => "closed",
        State::HalfOpen { .. } => "half_open",
        State::Open { .. } => "open",
    }
}

/// The members of the event of a change; `now` is the wall clock.
pub(crate) fn event(change: &Change, now: SystemTime) -> Vec<u8> {
    let mut out = b"{\"type\":\"circuit.changed\",\"time\":".to_vec();
    line::time(&mut out, now);
    out.extend_from_slice(b",\"provider\":");
    json::escape_into(change.health.provider(), &mut out);
    out.extend_from_slice(b",\"model\":");
    match change.health.model() {
        Some(model) => json::escape_into(model, &mut out),
        None => out.extend_from_slice(b"null"),
    }
    let (from, to) = (word(change.from), word(change.to));
    out.extend_from_slice(format!(",\"from\":\"{from}\",\"to\":\"{to}\",\"until\":").as_bytes());
    match change.to {
        State::Open { until } => {
            let left = until.saturating_duration_since(change.at);
            line::time(&mut out, now + left);
        }
        State::Closed | State::HalfOpen { .. } => out.extend_from_slice(b"null"),
    }
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    use tollgate_middleware::{
        clock::{Clock, SystemClock},
        health::{Policy, Verdict},
    };

    use super::*;

    fn fail(board: &Board, model: Option<&str>, now: Instant) {
        let (health, policy) = (board.health("p", model), Policy::default());
        for _ in 0..5 {
            let pass = health.enter(&policy, None, now).unwrap();
            health.settle(pass, Verdict::Failure, &policy, now);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_told_with_the_time_of_the_next_probe() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let (heard, now) = (told.clone(), SystemClock.now());
        let epoch = SystemTime::UNIX_EPOCH;
        let board = Board::telling(now, move |change| {
            heard.lock().unwrap().push(event(change, epoch));
        });
        fail(&board, Some("a\"b"), now);
        let later = now + Duration::from_secs(31);
        let probe = board.health("p", Some("a\"b"));
        let _pass = probe.enter(&Policy::default(), None, later).unwrap();
        let told: Vec<serde_json::Value> = told
            .lock()
            .unwrap()
            .iter()
            .map(|event| serde_json::from_slice(event).unwrap())
            .collect();
        let of = |from: &str, to: &str, until: Option<&str>| {
            serde_json::json!({
                "type": "circuit.changed", "time": "1970-01-01T00:00:00.000Z", "provider": "p",
                "model": "a\"b", "from": from, "to": to, "until": until,
            })
        };
        assert_eq!(
            told,
            [
                of("closed", "open", Some("1970-01-01T00:00:30.000Z")),
                of("open", "half_open", None),
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn names_that_callers_made_up_are_one_in_the_worst_of_their_states() {
        let now = SystemClock.now();
        let board = Board::new(now);
        fail(&board, Some("known"), now);
        fail(&board, Some("made-up"), now);
        board.health("p", Some("another"));
        board.health("p", None);
        let place = Place {
            route: None,
            provider: "p".into(),
            label: None,
            models: vec!["known".into(), "never-asked".into()],
        };
        let circuits = Circuits::of(&board, std::iter::once(place), now);
        let key = |model: &str| ("p".to_owned(), model.to_owned());
        let expected = [(key(""), 0), (key("known"), 2), (key(OTHER), 2)];
        assert_eq!(circuits.states, BTreeMap::from(expected));
        // One of its models may be asked.
        assert_eq!(circuits.healthy, BTreeMap::from([("p".to_owned(), true)]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_of_which_nothing_may_be_asked_is_not_healthy() {
        let now = SystemClock.now();
        let place = || Place {
            label: None,
            route: None,
            provider: "p".into(),
            models: Vec::new(),
        };
        let healthy = |board: &Board| {
            let circuits = Circuits::of(board, std::iter::once(place()), now);
            circuits.healthy["p"]
        };
        let board = Board::new(now);
        assert!(healthy(&board), "nothing is known");
        fail(&board, Some("m"), now);
        assert!(!healthy(&board), "its only circuit is open");
        let other = board.health("p", Some("n"));
        assert!(healthy(&board));
        other.pulse().park(now + Duration::from_secs(9), true);
        assert!(!healthy(&board), "it has said when to come again");
    }
}
