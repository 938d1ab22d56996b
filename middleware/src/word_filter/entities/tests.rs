use super::{
    super::{
        pattern::Here,
        rules::{Rule, Rules, Side},
        search::Search,
        text::{Before, Text},
    },
    *,
};

mod table;

fn rules(entity: Entity) -> Rules {
    let rule = Rule {
        entities: vec![entity],
        ..Rule::new("r")
    };
    Rules::new(&[rule], Side::Request).unwrap()
}

/// What of a text is found, each.
fn found<'t>(rules: &Rules, text: &'t str) -> Vec<&'t str> {
    let mut search = Search::new(rules);
    let mut all = Vec::new();
    search.push(rules, text, &mut all);
    search.finish(rules, &mut all);
    let places = all.iter().map(|it| it.start as usize..it.end as usize);
    places.map(|at| &text[at]).collect()
}

fn check(entity: Entity, hits: &[String], misses: &[String]) {
    assert!(hits.len() >= 30 && misses.len() >= 30);
    let rules = rules(entity);
    let mut wrong = Vec::new();
    for hit in hits {
        for around in [
            "@@@",
            "say @@@, please",
            "(@@@)",
            "\"@@@\": ",
            "it is @@@\n",
            "@@@.",
        ] {
            let text = around.replace("@@@", hit);
            let told = found(&rules, &text);
            if told != [hit] {
                wrong.push(format!("{text:?}: {told:?}"));
            }
        }
    }
    for miss in misses {
        let text = format!("say {miss} please");
        let told = found(&rules, &text);
        if !told.is_empty() {
            wrong.push(format!("{text:?}: {told:?}"));
        }
    }
    assert!(wrong.is_empty(), "{entity}: {wrong:#?}");
}

fn owned(of: &[&str]) -> Vec<String> {
    of.iter().map(|it| (*it).to_owned()).collect()
}

#[test]
fn each_is_found_by_its_form_and_nothing_that_only_looks_like_it() {
    for (entity, hits, misses) in [
        (Entity::CreditCard, table::CARDS, table::NO_CARDS),
        (Entity::Email, table::EMAILS, table::NO_EMAILS),
        (Entity::Iban, table::IBANS, table::NO_IBANS),
        (Entity::Ipv4, table::IPV4, table::NO_IPV4),
        (Entity::Ipv6, table::IPV6, table::NO_IPV6),
        (Entity::Phone, table::PHONES, table::NO_PHONES),
        (Entity::Ssn, table::SSNS, table::NO_SSNS),
    ] {
        check(entity, &owned(hits), &owned(misses));
    }
    let joined = |of: &[[&str; 2]]| of.iter().map(|it| it.concat()).collect::<Vec<_>>();
    check(
        Entity::Secrets,
        &joined(table::SECRETS),
        &joined(table::NO_SECRETS),
    );
}

/// Whatever the pieces, what is found and how long it waits depend on the text alone.
#[test]
fn each_is_found_in_any_two_pieces() {
    let mut tried = 0;
    for (entity, hits) in [
        (Entity::CreditCard, table::CARDS),
        (Entity::Email, table::EMAILS),
        (Entity::Iban, table::IBANS),
        (Entity::Ipv6, table::IPV6),
        (Entity::Phone, table::PHONES),
    ] {
        let rules = rules(entity);
        for hit in hits.iter().take(5) {
            let text = format!("a {hit} b");
            for cut in 0..=text.len() {
                let mut search = Search::new(&rules);
                let mut all = Vec::new();
                search.push(&rules, &text[..cut], &mut all);
                let inside = cut > 2 && cut < 2 + hit.len();
                assert!(!inside || search.decided() <= 2, "{hit} cut at {cut}");
                search.push(&rules, &text[cut..], &mut all);
                search.finish(&rules, &mut all);
                let places: Vec<_> = all.iter().map(|it| (it.start, it.end)).collect();
                assert_eq!(places, [(2, 2 + hit.len() as u64)], "{hit} cut at {cut}");
                tried += 1;
            }
        }
    }
    assert!(tried > 300);
}

#[test]
fn words_name_entities() {
    for entity in Entity::ALL {
        assert_eq!(entity.as_str().parse(), Ok(entity));
        let patterns = entity.patterns(256).unwrap();
        let nothing = Text {
            text: "",
            before: Before::default(),
            over: true,
            grown: None,
        };
        assert!(
            patterns
                .iter()
                .all(|it| it.here(nothing, 0) == Here::Nothing)
        );
    }
    assert!("E-mail".parse::<Entity>().is_err());
}
