//! What the word filter would make of the request.

use http::Request;
use tollgate_middleware::{
    dialect::Surface,
    error::Rejection,
    json::Value,
    word_filter::{ApplyTo, Filter, Rule},
};

use super::say;

/// Says which rules look where, and what they find; a body that was read is `read`.
pub(super) fn told(
    filter: &Filter,
    req: &Request<Vec<u8>>,
    surface: Option<&Surface>,
    read: bool,
    out: &mut String,
) -> Result<(), Rejection> {
    let (asked, answered) = (
        looking(filter, |it| it.request),
        looking(filter, |it| it.response),
    );
    if asked.is_empty() && answered.is_empty() {
        return Ok(());
    }
    say(
        out,
        "",
        format_args!(
            "word_filter: of requests {}; of answers {}",
            listed(&asked),
            listed(&answered)
        ),
    );
    let Some(surface) = surface.filter(|_| !asked.is_empty()) else {
        return Ok(());
    };
    let root = Value::parse(req.body()).filter(|_| read);
    let Some(root) = root else {
        return filter.unread(surface);
    };
    let judged = filter.judge(surface, root);
    if judged.findings.is_empty() {
        say(
            out,
            "",
            format_args!("  nothing is found in {} texts", judged.texts),
        );
    }
    for found in judged.findings.chunk_by(|one, other| one == other) {
        let (first, times) = (&found[0], found.len());
        let mut place = String::new();
        path(root, first.at.start, &mut place);
        say(
            out,
            "",
            format_args!(
                "  {} ({}) finds something in {place}, {times} time{}",
                first.rule,
                first.action.as_str(),
                if times == 1 { "" } else { "s" }
            ),
        );
    }
    judged.refused.map_or(Ok(()), Err)
}

/// The rules that look at one side.
fn looking(filter: &Filter, side: impl Fn(ApplyTo) -> bool) -> Vec<&Rule> {
    let rules = filter.rules().iter();
    rules.filter(|rule| side(rule.apply_to)).collect()
}

fn listed(rules: &[&Rule]) -> String {
    let all = rules
        .iter()
        .map(|rule| format!("{} ({})", rule.id, rule.action.as_str()));
    match rules {
        [] => "nothing".to_owned(),
        _ => all.collect::<Vec<_>>().join(", "),
    }
}

/// The way to the value that lies at `at`: `messages[0].content`.
fn path(value: Value<'_>, at: usize, out: &mut String) {
    if let Some((name, member)) = value.members().find(|(_, it)| it.span().contains(&at)) {
        let dot = if out.is_empty() { "" } else { "." };
        *out += dot;
        *out += &name.as_str().unwrap_or_default();
        return path(member, at, out);
    }
    let mut items = value.items().enumerate();
    if let Some((index, item)) = items.find(|(_, it)| it.span().contains(&at)) {
        *out += &format!("[{index}]");
        path(item, at, out);
    }
}
