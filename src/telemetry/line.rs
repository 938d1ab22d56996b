//! The request log's line: one JSON object, its fields in a fixed order.
//!
//! What no layer reports yet is null. Names come from the configuration, reasons are fixed words;
//! bodies, prompts, keys and queries are never in it. Texts of the caller's are cut to a length.

use std::{
    io::Write as _,
    time::{Duration, SystemTime},
};

use jiff::{Timestamp, fmt::temporal::DateTimePrinter};
use tollgate_middleware::{
    dialect::Surface,
    json,
    record::{Attempt, Ended, Mark, Record},
};

/// Longest text of the caller's, in bytes.
const LONGEST: usize = 512;

/// Appends the line of a request that has ended, without a line break.
pub(crate) fn write(out: &mut Vec<u8>, record: &Record, generation: u64) {
    let mut line = Line { out, first: true };
    line.out.push(b'{');
    line.key("time");
    time(line.out, record.arrived());
    line.text("request_id", Some(record.request_id()));
    line.number("generation", Some(generation));
    line.text("method", Some(record.method().as_str()));
    line.text("path", Some(record.path()));
    line.number("status", record.status().map(u64::from));
    who(&mut line, record);
    what(&mut line, record);
    line.key("attempts");
    record.with_attempts(|all| attempts(line.out, all));
    times(&mut line, record);
    for unbuilt in [
        "usage",
        "charged",
        "waste",
        "cost_usd",
        "finish_reasons",
        "tool_calls",
    ] {
        line.null(unbuilt);
    }
    line.null("events");
    line.number("bytes_in", Some(record.bytes_in()));
    line.number("bytes_out", Some(record.bytes_out()));
    digest(&mut line, record);
    ending(&mut line, record);
    line.out.push(b'}');
}

fn who(line: &mut Line<'_>, record: &Record) {
    line.text("caller", record.caller().map(|name| &**name));
    line.text("route", record.route().map(|name| &**name));
    record.with_attempts(|all| {
        let last = all.last();
        line.text("provider", last.map(|it| &*it.provider));
        line.text("target", last.map(|it| &*it.target));
        line.text("label", last.and_then(|it| it.label.as_deref()));
    });
}

fn what(line: &mut Line<'_>, record: &Record) {
    let (surface, intent) = (record.surface(), record.intent());
    line.text("dialect", surface.map(|surface| surface.dialect.as_str()));
    let named = || surface.and_then(|surface| surface.model_in(record.path()));
    match intent {
        Some(intent) => line.text("model", intent.model()),
        None => line.text("model", named().as_deref()),
    }
    record.with_attempts(|all| {
        line.text(
            "upstream_model",
            all.last().and_then(|it| it.model.as_deref()),
        );
    });
    let unread = || {
        surface
            .and_then(|surface: &Surface| surface.stream)
            .unwrap_or(false)
    };
    let stream = intent.map_or_else(unread, |intent| intent.stream());
    line.raw("stream", if stream { "true" } else { "false" });
}

fn attempts(out: &mut Vec<u8>, all: &[Attempt]) {
    out.push(b'[');
    for (at, attempt) in all.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let mut line = Line { out, first: true };
        line.out.push(b'{');
        line.text("provider", Some(&attempt.provider));
        line.text("model", attempt.model.as_deref());
        if let Some(status) = attempt.status {
            line.number("status", Some(status.into()));
        }
        if let Some(error) = attempt.error {
            line.text("error", Some(error));
        }
        line.millis("ms", Some(attempt.took));
        line.out.push(b'}');
    }
    out.push(b']');
}

fn times(line: &mut Line<'_>, record: &Record) {
    line.millis("duration_ms", record.at(Mark::End));
    line.millis("first_byte_ms", record.at(Mark::FirstByte));
    line.millis("first_token_ms", record.at(Mark::FirstToken));
    line.millis("gateway_ms", record.gateway_time());
}

fn digest(line: &mut Line<'_>, record: &Record) {
    // What is answered by us was received from nobody.
    let relayed = record.at(Mark::UpstreamHead).is_some() && record.refused().is_none();
    match record.digest().filter(|_| relayed) {
        None => line.null("digest"),
        Some(digest) => {
            line.key("digest");
            let (upstream, client) = (digest.upstream, digest.client);
            // Writing to memory does not fail.
            let _ = write!(
                line.out,
                r#"{{"upstream":"{upstream:032x}","client":"{client:032x}"}}"#
            );
        }
    }
}

fn ending(line: &mut Line<'_>, record: &Record) {
    let ended = record.ended().unwrap_or(Ended::Internal);
    line.text("ended", Some(ended.as_str()));
    let refused = record.refused();
    line.text("refused_by", refused.map(|it| it.layer));
    let reason = refused.map(|it| it.reason).or_else(|| record.broke());
    line.text("error", reason.map(|it| it.as_str()));
    line.key("edited_by");
    line.out.push(b'[');
    for (at, layer) in record.edited_by().iter().enumerate() {
        if at > 0 {
            line.out.push(b',');
        }
        json::escape_into(layer, line.out);
    }
    line.out.push(b']');
}

/// An object being written.
struct Line<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl Line<'_> {
    /// A name that needs no escape, and the colon.
    fn key(&mut self, name: &str) {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn raw(&mut self, name: &str, value: &str) {
        self.key(name);
        self.out.extend_from_slice(value.as_bytes());
    }

    fn null(&mut self, name: &str) {
        self.raw(name, "null");
    }

    fn text(&mut self, name: &str, value: Option<&str>) {
        let Some(value) = value else {
            return self.null(name);
        };
        self.key(name);
        let end = value.floor_char_boundary(LONGEST);
        json::escape_into(&value[..end], self.out);
    }

    fn number(&mut self, name: &str, value: Option<u64>) {
        let Some(value) = value else {
            return self.null(name);
        };
        self.key(name);
        let _ = write!(self.out, "{value}");
    }

    /// Milliseconds with three decimals.
    fn millis(&mut self, name: &str, value: Option<Duration>) {
        let Some(value) = value else {
            return self.null(name);
        };
        self.key(name);
        let micros = value.as_micros();
        let _ = write!(self.out, "{}.{:03}", micros / 1000, micros % 1000);
    }
}

/// RFC 3339 in UTC, with milliseconds.
fn time(out: &mut Vec<u8>, at: SystemTime) {
    // A clock beyond the year 9999 tells its end.
    let at = Timestamp::try_from(at).unwrap_or(Timestamp::MAX);
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));
    out.push(b'"');
    let _ = PRINTER.print_timestamp(&at, jiff::fmt::StdIoWrite(&mut *out));
    out.push(b'"');
}

#[cfg(test)]
mod tests {
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
            "id-1",
            (&Method::POST, &uri, &HeaderMap::new()),
            started,
            arrived,
        )
    }

    fn line(record: &Record) -> serde_json::Value {
        let mut out = Vec::new();
        write(&mut out, record, 3);
        serde_json::from_slice(&out).unwrap()
    }

    fn start() -> std::time::Instant {
        tokio::time::Instant::now().into_std()
    }

    #[test]
    fn a_relayed_answer_is_told_with_its_attempt_and_digest() {
        let start = start();
        let record = record("/v1/chat/completions?key=secret", start);
        record.set_route("all".into());
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
    fn hostile_text_stays_one_short_line_of_json() {
        let record = record(&format!("/v1/{}", "%0d%0aé".repeat(4000)), start());
        let mut out = Vec::new();
        write(&mut out, &record, 1);
        assert!(out.len() < 2048 && !out.contains(&b'\n'));
        assert!(serde_json::from_slice::<serde_json::Value>(&out).is_ok());
    }
}
