use std::time::{Duration, SystemTime};

use http::{HeaderMap, Method, Request, Response, StatusCode};
use tollgate_testing::{
    body::{BoxError, Collected, Item, Script, collect},
    laws::{self, Outcome},
    recordings::Recording,
    splits::Split,
};
use tower::{Layer, ServiceExt, service_fn};

use super::MeterLayer;
use crate::{
    clock::{Clock, SystemClock},
    dialect::{self, Recognised, Usage},
    facts::Intent,
    json,
    record::{Charge, Mark, Metered, Record, Source},
};

mod charges;
mod estimates;
mod injection;
mod recorded;
mod reports;
#[cfg(feature = "tokenizer")]
mod tokens;

const CHAT: &str = "/v1/chat/completions";
const STREAM: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
const EVENTS: &str = "text/event-stream";

/// One exchange behind the layer.
struct Case {
    path: String,
    request: Vec<u8>,
    status: StatusCode,
    headers: Vec<(String, String)>,
    layer: MeterLayer,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            path: CHAT.to_owned(),
            request: STREAM.into(),
            status: StatusCode::OK,
            headers: vec![("content-type".to_owned(), EVENTS.to_owned())],
            layer: MeterLayer::new(),
        }
    }
}

impl Case {
    fn of(recording: &Recording) -> Self {
        Self {
            path: recording.asked.clone(),
            request: recording.request.clone(),
            status: StatusCode::from_u16(recording.status).unwrap(),
            headers: recording.headers.clone(),
            layer: MeterLayer::new().transport_marks(recording.unmarked),
        }
    }

    fn record(&self) -> Record {
        let head = (
            &Method::POST,
            &self.path.parse().unwrap(),
            &HeaderMap::new(),
        );
        let id = http::HeaderValue::from_static("id");
        Record::new(id, head, SystemClock.now(), SystemTime::UNIX_EPOCH)
    }

    fn intent(&self) -> Option<Intent> {
        let path = self.path.split_once('?');
        let (path, query) = path.map_or((&*self.path, None), |(path, query)| (path, Some(query)));
        let found = dialect::recognise(&Method::POST, path, query, &HeaderMap::new());
        let Recognised::Surface(surface) = found else {
            return None;
        };
        let root = json::check(&self.request, &json::Limits::default()).ok()?;
        let asked = dialect::read(&surface, root).ok()?;
        let named = surface.model_in(path).map(std::borrow::Cow::into_owned);
        Some(Intent::new(surface, named.as_deref(), asked, root.span()))
    }

    /// The answer behind the layer, and the record of it.
    async fn answer(
        &self,
        body: Script,
    ) -> (Response<super::ResponseBody<Script, SystemClock>>, Record) {
        let mut req = Request::post(&self.path)
            .body(http_body_util::Full::<bytes::Bytes>::from(
                self.request.clone(),
            ))
            .unwrap();
        let record = self.record();
        req.extensions_mut().insert(record.clone());
        if let Some(intent) = self.intent() {
            req.extensions_mut().insert(intent);
        }
        let mut response = Response::builder().status(self.status);
        for (name, value) in &self.headers {
            response = response.header(name, value);
        }
        let mut response = Some(response.body(body).unwrap());
        let inner = service_fn(move |_: Request<_>| {
            std::future::ready(Ok::<_, BoxError>(response.take().expect("called once")))
        });
        let layer = self.layer.clone();
        (layer.layer(inner).oneshot(req).await.unwrap(), record)
    }

    /// What is metered of a body that is read to its end, whatever that is.
    async fn metered(&self, body: Script) -> (Collected, Metered, Record) {
        let (response, record) = self.answer(body).await;
        let seen = collect(response.into_body()).await;
        let metered = metered(&record);
        (seen, metered, record)
    }

    /// What is charged for an answer of these texts.
    async fn told(&self, texts: &[&str]) -> Metered {
        self.metered(script(texts)).await.1
    }
}

fn script(texts: &[&str]) -> Script {
    Script::data(texts.concat().as_bytes(), &Split::Bytes(11))
}

fn metered(record: &Record) -> Metered {
    record.with_metered(|metered| metered.cloned().expect("it was metered"))
}

fn content(text: &str) -> String {
    let text = serde_json::Value::from(text);
    format!(
        "data: {{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":{text}}},\"finish_reason\":null}}]}}\n\n"
    )
}

const FINISHED: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn report(prompt: &str, completion: &str) -> String {
    format!(
        "data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":{prompt},\"completion_tokens\":{completion}}}}}\n\n"
    )
}

// ===== laws =====

#[tokio::test(start_paused = true)]
async fn bodies_pass_untouched() {
    laws::transparent(&MeterLayer::new(), laws::cases()).await;
}

#[tokio::test(start_paused = true)]
async fn it_is_ready_when_the_inner_service_is() {
    laws::ready(&MeterLayer::new()).await;
}

#[test]
fn its_types_can_cross_threads() {
    laws::types::<MeterLayer>();
}

#[tokio::test(start_paused = true)]
async fn without_facts_it_makes_its_own_record() {
    let whole =
        |outcome: &Outcome| matches!(outcome, Outcome::Answered(it, _) if it.body().whole());
    laws::absent_facts(&MeterLayer::new(), whole).await;
    let inner = service_fn(async |_: Request<http_body_util::Empty<bytes::Bytes>>| {
        let response = Response::builder().header("content-type", EVENTS);
        let (text, last) = (content("hi"), report("3", "1"));
        let told = [text.as_str(), FINISHED, last.as_str()];
        Ok::<_, BoxError>(response.body(script(&told)).unwrap())
    });
    let req = Request::post(CHAT)
        .body(http_body_util::Empty::new())
        .unwrap();
    let response = MeterLayer::new().layer(inner).oneshot(req).await.unwrap();
    let record = response.extensions().get::<Record>().unwrap().clone();
    collect(response.into_body()).await;
    assert_eq!(metered(&record).charge.source, Source::Provider);
}

/// Each ending settles the charge, once.
#[tokio::test(start_paused = true)]
async fn every_ending_settles_the_charge() {
    let text = content("some words of an answer");
    for (ending, script) in [
        ("none", script(&[&text])),
        ("hint", script(&[&text]).hinting()),
        ("error", script(&[&text]).then(Item::Error)),
        (
            "trailers",
            script(&[&text]).then(Item::Trailers(HeaderMap::new())),
        ),
    ] {
        let (_, told, _) = Case::default().metered(script).await;
        assert_eq!(told.charge.source, Source::Estimated, "{ending}");
        assert!(told.charge.completion > 0, "{ending}");
    }
    let case = Case::default();
    let (response, record) = case.answer(script(&[&text]).then(Item::Pending)).await;
    let mut body = Box::pin(response.into_body());
    while http_body_util::BodyExt::frame(&mut body).await.is_some() {
        if metered(&record).first_output.is_some() {
            break;
        }
    }
    assert_eq!(metered(&record).charge, Charge::default(), "it is not over");
    drop(body);
    assert_eq!(metered(&record).charge.source, Source::Estimated);
    let (response, record) = case.answer(Script::empty().exact().hinting()).await;
    drop(response);
    assert_eq!(metered(&record).events, Some(0));
}

// ===== running totals =====

#[tokio::test(start_paused = true)]
async fn totals_are_there_as_soon_as_they_have_passed() {
    let case = Case::default();
    let events = [content("a"), report("5", "7")].concat();
    let body = Script::data(events.as_bytes(), &Split::Whole).then(Item::Pending);
    let (response, record) = case.answer(body).await;
    let mut body = Box::pin(response.into_body());
    http_body_util::BodyExt::frame(&mut body)
        .await
        .unwrap()
        .unwrap();
    let told = metered(&record);
    let usage = told.usage.expect("it was reported");
    assert_eq!((usage.prompt, usage.completion), (Some(5), Some(7)));
    assert_eq!((told.events, told.first_output), (Some(2), Some(0)));
    assert!(record.at(Mark::FirstToken).is_some());
}

#[tokio::test(start_paused = true)]
async fn an_opening_chunk_is_no_first_token() {
    let opening = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
    let (_, told, record) = Case::default().metered(script(&[opening])).await;
    assert_eq!((told.events, told.first_output), (Some(1), None));
    assert_eq!(record.at(Mark::FirstToken), None);
}

#[tokio::test(start_paused = true)]
async fn each_output_after_the_first_has_its_time_since_the_one_before() {
    let frames = [
        [content("a"), content("b")].concat(),
        content("c"),
        // A comment is no output.
        ": still there\n\n".to_owned(),
        [
            content("d"),
            content("e"),
            FINISHED.to_owned(),
            DONE.to_owned(),
        ]
        .concat(),
    ];
    let items = frames.into_iter().map(|text| Item::Data(text.into()));
    let (response, record) = Case::default().answer(Script::new(items)).await;
    let mut body = Box::pin(response.into_body());
    for millis in [0, 50, 1000, 2000] {
        tokio::time::advance(Duration::from_millis(millis)).await;
        let frame = http_body_util::BodyExt::frame(&mut body).await;
        frame.unwrap().unwrap();
    }
    assert!(http_body_util::BodyExt::frame(&mut body).await.is_none());
    let gaps = metered(&record).gaps;
    let counted: Vec<_> = gaps
        .counts()
        .iter()
        .enumerate()
        .filter(|it| *it.1 > 0)
        .collect();
    // Five outputs: b with a, c within 80 ms, d within 5.12 s, e with d.
    assert_eq!(counted, [(0, &2), (3, &1), (9, &1)]);
    assert_eq!(gaps.total(), Duration::from_millis(3050));
    assert_eq!(gaps.longest(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_attempt_cost_is_waste() {
    let case = Case::default();
    let record = case.record();
    for texts in [
        &[&*content("thrown away")][..],
        &[FINISHED, &report("4", "2")],
    ] {
        let mut response = Some(
            Response::builder()
                .header("content-type", EVENTS)
                .body(script(texts))
                .unwrap(),
        );
        let inner = service_fn(move |_: Request<Script>| {
            std::future::ready(Ok::<_, BoxError>(response.take().expect("called once")))
        });
        let mut req = Request::post(CHAT).body(Script::empty()).unwrap();
        req.extensions_mut().insert(record.clone());
        let response = case.layer.clone().layer(inner).oneshot(req).await.unwrap();
        collect(response.into_body()).await;
    }
    let waste = record.waste().expect("one was thrown away");
    assert!(waste.completion > 0);
    let told = metered(&record).charge;
    assert_eq!(
        (told.prompt, told.completion, told.source),
        (4, 2, Source::Provider)
    );
}

/// The scripted client of the laws has no numbers of its own: what is charged for nothing is nothing.
#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_provider_costs_what_it_says_it_did() {
    let refused = Case {
        status: StatusCode::TOO_MANY_REQUESTS,
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        ..Case::default()
    };
    let error = r#"{"error":{"message":"slow down"}}"#;
    for nothing in [
        error.to_owned(),
        error.replace("}}", r#"},"usage":null}"#),
        error.replace(
            "}}",
            r#"},"usage":{"prompt_tokens":-9,"completion_tokens":1}}"#,
        ),
        error.replace("}}", r#"},"usage":{"prompt_tokens":9}"#),
    ] {
        let told = refused.told(&[&*nothing]).await;
        assert_eq!(
            (told.usage, told.charge),
            (None, Charge::default()),
            "{nothing}"
        );
    }
    let report = error.replace(
        "}}",
        r#"},"usage":{"prompt_tokens":9,"completion_tokens":1}}"#,
    );
    for pieces in [vec![&*report], vec![&report[..40], &report[40..]]] {
        let told = refused.told(&pieces).await;
        let usage = told.usage.expect("it was reported");
        assert_eq!((usage.prompt, usage.completion), (Some(9), Some(1)));
        let charge = told.charge;
        assert_eq!(
            (charge.prompt, charge.completion, charge.source),
            (9, 1, Source::Provider)
        );
        // It is the provider's error, and not one inside an answer.
        assert!(!told.failed && told.events.is_none());
        assert_eq!(told.finish_reasons.len(), 0);
    }
}
