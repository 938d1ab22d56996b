//! The request log's line: one JSON object, its fields in a fixed order.
//!
//! What no layer reports yet is null. Names come from the configuration, reasons are fixed words;
//! bodies, prompts, keys and queries are never in it. Texts of the caller's are cut to a length.

use std::{
    cell::Cell,
    io::Write as _,
    time::{Duration, SystemTime},
};

use jiff::{Timestamp, fmt::temporal::DateTimePrinter};
use tollgate_middleware::{
    dialect::Surface,
    json,
    record::{Attempt, Ended, Found, Mark, Metered, Record, Waste},
    wire::Refusal,
};

use crate::spool::Lost;

/// Room for a usual line.
const USUAL: usize = 1024;
/// Longest text of the caller's, in bytes.
const LONGEST: usize = 512;
const DEL: u8 = 0x7f;
/// The first byte of U+0080 to U+009F, and of others, in UTF-8.
const C1: u8 = 0xc2;

/// Appends the line of a request that has ended, without a line break; `usd` is what it cost.
pub(crate) fn write(out: &mut Vec<u8>, record: &Record, generation: u64, usd: Option<f64>) {
    out.reserve(USUAL);
    out.extend_from_slice(b"{\"time\":");
    time(out, record.arrived());
    let mut line = Line(out);
    line.word(r#","request_id":"#, Some(record.request_id()));
    line.number(r#","generation":"#, Some(generation));
    line.text(r#","method":"#, Some(record.method().as_str()));
    line.text(r#","path":"#, Some(record.path()));
    line.number(r#","status":"#, record.status().map(u64::from));
    line.text(r#","caller":"#, record.caller().map(|name| &**name));
    let labels = record.caller_labels();
    if !labels.is_empty() {
        line.object(r#","caller_labels":"#, labels);
    }
    line.text(r#","route":"#, record.route().map(|name| &**name));
    record.with_answered(|answered| target(&mut line, record, answered));
    record.with_attempts(|all| {
        line.raw(r#","attempts":["#);
        for (at, one) in all.iter().enumerate() {
            attempt(&mut line, one, at == 0);
        }
        line.raw("]");
    });
    line.millis(r#","duration_ms":"#, record.at(Mark::End));
    line.millis(r#","first_byte_ms":"#, record.at(Mark::FirstByte));
    line.millis(r#","first_token_ms":"#, record.at(Mark::FirstToken));
    line.millis(r#","gateway_ms":"#, record.gateway_time());
    let waste = record.waste();
    record.with_metered(|metered| {
        let Some(metered) = metered else {
            return unmetered(&mut line, record, waste);
        };
        cost(&mut line, metered, waste, usd);
    });
    line.number(r#","bytes_in":"#, Some(record.bytes_in()));
    line.number(r#","bytes_out":"#, Some(record.bytes_out()));
    digest(&mut line, record);
    ending(&mut line, record);
    line.raw("}");
}

/// Appends the line of what was refused before it was a request: nothing is known of it but when and why.
pub(crate) fn refused(
    out: &mut Vec<u8>,
    at: SystemTime,
    request_id: &str,
    generation: u64,
    refusal: &Refusal,
) {
    out.extend_from_slice(b"{\"time\":");
    time(out, at);
    let mut line = Line(out);
    line.word(r#","request_id":"#, Some(request_id));
    line.number(r#","generation":"#, Some(generation));
    line.raw(r#","method":null,"path":null"#);
    line.number(r#","status":"#, Some(refusal.status().into()));
    line.raw(concat!(
        r#","caller":null,"route":null,"provider":null,"target":null,"label":null,"dialect":null,"model":null"#,
        r#","upstream_model":null,"stream":null,"attempts":[],"duration_ms":null,"first_byte_ms":null"#,
        r#","first_token_ms":null,"gateway_ms":null"#,
    ));
    line.raw(UNMETERED);
    line.raw(r#","bytes_in":null,"bytes_out":null,"digest":null"#);
    line.word(r#","ended":"#, Some(Ended::Refused.as_str()));
    line.word(r#","refused_by":"#, Some("wire"));
    line.word(r#","error":"#, Some(refusal.reason().as_str()));
    line.raw(r#","edited_by":[]}"#);
}

/// Appends the line of a request that a process before did not live to end.
pub(crate) fn lost(out: &mut Vec<u8>, lost: &Lost, generation: u64) {
    out.extend_from_slice(b"{\"time\":");
    time(out, SystemTime::UNIX_EPOCH + Duration::from_millis(lost.at));
    let mut line = Line(out);
    line.word(r#","request_id":"#, Some(&lost.request_id));
    line.number(r#","generation":"#, Some(generation));
    line.raw(r#","method":null,"path":null,"status":null"#);
    line.text(r#","caller":"#, lost.caller.as_deref());
    line.raw(r#","route":null,"provider":null,"target":null,"label":null,"dialect":null"#);
    line.text(r#","model":"#, lost.model.as_deref());
    line.raw(concat!(
        r#","upstream_model":null,"stream":null,"attempts":[],"duration_ms":null,"first_byte_ms":null"#,
        r#","first_token_ms":null,"gateway_ms":null,"usage":null,"charged":null,"waste":null"#,
    ));
    usd(&mut line, Some(lost.cost));
    line.raw(concat!(
        r#","finish_reasons":null,"tool_calls":null,"events":null"#,
        r#","bytes_in":null,"bytes_out":null,"digest":null,"ended":"lost","refused_by":null,"error":null,"edited_by":[]}"#,
    ));
}

/// The fields of an answer that nobody metered.
const UNMETERED: &str = concat!(
    r#","usage":null,"charged":null,"waste":null,"cost_usd":null"#,
    r#","finish_reasons":null,"tool_calls":null,"events":null"#,
);

/// What is told where nobody metered: nothing, unless a provider was asked and its head never came.
fn unmetered(line: &mut Line<'_>, record: &Record, waste: Option<Waste>) {
    let answered = record.at(Mark::UpstreamHead).is_some() && waste.is_none();
    if answered || record.with_attempts(<[_]>::is_empty) {
        return line.raw(UNMETERED);
    }
    line.raw(r#","usage":null,"charged":{"prompt":0,"completion":0,"source":"none"}"#);
    wasted(line, waste);
    line.raw(r#","cost_usd":null,"finish_reasons":[],"tool_calls":[],"events":null"#);
}

/// What an answer cost.
fn cost(line: &mut Line<'_>, metered: &Metered, waste: Option<Waste>, usd: Option<f64>) {
    match metered.usage {
        None => line.raw(r#","usage":null"#),
        Some(usage) => {
            line.number(r#","usage":{"prompt":"#, usage.prompt);
            line.number(r#","completion":"#, usage.completion);
            line.number(r#","total":"#, usage.total);
            line.number(r#","cached":"#, usage.cached);
            line.number(r#","cache_write":"#, usage.cache_write);
            line.number(r#","reasoning":"#, usage.reasoning);
            line.raw("}");
        }
    }
    let charge = metered.charge;
    line.number(r#","charged":{"prompt":"#, Some(charge.prompt));
    line.number(r#","completion":"#, Some(charge.completion));
    line.word(r#","source":"#, Some(charge.source.as_str()));
    line.raw("}");
    wasted(line, waste);
    self::usd(line, usd);
    let reasons = metered.finish_reasons.iter();
    line.texts(r#","finish_reasons":"#, reasons.map(|reason| &**reason));
    let tools = metered.tool_calls.iter();
    line.texts(r#","tool_calls":"#, tools.map(|name| &**name));
    line.number(r#","events":"#, metered.events);
}

fn wasted(line: &mut Line<'_>, waste: Option<Waste>) {
    match waste {
        None => line.raw(r#","waste":null"#),
        Some(waste) => {
            line.number(r#","waste":{"prompt":"#, Some(waste.prompt));
            line.number(r#","completion":"#, Some(waste.completion));
            line.raw("}");
        }
    }
}

fn usd(line: &mut Line<'_>, usd: Option<f64>) {
    match usd {
        None => line.raw(r#","cost_usd":null"#),
        Some(usd) => {
            line.raw(r#","cost_usd":"#);
            // Never with an exponent; writing to a vector cannot fail.
            let _ = write!(line.0, "{usd}");
        }
    }
}

fn target(line: &mut Line<'_>, record: &Record, last: Option<&Attempt>) {
    line.text(r#","provider":"#, last.map(|it| &*it.provider));
    line.text(r#","target":"#, last.map(|it| &*it.target));
    line.text(r#","label":"#, last.and_then(|it| it.label.as_deref()));
    let (surface, intent) = (record.surface(), record.intent());
    line.word(
        r#","dialect":"#,
        surface.map(|surface| surface.dialect.as_str()),
    );
    let named = || surface.and_then(|surface| surface.model_in(record.path()));
    match intent {
        Some(intent) => line.text(r#","model":"#, intent.model()),
        None => line.text(r#","model":"#, named().as_deref()),
    }
    line.text(
        r#","upstream_model":"#,
        last.and_then(|it| it.model.as_deref()),
    );
    let unread = || {
        surface
            .and_then(|surface: &Surface| surface.stream)
            .unwrap_or(false)
    };
    let stream = intent.map_or_else(unread, |intent| intent.stream());
    line.raw(if stream {
        r#","stream":true"#
    } else {
        r#","stream":false"#
    });
}

fn attempt(line: &mut Line<'_>, attempt: &Attempt, first: bool) {
    let provider = if first {
        r#"{"provider":"#
    } else {
        r#",{"provider":"#
    };
    line.text(provider, Some(&attempt.provider));
    line.text(r#","model":"#, attempt.model.as_deref());
    if let Some(status) = attempt.status {
        line.number(r#","status":"#, Some(status.into()));
    }
    if let Some(error) = attempt.error {
        line.word(r#","error":"#, Some(error));
    }
    line.millis(r#","ms":"#, Some(attempt.took));
    line.raw("}");
}

fn digest(line: &mut Line<'_>, record: &Record) {
    // What is answered by us was received from nobody. An answer that a rule stopped on its way was relayed up to there.
    let own = record.refused().is_some() && record.broke().is_none();
    let relayed = record.at(Mark::UpstreamHead).is_some() && !own;
    let Some(digest) = record.digest().filter(|_| relayed) else {
        return line.raw(r#","digest":null"#);
    };
    line.raw(r#","digest":{"upstream":""#);
    line.hex(digest.upstream);
    line.raw(r#"","client":""#);
    line.hex(digest.client);
    line.raw("\"}");
}

fn ending(line: &mut Line<'_>, record: &Record) {
    let ended = record.ended().unwrap_or(Ended::Internal);
    line.word(r#","ended":"#, Some(ended.as_str()));
    let refused = record.refused();
    line.word(r#","refused_by":"#, refused.map(|it| it.layer));
    let reason = refused.map(|it| it.reason).or_else(|| record.broke());
    line.word(r#","error":"#, reason.map(|it| it.as_str()));
    found(line, record);
    line.raw(r#","edited_by":["#);
    if record.is_edited() {
        for (at, layer) in record.edited_by().into_iter().enumerate() {
            line.text(if at == 0 { "" } else { "," }, Some(layer));
        }
    }
    line.raw("]");
}

/// The rules of the word filter that have found something; where none has, the line says nothing of rules.
fn found(line: &mut Line<'_>, record: &Record) {
    record.with_found(|found| {
        let Some((first, others)) = found.split_first() else {
            return;
        };
        rule(line, r#","rules":[{"rule":"#, first);
        for found in others {
            rule(line, r#",{"rule":"#, found);
        }
        line.raw("]");
    });
}

fn rule(line: &mut Line<'_>, name: &str, found: &Found) {
    line.text(name, Some(&found.rule));
    line.word(r#","action":"#, Some(found.action));
    line.number(r#","times":"#, Some(found.times));
    line.raw("}");
}

/// A line being written. Names come with their quotes, comma and colon: this runs for every request,
/// and takes no formatter's detour.
struct Line<'a>(&'a mut Vec<u8>);

impl Line<'_> {
    fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    fn text(&mut self, name: &str, value: Option<&str>) {
        self.raw(name);
        let Some(value) = value else {
            return self.raw("null");
        };
        let value = &value[..value.floor_char_boundary(LONGEST)];
        let at = self.0.len();
        json::escape_into(value, self.0);
        // JSON lets them stand; a terminal takes them for commands.
        if value.bytes().any(|byte| matches!(byte, DEL | C1)) {
            self.escape_controls(at);
        }
    }

    /// Escapes delete and the controls of eight bits in the text that begins there.
    fn escape_controls(&mut self, at: usize) {
        let text = self.0.split_off(at);
        let mut rest = &text[..];
        loop {
            rest = match rest {
                [DEL, rest @ ..] => {
                    self.raw("\\u007f");
                    rest
                }
                [C1, low @ 0x80..=0x9f, rest @ ..] => {
                    self.raw("\\u00");
                    self.0.extend(HEX[usize::from(*low)]);
                    rest
                }
                [byte, rest @ ..] => {
                    self.0.push(*byte);
                    rest
                }
                [] => return,
            };
        }
    }

    /// A list of texts.
    fn texts<'t>(&mut self, name: &str, values: impl Iterator<Item = &'t str>) {
        self.raw(name);
        self.raw("[");
        for (at, value) in values.enumerate() {
            self.text(if at == 0 { "" } else { "," }, Some(value));
        }
        self.raw("]");
    }

    fn object(&mut self, name: &str, members: &[(Box<str>, Box<str>)]) {
        self.raw(name);
        for (at, (name, text)) in members.iter().enumerate() {
            self.text(if at == 0 { "{" } else { "," }, Some(name));
            self.text(":", Some(text));
        }
        self.raw("}");
    }

    /// A fixed word, or a name that was found harmless: nothing in it needs an escape.
    fn word(&mut self, name: &str, value: Option<&str>) {
        self.raw(name);
        match value {
            Some(value) => {
                self.raw("\"");
                self.raw(value);
                self.raw("\"");
            }
            None => self.raw("null"),
        }
    }

    fn number(&mut self, name: &str, value: Option<u64>) {
        self.raw(name);
        match value {
            Some(value) => self.decimal(value),
            None => self.raw("null"),
        }
    }

    /// Milliseconds with three decimals.
    fn millis(&mut self, name: &str, value: Option<Duration>) {
        self.raw(name);
        let Some(value) = value else {
            return self.raw("null");
        };
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        self.decimal(micros / 1000);
        self.0
            .extend_from_slice(&thousandths((micros % 1000) as u16));
    }

    fn decimal(&mut self, value: u64) {
        self.raw(itoa::Buffer::new().format(value));
    }

    /// 32 digits.
    fn hex(&mut self, value: u128) {
        let mut text = [[0; 2]; 16];
        for (two, byte) in text.iter_mut().zip(value.to_be_bytes()) {
            *two = HEX[usize::from(byte)];
        }
        self.0.extend_from_slice(text.as_flattened());
    }
}

/// The two digits of each byte.
const HEX: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    table
};

/// RFC 3339 in UTC, with milliseconds.
pub(crate) fn time(out: &mut Vec<u8>, at: SystemTime) {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    let since = since.unwrap_or(Duration::ZERO);
    let (second, millis) = (since.as_secs(), since.subsec_millis() as u16);
    let text = SECOND.with(|last| {
        let (told, text) = last.get();
        if told == second {
            return text;
        }
        let text = second_text(second);
        last.set((second, text));
        text
    });
    out.push(b'"');
    out.extend_from_slice(&text);
    out.extend_from_slice(&thousandths(millis));
    out.extend_from_slice(b"Z\"");
}

/// A point and three digits.
fn thousandths(value: u16) -> [u8; 4] {
    let digit = |value: u16| b'0' + (value % 10) as u8;
    [b'.', digit(value / 100), digit(value / 10), digit(value)]
}

/// A second as `2006-01-02T15:04:05`.
type SecondText = [u8; 19];

thread_local! {
    /// The second that was told last: a busy worker tells thousands of moments of each.
    static SECOND: Cell<(u64, SecondText)> = const { Cell::new((0, *b"1970-01-01T00:00:00")) };
}

fn second_text(second: u64) -> SecondText {
    const PRINTER: DateTimePrinter = DateTimePrinter::new();
    // A clock beyond the year 9999 tells its end.
    let at = i64::try_from(second).ok();
    let at = at.and_then(|second| Timestamp::from_second(second).ok());
    let text = PRINTER.timestamp_to_string(&at.unwrap_or(Timestamp::MAX));
    let whole = text.as_bytes().first_chunk();
    *whole.expect("a year of four digits makes 19 characters")
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
}
