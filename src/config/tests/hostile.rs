//! No input panics, and damage shows no secret.

use proptest::prelude::*;

use super::example::EXAMPLE;
use super::*;

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in "\\PC*") {
        let _ = load(&text, "t.yaml", &inputs());
    }

    #[test]
    fn any_text_of_yaml_signs_is_read_without_a_panic(text in "[\\[\\]{}:,\\-&*!|>'\"%@`#? \n\ta-c$0é<]{0,200}") {
        let _ = load(&text, "t.yaml", &inputs());
    }

    #[test]
    fn a_damaged_file_ends_in_problems_without_the_secret(at in 0..EXAMPLE.len(), cut in 0_usize..40, put in "[\\[\\]{}:,&*!'\"#? \n\ta-c$é]{0,4}") {
        let all = |_: &str| Some(CANARY.to_owned());
        let literal = EXAMPLE.replace("${OPENAI_API_KEY}", CANARY).replace("${TEAM_A_KEY}", CANARY);
        let from = (0..=at.min(literal.len())).rev().find(|i| literal.is_char_boundary(*i)).unwrap_or(0);
        let to = (from..=literal.len()).find(|i| *i >= from + cut && literal.is_char_boundary(*i)).unwrap_or(literal.len());
        let text = format!("{}{put}{}", &literal[..from], &literal[to..]);
        if let Err(problems) = load(&text, "t.yaml", &Inputs { env: &all, ..inputs() }) {
            // A cut through the key's own name or value leaves something that nobody can tell from other text.
            let whole = text.contains(&format!("credentials: [\"{CANARY}\"]")) && text.contains(&format!("key: \"{CANARY}\""));
            prop_assert!(!whole || !problems.to_string().contains(CANARY), "{problems}");
        }
    }

    #[test]
    fn values_of_any_text_are_judged_without_a_panic(text in "\\PC{0,40}") {
        let _ = (value::duration(&text), value::size(&text), value::base_url(&text), value::listen(&text), value::shown(&text));
        let _ = (value::rate(&text), value::money(&text), value::percent(&text), value::pattern(&text), value::url(&text));
    }
}
