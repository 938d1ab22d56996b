//! Where a word begins and ends, in every script.
//!
//! Most scripts are written with spaces: there a word that stands inside a longer one is another word. Han, kana, Thai,
//! Lao, Khmer, Myanmar and Tibetan are not, so every place is as good as another. Korean hangs particles on the right of
//! a word, so only its left is an edge.

use std::sync::LazyLock;

use regex_syntax::hir::{ClassUnicode, HirKind};

/// What a character is to the edge of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edge {
    /// Nothing, or a letter of a script without spaces: it wants no boundary and is one.
    Open,
    /// A mark: it belongs to what stands before it.
    Mark,
    /// A letter, digit or `_` of a script with spaces.
    Letter,
    /// A letter of a script with spaces on the left only.
    Hangul,
}

impl Edge {
    pub(super) fn of(char: char) -> Self {
        if char.is_ascii() {
            let letter = char.is_ascii_alphanumeric() || char == '_';
            return if letter { Self::Letter } else { Self::Open };
        }
        let tables = &*TABLES;
        if contains(&tables.marks, char) {
            Self::Mark
        } else if contains(&tables.unspaced, char) || !contains(&tables.letters, char) {
            Self::Open
        } else if contains(&tables.hangul, char) {
            Self::Hangul
        } else {
            Self::Letter
        }
    }

    /// Whether a word that begins with this wants nothing of its kind before it.
    pub(super) fn wants_left(self) -> bool {
        matches!(self, Self::Letter | Self::Hangul)
    }

    /// Whether a word that ends with this wants nothing of its kind behind it.
    pub(super) fn wants_right(self) -> bool {
        self == Self::Letter
    }

    /// Whether a word whose edge is on the right of this one is inside a longer word.
    pub(super) fn joins_right(self) -> bool {
        matches!(self, Self::Letter | Self::Hangul)
    }

    /// Whether a word whose edge is on the left of this one is inside a longer word; a particle in Hangul is none.
    pub(super) fn joins_left(self) -> bool {
        self == Self::Letter
    }
}

struct Tables {
    letters: ClassUnicode,
    marks: ClassUnicode,
    unspaced: ClassUnicode,
    hangul: ClassUnicode,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| Tables {
    letters: class(r"[\p{L}\p{Nd}_]"),
    marks: class(r"\p{M}"),
    // The four signs are of no one script, and written in Han and kana.
    unspaced: class(
        r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}々〆ーｰ]",
    ),
    hangul: class(r"\p{Hangul}"),
});

pub(super) fn class(of: &str) -> ClassUnicode {
    let hir = regex_syntax::parse(of).expect("a class that this file spells");
    match hir.into_kind() {
        HirKind::Class(regex_syntax::hir::Class::Unicode(class)) => class,
        other => unreachable!("{of} is a class, not {other:?}"),
    }
}

fn contains(class: &ClassUnicode, char: char) -> bool {
    let ranges = class.ranges();
    let at = ranges.partition_point(|range| range.end() < char);
    ranges.get(at).is_some_and(|range| range.start() <= char)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_of_every_kind_are_told_apart() {
        let rows = [
            (Edge::Letter, "aZ0_é\u{df}яΩאعक٣ªʰ"),
            (Edge::Open, " -.\u{a0}😀²½漢々かカーｰไกລខမབ※"),
            (Edge::Mark, "\u{301}\u{3099}\u{e31}\u{93e}\u{fe0f}"),
            (Edge::Hangul, "한ᄒ"),
        ];
        for (edge, chars) in rows {
            for char in chars.chars() {
                assert_eq!(Edge::of(char), edge, "{char:?}");
            }
        }
    }
}
