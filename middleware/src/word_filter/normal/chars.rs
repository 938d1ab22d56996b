//! Characters of the normal form: what each is mapped to, and what they compose to.

use std::{collections::HashMap, sync::LazyLock};

use regex_syntax::hir::ClassUnicode;
use unicode_normalization::{
    IsNormalized,
    char::{canonical_combining_class, compose, decompose_canonical, decompose_compatible},
    is_nfc_quick,
};

use super::super::{fold::fold, whole::class};

/// What a character is in the normal form, decomposed: nothing of what is not to be seen; folded, if case does not matter.
///
/// What is more than one letter in another case is decomposed in Unicode, but for `ß`.
pub(super) fn mapped(char: char, folded: bool, mut on: impl FnMut(char)) {
    if char.is_ascii() {
        return on(if folded {
            char.to_ascii_lowercase()
        } else {
            char
        });
    }
    decompose_compatible(char, |char| match char {
        'ß' | 'ẞ' if folded => ['s'; 2].into_iter().for_each(&mut on),
        _ if is_ignorable(char) => {}
        _ => on(if folded { fold(char) } else { char }),
    });
}

/// Whether nothing that stands before this decomposed character changes it, nor is changed by it.
pub(super) fn is_boundary(char: char) -> bool {
    // Nothing below the first of the combining marks composes with what stands before it.
    char < '\u{300}'
        || canonical_combining_class(char) == 0
            && is_nfc_quick([char].into_iter()) == IsNormalized::Yes
}

/// Characters in a row of which the first begins a segment, as they compose.
///
/// Marks are in canonical order, each with whatever else is known of it; `join` is told what a character takes in.
pub(super) fn composed<T: Copy>(
    chars: impl IntoIterator<Item = (char, T)>,
    join: impl Fn(&mut T, T),
    out: &mut Vec<(char, T)>,
) {
    let mut starter: Option<usize> = None;
    // The class of the last one that stays behind the starter.
    let mut last = None;
    for (char, told) in chars {
        let class = canonical_combining_class(char);
        if let Some(at) = starter
            && last.is_none_or(|last| last < class)
            && let Some(both) = compose(out[at].0, char)
        {
            out[at].0 = both;
            join(&mut out[at].1, told);
            continue;
        }
        if class == 0 {
            (starter, last) = (Some(out.len()), None);
        } else {
            last = Some(class);
        }
        out.push((char, told));
    }
}

/// What a character may become with marks behind it: all that it is the beginning of, decomposed. It is itself none of them.
pub(super) fn composites(base: char) -> &'static [char] {
    COMPOSITES.get(&base).map_or(&[], Vec::as_slice)
}

/// What follows the base of a composite, decomposed.
pub(super) fn marks(composite: char) -> impl Iterator<Item = char> {
    let mut marks = Vec::new();
    decompose_canonical(composite, |char| marks.push(char));
    marks.into_iter().skip(1)
}

/// Puts marks into canonical order: those of a lower class first, those of one as they are.
pub(super) fn sort<T>(chars: &mut [(char, T)]) {
    let is_mark = |it: &(char, T)| canonical_combining_class(it.0) > 0;
    for run in chars.chunk_by_mut(|one, other| is_mark(one) && is_mark(other)) {
        run.sort_by_key(|it| canonical_combining_class(it.0));
    }
}

/// `Default_Ignorable_Code_Point`.
fn is_ignorable(char: char) -> bool {
    let ranges = IGNORABLE.ranges();
    let at = ranges.partition_point(|range| range.end() < char);
    ranges.get(at).is_some_and(|range| range.start() <= char)
}

static IGNORABLE: LazyLock<ClassUnicode> =
    LazyLock::new(|| class(r"\p{Default_Ignorable_Code_Point}"));

/// Every character that the normal form composes, by its base.
static COMPOSITES: LazyLock<HashMap<char, Vec<char>>> = LazyLock::new(|| {
    let mut all = HashMap::<char, Vec<char>>::new();
    let mut parts = Vec::new();
    for char in '\u{c0}'..LAST {
        parts.clear();
        decompose_canonical(char, |part| parts.push(part));
        let (Some(base), true) = (parts.first(), parts.len() > 1) else {
            continue;
        };
        // Some are decomposed for good.
        let mut whole = Vec::new();
        composed(
            parts.iter().map(|part| (*part, ())),
            |(), ()| {},
            &mut whole,
        );
        if whole == [(char, ())] {
            all.entry(*base).or_default().push(char);
        }
    }
    all
});

/// No composite lies behind the supplementary planes of scripts.
const LAST: char = '\u{20000}';
