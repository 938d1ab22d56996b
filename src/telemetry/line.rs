//! The request log's line: one JSON object, its fields in a fixed order.
//!
//! What no layer reports yet is null. Names come from the configuration, reasons are fixed words;
//! bodies, prompts, keys and queries are never in it. Texts of the caller's are cut to a length.

use std::{
    io::Write as _,
    time::{Duration, SystemTime},
};

use tollgate_middleware::{
    dialect::Surface,
    record::{Attempt, Ended, Found, Mark, Metered, Record, Waste},
    wire::Refusal,
};

mod text;

use self::text::Line;
pub(crate) use self::text::time;
use crate::spool::Lost;

/// Room for a usual line.
const USUAL: usize = 1024;

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

#[cfg(test)]
mod tests;
