use std::fmt;

use super::*;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, text},
};

#[derive(Debug)]
struct Told(Registry);

impl Collector for Told {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.encode(&mut encoder, 0, &mut Vec::new())
    }
}

fn text(registry: &Registry) -> String {
    let mut all = prometheus_client::registry::Registry::default();
    all.register_collector(Box::new(Told(registry.clone())));
    let mut out = String::new();
    text::encode(&mut out, &all).unwrap();
    out
}

fn place(models: &[&str]) -> Place {
    Place {
        route: Some("r".to_owned()),
        provider: "p".to_owned(),
        label: None,
        models: models.iter().map(|&model| model.to_owned()).collect(),
    }
}

fn view(registry: &Registry, places: impl IntoIterator<Item = Place>) -> View {
    registry.view(&["r".to_owned()], 1000, places)
}

const AT: At<'_> = At {
    route: Some(0),
    model: None,
    caller: None,
    answered: None,
};

/// A call to a provider that was answered.
fn attempt(provider: &str, model: &str) -> Attempt {
    Attempt {
        provider: provider.into(),
        target: provider.into(),
        model: Some(model.into()),
        status: Some(200),
        ..Attempt::default()
    }
}

fn ended() -> Ended {
    Ended {
        status: 200,
        operation: 0,
        duration: Duration::from_secs(100),
        sent: Some(Duration::from_secs(40)),
        first_byte: Some(Duration::from_millis(40_005)),
        first_token: Some(Duration::from_millis(30)),
        stream: true,
        tokens: [700, 500],
        reported: true,
        usage: Some(Usage {
            input: 700,
            output: 500,
            cache_read: 20,
            cache_write: 3,
            reasoning: 100,
        }),
        cost: Some(0.0011),
        cut: Some(1),
        gaps: gaps(),
        ..Ended::of(record::Ended::Complete)
    }
}

/// Two outputs together, one 30 ms later, one 2 minutes later.
fn gaps() -> Gaps {
    let mut gaps = Gaps::default();
    gaps.together(1);
    gaps.add(Duration::from_millis(30), 1);
    gaps.add(Duration::from_secs(120), 1);
    gaps
}

fn has(text: &str, line: &str) {
    assert!(text.lines().any(|found| found == line), "{line}\n{text}");
}

#[test]
fn workers_are_summed_and_every_figure_is_told() {
    let registry = Registry::new(2);
    let view = view(&registry, [place(&["m"])]);
    let call = [attempt("p", "m")];
    view.ended(0, &AT, &call, &ended());
    view.ended(1, &AT, &call, &ended());
    let guessed = Ended {
        reported: false,
        usage: None,
        cost: None,
        first_token: None,
        stream: false,
        outcome: record::Ended::Timeout,
        ..ended()
    };
    view.ended(1, &AT, &call, &guessed);
    let refused = Ended {
        status: 503,
        ..ended()
    };
    view.ended(1, &AT, &call, &refused);
    let text = text(&registry);
    let target = r#"route="r",provider="p",model="m""#;
    let request = r#"route="r",provider="p",operation="chat",model="m""#;
    let labels =
        r#"gen_ai_operation_name="chat",gen_ai_provider_name="p",gen_ai_request_model="m""#;
    let lines = [
        format!(r#"tollgate_requests_total{{{request},status_class="2xx",outcome="complete"}} 2"#),
        format!(r#"tollgate_requests_total{{{request},status_class="2xx",outcome="timeout"}} 1"#),
        format!("tollgate_request_duration_seconds_count{{{target}}} 4"),
        format!("tollgate_request_duration_seconds_sum{{{target}}} 400.0"),
        format!(r#"tollgate_request_duration_seconds_bucket{{le="81.92",{target}}} 0"#),
        format!(r#"tollgate_request_duration_seconds_bucket{{le="163.84",{target}}} 4"#),
        format!(r#"tollgate_request_duration_seconds_bucket{{le="+Inf",{target}}} 4"#),
        format!("tollgate_time_to_first_token_seconds_count{{{target}}} 3"),
        r#"tollgate_tokens_total{provider="p",model="m",direction="input",source="reported"} 2100"#
            .to_owned(),
        r#"tollgate_tokens_total{provider="p",model="m",direction="output",source="estimated"} 500"#
            .to_owned(),
        r#"tollgate_stream_truncated_total{provider="p",cause="client"} 4"#.to_owned(),
        r#"tollgate_cost_usd_total{provider="p",model="m"} 0.0033"#.to_owned(),
        r#"tollgate_upstream_attempts_total{provider="p",reason="ok"} 4"#.to_owned(),
        format!(r#"gen_ai_server_request_duration_seconds_count{{{labels},error_type=""}} 2"#),
        format!(r#"gen_ai_server_request_duration_seconds_count{{{labels},error_type="5xx"}} 1"#),
        // From when it was sent.
        format!(r#"gen_ai_client_operation_duration_seconds_sum{{{labels},error_type="timeout"}} 60.0"#),
        format!("gen_ai_client_operation_time_to_first_chunk_seconds_count{{{labels}}} 3"),
        format!("gen_ai_client_operation_time_to_first_chunk_seconds_sum{{{labels}}} 0.015"),
        format!("gen_ai_server_time_to_first_token_seconds_count{{{labels}}} 3"),
        format!("gen_ai_client_operation_time_per_output_chunk_seconds_count{{{labels}}} 12"),
        format!("gen_ai_client_operation_time_per_output_chunk_seconds_sum{{{labels}}} 480.12"),
        format!(r#"gen_ai_client_operation_time_per_output_chunk_seconds_bucket{{le="0.02",{labels}}} 4"#),
        format!(r#"gen_ai_client_operation_time_per_output_chunk_seconds_bucket{{le="0.04",{labels}}} 8"#),
        format!(r#"gen_ai_client_operation_time_per_output_chunk_seconds_bucket{{le="81.92",{labels}}} 8"#),
        format!(r#"gen_ai_client_inference_usage_output_tokens_total{{{labels},gen_ai_token_modality="unknown"}} 1500"#),
        format!(r#"gen_ai_client_inference_usage_cache_read_input_tokens_total{{{labels},gen_ai_token_modality="unknown"}} 60"#),
        format!(r#"gen_ai_client_inference_usage_reasoning_output_tokens_total{{{labels},gen_ai_token_modality="unknown"}} 300"#),
        format!(r#"gen_ai_client_token_usage_sum{{{labels},gen_ai_token_type="output"}} 1500.0"#),
    ];
    for line in lines {
        has(&text, &line);
    }
    assert!(
        !text.contains("tollgate_waste_tokens_total"),
        "none was thrown away"
    );
}

#[test]
fn calls_are_told_by_what_came_of_them_and_where_requests_went_on() {
    let registry = Registry::new(1);
    let other = Place {
        provider: "q".to_owned(),
        ..place(&["n"])
    };
    let view = view(&registry, [place(&["m"]), other]);
    let failed = Attempt {
        error: Some("connect"),
        status: None,
        ..attempt("p", "m")
    };
    let status = |status| Attempt {
        status: Some(status),
        ..attempt("p", "m")
    };
    let unheard = Attempt {
        error: Some("never heard of"),
        ..attempt("q", "n")
    };
    for calls in [
        vec![failed, attempt("q", "n")],
        // Again at the same one, and then elsewhere.
        vec![status(429), status(503), attempt("q", "n")],
        vec![status(404)],
        vec![unheard, attempt("p", "m")],
    ] {
        view.ended(0, &AT, &calls, &ended());
    }
    let text = text(&registry);
    for (provider, reason, count) in [
        ("p", "connect", 1),
        ("p", "429", 1),
        ("p", "5xx", 1),
        ("p", "4xx", 1),
        ("p", "ok", 1),
        ("q", "ok", 2),
        ("q", "other", 1),
    ] {
        let labels = format!(r#"provider="{provider}",reason="{reason}""#);
        has(
            &text,
            &format!("tollgate_upstream_attempts_total{{{labels}}} {count}"),
        );
    }
    has(&text, r#"tollgate_failovers_total{from="p",to="q"} 2"#);
    has(&text, r#"tollgate_failovers_total{from="q",to="p"} 1"#);
    // By the last one.
    let served = r#"route="r",provider="q",model="n""#;
    has(
        &text,
        &format!("tollgate_request_duration_seconds_count{{{served}}} 2"),
    );
}

#[test]
fn callers_are_told_apart_where_that_is_wanted_and_those_that_are_known() {
    let registry = Registry::new(2);
    let plain = view(&registry, [place(&["m"])]);
    let by = |name| At { caller: name, ..AT };
    let call = [attempt("p", "m")];
    plain.ended(0, &by(Some("a")), &call, &ended());
    assert!(!text(&registry).contains("tollgate_caller"));
    let callers = registry.with_callers(&plain, ["a", "b", "c"], 4);
    for (worker, name) in [
        (0, Some("a")),
        (1, Some("a")),
        (1, Some("c")),
        (0, Some("d")),
        (0, None),
    ] {
        callers.ended(worker, &by(name), &call, &ended());
    }
    let text = text(&registry);
    for line in [
        r#"tollgate_caller_requests_total{caller="a",outcome="complete"} 2"#,
        r#"tollgate_caller_tokens_total{caller="a",direction="input",source="reported"} 1400"#,
        r#"tollgate_caller_cost_usd_total{caller="a"} 0.0022"#,
        // One beyond the most, and one that nobody configured.
        r#"tollgate_caller_requests_total{caller="other",outcome="complete"} 2"#,
        r#"tollgate_caller_requests_total{caller="",outcome="complete"} 1"#,
    ] {
        has(&text, line);
    }
    assert!(!text.contains(r#"caller="c""#) && !text.contains(r#"caller="d""#));
}

#[test]
fn waste_stands_where_the_attempt_was_that_was_thrown_away() {
    let registry = Registry::new(1);
    let view = view(&registry, [place(&["m"])]);
    for cost in [Some(0.002), None] {
        let tokens = [50, 9];
        let wasted = Wasted { tokens, cost };
        view.wasted(0, &AT, 0, &attempt("p", "m"), &wasted);
    }
    view.wasted(0, &AT, 0, &attempt("nobody", "m"), &Wasted::default());
    let text = text(&registry);
    for line in [
        r#"tollgate_waste_tokens_total{provider="p",model="m",direction="input"} 100"#,
        r#"tollgate_waste_tokens_total{provider="p",model="m",direction="output"} 18"#,
        r#"tollgate_waste_cost_usd_total{provider="p",model="m"} 0.002"#,
    ] {
        has(&text, line);
    }
}

#[test]
fn a_client_makes_no_series() {
    let registry = Registry::new(1);
    let view = view(&registry, [place(&["m"])]);
    let before = registry.all().series.len();
    for model in 0..5000 {
        let call = attempt("p", &format!("made-up-{model}"));
        view.ended(0, &AT, &[call], &ended());
    }
    view.ended(0, &AT, &[attempt("nobody", "m")], &ended());
    assert_eq!(registry.all().series.len(), before);
    let text = text(&registry);
    let target = r#"route="r",provider="p",model="other""#;
    has(
        &text,
        &format!("tollgate_request_duration_seconds_count{{{target}}} 5000"),
    );
    assert!(!text.contains(r#""nobody""#) && !text.contains("made-up"));
}

#[test]
fn another_configuration_counts_on_and_a_thousand_are_told_apart() {
    let registry = Registry::new(1);
    let first = view(&registry, [place(&["m"])]);
    first.ended(0, &AT, &[attempt("p", "m")], &ended());
    let many: Vec<String> = (0..3000).map(|model| format!("m{model}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).chain(["m"]).collect();
    let view = view(&registry, [place(&many)]);
    view.ended(0, &AT, &[attempt("p", "m")], &ended());
    view.ended(0, &AT, &[attempt("p", "m2999")], &ended());
    assert!(registry.all().series.len() <= 1001);
    let text = text(&registry);
    for (model, count) in [("m", 2), ("other", 1)] {
        let target = format!(r#"route="r",provider="p",model="{model}""#);
        has(
            &text,
            &format!("tollgate_request_duration_seconds_count{{{target}}} {count}"),
        );
    }
}

/// The table's places are the low bits, what it looks at first the highest ones.
#[test]
fn names_that_are_much_alike_lie_apart() {
    use std::hash::BuildHasher;
    let hash = BuildHasherDefault::<Mix>::default();
    let names: Vec<_> = (0..4096).map(|n| format!("gpt-{n}")).collect();
    let hashes = names.iter().map(|name| hash.hash_one(name));
    let mut low = vec![0_u32; 4096];
    let mut high = vec![0_u32; 128];
    for hash in hashes {
        low[(hash % 4096) as usize] += 1;
        high[(hash >> 57) as usize] += 1;
    }
    // Of so many that fall by chance, 7 or 8 lie in the fullest of the places; 32 of them in each of the few.
    assert!(low.iter().max() < Some(&12), "{:?}", low.iter().max());
    assert!(high.iter().all(|count| (8..96).contains(count)), "{high:?}");
}

/// Variants of one model at one provider are told apart by their labels; what has none bears none.
#[test]
fn variants_are_told_apart_by_their_labels() {
    let registry = Registry::new(1);
    let labelled = |label: &str| Place {
        label: Some(label.to_owned()),
        ..place(&["m"])
    };
    let view = view(
        &registry,
        [labelled("control"), labelled("trial"), place(&["m"])],
    );
    let met = |label: Option<&str>| Attempt {
        label: label.map(Into::into),
        ..attempt("p", "m")
    };
    for label in [Some("control"), Some("trial"), Some("trial"), None] {
        view.ended(0, &AT, &[met(label)], &ended());
    }
    let text = text(&registry);
    for (label, count) in [
        (r#",label="control""#, 1),
        (r#",label="trial""#, 2),
        ("", 1),
    ] {
        let target = format!(r#"route="r",provider="p",model="m"{label}"#);
        has(
            &text,
            &format!("tollgate_request_duration_seconds_count{{{target}}} {count}"),
        );
    }
}

/// Of several calls it is the one that was answered that the figures are of, wherever it stands.
#[test]
fn the_figures_are_of_the_call_that_was_answered() {
    let registry = Registry::new(1);
    let other = Place {
        provider: "q".to_owned(),
        ..place(&["m"])
    };
    let view = view(&registry, [place(&["m"]), other]);
    let calls = [attempt("p", "m"), attempt("q", "m")];
    let first = At {
        answered: Some(0),
        ..AT
    };
    view.ended(0, &first, &calls, &ended());
    let text = text(&registry);
    has(
        &text,
        r#"tollgate_request_duration_seconds_count{route="r",provider="p",model="m"} 1"#,
    );
}
