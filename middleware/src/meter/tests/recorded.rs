//! Recorded answers: the same numbers as their ground truth, however they are cut into reads.

use std::{borrow::Cow, thread};

use super::*;
use crate::{
    dialect::{Framing, framing_of},
    meter::answer::Answer,
};
use tollgate_testing::recordings;

/// What is to be found in a recording, in comparable words.
#[derive(Debug, PartialEq)]
struct Truth {
    usage: [Option<u64>; 6],
    reasons: Vec<String>,
    tools: Vec<String>,
    events: Option<u64>,
    first_output: Option<u64>,
}

impl Truth {
    fn of(recording: &Recording) -> Self {
        let want = &recording.expected;
        let fields = [
            "prompt",
            "completion",
            "total",
            "cached",
            "cache_write",
            "reasoning",
        ];
        let texts = |list: &serde_json::Value,
                     of: &dyn Fn(&serde_json::Value) -> Option<String>| {
            list.as_array()
                .into_iter()
                .flatten()
                .filter_map(of)
                .collect()
        };
        let counts = [
            ("sse", "events"),
            ("ndjson", "lines"),
            ("json_array", "elements"),
            ("eventstream", "messages"),
        ];
        Self {
            usage: fields.map(|field| want["usage"][field].as_u64()),
            reasons: texts(&want["finish_reasons"], &|it| {
                it.as_str().map(str::to_owned)
            }),
            tools: texts(&want["tool_calls"], &|it| {
                it["name"].as_str().map(str::to_owned)
            }),
            events: counts
                .into_iter()
                .find_map(|(kind, count)| want[kind][count].as_u64()),
            first_output: want["first_content_index"]
                .as_u64()
                .filter(|_| recording.stream),
        }
    }

    fn found(mut answer: Answer) -> Self {
        answer.finish();
        let events = answer.count();
        let (reasons, tools) = answer.take_words();
        let found = answer.found();
        let Usage {
            prompt,
            completion,
            total,
            cached,
            cache_write,
            reasoning,
        } = found.usage;
        Self {
            usage: [prompt, completion, total, cached, cache_write, reasoning],
            reasons: reasons.into_iter().map(Cow::into_owned).collect(),
            tools: tools.into_iter().map(Into::into).collect(),
            events,
            first_output: found.first_output,
        }
    }
}

/// Recordings that are metered by their words.
fn known() -> Vec<&'static Recording> {
    let all = recordings::all().iter();
    all.filter(|recording| recording.known && recording.status < 400)
        .collect()
}

pub(super) fn answer(recording: &Recording) -> Answer {
    let case = Case::of(recording);
    let record = case.record();
    let intent = case.intent();
    let surface = intent
        .as_ref()
        .map(Intent::surface)
        .or_else(|| record.surface());
    let mut headers = HeaderMap::new();
    for (name, value) in &recording.headers {
        headers.append(
            http::HeaderName::try_from(name).unwrap(),
            value.parse().unwrap(),
        );
    }
    let framing = framing_of(surface, recording.stream, case.status, &headers);
    assert_ne!(framing, Framing::Opaque, "{}", recording.name);
    Answer::new(surface, framing, false)
}

fn fed<'p>(recording: &Recording, pieces: impl IntoIterator<Item = &'p [u8]>) -> Truth {
    let mut answer = answer(recording);
    pieces
        .into_iter()
        .for_each(|piece| answer.feed(piece, false));
    Truth::found(answer)
}

#[test]
fn every_recording_is_read_as_its_ground_truth_says() {
    for recording in known() {
        let truth = Truth::of(recording);
        assert_eq!(
            fed(recording, [&recording.body[..]]),
            truth,
            "{}",
            recording.name
        );
        let mut whole = answer(recording);
        whole.feed(&recording.body, true);
        assert_eq!(
            Truth::found(whole),
            truth,
            "{} in one frame",
            recording.name
        );
    }
    assert!(known().len() > 15);
}

/// Every split in two of bodies below this, a number of seeded ones of others; one by one, as recorded.
const SMALL: usize = 8 * 1024;

#[test]
fn every_recording_is_read_alike_however_it_is_split() {
    let known = known();
    let next = std::sync::atomic::AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(recording) =
                    known.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    read_alike(recording);
                }
            });
        }
    });
}

fn read_alike(recording: &Recording) {
    let (truth, body) = (Truth::of(recording), &recording.body[..]);
    if body.len() < SMALL {
        for at in 0..=body.len() {
            let seen = fed(recording, [&body[..at], &body[at..]]);
            assert_eq!(seen, truth, "{} split at {at}", recording.name);
        }
    }
    let random = if body.len() < SMALL { 3 } else { 300 };
    for split in recording.splits(body.len() as u64, random) {
        let seen = fed(recording, split.pieces(body));
        assert_eq!(seen, truth, "{} in {split:?}", recording.name);
    }
}

#[tokio::test(start_paused = true)]
async fn every_recording_passes_untouched_and_is_charged_by_its_report() {
    for recording in known() {
        let case = Case::of(recording);
        for split in recording.splits(7, 2) {
            let body = Script::data(&recording.body, &split);
            let (seen, told, _) = case.metered(body).await;
            assert_eq!(seen.bytes(), recording.body, "{}", recording.name);
            let truth = Truth::of(recording);
            let reported = truth.usage.iter().any(Option::is_some);
            let text = recording.expected["choices"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|choice| {
                    choice["text"]["bytes"]
                        .as_u64()
                        .is_some_and(|bytes| bytes > 0)
                });
            let source = told.charge.source;
            match (reported, text) {
                (true, _) => assert_eq!(source, Source::Provider, "{}", recording.name),
                (false, true) => assert_eq!(source, Source::Estimated, "{}", recording.name),
                (false, false) => assert_ne!(source, Source::Provider, "{}", recording.name),
            }
            assert!(!text || told.charge.completion > 0, "{}", recording.name);
            for (charged, usage) in [
                (told.charge.prompt, truth.usage[0]),
                (told.charge.completion, truth.usage[1]),
            ] {
                assert!(charged >= usage.unwrap_or(0), "{}", recording.name);
            }
        }
    }
}
