use proptest::prelude::*;
use regex_automata::nfa::thompson::pikevm::PikeVM;

use super::{
    super::text::{Before, Text},
    *,
};

fn text(text: &str, over: bool) -> Text<'_> {
    Text {
        text,
        before: Before::default(),
        over,
        grown: None,
    }
}

fn pattern(of: &str) -> Pattern {
    Pattern::new(of, true, 256).unwrap_or_else(|why| panic!("{of}: {why}"))
}

/// What begins where, in a text that is over.
fn found(of: &str, within: &str) -> Vec<(usize, usize)> {
    let pattern = pattern(of);
    let places = within.char_indices().map(|(at, _)| at);
    let found = places.filter_map(|at| match pattern.here(text(within, true), at) {
        Here::Matches(end) => Some((at, end)),
        _ => None,
    });
    found.collect()
}

#[test]
fn boundaries_are_of_ascii_unless_they_say_otherwise() {
    assert_eq!(found(r"\bcat\b", "cat écat cats"), [(0, 3), (6, 9)]);
    assert_eq!(found(r"(?u:\b)cat(?u:\b)", "cat écat cats"), [(0, 3)]);
    assert_eq!(found(r"(?u)\bcat\b", "écat cat"), [(6, 9)]);
    assert_eq!(found(r"\Bat\b", "at cat"), [(4, 6)]);
    assert_eq!(found(r"\b\w+\b", "ab c"), [(0, 2), (3, 4)]);
    for refused in [
        r"\bé",
        r"é\b",
        r"\b[а-я]+",
        r"(?:x|é)\b",
        r"\b\p{Greek}",
        r"\b(é)x",
    ] {
        let why = Pattern::new(refused, true, 256).unwrap_err();
        assert!(why.0.contains(r"(?u:\b)"), "{refused}: {why}");
    }
    pattern(r"(?u:\b)é+(?u:\b)");
}

/// O03.
#[test]
fn what_cannot_be_searched_for_in_bounded_time_and_memory_is_refused() {
    let refused = [
        "(a{1000}){1000}",
        "(a",
        r"(a)\1",
        "(?<=a)b",
        "a*",
        "",
        r"\b",
        "(a|b)*a(a|b){20}",
        "a{300}",
        r"[a&&b]",
        r"(?-u:\xff)",
    ];
    for refused in refused {
        assert!(Pattern::new(refused, true, 256).is_err(), "{refused}");
    }
    for taken in ["(a+)+b", "a{1,256}b", "(x|y|z){1,40}", r"\d+", ".+x"] {
        pattern(taken);
    }
}

#[test]
fn a_match_has_so_many_characters_at_most() {
    let pattern = Pattern::new("a+b?", true, 4).unwrap();
    let here = |of: &str, over| pattern.here(text(of, over), 0);
    assert_eq!(here("aaaaaa", true), Here::Matches(4));
    assert_eq!(here("aaab", true), Here::Matches(4));
    assert_eq!(here("aaa", false), Here::Open);
    assert_eq!(here("aaaa", false), Here::Matches(4));
    let pattern = Pattern::new("é+xy", false, 4).unwrap();
    let here = |of: &str| pattern.here(text(of, false), 0);
    assert_eq!((here("Éé"), here("ééé")), (Here::Open, Here::Nothing));
}

#[test]
fn a_match_that_nothing_changes_does_not_wait() {
    let open = |of: &str, at: &str| pattern(of).here(text(at, false), 0);
    assert_eq!(open("ab", "ab"), Here::Matches(2));
    assert_eq!(open(r"ab\b", "ab"), Here::Open);
    assert_eq!(open(r"ab\b", "abc"), Here::Nothing);
    assert_eq!(open("ab?", "a"), Here::Open);
    assert_eq!(open("ab$", "ab"), Here::Open);
    assert_eq!(open("(?m)ab$", "ab\n"), Here::Matches(2));
    assert_eq!(open("^ab", "ab"), Here::Matches(2));
    assert_eq!(found("^ab", "ab ab"), [(0, 2)]);
}

/// Small expressions over a small alphabet.
fn expressions() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "a",
        "b",
        "[ab]",
        "[^a]",
        ".",
        r"\b",
        r"\B",
        "^",
        "$",
        "(?m:^)",
        "(?m:$)",
        r"\w",
        " ",
        r"(?R:(?m:$))",
        r"\b{start}",
        r"\b{end}",
    ]);
    let leaf = leaf.prop_map(str::to_owned);
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(|all| all.concat()),
            prop::collection::vec(inner.clone(), 2..4)
                .prop_map(|all| format!("(?:{})", all.join("|"))),
            (inner.clone(), 0..3_u32, 0..3_u32)
                .prop_map(|(one, min, more)| format!("(?:{one}){{{min},{}}}", min + more)),
            inner.prop_map(|one| format!("(?:{one})+")),
        ]
    })
}

/// The longest match of an expression at a place, by the machine of regex-automata on every end.
fn longest(machine: &PikeVM, of: &str, at: usize) -> Option<usize> {
    let mut cache = machine.create_cache();
    let ends = (at + 1..=of.len())
        .rev()
        .filter(|end| of.is_char_boundary(*end));
    ends.into_iter().find(|end| {
        let input = regex_automata::Input::new(of)
            .span(at..*end)
            .anchored(regex_automata::Anchored::Yes);
        // A span still sees what stands around it.
        machine
            .find_iter(&mut cache, input)
            .any(|found| found.range() == (at..*end))
    })
}

/// Up to two characters, each as often as it may be of use, with something behind them.
fn continuations() -> Vec<String> {
    // In the last letter classes of Unicode and of ASCII differ.
    let some = ["", "a", "b", " ", "\n", "é"];
    let two = some
        .iter()
        .flat_map(|one| some.map(|other| format!("{one}{other}")));
    two.flat_map(|two| [two.clone(), two.clone() + "a", two + " "])
        .collect()
}

/// How many characters it takes, at least, for what begins there to match more than now.
fn more(pattern: &Pattern, of: &str, at: usize) -> Option<usize> {
    let start = pattern.table.start(of[..at].chars().next_back());
    let mut chars = of[at..].chars();
    let state = chars.try_fold(start, |state, char| pattern.table.step(state, char).next);
    state.and_then(|state| pattern.table.more(state))
}

proptest! {
    /// Matches are those of regex-automata; held is what some continuation completes, and nothing else.
    #[test]
    fn it_matches_as_the_crate_does_and_waits_no_longer_than_it_has_to(
        of in expressions(),
        begun in "[ab \n]{0,5}",
    ) {
        let Ok(pattern) = Pattern::new(&of, true, 256) else { return Ok(()) };
        let whole = format!("(?:{})", edges::ascii(&of).unwrap());
        let machine = PikeVM::builder()
            .configure(PikeVM::config().match_kind(regex_automata::MatchKind::All))
            .build(&whole)
            .unwrap();
        let all = |text: &str| {
            (0..=text.len()).map(|at| longest(&machine, text, at)).collect::<Vec<_>>()
        };
        let over = all(&begun);
        for (at, over) in over.iter().enumerate().take(begun.len()) {
            let expected = over.map_or(Here::Nothing, Here::Matches);
            prop_assert_eq!(pattern.here(text(&begun, true), at), expected, "{} at {}", of, at);
        }
        let mut later = vec![Vec::new(); begun.len()];
        for more in continuations() {
            let ends = all(&(begun.clone() + &more));
            for (later, end) in later.iter_mut().zip(ends) {
                later.push(end);
            }
        }
        for (at, later) in later.iter().enumerate() {
            match pattern.here(text(&begun, false), at) {
                Here::Open => {
                    let told = later.iter().any(Option::is_some);
                    prop_assert!(told || more(&pattern, &begun, at) > Some(2), "{} at {}", of, at);
                }
                Here::Nothing => prop_assert!(later.iter().all(Option::is_none), "{} at {}", of, at),
                Here::Matches(end) => {
                    prop_assert!(later.iter().all(|it| *it == Some(end)), "{} at {}: {:?}", of, at, later);
                }
            }
        }
    }
}
