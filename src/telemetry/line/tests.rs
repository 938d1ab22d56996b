use super::*;
use http::{HeaderMap, Method, Uri};
use tollgate_middleware::{
    error::{Reason, Rejection},
    record::Digest,
};

fn record(uri: &str, started: std::time::Instant) -> Record {
    let uri: Uri = uri.parse().unwrap();
    let arrived = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_042);
    Record::new(
        http::HeaderValue::from_static("id-1"),
        (&Method::POST, &uri, &HeaderMap::new()),
        started,
        arrived,
    )
}

fn line(record: &Record) -> serde_json::Value {
    let mut out = Vec::new();
    write(&mut out, record, 3, Some(0.0011));
    serde_json::from_slice(&out).unwrap()
}

fn start() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

#[test]
fn controls_that_json_lets_stand_are_escaped() {
    let mut out = Vec::new();
    let text = "a\u{7f}\u{80}b\u{9f}\u{a0}\u{e9}\u{1b}";
    Line(&mut out).text("", Some(text));
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "\"a\\u007f\\u0080b\\u009f\u{a0}\u{e9}\\u001b\""
    );
}

#[test]
fn a_relayed_answer_is_told_with_its_attempt_and_digest() {
    let start = start();
    let record = record("/v1/chat/completions?key=secret", start);
    record.set_route("all".into(), 0);
    record.begin_attempt(Attempt {
        provider: "p".into(),
        target: "p/m".into(),
        ..Default::default()
    });
    record.update_attempt(|it| it.status = Some(200));
    record.mark(Mark::Sent, start + Duration::from_micros(200));
    record.mark(Mark::UpstreamHead, start + Duration::from_micros(1200));
    record.mark(Mark::Head, start + Duration::from_micros(1500));
    record.mark(Mark::End, start + Duration::from_micros(2000));
    record.set_status(200);
    record.set_bytes_out(5);
    record.set_digest(Digest {
        upstream: 1,
        client: 0xabc,
    });
    record.set_ended(Ended::Complete);
    let line = line(&record);
    assert_eq!(line["time"], "2023-11-14T22:13:20.042Z");
    assert_eq!(
        (&line["generation"], &line["status"]),
        (&3.into(), &200.into())
    );
    assert_eq!(line["path"], "/v1/chat/completions");
    assert_eq!(line["attempts"][0]["status"], 200);
    assert_eq!(line["gateway_ms"], 0.5);
    assert_eq!(line["duration_ms"], 2.0);
    assert_eq!(
        line["digest"]["upstream"],
        "00000000000000000000000000000001"
    );
    assert_eq!(line["digest"]["client"], "00000000000000000000000000000abc");
    assert_eq!(line["ended"], "complete");
    assert!(line["usage"].is_null() && line["caller"].is_null());
    assert!(!line.to_string().contains("secret"));
}

#[test]
fn what_was_metered_is_told_and_what_was_not_is_null() {
    let start = start();
    let record = record("/v1/chat/completions", start);
    record.begin_attempt(Attempt::default());
    let unanswered = line(&record);
    assert_eq!(
        unanswered["charged"],
        serde_json::json!({"prompt": 0, "completion": 0, "source": "none"})
    );
    record.begin_metering();
    record.update_metered(|metered| {
        metered.usage = Some(tollgate_middleware::dialect::Usage {
            prompt: Some(5),
            cached: Some(2),
            ..Default::default()
        });
        metered.charge = tollgate_middleware::record::Charge {
            prompt: 5,
            completion: 7,
            source: tollgate_middleware::record::Source::Drained,
        };
        metered.finish_reasons = vec!["stop".into(), "a\"b".into()];
        metered.tool_calls = vec!["get".into()];
        metered.events = Some(3);
    });
    let told = line(&record);
    assert_eq!(
        told["usage"],
        serde_json::json!({"prompt": 5, "completion": null, "total": null, "cached": 2, "cache_write": null, "reasoning": null})
    );
    assert_eq!(
        told["charged"],
        serde_json::json!({"prompt": 5, "completion": 7, "source": "drained"})
    );
    assert_eq!(told["finish_reasons"], serde_json::json!(["stop", "a\"b"]));
    assert_eq!(
        (&told["tool_calls"][0], &told["events"]),
        (&"get".into(), &3.into())
    );
    assert_eq!(
        (&told["cost_usd"], &told["waste"]),
        (&0.0011.into(), &serde_json::Value::Null)
    );
    // Another attempt: what the first cost is waste.
    record.begin_metering();
    assert_eq!(
        line(&record)["waste"],
        serde_json::json!({"prompt": 5, "completion": 7})
    );
}

#[test]
fn a_refusal_names_the_layer_and_the_reason() {
    let record = record("/v1/chat/completions", start());
    record.set_refused(&Rejection::new(
        Reason::ModelNotFound,
        "route",
        "told to the caller",
    ));
    let line = line(&record);
    assert_eq!(line["refused_by"], "route");
    assert_eq!(line["error"], "model_not_found");
    assert_eq!(line["ended"], "refused");
    assert!(line["digest"].is_null());
    assert!(!line.to_string().contains("told"));
}

#[test]
fn an_answer_that_a_rule_stopped_on_its_way_keeps_its_digest() {
    let record = record("/v1/chat/completions", start());
    record.mark(Mark::UpstreamHead, start());
    let (upstream, client) = (1, 2);
    record.set_digest(Digest { upstream, client });
    let why = Rejection::new(
        Reason::ResponseRejected,
        "word_filter",
        "told to the caller",
    );
    record.set_refused(&why);
    assert!(
        line(&record)["digest"].is_null(),
        "a document was answered by us"
    );
    record.set_broke(why.reason());
    let line = line(&record);
    assert_eq!(line["digest"]["client"].as_str().map(str::len), Some(32));
    assert_eq!(
        (&line["ended"], &line["refused_by"]),
        (&"refused".into(), &"word_filter".into())
    );
}

#[test]
fn moments_are_told_in_utc_to_the_millisecond_in_any_order() {
    let told = |since: Duration| {
        let mut out = Vec::new();
        time(&mut out, SystemTime::UNIX_EPOCH + since);
        String::from_utf8(out).unwrap()
    };
    let moment = Duration::from_millis(1_700_000_000_007);
    assert_eq!(told(moment), "\"2023-11-14T22:13:20.007Z\"");
    let same = moment + Duration::from_micros(992_999);
    assert_eq!(told(same), "\"2023-11-14T22:13:20.999Z\"");
    assert_eq!(told(Duration::ZERO), "\"1970-01-01T00:00:00.000Z\"");
    assert_eq!(told(moment), "\"2023-11-14T22:13:20.007Z\"");
    let far = Duration::from_secs(1 << 40);
    assert_eq!(told(far), "\"9999-12-30T22:00:00.000Z\"");
}

#[test]
fn what_never_became_a_request_has_the_fields_of_one() {
    let mut out = Vec::new();
    refused(
        &mut out,
        SystemTime::UNIX_EPOCH,
        "id-1",
        3,
        &Refusal::slow(),
    );
    let told: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let whole = line(&record("/v1/chat/completions", start()));
    let names = |line: &serde_json::Value| -> Vec<String> {
        line.as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(names(&told), names(&whole));
    assert_eq!(
        (&told["refused_by"], &told["status"]),
        (&"wire".into(), &408.into())
    );
    assert_eq!(
        (&told["error"], &told["ended"]),
        (&"request_timeout".into(), &"refused".into())
    );
    assert!(told["method"].is_null() && told["bytes_in"].is_null());
}

#[test]
fn numbers_are_written_as_a_formatter_would() {
    for value in [0, 1, 9, 10, 999, 1000, 123_456, u64::MAX] {
        let mut out = Vec::new();
        Line(&mut out).decimal(value);
        assert_eq!(out, value.to_string().into_bytes());
    }
    for (micros, text) in [
        (0, "0.000"),
        (7, "0.007"),
        (1_050, "1.050"),
        (12_345_678, "12345.678"),
    ] {
        let mut out = Vec::new();
        Line(&mut out).millis("", Some(Duration::from_micros(micros)));
        assert_eq!(out, text.as_bytes());
    }
    let mut out = Vec::new();
    Line(&mut out).hex(0x0123_4567_89ab_cdef_u128 << 64 | 0xf0);
    assert_eq!(out, b"0123456789abcdef00000000000000f0");
}

/// D10.
#[test]
fn hostile_text_stays_one_short_line_of_json() {
    let record = record(&format!("/v1/{}", "%0d%0aé".repeat(4000)), start());
    let mut out = Vec::new();
    write(&mut out, &record, 1, None);
    assert!(out.len() < 2048 && !out.contains(&b'\n'));
    assert!(serde_json::from_slice::<serde_json::Value>(&out).is_ok());
}
