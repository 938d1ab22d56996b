//! Recorded answers, with words in them that somebody may not want: what a client reads is what a search over the whole text
//! and a replacement would have made of it, however the answer is cut into reads.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

use serde_json::Value;
use tollgate_testing::recordings::{self, Recording};

use super::{
    client::{Client, Said, Texts},
    *,
};
use crate::dialect::framing_of;

/// Recordings with texts that were generated.
fn spoken() -> Vec<&'static Recording> {
    let all = recordings::all().iter();
    all.filter(|recording| {
        let kind = recording.expected["dialect"].as_str().unwrap_or_default();
        let kinds = [
            "chat",
            "completions",
            "responses",
            "messages",
            "generate",
            "converse",
            "invoke",
        ];
        recording.status < 400 && kinds.into_iter().any(|one| kind.ends_with(one))
    })
    .collect()
}

fn client(recording: &Recording) -> Client {
    Client {
        dialect: recording.expected["dialect"].as_str().unwrap().to_owned(),
        format: recording.format.clone(),
        stream: recording.stream,
    }
}

fn answer(recording: &Recording, rules: &Rules) -> Hold {
    let surface = surface(&recording.asked);
    let mut headers = HeaderMap::new();
    for (name, value) in &recording.headers {
        let name = http::HeaderName::try_from(name).unwrap();
        headers.append(name, value.parse().unwrap());
    }
    let status = http::StatusCode::from_u16(recording.status).unwrap();
    let framing = framing_of(Some(&surface), recording.stream, status, &headers);
    assert_ne!(framing, Framing::Opaque, "{}", recording.name);
    hold(&recording.asked, framing, rules, LIMITS)
}

/// For each of the recordings, on both processors.
fn each(run: impl Fn(&Recording) + Sync) {
    let all = spoken();
    assert!(all.len() > 15, "{} recordings", all.len());
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(recording) = all.get(next.fetch_add(1, Relaxed)) {
                    run(recording);
                }
            });
        }
    });
}

/// Gives a reason to finish with every piece.
const FINISHES: &str = "gemini/error-mid-stream-bare-json";

/// Every split in two of a small body, some seeded ones of others.
fn splits(recording: &Recording, seed: u64, random: u64) -> Vec<Split> {
    let length = recording.body.len();
    let mut all = recording.splits(seed, random);
    if length < SMALL {
        all.extend((0..=length).map(|at| Split::Sizes(vec![at])));
    }
    all
}

const SMALL: usize = 3 * 1024;

#[test]
fn what_holds_nothing_passes_byte_for_byte() {
    each(|recording| {
        for action in [Action::Mask, Action::Reject, Action::Log] {
            let rules = rules(&["\u{2603}nowhere"], action);
            for split in splits(recording, 1, 3) {
                let mut hold = answer(recording, &rules);
                let (out, stopped) = filtered(&mut hold, split.pieces(&recording.body));
                assert!(
                    out == recording.body && stopped.is_none(),
                    "{} in {split:?}",
                    recording.name
                );
                assert!(!hold.is_edited(), "{}", recording.name);
            }
        }
    });
}

/// The string values of arguments that are told as JSON, one by one.
fn values(said: &Said) -> Option<Vec<String>> {
    fn add(value: &Value, all: &mut Vec<String>) {
        match value {
            Value::String(text) => all.push(text.clone()),
            Value::Array(items) => items.iter().for_each(|item| add(item, all)),
            Value::Object(members) => members.values().for_each(|member| add(member, all)),
            _ => {}
        }
    }
    let mut all = Vec::new();
    add(&serde_json::from_str(&said.text).ok()?, &mut all);
    Some(all)
}

/// What the texts are to be with one word masked; none if the answer is to be refused, or the word stands where nobody can say.
fn masked(texts: &Texts, word: &str) -> Option<Vec<(String, Vec<String>)>> {
    let mut all = Vec::new();
    for (place, said) in texts {
        let after = |text: &String| {
            if said.signed {
                text.clone()
            } else {
                text.replace(word, "***")
            }
        };
        let told = if said.json {
            let values = values(said).or_else(|| (!said.text.contains(word)).then(Vec::new))?;
            // Over the end of one.
            let alone: usize = values.iter().map(|value| value.matches(word).count()).sum();
            if values.concat().matches(word).count() != alone {
                return None;
            }
            values.iter().map(after).collect()
        } else {
            vec![after(&said.text)]
        };
        all.push((place.clone(), told));
    }
    Some(all)
}

fn told(texts: &Texts) -> Vec<(String, Vec<String>)> {
    let told = |said: &Said| match said.json {
        true => values(said).unwrap_or_default(),
        false => vec![said.text.clone()],
    };
    texts
        .iter()
        .map(|(place, said)| (place.clone(), told(said)))
        .collect()
}

/// Some words of the texts, of a few letters each, wherever they begin.
fn words(texts: &Texts, seed: u64, count: usize) -> Vec<String> {
    let mut random = Random::new(seed);
    let all: Vec<String> = told(texts)
        .into_iter()
        .flat_map(|(_, texts)| texts)
        .collect();
    let all: Vec<&String> = all.iter().filter(|text| !text.is_empty()).collect();
    let mut words = Vec::new();
    for _ in 0..if all.is_empty() { 0 } else { count } {
        let chars: Vec<char> = all[random.below(all.len())].chars().collect();
        let from = random.below(chars.len());
        let word: String = chars[from..].iter().take(1 + random.below(12)).collect();
        if !word.contains('*') {
            words.push(word);
        }
    }
    words
}

#[test]
fn planted_words_are_masked_as_in_the_whole_text() {
    let (tried, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    each(|recording| {
        let client = client(recording);
        let texts = client.texts(&recording.body);
        for (number, word) in words(&texts, 7, 8).iter().enumerate() {
            let rules = rules(&[word], Action::Mask);
            for split in splits(recording, number as u64, 2) {
                let mut hold = answer(recording, &rules);
                let (out, stopped) = filtered(&mut hold, split.pieces(&recording.body));
                let at = || format!("{:?} in {} in {split:?}", word, recording.name);
                match masked(&texts, word) {
                    Some(expected) => {
                        assert_eq!(stopped, None, "{}", at());
                        let seen = client.texts(&out);
                        if recording.name == FINISHES {
                            // What was finished has gone: only the rest of a word is masked.
                            assert!(seen.values().all(|said| !said.text.contains(word)));
                            continue;
                        }
                        for (seen, expected) in told(&seen).into_iter().zip(expected) {
                            assert_eq!(seen, expected, "{}", at());
                        }
                        assert_eq!(seen.len(), texts.len(), "{}", at());
                        tried.fetch_add(1, Relaxed);
                    }
                    None => {
                        refused.fetch_add(usize::from(stopped.is_some()), Relaxed);
                    }
                }
            }
        }
    });
    let (tried, refused) = (tried.into_inner(), refused.into_inner());
    assert!(
        tried > 1000 && refused < tried / 4,
        "{tried} tried, {refused} refused"
    );
}

#[test]
fn a_word_that_is_refused_never_comes_out_and_what_came_before_it_does() {
    each(|recording| {
        let client = client(recording);
        let texts = client.texts(&recording.body);
        for word in words(&texts, 11, 4) {
            let rules = rules(&[&word], Action::Reject);
            for split in splits(recording, 3, 2).into_iter().step_by(7) {
                let mut hold = answer(recording, &rules);
                let (out, stopped) = filtered(&mut hold, split.pieces(&recording.body));
                let at = || format!("{word:?} in {} in {split:?}", recording.name);
                assert!(matches!(stopped, Some(Stop::Rule(_))), "{}", at());
                assert!(recording.body.starts_with(&out), "{}", at());
                if recording.format != "json" {
                    for said in client.texts(&out).values().filter(|said| !said.json) {
                        assert!(!said.text.contains(&word), "{}", at());
                    }
                }
            }
        }
    });
}
