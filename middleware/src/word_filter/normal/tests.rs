use proptest::prelude::*;
use unicode_normalization::{UnicodeNormalization, char::canonical_combining_class};

use super::*;

fn seen(char: &char) -> bool {
    let hidden = regex_syntax::hir::ClassUnicode::clone(&HIDDEN);
    !hidden
        .ranges()
        .iter()
        .any(|it| (it.start()..=it.end()).contains(char))
}

static HIDDEN: std::sync::LazyLock<regex_syntax::hir::ClassUnicode> =
    std::sync::LazyLock::new(|| super::super::whole::class(r"\p{Default_Ignorable_Code_Point}"));

/// The form by the crate's own composition of a whole text.
fn form(text: &str) -> String {
    let shown: String = text.nfkd().filter(seen).collect();
    shown.nfc().collect()
}

#[test]
fn each_character_has_the_form_of_the_standard() {
    for char in '\0'..=char::MAX {
        let text = char.to_string();
        // Hidden ones are looked for one by one above; here a check of all would take long.
        if char < '\u{3000}' || ('\u{f900}'..'\u{10000}').contains(&char) {
            assert_eq!(Normal::of(&text, false), form(&text), "{char:?}");
        }
        let folded = Normal::of(&text, true);
        assert_eq!(Normal::of(&folded, true), folded, "{char:?}");
        // In another case it is the same, but for the i without a dot, which is none in Turkish only.
        if !"ıİ".contains(char) {
            let (lower, upper) = (text.to_lowercase(), text.to_uppercase());
            assert_eq!(Normal::of(&lower, true), folded, "{char:?}");
            assert_eq!(Normal::of(&upper, true), folded, "{char:?}");
        }
    }
    for (text, expected) in [
        ("STRAẞE Straße", "strasse strasse"),
        ("İı", "i\u{307}ı"),
        ("ﬁn", "fin"),
        ("ｶﾞ", "ガ"),
        ("㎏²", "kg2"),
        ("\u{212b}ngström", "ångström"),
        ("e\u{301}", "é"),
        ("e\u{200d}\u{34f}\u{301}", "é"),
        ("\u{ad}a\u{fe0f}", "a"),
        ("각", "각"),
        ("\u{1100}\u{1161}\u{11a8}", "각"),
        ("ΌΣΟΣ", "όσοσ"),
        ("e\u{301}\u{323}", "ẹ\u{301}"),
    ] {
        assert_eq!(Normal::of(text, true), expected, "{text:?}");
    }
}

/// Characters that do something to others.
fn chars() -> impl Strategy<Value = char> {
    prop::sample::select(vec![
        'a', 'e', 'E', ' ', 'é', 'ệ', 'ﬁ', 'ß', '漢', '\u{301}', '\u{323}', '\u{302}', '\u{316}',
        '\u{338}', '=', '\u{345}', '\u{200b}', '\u{1100}', '\u{1161}', '\u{11a8}', '가', '각',
        'か', '\u{3099}', 'Å', '\u{212b}', '\u{9c7}', '\u{9be}', '\u{5d1}', '\u{5b7}', '\u{5bc}',
        '😀', '\u{ac00}', 'ぱ', '①', '\u{fdfa}',
    ])
}

/// Every character of the form with the place of what it was made of: without a thought of cost, and of all at once.
pub(in super::super) fn placed(text: &str, folded: bool) -> Vec<(char, usize, usize)> {
    let mut parts = Vec::new();
    for (at, char) in text.char_indices() {
        let shown: String = char.to_string().nfkd().filter(seen).collect();
        let shown = match folded {
            true => shown.to_lowercase().replace('ß', "ss"),
            false => shown,
        };
        parts.extend(shown.chars().map(|part| (part, at, at + char.len_utf8())));
    }
    // Bubbles, as the standard has it.
    let class = |it: &(char, usize, usize)| canonical_combining_class(it.0);
    let mut moved = true;
    while std::mem::take(&mut moved) {
        for at in 1..parts.len() {
            if class(&parts[at]) > 0 && class(&parts[at - 1]) > class(&parts[at]) {
                parts.swap(at - 1, at);
                moved = true;
            }
        }
    }
    let mut out: Vec<(char, usize, usize)> = Vec::new();
    for part in parts {
        let starter = out.iter().rposition(|it| class(it) == 0);
        let joined = starter.and_then(|at| {
            let between = &out[at + 1..];
            let blocked = between
                .iter()
                .any(|it| class(it) == 0 || class(it) >= class(&part));
            if blocked {
                return None;
            }
            let pair: String = [out[at].0, part.0].iter().collect();
            let mut both = pair.nfc();
            Some((at, both.next()?, both.next())).filter(|(.., rest)| rest.is_none())
        });
        match joined {
            Some((at, both, _)) => out[at] = (both, out[at].1.min(part.1), out[at].2.max(part.2)),
            None => out.push(part),
        }
    }
    out
}

/// Every character with its place, as it is told.
fn told(normal: &Normal) -> Vec<(char, usize, usize)> {
    let text = &normal.text;
    let all = text.char_indices().map(|(at, char)| {
        let (start, end) = normal.place(at..at + char.len_utf8());
        (char, inside(start), inside(end))
    });
    all.collect()
}

proptest! {
    #[test]
    fn text_in_any_pieces_has_the_form_of_the_whole_and_its_places(
        pieces in prop::collection::vec(prop::collection::vec(chars(), 0..5), 0..6),
        forget in any::<prop::sample::Index>(),
    ) {
        let pieces: Vec<String> = pieces.iter().map(|it| it.iter().collect()).collect();
        let whole = pieces.concat();
        let mut normal = Normal::new(false);
        let mut at = 0;
        for piece in &pieces {
            normal.push(piece, at as u64);
            at += piece.len();
            prop_assert_eq!(told(&normal), placed(&whole[..at], false));
            let shown: String = placed(&whole[..at], false).iter().map(|it| it.0).collect();
            prop_assert_eq!(&shown, &form(&whole[..at]));
        }
        // What is forgotten stands before, and the rest stays where it was.
        let before = forget.index(whole.len() + 1);
        let from = normal.seek(before as u64);
        let rest = normal.text[from..].to_owned();
        prop_assert!(rest.is_empty() || told(&normal)[normal.text[..from].chars().count()..].iter().all(|it| it.1 >= before));
        normal.forget(before as u64);
        let from = normal.seek(before as u64);
        prop_assert_eq!(&normal.text[from..], &rest);
        prop_assert!(placed(&whole, false).ends_with(&told(&normal)));
        normal.push("x", whole.len() as u64);
        prop_assert!(placed(&(whole + "x"), false).ends_with(&told(&normal)));
    }

    /// What follows changes nothing but what was told, and that only to what was told.
    #[test]
    fn what_may_still_change_is_told(
        begun in prop::collection::vec(chars(), 1..5),
        more in prop::collection::vec(chars(), 0..4),
    ) {
        let (begun, more): (String, String) = (begun.iter().collect(), more.iter().collect());
        let mut normal = Normal::new(false);
        normal.push(&begun, 0);
        let (text, grown) = (normal.text.clone(), normal.grown.clone());
        normal.push(&more, begun.len() as u64);
        let Some(grown) = grown else {
            prop_assert!(normal.text.starts_with(&text), "{:?} became {:?}", text, normal.text);
            return Ok(());
        };
        prop_assert!(normal.text.starts_with(&text[..grown.at]));
        let next = normal.text[grown.at..].chars().next();
        let mut may = false;
        grown.each(|char, _| may |= char.is_none() || char == next);
        prop_assert!(may, "{:?} became {:?}, at {}", text, normal.text, grown.at);
        let mut now = None;
        grown.each(|char, behind| {
            now.get_or_insert_with(|| char.into_iter().chain(behind.iter().copied()).collect::<String>());
        });
        prop_assert_eq!(now.as_deref(), Some(&text[grown.at..]));
    }
}

/// However many marks stand on a letter, what is kept is bounded, and so is the time.
#[test]
fn marks_without_end_are_cut_into_segments() {
    let mut normal = Normal::new(true);
    let marks = "\u{301}".repeat(100);
    normal.push("e", 0);
    let mut at = 1;
    for _ in 0..200 {
        normal.push(&marks, at);
        at += marks.len() as u64;
        assert!(normal.segment.len() <= LONGEST);
        normal.forget(at);
        assert!(normal.text.len() <= 2 * LONGEST);
    }
}
