use tollgate_middleware::{
    clock::{Clock, SystemClock},
    record::{Ended, Record, TraceId},
};

use super::*;

const ROUTES: [&str; 2] = ["fast", "de\"fault"];

fn view(metrics: &Metrics, routes: &[&str]) -> series::View {
    let routes: Vec<_> = routes.iter().map(|&route| route.to_owned()).collect();
    metrics.view(&routes, 1000, [])
}

fn has(text: &str, line: &str) {
    assert!(text.lines().any(|found| found == line), "{line}\n{text}");
}

/// A request that no provider was asked for.
fn end(counters: &Counters, route: Option<usize>, status: u16, outcome: Ended) {
    let at = At {
        route,
        ..At::default()
    };
    let ended = series::Ended {
        status,
        outcome,
        ..series::Ended::of(outcome)
    };
    counters.ended(&at, &[], &ended, (10, 100));
}

#[test]
fn workers_are_summed_and_zeroes_left_out() {
    let metrics = Metrics::new(2);
    let view = view(&metrics, &ROUTES);
    for worker in [0, 1] {
        let counters = metrics.counters(worker, &view);
        counters.began();
        end(&counters, Some(0), 200, Ended::Complete);
        counters.overhead(Duration::from_micros(30), Some(Duration::from_micros(9)));
    }
    metrics.counters(1, &view).began();
    let text = metrics.scrape(Others {
        log_lines_dropped: 3,
        ..Others::default()
    });
    let labels = r#"route="fast",provider="",operation="other",model="",status_class="2xx",outcome="complete""#;
    has(&text, &format!("tollgate_requests_total{{{labels}}} 2"));
    assert_eq!(text.matches("tollgate_requests_total").count(), 1);
    has(&text, r#"tollgate_body_bytes_total{direction="in"} 20"#);
    has(&text, r#"tollgate_body_bytes_total{direction="out"} 200"#);
    has(&text, r#"tollgate_requests_in_flight{route=""} 1"#);
    has(&text, "tollgate_log_lines_dropped_total 3");
    let without = metrics.scrape(Others::default());
    assert!(!without.contains("spool") && !without.contains("degraded"));
    let with_both = metrics.scrape(Others {
        ledger: Some(LedgerFigures::default()),
        store: Some(Figures {
            degraded: true,
            ..Figures::default()
        }),
        ..Others::default()
    });
    has(&with_both, r#"tollgate_store_degraded{store="spool"} 0"#);
    has(&with_both, r#"tollgate_store_degraded{store="redis"} 1"#);
    assert_eq!(
        with_both.matches("# TYPE tollgate_store_degraded ").count(),
        1
    );
    for (phase, bound) in [("request", "0.00005"), ("response", "0.00001")] {
        let labels = format!(r#"le="{bound}",phase="{phase}""#);
        has(
            &text,
            &format!("tollgate_overhead_seconds_bucket{{{labels}}} 2"),
        );
    }
    assert!(text.contains("\ntollgate_build_info{version=\"0.1.0\",revision=\""));
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn durations_and_first_tokens_name_traces_where_openmetrics_is_asked_for() {
    let metrics = Metrics::new(2);
    let place = |route: &str, model: &str| series::Place {
        route: Some(route.to_owned()),
        provider: "p".to_owned(),
        label: None,
        models: vec![model.to_owned()],
    };
    let places = [place("fast", "m"), place("slow", "m")];
    let routes = ["fast", "slow"].map(str::to_owned);
    let view = metrics.view(&routes, 1000, places);
    let began = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let call = [Attempt {
        provider: "p".into(),
        model: Some("m".into()),
        status: Some(200),
        ..Attempt::default()
    }];
    let end = |worker, route, trace: Option<&str>, seconds: u64, first| {
        let at = At {
            route: Some(route),
            ..At::default()
        };
        let trace = trace.map(|trace| (trace_id(trace), began + Duration::from_secs(seconds)));
        let ended = series::Ended {
            status: 200,
            duration: Duration::from_secs(seconds),
            first_token: first,
            trace,
            ..series::Ended::of(Ended::Complete)
        };
        let counters = metrics.counters(worker, &view);
        counters.ended(&at, &call, &ended, (0, 0));
    };
    let [one, two, three] = ["a", "b", "c"].map(|digit| digit.repeat(32));
    let first = Some(Duration::from_millis(15));
    end(0, 1, Some(&one), 3, first);
    // Of a target that stands before it only a call is known that was thrown away.
    let fast = At {
        route: Some(0),
        ..At::default()
    };
    view.wasted(0, &fast, 0, &call[0], &series::Wasted::default());
    // Later, at another worker, in the same bucket; and one without a trace.
    end(1, 1, Some(&two), 4, None);
    end(1, 1, None, 5, None);
    end(0, 1, Some(&three), 400, None);
    let text = metrics.scrape(Others::default());
    let labels = r#"route="slow",provider="p",model="m""#;
    let duration = "tollgate_request_duration_seconds_bucket";
    for line in [
        format!(r#"{duration}{{le="2.56",{labels}}} 0"#),
        format!(r#"{duration}{{le="5.12",{labels}}} 3 # {{trace_id="{two}"}} 4 1700000004.000"#),
        format!(r#"{duration}{{le="10.24",{labels}}} 3"#),
        format!(
            r#"{duration}{{le="+Inf",{labels}}} 4 # {{trace_id="{three}"}} 400 1700000400.000"#
        ),
        format!(
            r#"tollgate_time_to_first_token_seconds_bucket{{le="0.02",{labels}}} 1 # {{trace_id="{one}"}} 0.015 1700000003.000"#
        ),
    ] {
        has(&text, &line);
    }
    assert_eq!(text.matches("trace_id").count(), 3, "{text}");
    has(
        &text,
        &format!(r#"{duration}{{le="+Inf",route="fast",provider="p",model="m"}} 0"#),
    );
    assert!(text.ends_with("# EOF\n"));
    let plain = metrics.told(Others::default(), Format::Plain);
    assert!(!plain.contains("trace_id") && !plain.contains("# EOF"));
    has(&plain, "# TYPE tollgate_requests_total counter");
    has(&plain, &format!(r#"{duration}{{le="5.12",{labels}}} 3"#));
}

fn trace_id(trace: &str) -> TraceId {
    let mut headers = http::HeaderMap::new();
    let value = format!("00-{trace}-b7ad6b7169203331-01");
    headers.insert("traceparent", value.parse().unwrap());
    let id = http::HeaderValue::from_static("-");
    let uri = http::Uri::from_static("/");
    let head = (&http::Method::POST, &uri, &headers);
    let now = SystemTime::UNIX_EPOCH;
    Record::new(id, head, SystemClock.now(), now)
        .trace()
        .unwrap()
}

#[test]
fn each_place_has_its_own_labels() {
    let metrics = Metrics::new(2);
    let counters = metrics.counters(0, &view(&metrics, &ROUTES));
    for (route, status, outcome) in [
        (None, 401, Ended::Refused),
        (Some(1), 503, Ended::Complete),
        (Some(0), 0, Ended::ClientGone),
        // Beyond all.
        (Some(99), 999, Ended::Drain),
    ] {
        end(&counters, route, status, outcome);
    }
    let text = metrics.scrape(Others::default());
    for (route, class, outcome) in [
        ("", "4xx", "refused"),
        ("de\\\"fault", "5xx", "complete"),
        ("fast", "none", "client_gone"),
        ("", "none", "drain"),
    ] {
        let labels = format!(
            r#"route="{route}",provider="",operation="other",model="",status_class="{class}",outcome="{outcome}""#
        );
        has(&text, &format!("tollgate_requests_total{{{labels}}} 1"));
    }
}

#[test]
fn another_configuration_counts_on_under_the_same_names() {
    let metrics = Metrics::new(2);
    let (before, later) = (view(&metrics, &ROUTES), view(&metrics, &["new", "fast"]));
    for (worker, view, route) in [
        (0, &before, 0),
        (1, &before, 1),
        (1, &later, 1),
        (0, &later, 0),
    ] {
        end(
            &metrics.counters(worker, view),
            Some(route),
            200,
            Ended::Complete,
        );
    }
    let text = metrics.scrape(Others::default());
    for (route, count) in [("fast", 2), ("de\\\"fault", 1), ("new", 1)] {
        let labels = format!(
            r#"route="{route}",provider="",operation="other",model="",status_class="2xx",outcome="complete""#
        );
        has(
            &text,
            &format!("tollgate_requests_total{{{labels}}} {count}"),
        );
    }
}

#[test]
fn what_runs_is_told_by_route_and_may_end_at_another_worker() {
    let metrics = Metrics::new(2);
    let view = view(&metrics, &ROUTES);
    let (here, there) = (metrics.counters(0, &view), metrics.counters(1, &view));
    let uri = http::Uri::from_static("/v1beta/models/m:streamGenerateContent");
    let headers = http::HeaderMap::new();
    let record = Record::new(
        http::HeaderValue::from_static("-"),
        (&http::Method::POST, &uri, &headers),
        SystemClock.now(),
        SystemClock.wall(),
    );
    here.began();
    here.began();
    record.set_running(&here.running(Some(0)));
    let text = metrics.scrape(Others::default());
    for line in [
        r#"tollgate_requests_in_flight{route="fast"} 1"#,
        r#"tollgate_requests_in_flight{route=""} 1"#,
        r#"tollgate_streams_in_flight{route="fast"} 1"#,
        r#"tollgate_streams_in_flight{route=""} 0"#,
    ] {
        has(&text, line);
    }
    assert!(record.settle());
    end(&there, Some(0), 200, Ended::Complete);
    end(&there, None, 200, Ended::Complete);
    let text = metrics.scrape(Others::default());
    for line in [
        r#"tollgate_requests_in_flight{route="fast"} 0"#,
        r#"tollgate_requests_in_flight{route=""} 0"#,
        r#"tollgate_streams_in_flight{route="fast"} 0"#,
    ] {
        has(&text, line);
    }
}

#[test]
fn routes_beyond_the_most_share_one_label() {
    let routes: Vec<_> = (0..1500).map(|count| format!("r{count}")).collect();
    let metrics = Metrics::new(1);
    let counters = metrics.counters(0, &metrics.view(&routes, 1000, []));
    for route in [999, 1000, 1499] {
        end(&counters, Some(route), 200, Ended::Complete);
    }
    let text = metrics.scrape(Others::default());
    for (route, count) in [("r999", 1), ("other", 2)] {
        let labels = format!(
            r#"route="{route}",provider="",operation="other",model="",status_class="2xx",outcome="complete""#
        );
        has(
            &text,
            &format!("tollgate_requests_total{{{labels}}} {count}"),
        );
    }
}

#[test]
fn what_keeps_the_money_and_the_configuration_are_told() {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let text = Metrics::new(1).scrape(Others {
        config_hash: "abc".into(),
        reloaded: Some(at),
        upstream_connections: 7,
        ledger: Some(LedgerFigures {
            degraded: true,
            dropped: 3,
            queue: 5,
        }),
        left: vec![Left {
            limit: "concurrency",
            kind: "global".into(),
            ratio: 0.25,
        }],
        ..Others::default()
    });
    for line in [
        r#"tollgate_config_info{hash="abc"} 1"#,
        "tollgate_config_last_reload_successful 1",
        "tollgate_config_last_reload_timestamp_seconds 1700000000.0",
        r#"tollgate_connections{side="upstream"} 7"#,
        r#"tollgate_store_degraded{store="spool"} 1"#,
        r#"tollgate_ledger_dropped_total{store="spool"} 3"#,
        r#"tollgate_ledger_queue{store="spool"} 5"#,
        r#"tollgate_limit_remaining_ratio{limit="concurrency",kind="global"} 0.25"#,
    ] {
        has(&text, line);
    }
}
