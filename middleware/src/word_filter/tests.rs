use proptest::prelude::*;

use super::{
    rules::{Action, Rule, Rules, Side},
    search::{Match, Search},
};

/// The text with every match in brackets, in these pieces; and how much was decided before the end.
fn found(rules: &Rules, pieces: &[&str]) -> (String, u64) {
    let mut search = Search::new(rules);
    let mut all = Vec::new();
    for piece in pieces {
        search.push(rules, piece, &mut all);
    }
    let decided = search.decided();
    search.finish(rules, &mut all);
    assert_eq!(search.decided(), search.taken());
    (marked(&pieces.concat(), &all), decided)
}

fn marked(text: &str, all: &[Match]) -> String {
    let mut told = String::new();
    let mut at = 0;
    for Match { start, end, .. } in all {
        told += &text[at..*start as usize];
        told += &format!("[{}]", &text[*start as usize..*end as usize]);
        at = *end as usize;
    }
    told + &text[at..]
}

fn rule(words: &[&str]) -> Rule {
    Rule {
        words: words.iter().map(|word| (*word).into()).collect(),
        ..Rule::new("r")
    }
}

fn rules(words: &[&str]) -> Rules {
    Rules::new(&[rule(words)], Side::Request)
}

#[test]
fn words_are_found_where_they_stand_alone() {
    let rows = [
        (
            "bad",
            "Bad, badly unbad _bad bad",
            "[Bad], badly unbad _bad [bad]",
        ),
        (
            "bad",
            "bad\u{301}x bad\u{301} x",
            "bad\u{301}x [bad]\u{301} x",
        ),
        ("bad", "é\u{301}bad", "é\u{301}bad"),
        ("straße", "STRAẞE Strasse", "[STRAẞE] Strasse"),
        ("kelvin", "\u{212a}elvin", "[\u{212a}elvin]"),
        ("漢字", "日漢字書", "日[漢字]書"),
        ("한국", "한국은 남한국", "[한국]은 남한국"),
        ("kt", "KT는 kt", "[KT]는 [kt]"),
        ("😀", "x😀y", "x[😀]y"),
        ("c++", "c++x xc++ c++", "[c++]x xc++ [c++]"),
        ("ข้าว", "กินข้าวผัด", "กิน[ข้าว]ผัด"),
    ];
    for (word, text, expected) in rows {
        assert_eq!(found(&rules(&[word]), &[text]).0, expected, "{word}");
    }
}

#[test]
fn leftmost_then_longest_then_strongest() {
    let mut log = rule(&["a b", "c"]);
    log.action = Action::Log;
    let rules = Rules::new(&[log, rule(&["a", "b c", "c"])], Side::Response);
    let mut all = Vec::new();
    let mut search = Search::new(&rules);
    search.push(&rules, "a b c c", &mut all);
    search.finish(&rules, &mut all);
    let told: Vec<_> = all
        .iter()
        .map(|it| (it.start, rules.id(it.rule), rules.action(it.rule)))
        .collect();
    assert_eq!(
        told,
        [
            (0, &"r".into(), Action::Log),
            (4, &"r".into(), Action::Reject),
            (6, &"r".into(), Action::Reject)
        ]
    );
    assert_eq!(rules.mask(all[0].rule), "***");
}

#[test]
fn a_rule_looks_only_where_it_is_to() {
    let mut here = rule(&["x"]);
    here.apply_to.response = false;
    assert!(Rules::new(&[here.clone()], Side::Response).is_empty());
    assert!(!Rules::new(&[here], Side::Request).is_empty());
}

proptest! {
    /// Held is exactly what some continuation would complete.
    #[test]
    fn text_is_held_while_some_continuation_completes_a_match_and_no_longer(
        words in prop::collection::vec("[ab ]{1,4}", 1..4),
        text in "[abc ]{0,8}",
        whole_word: bool,
    ) {
        let rules = Rules::new(&[Rule { whole_word, words, ..Rule::new("r") }], Side::Request);
        let mut search = Search::new(&rules);
        let mut all = Vec::new();
        search.push(&rules, &text, &mut all);
        let decided = search.decided();
        let mut open = false;
        for more in continuations("abc ", 4) {
            let (mut found, mut again) = (Vec::new(), Search::new(&rules));
            again.push(&rules, &(text.clone() + &more), &mut found);
            again.finish(&rules, &mut found);
            // What was told stays.
            prop_assert_eq!(&found[..all.len().min(found.len())], &all[..]);
            let new = &found[all.len()..];
            prop_assert!(new.iter().all(|it| it.start >= decided));
            open |= new.iter().any(|it| it.start == decided && decided < text.len() as u64);
        }
        prop_assert_eq!(open, decided < text.len() as u64);
    }

    /// In whatever pieces it comes, the same is found.
    #[test]
    fn pieces_make_no_difference(
        words in prop::collection::vec("[ab ]{1,4}", 1..4),
        pieces in prop::collection::vec("[abc ]{0,3}", 0..6),
        whole_word: bool,
    ) {
        let rules = Rules::new(&[Rule { whole_word, words, ..Rule::new("r") }], Side::Request);
        let pieces: Vec<_> = pieces.iter().map(String::as_str).collect();
        prop_assert_eq!(found(&rules, &pieces).0, found(&rules, &[&pieces.concat()]).0);
    }
}

/// Every text over the alphabet up to a length.
fn continuations(alphabet: &str, most: usize) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut from = 0;
    for _ in 0..most {
        let to = all.len();
        for at in from..to {
            for char in alphabet.chars() {
                let longer = all[at].clone() + char.encode_utf8(&mut [0; 4]);
                all.push(longer);
            }
        }
        from = to;
    }
    all
}
