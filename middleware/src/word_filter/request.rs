//! The texts of a request: searched where they stand, masked where they are written.

use std::ops::Range;

use super::{
    rules::{Action, RuleIndex, Rules},
    search::{Match, Search},
};
use crate::{
    dialect::{self, Role, Spoken, Surface},
    json::{self, Kind, Value},
};

/// What the rules make of a request.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// What to change, in places of the body, in order.
    pub(super) edits: Vec<(Range<usize>, Vec<u8>)>,
    /// The rules that have found something, and how often.
    pub(super) found: Vec<(RuleIndex, u64)>,
    /// The rule that refuses the request.
    pub(super) refused: Option<RuleIndex>,
}

/// Something that was found, for who explains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) rule: RuleIndex,
    /// What comes of it.
    pub(super) action: Action,
    pub(super) role: Role,
    /// The string that it begins in.
    pub(super) at: Range<usize>,
}

/// Searches all texts of a body that was checked.
pub(super) fn inspect(rules: &Rules, surface: &Surface, root: Value<'_>) -> Verdict {
    let mut reader = Reader::new(rules);
    dialect::spoken(surface, root, &mut |said| reader.said(said));
    reader.end();
    reader.verdict
}

/// The same, also behind what is refused: everything that is found, and in how many texts it was looked for.
pub(super) fn explain(
    rules: &Rules,
    surface: &Surface,
    root: Value<'_>,
) -> (Verdict, Vec<Told>, u64) {
    let mut reader = Reader::new(rules);
    reader.told = Some(Vec::new());
    dialect::spoken(surface, root, &mut |said| reader.said(said));
    reader.end();
    (
        reader.verdict,
        reader.told.unwrap_or_default(),
        reader.texts,
    )
}

/// Reads one text after the other.
struct Reader<'r, 'a> {
    rules: &'r Rules,
    search: Search,
    /// The strings of the text at hand, and where each begins in it.
    parts: Vec<(u64, Spoken<'a>)>,
    /// The values of the arguments at hand.
    values: Option<Values<'a>>,
    found: Vec<Match>,
    verdict: Verdict,
    /// Texts that were searched.
    texts: u64,
    /// What was found, if somebody asks.
    told: Option<Vec<Told>>,
}

/// All string values of arguments, one behind the other: what reaches over the end of one is found here.
struct Values<'a> {
    /// The arguments.
    of: Spoken<'a>,
    joined: String,
    ends: Vec<u64>,
}

impl<'r, 'a> Reader<'r, 'a> {
    fn new(rules: &'r Rules) -> Self {
        Self {
            rules,
            search: Search::new(rules),
            parts: Vec::new(),
            values: None,
            found: Vec::new(),
            verdict: Verdict::default(),
            texts: 0,
            told: None,
        }
    }

    fn said(&mut self, said: Spoken<'a>) {
        if self.verdict.refused.is_some() && self.told.is_none() {
            return;
        }
        if !said.continues || said.json {
            self.finish();
        }
        let Some(text) = said.value.as_str() else {
            return;
        };
        if said.json {
            // What is no JSON is text.
            if let Ok(root) = json::check(text.as_bytes(), &json::Limits::default()) {
                self.begin_values(said, said.value);
                self.arguments(said, root, NESTING);
                return self.end_values();
            }
        } else if is_data(&text) {
            return;
        }
        match said.values {
            Some(of) => {
                self.begin_values(said, of);
                self.value(&text);
            }
            None => self.end_values(),
        }
        self.texts += u64::from(self.parts.is_empty());
        self.parts.push((self.search.taken(), said));
        self.search.push(self.rules, &text, &mut self.found);
    }

    /// The text at hand is over.
    fn finish(&mut self) {
        self.search.finish(self.rules, &mut self.found);
        if !self.found.is_empty() {
            self.judge();
        }
        if self.search.taken() > 0 {
            self.search = Search::new(self.rules);
        }
        self.parts.clear();
        self.found.clear();
    }

    /// No text follows.
    fn end(&mut self) {
        self.finish();
        self.end_values();
    }

    fn judge(&mut self) {
        for found in &self.found {
            let part = self.parts.iter().rfind(|(start, _)| *start <= found.start);
            let Some((_, said)) = part else { continue };
            let action = signed(self.rules.action(found.rule), said.signed);
            self.verdict.count(found.rule, action);
            tell(&mut self.told, found.rule, action, said);
        }
        let ends = self.parts.iter().skip(1).map(|(start, _)| *start);
        for ((start, said), end) in self.parts.iter().zip(ends.chain([u64::MAX])) {
            let inside = masked(self.rules, &self.found, *start..end);
            // What is signed is worth nothing once it is changed.
            if !inside.is_empty() && !said.signed {
                let splice = Splice::new(said.value, inside);
                self.verdict.edits.push(splice.made(said.value.document()));
            }
        }
    }

    /// Each string value of the arguments of a tool call is a text; names are none.
    fn arguments(&mut self, said: Spoken<'a>, value: Value<'_>, room: u8) {
        match value.kind() {
            Kind::String => self.argument(said, value),
            _ if room == 0 => {}
            Kind::Array => value
                .items()
                .for_each(|item| self.arguments(said, item, room - 1)),
            Kind::Object => value
                .members()
                .for_each(|(_, member)| self.arguments(said, member, room - 1)),
            _ => {}
        }
    }

    fn argument(&mut self, said: Spoken<'a>, value: Value<'_>) {
        let Some(text) = value.as_str() else { return };
        self.value(&text);
        self.texts += 1;
        let mut found = Vec::new();
        let mut search = Search::new(self.rules);
        search.push(self.rules, &text, &mut found);
        search.finish(self.rules, &mut found);
        for found in &found {
            let action = signed(self.rules.action(found.rule), said.signed);
            self.verdict.count(found.rule, action);
            tell(&mut self.told, found.rule, action, &said);
        }
        let inside = masked(self.rules, &found, 0..u64::MAX);
        if inside.is_empty() || said.signed {
            return;
        }
        // First in the arguments, then those in the body.
        let (at, with) = Splice::new(value, inside).made(value.document());
        let mut places = [at.start, at.end];
        said.value.locate(&mut places);
        let with = String::from_utf8(with).map(|with| escaped(&with));
        if let Ok(with) = with {
            self.verdict.edits.push((places[0]..places[1], with));
        }
    }

    /// What follows are values of these arguments.
    fn begin_values(&mut self, said: Spoken<'a>, of: Value<'a>) {
        let known = self.values.as_ref().map(|values| values.of.value.span());
        if known != Some(of.span()) {
            self.end_values();
            self.values = Some(Values {
                of: Spoken { value: of, ..said },
                joined: String::new(),
                ends: Vec::new(),
            });
        }
    }

    fn value(&mut self, text: &str) {
        if let Some(values) = &mut self.values {
            values.joined.push_str(text);
            values.ends.push(values.joined.len() as u64);
        }
    }

    /// No value of the arguments follows: what none of them holds alone cannot be masked, and is refused.
    fn end_values(&mut self) {
        let Some(values) = self.values.take().filter(|values| values.ends.len() > 1) else {
            return;
        };
        let mut found = Vec::new();
        let mut search = Search::new(self.rules);
        search.push(self.rules, &values.joined, &mut found);
        search.finish(self.rules, &mut found);
        for found in found {
            let mut ends = values.ends.iter();
            if ends.any(|end| found.start < *end && *end < found.end) {
                let action = match signed(self.rules.action(found.rule), values.of.signed) {
                    Action::Mask => Action::Reject,
                    action => action,
                };
                self.verdict.count(found.rule, action);
                tell(&mut self.told, found.rule, action, &values.of);
            }
        }
    }
}

impl Verdict {
    fn count(&mut self, rule: RuleIndex, action: Action) {
        if action == Action::Reject {
            self.refused.get_or_insert(rule);
        }
        match self.found.iter_mut().find(|(it, _)| *it == rule) {
            Some((_, count)) => *count += 1,
            None => self.found.push((rule, 1)),
        }
    }
}

/// What comes of a rule in a text that is under a signature, or not.
fn signed(action: Action, signed: bool) -> Action {
    match action {
        Action::Mask if signed => Action::Log,
        action => action,
    }
}

fn tell(told: &mut Option<Vec<Told>>, rule: RuleIndex, action: Action, said: &Spoken<'_>) {
    if let Some(told) = told {
        told.push(Told {
            rule,
            action,
            role: said.role,
            at: said.value.span(),
        });
    }
}

/// A mask: where it begins and ends, in bytes of a decoded string, and what it is.
type Mask<'r> = (usize, usize, &'r str);

/// The masks in a stretch of a text. What reaches beyond it is masked where it begins, and cut where it goes on.
fn masked<'r>(rules: &'r Rules, found: &[Match], part: Range<u64>) -> Vec<Mask<'r>> {
    let inside = found.iter().filter(|it| {
        rules.action(it.rule) == Action::Mask && it.start < part.end && it.end > part.start
    });
    let place = |at: u64| usize::try_from(at - part.start).unwrap_or(usize::MAX);
    let masks = inside.map(|it| {
        let mask = match it.start >= part.start {
            true => rules.mask(it.rule),
            false => "",
        };
        (
            place(it.start.max(part.start)),
            place(it.end.min(part.end)),
            mask,
        )
    });
    masks.collect()
}

/// Masks in a string, from the first to the last.
struct Splice<'r> {
    /// Beginning and end of each, as offsets in the document.
    places: Vec<usize>,
    masks: Vec<&'r str>,
}

impl<'r> Splice<'r> {
    fn new(value: Value<'_>, masks: Vec<Mask<'r>>) -> Self {
        let mut places: Vec<_> = masks
            .iter()
            .flat_map(|(start, end, _)| [*start, *end])
            .collect();
        value.locate(&mut places);
        let masks = masks.into_iter().map(|(_, _, mask)| mask).collect();
        Self { places, masks }
    }

    /// One edit, however many masks: what stands between them is copied.
    fn made(&self, document: &[u8]) -> (Range<usize>, Vec<u8>) {
        let (spans, _) = self.places.as_chunks::<2>();
        let start = spans.first().map_or(0, |span| span[0]);
        let mut at = start;
        let mut with = Vec::new();
        for ([from, to], mask) in spans.iter().zip(&self.masks) {
            with.extend_from_slice(&document[at..*from]);
            with.extend(escaped(mask));
            at = *to;
        }
        (start..at, with)
    }
}

/// What stands between the quotes of a string.
fn escaped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    json::escape_into(text, &mut out);
    out.pop();
    out.remove(0);
    out
}

/// Whether a text is the data of an image or file and nothing else: `data:…;base64,…`.
fn is_data(text: &str) -> bool {
    let data = text.strip_prefix("data:").and_then(|text| {
        let head = text.as_bytes().get(..text.len().min(HEAD))?;
        let at = memchr::memmem::find(head, b";base64,")?;
        Some(&text.as_bytes()[at + ";base64,".len()..])
    });
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=-_".contains(byte);
    data.is_some_and(|data| data.iter().all(is_base64))
}

/// Bytes in which a data URL says what it holds.
const HEAD: usize = 128;

/// How deep texts are looked for in arguments: as deep as they may nest by default.
const NESTING: u8 = 128;

#[cfg(test)]
mod tests;
