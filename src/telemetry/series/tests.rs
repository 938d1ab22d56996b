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
        self.0.encode(&mut encoder)
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

fn met(model: &str) -> Met<'_> {
    Met {
        route: Some("r"),
        provider: "p",
        label: None,
        upstream_model: Some(model),
        model: None,
    }
}

fn ended() -> Ended {
    Ended {
        operation: 0,
        duration: Duration::from_secs(100),
        first_byte: Some(Duration::from_millis(5)),
        first_token: Some(Duration::from_millis(30)),
        tokens: [700, 500],
        reported: true,
        cost: Some(0.0011),
        overhead: Some(Duration::from_micros(30)),
        cut: Some(1),
    }
}

fn has(text: &str, line: &str) {
    assert!(text.lines().any(|found| found == line), "{line}\n{text}");
}

#[test]
fn workers_are_summed_and_every_figure_is_told() {
    let registry = Registry::new(2, &["chat"]);
    let view = registry.view([place(&["m"])]);
    registry.ended(&view, 0, &met("m"), &ended());
    registry.ended(&view, 1, &met("m"), &ended());
    let guessed = Ended {
        reported: false,
        cost: None,
        first_token: None,
        ..ended()
    };
    registry.ended(&view, 1, &met("m"), &guessed);
    let text = text(&registry);
    let target = r#"route="r",provider="p",model="m""#;
    has(
        &text,
        &format!("tollgate_request_duration_seconds_count{{{target}}} 3"),
    );
    has(
        &text,
        &format!("tollgate_request_duration_seconds_sum{{{target}}} 300.0"),
    );
    has(
        &text,
        &format!(r#"tollgate_request_duration_seconds_bucket{{le="81.92",{target}}} 0"#),
    );
    has(
        &text,
        &format!(r#"tollgate_request_duration_seconds_bucket{{le="163.84",{target}}} 3"#),
    );
    has(
        &text,
        &format!(r#"tollgate_request_duration_seconds_bucket{{le="+Inf",{target}}} 3"#),
    );
    has(
        &text,
        &format!("tollgate_time_to_first_token_seconds_count{{{target}}} 2"),
    );
    has(
        &text,
        r#"tollgate_tokens_total{provider="p",model="m",direction="input",source="reported"} 1400"#,
    );
    has(
        &text,
        r#"tollgate_tokens_total{provider="p",model="m",direction="output",source="estimated"} 500"#,
    );
    has(
        &text,
        r#"tollgate_stream_truncated_total{provider="p",cause="client"} 3"#,
    );
    has(
        &text,
        &format!(r#"tollgate_overhead_seconds_bucket{{le="0.00005",{target}}} 3"#),
    );
    has(
        &text,
        r#"tollgate_cost_usd_total{provider="p",model="m"} 0.0022"#,
    );
    let labels =
        r#"gen_ai_operation_name="chat",gen_ai_provider_name="p",gen_ai_request_model="m""#;
    has(
        &text,
        &format!("gen_ai_server_time_to_first_token_seconds_count{{{labels}}} 2"),
    );
    has(
        &text,
        &format!(r#"gen_ai_client_token_usage_sum{{{labels},gen_ai_token_type="output"}} 1000.0"#),
    );
}

/// Variants of one model at one provider are told apart by their labels; what has none bears none.
#[test]
fn variants_are_told_apart_by_their_labels() {
    let registry = Registry::new(1, &["chat"]);
    let labelled = |label: &str| Place {
        label: Some(label.to_owned()),
        ..place(&["m"])
    };
    let view = registry.view([labelled("control"), labelled("trial"), place(&["m"])]);
    let met = |label| Met { label, ..met("m") };
    for label in [
        Some("control"),
        Some("trial"),
        Some("trial"),
        None,
        Some("unknown"),
    ] {
        registry.ended(&view, 0, &met(label), &ended());
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
    let all =
        r#"tollgate_tokens_total{provider="p",model="m",direction="input",source="reported"} 2800"#;
    has(&text, all);
}

#[test]
fn a_client_makes_no_series() {
    let registry = Registry::new(1, &["chat"]);
    let view = registry.view([place(&["m"])]);
    let before = registry.all().len();
    for model in 0..5000 {
        registry.ended(&view, 0, &met(&format!("made-up-{model}")), &ended());
    }
    let elsewhere = Met {
        provider: "nobody",
        ..met("m")
    };
    registry.ended(&view, 0, &elsewhere, &ended());
    assert_eq!(registry.all().len(), before);
    let target = r#"route="r",provider="p",model="other""#;
    has(
        &text(&registry),
        &format!("tollgate_request_duration_seconds_count{{{target}}} 5000"),
    );
}

#[test]
fn another_configuration_counts_on_and_a_thousand_are_told_apart() {
    let registry = Registry::new(1, &["chat"]);
    registry.ended(&registry.view([place(&["m"])]), 0, &met("m"), &ended());
    let many: Vec<String> = (0..3000).map(|model| format!("m{model}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).chain(["m"]).collect();
    let view = registry.view([place(&many)]);
    registry.ended(&view, 0, &met("m"), &ended());
    registry.ended(&view, 0, &met("m2999"), &ended());
    assert!(registry.all().len() <= MOST + 1);
    let text = text(&registry);
    for (model, count) in [("m", 2), ("other", 1)] {
        let target = format!(r#"route="r",provider="p",model="{model}""#);
        has(
            &text,
            &format!("tollgate_request_duration_seconds_count{{{target}}} {count}"),
        );
    }
}
