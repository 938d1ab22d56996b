use super::*;
use crate::{
    dialect::{
        Framing, Judge,
        eventstream::{Messages, invoked},
        pieces::{Elements, Lines},
        recordings::{self, Recording},
    },
    sse::{CAP, Scanner},
};

fn merged(recording: &Recording) -> Usage {
    let mut merged = Usage::default();
    let mut take = |data: &[u8]| {
        if let Some(found) = Value::parse(data).and_then(|event| usage(&recording.surface, event)) {
            merged.merge(found);
        }
    };
    let mut judge = Judge::new(Some(&recording.surface), recording.framing(), 1, false);
    judge.feed(&recording.body);
    judge.finish();
    match judge.framing() {
        Framing::Sse => {
            let mut scanner = Scanner::new(CAP);
            scanner.feed(&recording.body, |event| take(event.data));
            scanner.finish(|event| take(event.data));
        }
        Framing::Lines => {
            let mut lines = Lines::default();
            lines.feed(&recording.body, |line| take(line.data));
            lines.finish(|line| take(line.data));
        }
        Framing::Array => Elements::default().feed(&recording.body, |element| take(element.data)),
        Framing::EventStream => {
            Messages::default().feed(&recording.body, |message| {
                let inner = invoked(message.payload);
                take(inner.as_deref().unwrap_or(message.payload));
            });
        }
        Framing::Document | Framing::Opaque => take(&recording.body),
    }
    merged
}

#[test]
fn every_recording_reports_what_its_provider_said() {
    for recording in recordings::all() {
        let found = merged(&recording);
        let told = |field: &str| recording.expected["usage"][field].as_u64();
        let expected = Usage {
            prompt: told("prompt"),
            completion: told("completion"),
            total: told("total"),
            cached: told("cached"),
            cache_write: told("cache_write"),
            reasoning: told("reasoning"),
        };
        assert_eq!(found, expected, "{}", recording.name);
    }
}

#[test]
fn the_last_report_of_each_field_wins() {
    let mut merged = Usage {
        prompt: Some(9),
        completion: Some(1),
        cached: Some(3),
        ..Usage::default()
    };
    merged.merge(Usage {
        prompt: Some(4),
        completion: Some(7),
        ..Usage::default()
    });
    assert_eq!(
        merged,
        Usage {
            prompt: Some(4),
            completion: Some(7),
            cached: Some(3),
            ..Usage::default()
        }
    );
}

/// Each extractor against a plain reference: the same event, made and looked up by another parser.
mod references {
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::dialect::{self, Recognised};

    /// A surface, where its usage may stand in an event, and where each field may stand in that: a later place wins if it holds a
    /// count.
    struct Extractor {
        path: &'static str,
        places: &'static [&'static str],
        fields: [&'static [&'static str]; 6],
    }

    const EXTRACTORS: [Extractor; 8] = [
        OPENAI,
        Extractor {
            path: "/v1/responses",
            places: &["/response/usage", "/usage"],
            fields: [
                &["/input_tokens"],
                &["/output_tokens"],
                &["/total_tokens"],
                &["/input_tokens_details/cached_tokens"],
                &[],
                &["/output_tokens_details/reasoning_tokens"],
            ],
        },
        Extractor {
            path: "/v1/embeddings",
            ..OPENAI
        },
        Extractor {
            path: "/v1/messages",
            places: &["/message/usage", "/usage"],
            fields: [
                &["/input_tokens"],
                &["/output_tokens"],
                &[],
                &["/cache_read_input_tokens"],
                &["/cache_creation_input_tokens"],
                &["/output_tokens_details/thinking_tokens"],
            ],
        },
        Extractor {
            path: "/v1beta/models/m:streamGenerateContent",
            places: &["/usageMetadata"],
            fields: [
                &["/promptTokenCount"],
                &["/candidatesTokenCount"],
                &["/totalTokenCount"],
                &["/cachedContentTokenCount"],
                &[],
                &["/thoughtsTokenCount"],
            ],
        },
        Extractor {
            path: "/api/chat",
            places: &[""],
            fields: [
                &["/prompt_eval_count"],
                &["/eval_count"],
                &[],
                &[],
                &[],
                &[],
            ],
        },
        Extractor {
            path: "/v2/chat",
            places: &["/delta/usage", "/usage"],
            fields: [
                &["/tokens/input_tokens"],
                &["/tokens/output_tokens"],
                &[],
                &["/cached_tokens"],
                &[],
                &[],
            ],
        },
        Extractor {
            path: "/model/m/converse-stream",
            places: &["/usage", "/metadata/usage"],
            fields: [
                &["/inputTokens"],
                &["/outputTokens"],
                &["/totalTokens"],
                &["/cacheReadInputTokens"],
                &["/cacheWriteInputTokens"],
                &[],
            ],
        },
    ];

    const OPENAI: Extractor = Extractor {
        path: "/v1/chat/completions",
        places: &["/x_groq/usage", "/usage"],
        fields: [
            &["/prompt_tokens"],
            &["/completion_tokens"],
            &["/total_tokens"],
            &["/prompt_tokens_details/cached_tokens"],
            &["/prompt_tokens_details/cache_write_tokens"],
            &["/completion_tokens_details/reasoning_tokens"],
        ],
    };

    fn count() -> impl Strategy<Value = Json> {
        prop_oneof![
            4 => (0_u64..1 << 53).prop_map(Json::from),
            1 => Just(Json::Null),
            1 => (1_u64 << 53..).prop_map(Json::from),
            1 => (i64::MIN..0).prop_map(Json::from),
            1 => Just(json!(1.5)),
            1 => "[0-9]{1,3}".prop_map(Json::from),
            1 => Just(json!([7])),
            1 => Just(json!(true)),
        ]
    }

    /// Puts a value at a place, with objects around it.
    fn put(into: &mut Json, place: &str, value: Json) {
        let mut at = into;
        for name in place.split('/').skip(1) {
            at = &mut at[name];
        }
        *at = value;
    }

    fn plain(extractor: &Extractor, event: &Json) -> [Option<u64>; 6] {
        let mut found = [None; 6];
        for place in extractor.places {
            let Some(usage) = event.pointer(place) else {
                continue;
            };
            for (field, names) in found.iter_mut().zip(extractor.fields) {
                for name in names {
                    let told = usage.pointer(name).and_then(Json::as_u64);
                    *field = told.filter(|count| *count < 1 << 53).or(*field);
                }
            }
        }
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn each_extractor_finds_what_a_plain_lookup_finds(
            which in 0..EXTRACTORS.len(),
            counts in prop::collection::vec(prop::option::of(count()), 12),
            places in prop::collection::vec(any::<bool>(), 2),
            text in "[a-z\"\\\\{}:]{0,12}",
        ) {
            let extractor = &EXTRACTORS[which];
            // What a text says of usage is none.
            let mut event = json!({"type": "x", "text": format!("{text}\"usage\":{{\"prompt_tokens\":999}}")});
            let mut counts = counts.into_iter();
            for (place, there) in extractor.places.iter().zip(places) {
                for name in extractor.fields.into_iter().flatten() {
                    if let (Some(Some(count)), true) = (counts.next(), there) {
                        put(&mut event, &format!("{place}{name}"), count);
                    }
                }
            }
            let found = dialect::recognise(&http::Method::POST, extractor.path, None, &http::HeaderMap::new());
            let Recognised::Surface(surface) = found else {
                panic!("no surface: {}", extractor.path);
            };
            for text in [event.to_string(), serde_json::to_string_pretty(&event).unwrap()] {
                let root = Value::parse(text.as_bytes()).unwrap();
                let Usage { prompt, completion, total, cached, cache_write, reasoning } =
                    usage(&surface, root).unwrap_or_default();
                let told = [prompt, completion, total, cached, cache_write, reasoning];
                prop_assert_eq!(told, plain(extractor, &event), "{}: {}", extractor.path, event);
            }
        }
    }
}

/// What the words of one dialect leave out is added, so that one figure means the same of all.
#[test]
fn the_whole_input_and_output_are_those_of_the_dialect() {
    let told = Usage {
        prompt: Some(100),
        completion: Some(40),
        total: Some(140),
        cached: Some(30),
        cache_write: Some(5),
        reasoning: Some(10),
    };
    let whole = |dialect, usage: &Usage| (usage.input(dialect), usage.output(dialect));
    assert_eq!(whole(Dialect::OpenAi, &told), (100, 40));
    assert_eq!(whole(Dialect::Anthropic, &told), (135, 40));
    assert_eq!(whole(Dialect::Bedrock, &told), (135, 40));
    assert_eq!(whole(Dialect::Gemini, &told), (100, 50));
    // Some count thoughts apart: their sum says so.
    let apart = Usage {
        total: Some(150),
        ..told
    };
    assert_eq!(whole(Dialect::OpenAi, &apart), (100, 50));
    assert_eq!(whole(Dialect::OpenAi, &Usage::default()), (0, 0));
}
