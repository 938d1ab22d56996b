//! The rows of the fault matrix that are about what an answer cost.

use std::collections::BTreeMap;

use tollgate_testing::{long, splits::Random};

use super::*;

/// A chunk of usage, in the provider's own words.
fn usage(fields: &str) -> String {
    format!("data: {{\"choices\":[],\"usage\":{{{fields}}}}}\n\n")
}

/// The line of a streamed chat that is answered with this body.
async fn told(body: &[u8]) -> (Message, Value) {
    let upstream = Upstream::start().await;
    let head = [("content-type", "text/event-stream")];
    upstream.serve_default(
        Script::new()
            .head(200, &head, Framing::Chunked)
            .body(body.to_vec())
            .end(),
    );
    let inside = Inside::start(&config(&one(upstream.addr(), "")));
    let answer = call(inside.data(), "POST", CHAT, &[], chat("m", true)).await;
    (answer, line(&inside).await)
}

/// S03: whoever leaves after an event is charged for the events until then, by estimate and never nothing.
#[tokio::test]
async fn s03_who_leaves_after_any_event_is_charged_for_what_was_delivered() {
    let upstream = Upstream::start().await;
    let inside = Inside::start(&config(&one(upstream.addr(), "")));
    let words = ["one", " two", " three", " four", " five"].map(word);
    for index in 1..=words.len() {
        let (name, gate) = (format!("leave-{index}"), Gate::new("rest"));
        let events = words[..index].to_vec();
        let size = events.concat().len();
        upstream.serve(&name, Script::events(events).wait(&gate).end());
        let conn = Conn::open(inside.data()).await;
        conn.send(request("POST", CHAT, &[(SCRIPT, &name)], chat("m", true)))
            .await
            .expect("the gateway reads the request");
        assert!(conn.until(|answer| answer.body.len() >= size).await);
        conn.close().await;
        let line = inside.lines(index).await.pop().expect("its line");
        assert_eq!(line["ended"], "client_gone", "{line}");
        assert_eq!(line["charged"]["source"], "estimated", "{line}");
        assert_eq!(line["charged"]["completion"], index, "{line}");
    }
}

/// S06, S10: what had come before a cut, or before the provider's own error, is charged; a report that had come is kept.
#[tokio::test]
async fn s06_s10_what_came_before_a_cut_or_an_error_is_charged() {
    let error = "data: {\"error\":{\"message\":\"boom\"}}\n\n";
    let report = usage("\"prompt_tokens\":5,\"completion_tokens\":9");
    for (events, cut, ended, source, completion) in [
        (
            vec![word("two"), word(" words")],
            true,
            "upstream_truncated",
            "estimated",
            2,
        ),
        (
            vec![word("two"), word(" words"), report.clone()],
            true,
            "upstream_truncated",
            "provider",
            9,
        ),
        (
            vec![word("two"), word(" words"), error.to_owned()],
            false,
            "upstream_error",
            "estimated",
            2,
        ),
        (
            vec![word("two"), report, error.to_owned()],
            false,
            "upstream_error",
            "provider",
            9,
        ),
    ] {
        let upstream = Upstream::start().await;
        let script = Script::events(events.clone());
        upstream.serve_default(if cut { script.fin() } else { script.end() });
        let inside = Inside::start(&config(&one(upstream.addr(), "")));
        call(inside.data(), "POST", CHAT, &[], chat("m", true)).await;
        let line = line(&inside).await;
        assert_eq!(line["ended"], ended, "{line}");
        // A usage report behind the last output is an end: only the transport is cut.
        assert_eq!(line["charged"]["source"], source, "{line}");
        assert_eq!(line["charged"]["completion"], completion, "{line}");
    }
}

/// S11: a page or a document behind the label of an event stream is no report, whatever stands in it.
#[tokio::test]
async fn s11_what_is_no_event_stream_is_not_metered() {
    for page in [
        "<html><script>{\"usage\":{\"prompt_tokens\":9}}</script></html>\n",
        "<html>\n\ndata: no\n\n</html>\n",
        "\u{feff}<!doctype html>\n",
    ] {
        let (answer, line) = told(page.as_bytes()).await;
        assert_eq!(answer.text(), page);
        assert_eq!(line["usage"], Value::Null, "{line}");
        let source = line["charged"]["source"].as_str().expect("a source");
        assert!(["none", "estimated"].contains(&source), "{line}");
    }
}

/// S16: a line of 100 MB, comments and empty events without end. The bytes pass, what is kept is bounded (the scanner's own
/// test holds it to the cap), and the report behind them is still read.
#[tokio::test]
async fn s16_what_is_too_long_passes_and_what_follows_is_read() {
    let size = if long() { 100 << 20 } else { 8 << 20 };
    let tail = [
        word("a"),
        FINISHED.to_owned(),
        EXTRA.to_owned(),
        DONE.to_owned(),
    ]
    .concat();
    for bulk in [
        format!("data: {}\n\n", "x".repeat(size)),
        ": c\n".repeat(size / 10),
        "data:\n\n".repeat(size / 100),
    ] {
        let body = [bulk, tail.clone()].concat();
        let (answer, line) = told(body.as_bytes()).await;
        assert!(answer.body == body.as_bytes(), "other bytes than were sent");
        assert_eq!(line["usage"]["completion"], 23, "{line}");
        assert_eq!(line["charged"]["source"], "provider", "{line}");
        assert_eq!(line["digest"]["upstream"], line["digest"]["client"]);
    }
}

/// S17: line ends of all kinds in one stream, cut anywhere; a mark in front; NUL and no UTF-8 in a text.
#[tokio::test]
async fn s17_odd_bytes_pass_and_the_usage_is_right() {
    let plain = [
        word("a"),
        FINISHED.to_owned(),
        EXTRA.to_owned(),
        DONE.to_owned(),
    ];
    let ends = ["\n", "\r\n", "\r", "\n"];
    let mixed: String = plain
        .iter()
        .zip(ends)
        .map(|(event, end)| event.replace('\n', end))
        .collect();
    let hostile = [
        &b"\xef\xbb\xbf: \0\xff\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\xff\xfe\0\"}}]}\n\n"[..],
        plain.concat().as_bytes(),
    ]
    .concat();
    for body in [mixed.as_bytes(), &hostile] {
        let upstream = Upstream::start().await;
        let head = [("content-type", "text/event-stream")];
        let pieces = body.chunks(1).take(400);
        let script = Script::new().head(200, &head, Framing::Chunked);
        let script = pieces.fold(script, |script, piece| script.body(piece.to_vec()));
        upstream.serve_default(script.body(body[body.len().min(400)..].to_vec()).end());
        let inside = Inside::start(&config(&one(upstream.addr(), "")));
        let answer = call(inside.data(), "POST", CHAT, &[], chat("m", true)).await;
        assert_eq!(answer.body, body);
        let line = line(&inside).await;
        assert_eq!(line["usage"]["prompt"], 11, "{line}");
        assert_eq!(line["usage"]["completion"], 23, "{line}");
        assert_eq!(line["charged"]["source"], "provider", "{line}");
    }
}

/// S19: reports that cannot be, and reports in odd places. The last that can be wins; else an estimate, never below nothing.
#[tokio::test]
async fn s19_the_last_report_that_can_be_wins() {
    let good = |completion: u32| format!("\"prompt_tokens\":5,\"completion_tokens\":{completion}");
    let bad = |completion: &str| format!("\"prompt_tokens\":5,\"completion_tokens\":{completion}");
    let text = word("one two three");
    let beside = text.replace(
        "\"choices\"",
        "\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":1},\"choices\"",
    );
    let escaped = usage("\"prompt\\u005ftokens\":5,\"completion_token\\u0073\":9");
    for (events, source, completion) in [
        (vec![text.clone(), usage(&bad("-3"))], "estimated", None),
        (vec![text.clone(), usage(&bad("\"12\""))], "estimated", None),
        (vec![text.clone(), usage(&bad("3.5"))], "estimated", None),
        (
            vec![text.clone(), usage(&bad("9223372036854775808"))],
            "estimated",
            None,
        ),
        (vec![text.clone(), usage(&bad("null"))], "provider", None),
        (
            vec![text.clone(), usage(&good(9)), usage(&bad("null"))],
            "provider",
            Some(9),
        ),
        (
            vec![text.clone(), usage(&good(9)), usage(&bad("-1"))],
            "provider",
            Some(9),
        ),
        (
            vec![text.clone(), usage(&good(30)), usage(&good(12))],
            "provider",
            Some(12),
        ),
        (
            vec![usage(&good(1)), text.clone(), usage(&good(9))],
            "provider",
            Some(9),
        ),
        (vec![beside, usage(&good(9))], "provider", Some(9)),
        (vec![text.clone(), escaped], "provider", Some(9)),
        (
            vec![word("\\\"usage\\\":{\\\"completion_tokens\\\":999}")],
            "estimated",
            None,
        ),
    ] {
        let mut body = events;
        let last = body.pop().expect("an event");
        body.push(FINISHED.to_owned());
        body.push(last);
        body.push(DONE.to_owned());
        let body = body.concat();
        let (answer, line) = told(body.as_bytes()).await;
        assert_eq!(answer.text(), body);
        assert_eq!(
            line["usage"]["completion"].as_u64(),
            completion,
            "{body}\n{line}"
        );
        assert_eq!(line["charged"]["source"], source, "{body}\n{line}");
        let charged = line["charged"]["completion"]
            .as_u64()
            .expect("no less than nothing");
        assert_eq!(charged, completion.unwrap_or(charged));
        assert!((1..100).contains(&charged), "{body}\n{line}");
    }
}

/// S27: over a run of whole answers, cuts and hang-ups there is one line for each request, and what the lines charge by the
/// provider's word is what the provider counted.
#[tokio::test]
async fn s27_the_lines_of_a_run_add_up_to_what_the_provider_counted() {
    let upstream = Upstream::start().await;
    let inside = Inside::start(&config(&one(upstream.addr(), "")));
    let mut random = Random::new(27);
    let mut counted = BTreeMap::new();
    let runs = if long() { 500 } else { 60 };
    for run in 0..runs {
        let id = format!("run-{run}");
        let tokens = random.below(1000) as u64 + 1;
        let mut events = vec![word("some"), word(" words")];
        let headers = [(SCRIPT, id.as_str()), ("x-request-id", id.as_str())];
        match random.below(3) {
            0 => {
                let report = format!("\"prompt_tokens\":7,\"completion_tokens\":{tokens}");
                events.extend([FINISHED.to_owned(), usage(&report), DONE.to_owned()]);
                upstream.serve(&id, Script::events(events).end());
                call(inside.data(), "POST", CHAT, &headers, chat("m", true)).await;
                counted.insert(id, Some(tokens));
            }
            1 => {
                upstream.serve(&id, Script::events(events).fin());
                call(inside.data(), "POST", CHAT, &headers, chat("m", true)).await;
                counted.insert(id, None);
            }
            _ => {
                let (gate, size) = (Gate::new("rest"), events.concat().len());
                upstream.serve(&id, Script::events(events).wait(&gate).end());
                let conn = Conn::open(inside.data()).await;
                conn.send(request("POST", CHAT, &headers, chat("m", true)))
                    .await
                    .expect("the gateway reads the request");
                assert!(conn.until(|answer| answer.body.len() >= size).await);
                conn.close().await;
                counted.insert(id, None);
            }
        }
    }
    let lines = inside.lines(runs).await;
    assert_eq!(lines.len(), runs);
    for line in lines {
        let id = line["request_id"].as_str().expect("an id");
        let tokens = counted
            .remove(id)
            .unwrap_or_else(|| panic!("{id} twice, or nobody's"));
        let charged = &line["charged"];
        match tokens {
            Some(tokens) => assert_eq!(
                *charged,
                json!({"prompt": 7, "completion": tokens, "source": "provider"})
            ),
            None => {
                assert_eq!(charged["source"], "estimated", "{line}");
                assert_eq!(charged["completion"], 2, "{line}");
            }
        }
    }
    assert!(counted.is_empty(), "without a line: {counted:?}");
}
