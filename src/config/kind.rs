//! The vocabulary of the schema: what kinds of value there are, and whether a key is built.

use super::tree::{Node, Value};
use super::value;

/// What a value may be.
#[derive(Debug)]
pub(crate) enum Kind {
    /// Whatever JSON can say.
    Any,
    /// `https://host/path` of a provider.
    BaseUrl,
    /// `true` or `false`.
    Bool,
    /// Bytes per second with a unit, or `off`.
    ByteRate,
    /// A secret, or `{ name, key }` with a secret under `key`.
    Credential,
    /// A day.
    Date,
    /// A time with a unit.
    Duration { off: bool, zero: bool },
    /// The first of these that fits the value's shape.
    Either(&'static [Self]),
    /// A whole number.
    Integer { least: u64, most: u64 },
    /// A map with known keys, or `off`.
    Layer(&'static [Key]),
    /// A list.
    List(&'static Self),
    /// An address to listen on.
    Listen,
    /// A map with known keys.
    Map(&'static [Key]),
    /// An amount of money, with a period or without.
    Money,
    /// A range of addresses.
    Network,
    /// A number that is not negative.
    Number,
    /// One value, or a list of them.
    OneOrMany(&'static Self),
    /// A word, perhaps with a trailing `*`.
    Pattern,
    /// A percentage.
    Percent,
    /// A count per period.
    Rate,
    /// Text, `{ env: NAME }` or `{ file: PATH }`.
    Secret,
    /// Bytes with a unit up to so many, or a percentage where that means something.
    Size { percent: bool, most: u64 },
    /// A map whose keys are names.
    Table(&'static Self),
    /// Any text.
    Text,
    /// A URL.
    Url,
    /// One of these words.
    Word(&'static [&'static str]),
}

/// One key of a map: its kind, and whether the part behind it exists.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) built: Built,
    pub(crate) needed: bool,
}

/// Whether a key does anything.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Built {
    /// It does not belong here, for this reason, though the word is known.
    Misplaced(&'static str),
    /// Not yet; only this word is taken, which asks for nothing.
    Not { inert: Option<&'static str> },
    /// It does.
    Yes,
}

/// A key that is built.
pub(crate) const fn key(name: &'static str, kind: Kind) -> Key {
    Key {
        name,
        kind,
        built: Built::Yes,
        needed: false,
    }
}

/// A key whose map makes no sense without it.
pub(crate) const fn needed(name: &'static str, kind: Kind) -> Key {
    Key {
        name,
        kind,
        built: Built::Yes,
        needed: true,
    }
}

/// A key that is not built yet.
pub(crate) const fn later(name: &'static str, kind: Kind) -> Key {
    Key {
        name,
        kind,
        built: Built::Not { inert: None },
        needed: false,
    }
}

/// A key that is not built yet, and a word that turns off what is not there.
pub(crate) const fn later_but(name: &'static str, kind: Kind, inert: &'static str) -> Key {
    Key {
        name,
        kind,
        built: Built::Not { inert: Some(inert) },
        needed: false,
    }
}

/// A key that belongs elsewhere.
pub(crate) const fn misplaced(name: &'static str, reason: &'static str) -> Key {
    Key {
        name,
        kind: Kind::Any,
        built: Built::Misplaced(reason),
        needed: false,
    }
}

impl Kind {
    /// Whether the shape of `node` (single value, list, map) is one that this kind has.
    pub(crate) fn fits(&self, node: &Node) -> bool {
        let (list, map) = (
            matches!(node.value, Value::List(_)),
            matches!(node.value, Value::Map(_)),
        );
        match self {
            Self::Any => true,
            Self::Either(kinds) => kinds.iter().any(|k| k.fits(node)),
            Self::Credential | Self::Layer(_) | Self::Secret => !list,
            Self::List(_) => list,
            Self::Map(_) | Self::Table(_) => map || node.is_null(),
            Self::OneOrMany(kind) => list || kind.fits(node),
            _ => !list && !map,
        }
    }

    /// What a person would call it, with its article.
    pub(crate) fn noun(&self) -> String {
        match self {
            Self::Any => "any value".to_owned(),
            Self::BaseUrl | Self::Url => "a URL".to_owned(),
            Self::Bool => "`true` or `false`".to_owned(),
            Self::ByteRate => "bytes per second or `off`".to_owned(),
            Self::Credential | Self::Secret => "a secret".to_owned(),
            Self::Date => "a day".to_owned(),
            Self::Duration { off: false, .. } => "a duration".to_owned(),
            Self::Duration { off: true, .. } => "a duration or `off`".to_owned(),
            Self::Either(kinds) => kinds
                .iter()
                .map(Self::noun)
                .collect::<Vec<_>>()
                .join(" or "),
            Self::Integer { least: 0, .. } => "a whole number".to_owned(),
            Self::Integer { least, .. } => format!("a whole number from {least}"),
            Self::Layer(_) => "a map or `off`".to_owned(),
            Self::List(_) => "a list".to_owned(),
            Self::Listen => "an address".to_owned(),
            Self::Map(_) | Self::Table(_) => "a map".to_owned(),
            Self::Money => "an amount of money".to_owned(),
            Self::Network => "a range of addresses".to_owned(),
            Self::Number => "a number".to_owned(),
            Self::OneOrMany(kind) => format!("{} or a list", kind.noun()),
            Self::Pattern => "a name".to_owned(),
            Self::Percent => "a percentage".to_owned(),
            Self::Rate => "a rate".to_owned(),
            Self::Size { percent: false, .. } => "a size".to_owned(),
            Self::Size { percent: true, .. } => "a size or a percentage".to_owned(),
            Self::Text => "text".to_owned(),
            Self::Word([word]) => format!("`{word}`"),
            Self::Word(_) => "one of the known words".to_owned(),
        }
    }

    /// Whether a single value is of this kind; else the sentence that mends it. `plain` is false for quoted text.
    pub(crate) fn judge(&self, text: &str, plain: bool) -> Result<(), String> {
        match self {
            Self::BaseUrl => value::base_url(text).map(|_| ()),
            Self::Bool if plain && matches!(text, "true" | "false") => Ok(()),
            Self::Bool => Err("write `true` or `false`, without quotes".to_owned()),
            Self::ByteRate | Self::Layer(_) if text == "off" => Ok(()),
            Self::ByteRate => value::byte_rate(text).map(|_| ()),
            Self::Date => value::date(text),
            Self::Duration { off, zero } => duration(text, *off, *zero),
            Self::Either(kinds) => either(kinds, text, plain),
            Self::Integer { least, most } => integer(text, plain, *least, *most),
            Self::Layer(_) => Err("write its keys, or `off`".to_owned()),
            Self::Listen => value::listen(text).map(|_| ()),
            Self::Money => value::money(text).map(|_| ()),
            Self::Network => text.parse::<super::types::Network>().map(|_| ()),
            Self::Number => number(text),
            Self::OneOrMany(kind) => kind.judge(text, plain),
            Self::Pattern => value::pattern(text).map(|_| ()),
            Self::Percent => value::percent(text).map(|_| ()),
            Self::Rate => value::rate(text),
            Self::Size { percent: true, .. } if text.ends_with('%') => {
                match value::percent(text)? {
                    0.0 => Err("more than zero".to_owned()),
                    _ => Ok(()),
                }
            }
            Self::Size { most, .. } => size(text, *most),
            Self::Url => value::url(text),
            Self::Word(words) => word(words, text),
            Self::Any
            | Self::Credential
            | Self::List(_)
            | Self::Map(_)
            | Self::Secret
            | Self::Table(_)
            | Self::Text => Ok(()),
        }
    }
}

fn duration(text: &str, off: bool, zero: bool) -> Result<(), String> {
    match value::duration(text) {
        Err(_) if off && text == "off" => Ok(()),
        Err(_) if text == "off" => Err("this clock cannot be turned off".to_owned()),
        Ok(d) if d.is_zero() && !zero => Err(if off {
            "more than zero, or `off`"
        } else {
            "more than zero"
        }
        .to_owned()),
        other => other.map(|_| ()),
    }
}

/// The first alternative that takes the text; else what the last one says, which stands for the general case.
fn either(kinds: &[Kind], text: &str, plain: bool) -> Result<(), String> {
    let mut last = Ok(());
    for kind in kinds
        .iter()
        .filter(|k| !matches!(k, Kind::List(_) | Kind::Map(_) | Kind::Table(_)))
    {
        last = kind.judge(text, plain);
        if last.is_ok() {
            break;
        }
    }
    last
}

fn integer(text: &str, plain: bool, least: u64, most: u64) -> Result<(), String> {
    match text.parse::<u64>() {
        Ok(n) if plain && (least..=most).contains(&n) && !text.starts_with('+') => Ok(()),
        Ok(_) if !plain => Err("write the number without quotes".to_owned()),
        Ok(n) if n < least => Err(format!("at least {least}")),
        Ok(_) => Err(format!("at most {most}")),
        Err(_) => Err("write digits only".to_owned()),
    }
}

fn number(text: &str) -> Result<(), String> {
    let good = text.parse::<f64>().is_ok_and(|n| n.is_finite() && n >= 0.0);
    good.then_some(())
        .ok_or_else(|| "write a number that is not negative".to_owned())
}

fn size(text: &str, most: u64) -> Result<(), String> {
    match value::size(text)? {
        0 => Err("more than zero".to_owned()),
        bytes if bytes > most => Err(format!("at most `{}`", super::show::size(most))),
        _ => Ok(()),
    }
}

fn word(words: &[&str], text: &str) -> Result<(), String> {
    if words.contains(&text) {
        return Ok(());
    }
    let list = words
        .iter()
        .map(|w| format!("`{w}`"))
        .collect::<Vec<_>>()
        .join(", ");
    Err(match super::nearest::nearest(text, words.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? known: {list}"),
        None => format!("known: {list}"),
    })
}
