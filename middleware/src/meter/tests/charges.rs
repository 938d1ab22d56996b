//! What is charged when a stream does not finish.

use super::*;
use tollgate_testing::recordings;

/// The places behind each event, line, element or message of a recorded stream.
fn ends(recording: &Recording) -> Vec<usize> {
    let mut answer = recorded::answer(recording);
    let (mut ends, mut count) = (Vec::new(), Some(0));
    for (at, byte) in recording.body.iter().enumerate() {
        answer.feed(std::slice::from_ref(byte), false);
        if answer.count() > count {
            count = answer.count();
            ends.push(at + 1);
        }
    }
    ends
}

/// Each cut is charged: never below what was reported until there, never nothing for text that passed, and by the provider's
/// word only if that was its last.
#[tokio::test(start_paused = true)]
async fn every_recorded_stream_cut_behind_any_event_is_charged_once() {
    let mut cuts = 0;
    let mut formats = std::collections::BTreeSet::new();
    for recording in recordings::all() {
        if !(recording.stream && recording.known) || recording.status != 200 {
            continue;
        }
        let case = Case::of(recording);
        let want = &recording.expected;
        let first = want["first_content_index"].as_u64().unwrap_or(u64::MAX);
        let last = want["usage"]["last_report_index"].as_u64();
        for (at, end) in ends(recording).into_iter().enumerate() {
            let body = Script::data(&recording.body[..end], &Split::Bytes(777)).then(Item::Error);
            let (seen, told, _) = case.metered(body).await;
            let name = format!("{} cut behind event {at}", recording.name);
            assert_eq!(seen.bytes(), &recording.body[..end], "{name}");
            let charge = told.charge;
            let usage = told.usage.unwrap_or_default();
            assert!(charge.prompt >= usage.prompt.unwrap_or(0), "{name}");
            assert!(charge.completion >= usage.completion.unwrap_or(0), "{name}");
            if at as u64 >= first {
                assert_ne!(charge.source, Source::None, "{name}");
                assert!(charge.completion > 0, "{name}: {charge:?}");
            }
            if last.is_none_or(|last| (at as u64) < last) {
                // A report on the way may be followed by another.
                let early = told.usage.is_none();
                assert!(
                    !early || charge.source == Source::Estimated,
                    "{name}: {charge:?}"
                );
            }
            cuts += 1;
            formats.insert(&*recording.format);
        }
    }
    assert!(cuts > 200, "{cuts}");
    assert!(
        formats.is_superset(&["bin", "json", "ndjson", "sse"].into()),
        "{formats:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_growing_report_is_the_providers_last_word_only_at_the_end() {
    let growing = |text: &str, tokens: u32, reason: &str| {
        format!(
            "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"{text}\"}}]}}{reason}}}],\"usageMetadata\":{{\"promptTokenCount\":4,\"candidatesTokenCount\":{tokens}}}}}\r\n\r\n"
        )
    };
    let case = Case {
        path: "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse".to_owned(),
        request: br#"{"contents":[{"parts":[{"text":"hi"}]}]}"#.to_vec(),
        ..Case::default()
    };
    let first = growing("some words", 2, "");
    let last = growing("and the rest", 5, ",\"finishReason\":\"STOP\"");
    let cut = case.told(&[&first]).await.charge;
    assert_eq!((cut.prompt, cut.source), (4, Source::Estimated));
    assert!(cut.completion >= 2);
    let whole = case.told(&[&first, &last]).await.charge;
    assert_eq!(
        (whole.prompt, whole.completion, whole.source),
        (4, 5, Source::Provider)
    );
}

#[tokio::test(start_paused = true)]
async fn a_report_that_arrived_counts_even_if_the_end_did_not() {
    let body = script(&[&content("a"), FINISHED, &report("5", "9")]).then(Item::Error);
    let (_, told, _) = Case::default().metered(body).await;
    assert_eq!(
        (told.charge.completion, told.charge.source),
        (9, Source::Provider)
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_while_the_rest_is_read_is_charged_what_was_drained() {
    let case = Case {
        layer: MeterLayer::new().drain(true),
        ..Case::default()
    };
    let (response, record) = case
        .answer(script(&[&content("a"), FINISHED, &report("5", "9")]))
        .await;
    assert!(record.drains());
    record.set_gone();
    collect(response.into_body()).await;
    let charge = metered(&record).charge;
    assert_eq!((charge.completion, charge.source), (9, Source::Drained));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_charged_by_its_bytes() {
    let mut case = Case::default();
    case.headers
        .push(("content-encoding".to_owned(), "gzip".to_owned()));
    let told = case
        .metered(Script::data(&[0x1f; 4000], &Split::Bytes(100)))
        .await
        .1;
    assert_eq!((told.charge.source, told.usage), (Source::Estimated, None));
    assert!(told.charge.completion > 500 && told.events.is_none());
    let html = Case::default().told(&["<html>busy</html>"]).await;
    assert_eq!((html.charge.source, html.usage), (Source::Estimated, None));
}

#[tokio::test(start_paused = true)]
async fn a_document_that_is_cut_is_charged_for_what_came() {
    let case = Case {
        request: br#"{"model":"m","messages":[]}"#.to_vec(),
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        ..Case::default()
    };
    let cut = script(&[
        "{\"choices\":[{\"message\":{\"content\":\"",
        &"words ".repeat(100),
    ])
    .then(Item::Error);
    let told = case.metered(cut).await.1;
    assert_eq!(told.charge.source, Source::Estimated);
    assert!(
        (100..300).contains(&told.charge.completion),
        "{:?}",
        told.charge
    );
}

#[tokio::test(start_paused = true)]
async fn images_in_a_prompt_are_not_counted_as_text() {
    let image = "iVBORw0KGgo".repeat(20_000);
    let asking = |image: &str| {
        Case {
        request: format!(
            r#"{{"model":"m","stream":true,"messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{image}"}}}}]}}]}}"#
        )
        .into_bytes(),
        ..Case::default()
    }
    };
    let of = async |image| asking(image).told(&[&content("a")]).await.charge.prompt;
    let (with, without) = (of(&image).await, of("").await);
    assert!((500..3000).contains(&(with - without)), "{with} {without}");
}
