//! What the word filter costs: how fast it reads requests, and what it adds to an event that is metered.
//!
//! The text is the chat of the other tables. In one row, and in answers, it is of the same syllables as the words, so that most of its
//! words begin as one of the filter: no prose is that bad.

use std::{
    collections::BTreeSet,
    hint::black_box,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::Full;
use tollgate_middleware::{
    body::Held,
    error::BoxError,
    meter::MeterLayer,
    peek::PeekLayer,
    word_filter::{Action, ApplyTo, Entity, Filter, Normalize, Rule, WordFilterLayer},
};
use tower_layer::Layer;
use tower_service::Service;

use super::{Inside, guards::at_once, timed_by};
use crate::{payload, stats::median};

/// Tells of each number of words how many bytes a nanosecond are read, and how long that takes against the first.
pub(super) fn requests(mut tell: impl FnMut(&str, f64, f64)) {
    let rows = [
        ("10 words", filter(10, Normalize::None, &[], true)),
        ("1,000 words", filter(1_000, Normalize::None, &[], true)),
        ("10,000 words", filter(10_000, Normalize::None, &[], true)),
        (
            "1,000 words, `normalize: nfkc`",
            filter(1_000, Normalize::Nfkc, &[], true),
        ),
        ("10 words and e-mail, cards, secrets", {
            let entities = [Entity::Email, Entity::CreditCard, Entity::Secrets];
            filter(10, Normalize::None, &entities, true)
        }),
        (
            "10 words and every entity",
            filter(10, Normalize::None, &Entity::ALL, true),
        ),
    ];
    let size = if cfg!(test) { 10_000 } else { 1_000_000 };
    let body = Bytes::from(payload::body(payload::Text::Chat, size, false));
    let mut first = None;
    for (told, filter) in rows {
        let took = read(&body, filter);
        let ten = *first.get_or_insert(took);
        tell(told, body.len() as f64 / took, took / ten);
    }
    let body = alike(size);
    let took = read(&body, filter(1_000, Normalize::None, &[], true));
    let ten = first.unwrap_or(took);
    tell(
        "1,000 words, of the syllables of the text",
        body.len() as f64 / took,
        took / ten,
    );
}

/// Nanoseconds of an event of an answer that is metered, and of one that is filtered besides by so many words.
pub(super) fn answers(mut tell: impl FnMut(&str, f64, f64)) {
    let metered = || MeterLayer::new().layer(Stream::new());
    for (told, count, entities) in [
        ("10 words", 10, &[][..]),
        ("1,000 words", 1_000, &[]),
        ("10,000 words", 10_000, &[]),
        ("10 words and every entity", 10, &Entity::ALL),
    ] {
        let filter = filter(count, Normalize::None, entities, false);
        let mut bare = metered();
        let mut filtered = WordFilterLayer::new(filter).layer(metered());
        let (base, more) = rounds(
            || taken(&mut bare),
            || taken(&mut filtered),
            if cfg!(test) { 1 } else { 200 },
        );
        tell(told, base / EVENTS as f64, more / base);
    }
}

/// A filter of so many words, of requests or of answers.
fn filter(count: usize, normalize: Normalize, entities: &[Entity], request: bool) -> Filter {
    let rule = Rule {
        words: words(count),
        entities: entities.to_vec(),
        action: Action::Mask,
        normalize,
        apply_to: ApplyTo {
            request,
            response: !request,
        },
        ..Rule::new("words")
    };
    Filter::new([rule]).expect("words can be searched for")
}

/// Nanoseconds that the filter takes for a body that `peek` has read.
fn read(body: &Bytes, filter: Filter) -> f64 {
    let ask = || {
        let request = Request::post("/v1/chat/completions");
        request.body(Full::new(body.clone())).expect("a request")
    };
    let peek = || PeekLayer::new(4 << 20);
    let mut bare = peek().layer(Inside);
    let mut filtered = peek().layer(WordFilterLayer::new(filter).layer(Inside));
    let (base, more) = rounds(
        || drop(black_box(at_once(bare.call(ask())))),
        || {
            let answer = at_once(filtered.call(ask()));
            assert!(answer.is_ok(), "nothing is refused");
            drop(black_box(answer));
        },
        if cfg!(test) { 1 } else { 4 },
    );
    more - base
}

/// Medians of both, in turns.
fn rounds(mut one: impl FnMut(), mut other: impl FnMut(), times: u32) -> (f64, f64) {
    let (mut base, mut more) = (Vec::new(), Vec::new());
    for round in 0..=super::ROUNDS {
        let (first, second) = (timed_by(times, &mut one), timed_by(times, &mut other));
        // The first round only warms.
        if round > 0 {
            base.push(first);
            more.push(second);
        }
    }
    let median = |times: &[f64]| median(times).expect("there are rounds");
    (median(&base), median(&more))
}

/// A provider that streams.
#[derive(Clone)]
struct Stream(Vec<Bytes>);

struct Frames(std::vec::IntoIter<Bytes>);

impl Stream {
    fn new() -> Self {
        // With text that is not the same in each.
        let mut random = Random(7);
        let events = payload::events(EVENTS).map(|event| {
            let word = format!(" {}", random.word());
            Bytes::from(event.replace(" word", &word))
        });
        Self(events.collect())
    }
}

impl<B> Service<Request<Held<B>>> for Stream {
    type Response = Response<Frames>;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Response<Frames>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Held<B>>) -> Self::Future {
        let answer = Response::builder().header("content-type", "text/event-stream");
        let answer = answer.body(Frames(self.0.clone().into_iter()));
        std::future::ready(answer.map_err(Into::into))
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.0.next().map(|frame| Ok(Frame::data(frame))))
    }
}

/// Asks, and takes the whole answer.
fn taken<S, B>(service: &mut S)
where
    S: Service<Request<Held<Full<Bytes>>>, Response = Response<B>, Error = BoxError>,
    B: Body<Data = Bytes>,
{
    let request = Request::post("/v1/chat/completions").body(Held::unread(Full::default()));
    let answer = at_once(service.call(request.expect("a request")));
    let mut body = pin!(answer.expect("nothing here fails").into_body());
    let mut frames = 0;
    let mut cx = Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(frame)) = body.as_mut().poll_frame(&mut cx) {
        frames += usize::from(black_box(frame).is_ok());
    }
    assert!(frames as u64 > EVENTS, "{frames} frames came");
}

/// A chat of about so many bytes, with an escape now and then.
fn alike(size: usize) -> Bytes {
    let mut random = Random(1);
    let words: Vec<String> = (0..2000).map(|_| random.word()).collect();
    let mut text = String::with_capacity(size + 100);
    text.push_str(r#"{"model":"bench-model","messages":[{"role":"user","content":""#);
    let mut turn = text.len();
    while text.len() < size {
        // Some words are frequent, most are not.
        let most = words.len() >> random.below(9);
        text.push_str(&words[random.below(most)]);
        text.push_str([" ", " ", " ", " ", ", ", ".\\n"][random.below(6)]);
        if text.len() - turn > 4000 {
            turn = text.len();
            text.push_str(r#""},{"role":"user","content":""#);
        }
    }
    text.push_str(r#""}]}"#);
    text.into()
}

/// Words that the text does not have: none of its words has these letters at the end.
fn words(count: usize) -> Vec<String> {
    let mut random = Random(2);
    let mut words = BTreeSet::new();
    while words.len() < count {
        words.insert(random.word() + ["q", "x", "zz"][random.below(3)]);
    }
    words.into_iter().collect()
}

/// Numbers that are the same every time: Knuth's MMIX.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most
    }

    /// One to four syllables.
    fn word(&mut self) -> String {
        let mut word = String::new();
        for _ in 0..=self.below(4) {
            word += [
                "", "b", "c", "d", "f", "g", "h", "l", "m", "n", "p", "r", "s", "t", "st", "th",
            ][self.below(16)];
            word += ["a", "e", "i", "o", "u", "ea", "ou"][self.below(7)];
            word += ["", "", "n", "r", "s", "t", "l"][self.below(7)];
        }
        word
    }
}

/// Events of one answer.
const EVENTS: u64 = 100;

#[cfg(test)]
mod tests {
    #[test]
    fn each_row_is_measured() {
        let mut rows = 0;
        let mut tell = |told: &str, one: f64, other: f64| {
            assert!(one.is_finite() && other.is_finite(), "{told}");
            rows += 1;
        };
        super::requests(&mut tell);
        super::answers(&mut tell);
        assert_eq!(rows, 11);
    }
}
