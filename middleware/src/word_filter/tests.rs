use proptest::prelude::*;

use super::{
    Entity,
    normal::tests::placed,
    rules::{Action, Normalize, Rule, Rules, Side},
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
    Rules::new(&[rule(words)], Side::Request).unwrap()
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
        (
            "whiskey",
            "whis\u{212a}ey please",
            "[whis\u{212a}ey] please",
        ),
        ("crimson", "CRIM\u{17f}ON, red", "[CRIM\u{17f}ON], red"),
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

/// In one action the longest; a weaker one gives way wherever it overlaps.
#[test]
fn leftmost_then_longest_and_no_weaker_rule_hides_a_stronger() {
    let mut log = rule(&["a b", "c", "d e f"]);
    log.action = Action::Log;
    let rules = Rules::new(&[log, rule(&["a", "b c", "c", "e"])], Side::Response).unwrap();
    let mut all = Vec::new();
    let mut search = Search::new(&rules);
    search.push(&rules, "a b c c d e f", &mut all);
    search.finish(&rules, &mut all);
    let told: Vec<_> = all
        .iter()
        .map(|it| (it.start, it.end, rules.action(it.rule)))
        .collect();
    let reject = |start, end| (start, end, Action::Reject);
    assert_eq!(
        told,
        [reject(0, 1), reject(2, 5), reject(6, 7), reject(10, 11)]
    );
    assert_eq!(
        (rules.mask(all[0].rule), &**rules.id(all[0].rule)),
        ("***", "r")
    );
}

#[test]
fn a_rule_looks_only_where_it_is_to() {
    let mut here = rule(&["x"]);
    here.apply_to.response = false;
    assert!(
        Rules::new(&[here.clone()], Side::Response)
            .unwrap()
            .is_empty()
    );
    assert!(!Rules::new(&[here], Side::Request).unwrap().is_empty());
}

/// Every place where a word of the rules matches, by comparing.
fn everywhere(rules: &[Rule], text: &str) -> Vec<(usize, usize, Action)> {
    let chars: Vec<char> = text.chars().collect();
    let lower = |char: &char| char.to_ascii_lowercase();
    let mut all = Vec::new();
    for rule in rules {
        for word in rule.words.iter().filter(|word| !word.is_empty()) {
            let word: Vec<char> = word.chars().collect();
            for start in 0..=chars.len().saturating_sub(word.len()) {
                let end = start + word.len();
                let there = chars.get(start..end).is_some_and(|there| {
                    if rule.case_sensitive {
                        there == word
                    } else {
                        there.iter().map(lower).eq(word.iter().map(lower))
                    }
                });
                let letter = |at: usize| chars.get(at).is_some_and(char::is_ascii_alphanumeric);
                let inside = |from: usize, to: usize| letter(from) && letter(to);
                let joined = start > 0 && inside(start - 1, start) || inside(end - 1, end);
                if there && !(rule.whole_word && joined) {
                    all.push((start, end, rule.action));
                }
            }
        }
    }
    all
}

/// What is told of them, by the words of the documentation.
fn chosen(all: &[(usize, usize, Action)]) -> Vec<(usize, usize, Action)> {
    let (mut told, mut at) = (Vec::new(), 0);
    let first = |from: usize, least: Action, before: usize| {
        let fits = all
            .iter()
            .filter(|it| it.0 >= from && it.0 < before && it.2 >= least);
        fits.min_by_key(|it| (it.0, std::cmp::Reverse((it.2, it.1))))
            .copied()
    };
    while let Some(mut best) = first(at, Action::Log, usize::MAX) {
        loop {
            let stronger = match best.2 {
                Action::Log => first(at, Action::Mask, best.1),
                Action::Mask => first(at, Action::Reject, best.1),
                Action::Reject => None,
            };
            match stronger {
                Some(found) => best = found,
                None => break,
            }
        }
        told.push(best);
        at = best.1;
    }
    told
}

fn any_rules() -> impl Strategy<Value = Vec<Rule>> {
    let action = prop::sample::select(vec![Action::Log, Action::Mask, Action::Reject]);
    let rule = (
        prop::collection::vec("[abA ]{1,4}", 1..4),
        any::<[bool; 2]>(),
        action,
    );
    let rule = rule.prop_map(|(words, [whole_word, case_sensitive], action)| Rule {
        words,
        whole_word,
        case_sensitive,
        action,
        ..Rule::new("r")
    });
    prop::collection::vec(rule, 1..4)
}

proptest! {
    /// What is found is what comparing finds.
    #[test]
    fn the_same_is_found_as_by_comparing(rules in any_rules(), text in "[abcAB ]{0,12}") {
        let ready = Rules::new(&rules, Side::Request).unwrap();
        let mut search = Search::new(&ready);
        let mut all = Vec::new();
        search.push(&ready, &text, &mut all);
        search.finish(&ready, &mut all);
        let found: Vec<_> = all
            .iter()
            .map(|it| (it.start as usize, it.end as usize, ready.action(it.rule)))
            .collect();
        prop_assert_eq!(found, chosen(&everywhere(&rules, &text)));
    }

    /// Held is exactly what some continuation would complete.
    #[test]
    fn text_is_held_while_some_continuation_completes_a_match_and_no_longer(
        rules in any_rules(),
        text in "[abcAB ]{0,8}",
    ) {
        // Of several actions one may be sure to give way to another.
        let one_action = rules.iter().all(|rule| rule.action == rules[0].action);
        let rules = Rules::new(&rules, Side::Request).unwrap();
        let mut search = Search::new(&rules);
        let mut all = Vec::new();
        search.push(&rules, &text, &mut all);
        let decided = search.decided();
        let mut open = false;
        for more in continuations("abA ", 4) {
            let (mut found, mut again) = (Vec::new(), Search::new(&rules));
            again.push(&rules, &(text.clone() + &more), &mut found);
            again.finish(&rules, &mut found);
            // What was told stays.
            prop_assert_eq!(&found[..all.len().min(found.len())], &all[..], "{:?} then {:?}", text, more);
            let new = &found[all.len()..];
            prop_assert!(new.iter().all(|it| it.start >= decided));
            open |= new.iter().any(|it| it.start == decided && decided < text.len() as u64);
        }
        let held = decided < text.len() as u64;
        prop_assert!(open == held || held && !one_action, "held {}, open {}", held, open);
    }

    /// In whatever pieces it comes, the same is found.
    #[test]
    fn pieces_make_no_difference(
        rules in any_rules(),
        pieces in prop::collection::vec("[abcAB ]{0,3}", 0..6),
    ) {
        let rules = Rules::new(&rules, Side::Request).unwrap();
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

/// Words and texts of characters that do something to others.
pub(super) fn odd() -> impl Strategy<Value = char> {
    prop::sample::select(vec![
        'a', 'e', 'E', 'é', '\u{301}', '\u{323}', '\u{316}', '\u{200b}', 'ﬁ', 'i', '가',
        '\u{11a8}', '漢', 'ß', 'ẞ', 'İ', '\u{212a}', '😀', ' ',
    ])
}

/// A word that does not begin with a mark.
pub(super) fn odd_word() -> impl Strategy<Value = String> {
    let marks = "\u{301}\u{323}\u{316}\u{200b}\u{11a8}";
    let first = odd().prop_filter("a mark", move |char| !marks.contains(*char));
    let word = (first, prop::collection::vec(odd(), 0..3));
    word.prop_map(|(first, rest)| [first].into_iter().chain(rest).collect())
}

fn odd_rules() -> impl Strategy<Value = Vec<Rule>> {
    let word = odd_word();
    let rule = (prop::collection::vec(word, 1..3), any::<[bool; 3]>());
    let rule = rule.prop_map(|(words, [whole_word, case_sensitive, normalized])| Rule {
        words,
        whole_word,
        case_sensitive,
        normalize: if normalized {
            Normalize::Nfkc
        } else {
            Normalize::None
        },
        action: Action::Mask,
        ..Rule::new("r")
    });
    prop::collection::vec(rule, 1..3)
}

/// The text with `***` for every word in normal form: of all words at once, character by character.
pub(super) fn masked_normal(text: &str, words: &[String], folded: bool) -> String {
    let form = |text: &str| placed(text, folded);
    let words: Vec<Vec<char>> = words
        .iter()
        .map(|word| form(word).iter().map(|it| it.0).collect())
        .collect();
    let chars = form(text);
    let (mut out, mut done, mut at) = (String::new(), 0, 0);
    while at < chars.len() {
        let here = words.iter().filter(|word| {
            let there = chars[at..].iter().take(word.len());
            !word.is_empty() && there.map(|it| it.0).eq(word.iter().copied())
        });
        // Marks may stand in another order than they came in: none of them was found before.
        let longest = here.map(Vec::len).max();
        let longest = longest.filter(|length| chars[at..at + length].iter().all(|it| it.1 >= done));
        let Some(longest) = longest else {
            at += 1;
            continue;
        };
        let found = &chars[at..at + longest];
        let start = found.iter().map(|it| it.1).min().unwrap();
        out += &text[done..start];
        out += "***";
        done = found.iter().map(|it| it.2).max().unwrap();
        at += longest;
    }
    out + &text[done..]
}

proptest! {
    #[test]
    fn normalised_words_are_found_as_by_comparing(
        words in prop::collection::vec(odd_word(), 1..4),
        text in prop::collection::vec(odd(), 0..12),
        case_sensitive in any::<bool>(),
    ) {
        let text: String = text.into_iter().collect();
        let one = Rule { words: words.clone(), case_sensitive, whole_word: false, normalize: Normalize::Nfkc, ..Rule::new("r") };
        let rules = Rules::new(&[one], Side::Request).unwrap();
        let (mut search, mut all) = (Search::new(&rules), Vec::new());
        search.push(&rules, &text, &mut all);
        search.finish(&rules, &mut all);
        let (mut seen, mut at) = (String::new(), 0);
        for found in all {
            seen += &text[at..found.start as usize];
            seen += "***";
            at = found.end as usize;
        }
        prop_assert_eq!(seen + &text[at..], masked_normal(&text, &words, !case_sensitive));
    }
}

#[test]
fn a_word_that_nothing_is_found_by_in_normal_form_is_refused() {
    for (word, why) in [
        ("\u{200b}\u{ad}", "to be seen"),
        ("\u{301}a", "a mark"),
        ("\u{200d}\u{301}", "a mark"),
    ] {
        let one = Rule {
            normalize: Normalize::Nfkc,
            ..rule(&["fine", word])
        };
        let refused = Rules::new(&[one], Side::Request).unwrap_err();
        assert!(refused.why().contains(why), "{word:?}: {refused}");
        assert!(Rules::new(&[rule(&[word])], Side::Request).is_ok());
    }
}

#[test]
fn normal_forms_are_found_and_what_they_were_made_of_is_masked() {
    let normal = |words: &[&str], text: &str| {
        let one = Rule {
            normalize: Normalize::Nfkc,
            ..rule(words)
        };
        found(&Rules::new(&[one], Side::Request).unwrap(), &[text]).0
    };
    let rows = [
        (
            "bad",
            "ｂａｄ b\u{200b}a\u{ad}d 𝐛𝐚𝐝 ⓑⓐⓓ bad\u{301}x",
            "[ｂａｄ] [b\u{200b}a\u{ad}d] [𝐛𝐚𝐝] [ⓑⓐⓓ] bad\u{301}x",
        ),
        (
            "café",
            "cafe\u{301}, CAFÉ, cafe",
            "[cafe\u{301}], [CAFÉ], cafe",
        ),
        (
            "cafe",
            "cafe\u{301} cafe cafe\u{200b}\u{301}",
            "cafe\u{301} [cafe] cafe\u{200b}\u{301}",
        ),
        (
            "straße",
            "STRASSE Straẞe strasse",
            "[STRASSE] [Straẞe] [strasse]",
        ),
        ("fin", "ﬁn ﬁne", "[ﬁn] ﬁne"),
        ("istanbul", "İstanbul istanbul", "İstanbul [istanbul]"),
        ("i\u{307}stanbul", "İstanbul", "[İstanbul]"),
        ("각", "가\u{11a8} 각은 가", "[가\u{11a8}] [각]은 가"),
        ("ガス", "ｶﾞｽ", "[ｶﾞｽ]"),
        ("漢字", "日漢\u{fe00}字書", "日[漢\u{fe00}字]書"),
        (
            "ệ",
            "e\u{302}\u{323} e\u{323}\u{302} ê\u{323}",
            "[e\u{302}\u{323}] [e\u{323}\u{302}] [ê\u{323}]",
        ),
    ];
    for (word, text, expected) in rows {
        assert_eq!(normal(&[word], text), expected, "{word}");
    }
    // Expressions and entities see the same form, in the case that is there.
    let one = Rule {
        entities: vec![Entity::CreditCard],
        regex: vec!["No\\. é+[0-9]".into()],
        normalize: Normalize::Nfkc,
        case_sensitive: true,
        ..Rule::new("r")
    };
    let rules = Rules::new(&[one], Side::Request).unwrap();
    let text = "４１１１\u{200b}１１１１１１１１１１１１, № e\u{301}é７ No. É7";
    assert_eq!(
        found(&rules, &[text]).0,
        "[４１１１\u{200b}１１１１１１１１１１１１], № e\u{301}é７ No. É7"
    );
    let text = "Ｎo. e\u{301}é７!";
    assert_eq!(found(&rules, &[text]).0, "[Ｎo. e\u{301}é７]!");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Also where characters depend on those that follow.
    #[test]
    fn normalised_text_is_held_while_some_continuation_completes_a_match_and_no_longer(
        rules in odd_rules(),
        text in prop::collection::vec(odd(), 0..6),
    ) {
        let text: String = text.into_iter().collect();
        let ready = Rules::new(&rules, Side::Request).unwrap();
        let mut search = Search::new(&ready);
        let mut all = Vec::new();
        search.push(&ready, &text, &mut all);
        let decided = search.decided();
        let mut open = false;
        let mut more = continuations("aeEé\u{301}\u{323}\u{316}\u{200b}ﬁi가\u{11a8}漢ß ", 2);
        // And what is left of each word, behind anything: of one that folds to several characters it may be a mark alone.
        for word in rules.iter().flat_map(|rule| &rule.words) {
            for at in (0..=word.len()).filter(|at| word.is_char_boundary(*at)) {
                more.extend(continuations("\u{301}\u{323}\u{307}\u{11a8}é", 1).iter().map(|it| it.clone() + &word[at..]));
            }
        }
        for more in more {
            let (mut found, mut again) = (Vec::new(), Search::new(&ready));
            again.push(&ready, &(text.clone() + &more), &mut found);
            again.finish(&ready, &mut found);
            prop_assert_eq!(&found[..all.len().min(found.len())], &all[..], "{:?} then {:?}", text, more);
            let new = &found[all.len()..];
            prop_assert!(new.iter().all(|it| it.start >= decided), "{:?} then {:?}: {:?} before {}", text, more, new, decided);
            open |= new.iter().any(|it| it.start == decided && decided < text.len() as u64);
        }
        prop_assert_eq!(open, decided < text.len() as u64, "{:?} is decided up to {}", text, decided);
    }

    /// In whatever pieces it comes, the same is found.
    #[test]
    fn pieces_of_normalised_text_make_no_difference(
        rules in odd_rules(),
        pieces in prop::collection::vec(prop::collection::vec(odd(), 0..4), 0..6),
    ) {
        let rules = Rules::new(&rules, Side::Request).unwrap();
        let pieces: Vec<String> = pieces.iter().map(|it| it.iter().collect()).collect();
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        prop_assert_eq!(found(&rules, &pieces).0, found(&rules, &[&pieces.concat()]).0);
    }
}
