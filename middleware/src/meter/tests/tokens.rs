//! What a tokenizer counts, and what is done where it has not counted.

use bytes::Bytes;
use tollgate_testing::recordings;
use tower::ServiceBuilder;

use super::*;
use crate::{
    body::Held,
    meter::{Counting, InjectLayer, Tokenizer},
};

/// One exchange whose answer breaks off behind `answer`. The counting is done behind each of the first `frames`, and is late
/// for the rest.
async fn charged(
    case: &Case,
    answer: &[u8],
    frames: usize,
    (tokenizer, counting): &Pair,
) -> Metered {
    let mut req = Request::post(&case.path)
        .body(Held::<Script>::whole([Bytes::from(case.request.clone())]))
        .unwrap();
    let record = case.record();
    req.extensions_mut().insert(record.clone());
    if let Some(intent) = case.intent() {
        req.extensions_mut().insert(intent);
    }
    let mut response = Response::builder().status(case.status);
    for (name, value) in &case.headers {
        response = response.header(name, value);
    }
    let body = Script::data(answer, &Split::Bytes(100)).then(Item::Error);
    let mut response = Some(response.body(body).unwrap());
    let inner = service_fn(move |_: Request<Held<Script>>| {
        std::future::ready(Ok::<_, BoxError>(response.take().expect("called once")))
    });
    let service = ServiceBuilder::new()
        .layer(InjectLayer::new(false).keep_prompts(true))
        .layer(case.layer.clone().tokenizer(tokenizer.clone()))
        .service(inner);
    let mut body = Box::pin(service.oneshot(req).await.unwrap().into_body());
    let mut seen = 0;
    while let Some(Ok(_)) = http_body_util::BodyExt::frame(&mut body).await {
        seen += 1;
        if seen <= frames {
            counting.catch_up();
        }
    }
    metered(&record)
}

type Pair = (Tokenizer, Counting);

/// All of an answer.
const ALWAYS: usize = usize::MAX;

fn asking(model: &str, text: &str) -> Case {
    let request = serde_json::json!({"model": model, "stream": true, "messages": [{"role": "user", "content": text}]});
    Case {
        request: request.to_string().into_bytes(),
        ..Case::default()
    }
}

/// Words that a heuristic is wrong about.
const ODD: &str = "Donaudampfschifffahrtsgesellschaftskapitän, 東京特許許可局, 3.14159265358979";

#[tokio::test(start_paused = true)]
async fn what_was_asked_and_said_is_counted() {
    let count = |text: &str| bpe_openai::o200k_base().count(text) as u64;
    let case = asking("gpt-4o", ODD);
    // In the middle of words, where a token is no whole one.
    let parts: Vec<&str> = ODD.split_inclusive(['f', 'ä', '許', '9']).collect();
    let events: String = parts.iter().map(|part| content(part)).collect();
    let told = charged(&case, events.as_bytes(), ALWAYS, &Tokenizer::pair()).await;
    assert_eq!(told.charge.source, Source::Estimated);
    // Three around the message, one for its role, three in front of the answer.
    assert_eq!(told.charge.prompt, count(ODD) + 7);
    assert_eq!(told.charge.completion, count(ODD).max(parts.len() as u64));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_counted_in_time_is_guessed() {
    let case = asking("gpt-4o", ODD);
    let events = content(ODD);
    let guess = case.told(&[&events]).await.charge;
    let late = charged(&case, events.as_bytes(), 0, &Tokenizer::pair()).await;
    assert_eq!(late.charge, guess);
    // Nobody counts any more.
    let (tokenizer, gone) = Tokenizer::pair();
    drop(gone);
    let (_, idle) = Tokenizer::pair();
    let alone = charged(&case, events.as_bytes(), ALWAYS, &(tokenizer, idle)).await;
    assert_eq!(alone.charge, guess);
    // Nobody knows the vocabulary.
    let other = asking("claude-sonnet-4", ODD);
    let guess = other.told(&[&events]).await.charge;
    let told = charged(&other, events.as_bytes(), ALWAYS, &Tokenizer::pair()).await;
    assert_eq!(told.charge, guess);
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_an_answer_is_guessed_at_the_rate_of_what_was_counted() {
    let word = "Straßenbahnhaltestelle";
    let event = content(word);
    assert!(
        (100..200).contains(&event.len()),
        "it is there with the second frame"
    );
    let case = asking("gpt-4o", "hi");
    let told = charged(&case, event.repeat(20).as_bytes(), 2, &Tokenizer::pair()).await;
    let one = bpe_openai::o200k_base().count(word) as u64;
    assert_eq!(told.charge.completion, 20 * one);
}

#[tokio::test(start_paused = true)]
async fn the_choices_of_an_answer_are_counted_apart() {
    let count = |text: &str| bpe_openai::o200k_base().count(text) as u64;
    let mut case = asking("gpt-4o", "hi");
    case.request = String::from_utf8(case.request)
        .unwrap()
        .replacen('{', "{\"n\":2,", 1)
        .into_bytes();
    let events = [content("hel"), content("lo")].concat();
    let apart = charged(&case, events.as_bytes(), ALWAYS, &Tokenizer::pair()).await;
    assert_eq!(apart.charge.completion, count("hel") + count("lo"));
}

#[test]
fn a_full_queue_holds_nobody_up_and_is_bounded() {
    let (tokenizer, counting) = Tokenizer::pair();
    let vocabulary = Tokenizer::knows("gpt-4o").unwrap();
    let case = asking("gpt-4o", &"word ".repeat(100_000));
    let surface = case.intent().unwrap().surface().clone();
    let sent = || {
        Some(crate::meter::tokens::Sent(vec![Bytes::from(
            case.request.clone(),
        )]))
    };
    let tallies: Vec<_> = (0..100)
        .map(|_| tokenizer.begin(vocabulary, sent(), Some(&surface)))
        .collect();
    counting.catch_up();
    let counted = tallies.iter().filter(|tally| tally.prompt().is_some());
    // 500 KB each, 8 MiB in all.
    assert_eq!(counted.count(), 16);
    let again = tokenizer.begin(vocabulary, sent(), Some(&surface));
    counting.catch_up();
    assert_eq!(again.prompt(), Some(100_001 + 7));
}

/// Against what was reported: messages to the token, tools and schemas, whose form is nobody's but the provider's, nearly so.
#[test]
fn prompts_of_recordings_are_counted_as_reported() {
    let (tokenizer, counting) = Tokenizer::pair();
    let mut exact = 0;
    for recording in recordings::all() {
        let case = Case::of(recording);
        let Some(intent) = case.intent() else {
            continue;
        };
        let vocabulary = intent.model().and_then(Tokenizer::knows);
        let prompt = recording.expected["usage"]["prompt"].as_u64();
        let (Some(vocabulary), Some(prompt)) = (vocabulary, prompt) else {
            continue;
        };
        let text = String::from_utf8_lossy(&case.request);
        // What the provider's own tools found is part of the prompt, and nothing of it is in the request.
        if text.contains("web_search") {
            continue;
        }
        let sent = crate::meter::tokens::Sent(vec![Bytes::from(case.request.clone())]);
        let tally = tokenizer.begin(vocabulary, Some(sent), Some(intent.surface()));
        counting.catch_up();
        let told = tally.prompt().expect("it is counted");
        println!("{}: {prompt} reported, {told} counted", recording.name);
        if intent.tools() || text.contains("json_schema") || text.contains("\"functions\"") {
            let off = told.abs_diff(prompt) as f64 / prompt as f64;
            assert!(off < 0.2, "{}: {told}, not {prompt}", recording.name);
        } else {
            assert!(
                told.abs_diff(prompt) <= 2,
                "{}: {told}, not {prompt}",
                recording.name
            );
            exact += u64::from(told == prompt);
        }
    }
    assert!(exact >= 3, "{exact}");
}

/// What was said, against the whole of what was reported: cut right before the report.
#[tokio::test(start_paused = true)]
async fn answers_of_recordings_are_counted_as_reported() {
    for recording in recordings::all() {
        let case = Case::of(recording);
        let usage = &recording.expected["usage"];
        let (Some(intent), Some(completion)) = (case.intent(), usage["completion"].as_u64()) else {
            continue;
        };
        let known = intent.model().and_then(Tokenizer::knows).is_some();
        let hidden = usage["reasoning"].as_u64().unwrap_or(0) > 0;
        let body = &recording.body;
        let report = memchr::memmem::rfind(body, b"\"usage\":{").filter(|_| recording.stream);
        let (true, false, Some(report)) = (known && recording.format == "sse", hidden, report)
        else {
            continue;
        };
        let told = charged(&case, &body[..report], ALWAYS, &Tokenizer::pair())
            .await
            .charge;
        println!("{}: {completion} reported, {told:?}", recording.name);
        if told.source == Source::Estimated && completion >= 20 {
            let off = told.completion.abs_diff(completion) as f64 / completion as f64;
            assert!(off < 0.25, "{}: {told:?}, not {completion}", recording.name);
        }
    }
}
