mod router;

use http::{HeaderMap, Method};

use super::*;
use crate::{
    dialect::{self, Dialect, Recognised},
    error::{Reason, Rejection},
    facts::{Caller, Terms},
};

/// What a POST of this path is, in the words of routing.
struct Head {
    path: &'static str,
    recognised: Recognised,
    headers: HeaderMap,
    stream: bool,
}

impl Head {
    fn post(path: &'static str) -> Self {
        let headers = HeaderMap::new();
        Self {
            path,
            recognised: dialect::recognise(&Method::POST, path, None, &headers),
            headers,
            stream: false,
        }
    }

    fn ask<'a>(&'a self, model: Option<&'a str>) -> Ask<'a> {
        Ask {
            model,
            path: self.path,
            recognised: &self.recognised,
            stream: self.stream,
            tools: false,
            texts: None,
            hidden: false,
            headers: &self.headers,
            caller: None,
        }
    }
}

const CHAT: &str = "/v1/chat/completions";

fn listed(provider: &'static str, models: &[&'static str]) -> Catalogue {
    Catalogue::new(provider, Models::listed(models.iter().copied()))
}

fn any(provider: &'static str) -> Catalogue {
    Catalogue::new(provider, Models::Any)
}

fn aliases(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = |(from, to): &(&str, &str)| ((*from).to_owned(), (*to).to_owned());
    pairs.iter().map(own).collect()
}

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| Pattern::new(text)).collect()
}

/// Index and model of a choice, or the reason of the refusal.
fn chosen(table: &Table, ask: &Ask<'_>) -> Result<(usize, Option<String>), Reason> {
    match table.choose(ask) {
        Ok(choice) => Ok((choice.index, choice.model.as_deref().map(str::to_owned))),
        Err(refused) => Err(refused.reason()),
    }
}

fn model(table: &Table, model: &str) -> Result<(usize, String), Reason> {
    chosen(table, &Ask::chat(model)).map(|(index, model)| (index, model.unwrap()))
}

fn to(index: usize, model: &str) -> Result<(usize, String), Reason> {
    Ok((index, model.to_owned()))
}

// ===== the name =====

#[test]
fn a_name_is_itself_then_an_alias_then_a_pinned_provider() {
    let table = Table::new(
        [
            listed("a", &["gpt", "meta/llama", "wild*"]),
            listed("b", &["gpt", "own"]),
        ],
        aliases(&[
            ("gpt", "own"),
            ("short", "longer"),
            ("longer", "own"),
            ("pinned", "b/gpt"),
            ("wild-1", "own"),
        ]),
        [],
    );
    assert_eq!(
        model(&table, "gpt"),
        to(0, "gpt"),
        "listed exactly, so no alias"
    );
    assert_eq!(model(&table, "short"), to(1, "own"), "an alias of an alias");
    assert_eq!(model(&table, "b/gpt"), to(1, "gpt"));
    assert_eq!(model(&table, "pinned"), to(1, "gpt"), "an alias may pin");
    assert_eq!(
        model(&table, "meta/llama"),
        to(0, "meta/llama"),
        "listed exactly"
    );
    assert_eq!(
        model(&table, "wild-1"),
        to(1, "own"),
        "a pattern is no exact name"
    );
    assert_eq!(model(&table, "wild-2"), to(0, "wild-2"));
    assert_eq!(
        model(&table, "c/gpt"),
        Err(Reason::ModelNotFound),
        "no such provider"
    );
    assert_eq!(
        model(&table, "a/own"),
        Err(Reason::ModelNotFound),
        "not there"
    );
}

#[test]
fn aliases_in_a_circle_come_to_an_end() {
    let circle = aliases(&[("x", "y"), ("y", "x")]);
    let table = Table::new([listed("a", &["m"])], circle, []);
    assert_eq!(model(&table, "x"), Err(Reason::ModelNotFound));
}

// ===== rules =====

#[test]
fn the_first_rule_whose_conditions_hold_takes_the_request() {
    let by_model = |texts: &[&str]| Matcher {
        model: patterns(texts),
        ..Matcher::default()
    };
    let table = Table::new(
        [any("a"), any("b")],
        aliases(&[("alias", "gpt-4o")]),
        [
            Rule::new("exact")
                .when(by_model(&["gpt-4o", "o1"]))
                .to("a", None),
            Rule::new("open").when(by_model(&["gpt-*"])).to("a", None),
            Rule::new("never").when(by_model(&["gpt-4o"])).to("b", None),
            Rule::new("rest").to("b", None),
        ],
    );
    assert_eq!(table.len(), 4);
    for (asked, index, name) in [
        ("gpt-4o", 0, "exact"),
        ("o1", 0, "exact"),
        ("alias", 0, "exact"),
        ("gpt-4o-mini", 1, "open"),
        ("gpt-", 1, "open"),
        ("gpt", 3, "rest"),
    ] {
        let choice = table.choose(&Ask::chat(asked)).unwrap();
        assert_eq!(
            (choice.index, choice.name.as_deref()),
            (index, Some(name)),
            "{asked}"
        );
    }
}

#[test]
fn every_condition_must_hold() {
    let matcher = Matcher {
        path: patterns(&["/v1/chat/*"]),
        dialect: vec![Dialect::OpenAi],
        stream: Some(true),
        header: vec![(
            http::HeaderName::from_static("x-tier"),
            Pattern::new("gold*"),
        )],
        ..Matcher::default()
    };
    let table = Table::new(
        [any("a")],
        [],
        [Rule::new("all").when(matcher).to("a", None)],
    );
    let mut head = Head::post(CHAT);
    head.stream = true;
    head.headers.append("x-tier", "silver".parse().unwrap());
    head.headers.append("x-tier", "gold-1".parse().unwrap());
    assert!(table.choose(&head.ask(Some("m"))).is_ok());

    head.stream = false;
    assert!(table.choose(&head.ask(Some("m"))).is_err(), "no stream");
    head.stream = true;
    head.headers.insert("x-tier", "silver".parse().unwrap());
    assert!(table.choose(&head.ask(Some("m"))).is_err(), "header");
    head.headers.insert("x-tier", "gold".parse().unwrap());
    assert!(table.choose(&head.ask(Some("m"))).is_ok());
    head.path = "/v1/completions";
    assert!(table.choose(&head.ask(Some("m"))).is_err(), "path");
    head.path = CHAT;
    head.recognised = Head::post("/v1/messages").recognised;
    assert!(table.choose(&head.ask(Some("m"))).is_err(), "dialect");
}

#[test]
fn a_model_that_no_target_serves_is_unknown_and_no_other_rule_is_tried() {
    let table = Table::new(
        [listed("a", &["gpt*"]), any("b")],
        [],
        [Rule::new("a").to("a", None), Rule::new("b").to("b", None)],
    );
    assert_eq!(model(&table, "gpt-4"), to(0, "gpt-4"));
    assert_eq!(model(&table, "claude"), Err(Reason::ModelNotFound));

    let fixed = [Rule::new("a").to("a", Some("gpt-4".into()))];
    let table = Table::new([listed("a", &["gpt*"])], [], fixed);
    assert_eq!(
        model(&table, "claude"),
        to(0, "claude"),
        "the target names its own"
    );
}

#[test]
fn a_pinned_request_goes_only_where_its_provider_serves_the_model() {
    let table = Table::new(
        [listed("a", &["gpt"]), listed("b", &["claude"])],
        [],
        [
            Rule::new("a").to("a", None),
            Rule::new("both").to("a", None).to("b", None),
        ],
    );
    assert_eq!(model(&table, "b/claude"), to(1, "claude"));
    assert_eq!(model(&table, "a/gpt"), to(0, "gpt"));
    // Another target of the rule serves it, and nobody asked that one.
    assert_eq!(model(&table, "b/gpt"), Err(Reason::ModelNotFound));
}

// ===== paths =====

#[test]
fn a_rule_without_a_path_takes_known_surfaces_and_what_is_behind_a_prefix() {
    let table = Table::new([any("a")], [], [Rule::new("all").to("a", None)]);
    for path in [
        CHAT,
        "/v1/messages",
        "/v1/files",
        "/anything/v1/files",
        "/v1",
    ] {
        let taken = chosen(&table, &Head::post(path).ask(None));
        let expected = !matches!(Head::post(path).recognised, Recognised::Unknown);
        assert_eq!(taken.is_ok(), expected, "{path}");
    }
    assert!(chosen(&table, &Head::post("/v1/files").ask(None)).is_ok());
    assert_eq!(
        chosen(&table, &Head::post("/elsewhere").ask(None)),
        Err(Reason::NotFound)
    );
}

#[test]
fn a_wrong_prefix_is_answered_with_the_right_path() {
    let table = Table::new([any("a")], [], [Rule::new("all").to("a", None)]);
    for path in ["/chat/completions", "/v1/v1/chat/completions"] {
        let refused: Rejection = table.choose(&Head::post(path).ask(Some("m"))).unwrap_err();
        assert_eq!(refused.reason(), Reason::NotFound);
        assert!(
            refused.message().contains("/v1/chat/completions"),
            "{}",
            refused.message()
        );
        let implicit = Table::new([any("a")], [], []);
        let refused = implicit
            .choose(&Head::post(path).ask(Some("m")))
            .unwrap_err();
        assert!(refused.message().contains("/v1/chat/completions"));
    }
}

#[test]
fn a_rule_is_for_callers_by_their_names_in_the_list() {
    let when = |texts: &[&str]| Matcher {
        caller: patterns(texts),
        ..Matcher::default()
    };
    let rules = [
        Rule::new("exact").when(when(&["team-a"])).to("a", None),
        Rule::new("some").when(when(&["ci-*", "ops"])).to("b", None),
        Rule::new("rest").to("c", None),
    ];
    let table = Table::new([any("a"), any("b"), any("c")], [], rules);
    let by = |caller: Option<&Caller>| chosen(&table, &Ask::chat("m").by(caller)).unwrap().0;
    let caller = |name: &str| Caller::new(name, Terms::default());
    for (name, index) in [
        ("team-a", 0),
        ("ci-1", 1),
        ("ops", 1),
        ("team-a-2", 2),
        ("Team-A", 2),
    ] {
        assert_eq!(by(Some(&caller(name))), index, "{name}");
    }
    assert_eq!(by(None), 2);
    // A claim is no name in the list: it comes on the terms of one that is.
    let claims = caller("team-a").derive("ops");
    assert_eq!(by(Some(&claims)), 0);
}

#[test]
fn a_rule_that_names_a_path_or_leads_to_raw_providers_takes_any() {
    let paths = Matcher {
        path: patterns(&["/hooks/*"]),
        ..Matcher::default()
    };
    let rules = [Rule::new("hooks").when(paths).to("a", None)];
    let table = Table::new([any("a")], [], rules);
    assert!(chosen(&table, &Head::post("/hooks/1").ask(None)).is_ok());
    assert!(chosen(&table, &Head::post("/other").ask(None)).is_err());

    let raw = || any("raw").unread(true);
    let table = Table::new([raw(), any("a")], [], [Rule::new("raw").to("raw", None)]);
    assert!(chosen(&table, &Head::post("/other").ask(None)).is_ok());
    let mixed = [Rule::new("mixed").to("raw", None).to("a", None)];
    let table = Table::new([raw(), any("a")], [], mixed);
    assert!(chosen(&table, &Head::post("/other").ask(None)).is_err());
    // The same without rules.
    let table = Table::new([raw()], [], []);
    assert!(chosen(&table, &Head::post("/other").ask(None)).is_ok());
    let table = Table::new([any("a")], [], []);
    assert_eq!(
        chosen(&table, &Head::post("/other").ask(None)),
        Err(Reason::NotFound)
    );
}

// ===== without rules =====

#[test]
fn without_rules_the_first_provider_that_lists_the_model_takes_it() {
    let table = Table::new(
        [
            any("open"),
            listed("a", &["x", "m*"]),
            listed("b", &["m-1", "y"]),
        ],
        [],
        [],
    );
    assert_eq!(table.len(), 3);
    assert_eq!(model(&table, "y"), to(2, "y"));
    assert_eq!(
        model(&table, "m-1"),
        to(1, "m-1"),
        "the order of the file decides"
    );
    assert_eq!(model(&table, "b/m-1"), to(2, "m-1"));
    assert_eq!(model(&table, "open/z"), to(0, "z"), "pinned, it takes any");
    assert_eq!(
        model(&table, "z"),
        Err(Reason::ModelNotFound),
        "it lists nothing"
    );
    assert_eq!(
        chosen(&table, &Head::post(CHAT).ask(None)),
        Err(Reason::NotFound)
    );
    assert_eq!(
        chosen(&table, &Head::post("/v1/files").ask(None)),
        Err(Reason::NotFound)
    );
}

#[test]
fn a_sole_provider_takes_what_it_can() {
    let table = Table::new([any("a")], [], []);
    assert_eq!(model(&table, "any/thing"), to(0, "any/thing"));
    assert_eq!(
        chosen(&table, &Head::post("/v1/files").ask(None)),
        Ok((0, None))
    );
    assert_eq!(chosen(&table, &Head::post(CHAT).ask(None)), Ok((0, None)));
    let table = Table::new([listed("a", &["m"])], [], []);
    assert_eq!(model(&table, "n"), Err(Reason::ModelNotFound));
}

#[test]
fn a_table_that_leads_nowhere_says_so() {
    let table = Table::new([], [], []);
    assert!(table.is_empty());
    assert_eq!(model(&table, "m"), Err(Reason::ModelNotFound));
}

// ===== models =====

#[test]
fn a_providers_own_name_is_taken_from_the_exact_entry_first() {
    let models = Models::renamed([("gpt*", "wild"), ("gpt-4", "four"), ("same", "same")]);
    let own = |name| models.own_name(name).map(|it| &**it);
    assert_eq!(own("gpt-4"), Some("four"));
    assert_eq!(own("gpt-5"), Some("wild"));
    assert_eq!(own("same"), None, "no other name");
    assert_eq!(own("none"), None);
    assert_eq!(Models::Any.own_name("x"), None);
}

#[test]
fn a_model_that_nobody_could_read_is_let_pass_only_where_any_may_be_asked_for() {
    let head = Head::post(CHAT);
    let hidden = Ask {
        hidden: true,
        ..head.ask(None)
    };
    let to = |catalogue: Catalogue, model: Option<&str>| {
        let rule = Rule::new("all").to(catalogue.provider.clone(), model.map(Into::into));
        Table::new([catalogue], [], [rule])
            .choose(&hidden)
            .map_err(|why| why.reason())
    };
    assert!(to(any("p"), None).is_ok());
    assert!(to(listed("p", &["*"]), None).is_ok());
    for refused in [
        to(listed("p", &["gpt-4o*"]), None),
        to(Catalogue::new("p", Models::renamed([("*", "own")])), None),
        to(any("p"), Some("fixed")),
        Table::new([listed("p", &["one"])], [], [])
            .choose(&hidden)
            .map_err(|why| why.reason()),
    ] {
        assert_eq!(refused.unwrap_err(), Reason::UnsupportedCoding);
    }
}

#[test]
fn the_first_condition_that_fails_is_told_for_each_rule_that_is_passed_over() {
    let matcher = |set: fn(&mut Matcher)| {
        let mut matcher = Matcher::default();
        set(&mut matcher);
        matcher
    };
    let rules = [
        (
            "path",
            matcher(|it| it.path = vec![Pattern::new("/v1/embeddings")]),
        ),
        (
            "model",
            matcher(|it| it.model = vec![Pattern::new("other*")]),
        ),
        (
            "dialect",
            matcher(|it| it.dialect = vec![Dialect::Anthropic]),
        ),
        ("stream", matcher(|it| it.stream = Some(true))),
        ("tools", matcher(|it| it.tools = Some(true))),
        (
            "header",
            matcher(|it| it.header = vec![("x-tier".parse().unwrap(), Pattern::new("gold"))]),
        ),
        (
            "metadata",
            matcher(|it| it.metadata = vec![("team".into(), Pattern::new("blue"))]),
        ),
        ("prompt", matcher(|it| it.prompt = Some(Prompt::default()))),
        ("all", Matcher::default()),
        ("never", Matcher::default()),
    ];
    let table = Table::new(
        [Catalogue::new("p", Models::Any)],
        [],
        rules.map(|(name, matcher)| Rule::new(name).when(matcher).to("p", None)),
    );
    let ask = Ask::chat("m");
    let passed = table.passed_over(&ask);
    // Each bears the name of what fails.
    assert_eq!(passed.len(), 8);
    for (name, why) in passed {
        assert_eq!(name.as_deref(), Some(why));
    }
    assert_eq!(table.choose(&ask).unwrap().name.as_deref(), Some("all"));
    // And each holds where it is given what it asks for.
    let texts: [Box<str>; 1] = ["hi".into()];
    let mut headers = HeaderMap::new();
    headers.insert("x-tier", "gold".parse().unwrap());
    headers.insert(METADATA, "{\"team\":\"blue\"}".parse().unwrap());
    let ask = Ask {
        stream: true,
        tools: true,
        headers: &headers,
        texts: Some(&texts),
        ..ask
    };
    let passed = table.passed_over(&ask);
    let names: Vec<_> = passed.iter().map(|(_, why)| *why).collect();
    assert_eq!(names, ["path", "model", "dialect"]);
    assert_eq!(table.choose(&ask).unwrap().name.as_deref(), Some("stream"));
}
