//! Law 4: each of the six ways a body can end is reported exactly once.

use std::{fmt::Debug, pin::pin};

use http::{HeaderMap, HeaderValue};
use http_body::Body;

use super::in_time;
use crate::{
    body::{BoxError, Collected, Item, Script, collect_by_hint, next},
    splits::Split,
};

/// How a body came to its end, as its consumer saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ending {
    /// Dropped half way.
    Drop,
    /// Ended before it began: hinted, never polled, dropped.
    Empty,
    /// An error after some data.
    Error,
    /// The hint after the last frame; never polled for `None`.
    Hint,
    /// `None` after some data, without a hint.
    None,
    /// Trailers, then the hint; never polled for `None`.
    Trailers,
}

impl Ending {
    /// All six.
    pub const ALL: [Self; 6] = [
        Self::Drop,
        Self::Empty,
        Self::Error,
        Self::Hint,
        Self::None,
        Self::Trailers,
    ];
}

/// The law, for a body that reports its end to somebody.
///
/// `wrap` puts the layer's body around a scripted one and gives, beside it, whatever hears of its end; `reports` reads what was
/// heard. Data is `data: 1\n\n` and `data: 2\n\n`, one frame each; of the dropped body only the first is read.
///
/// While the body runs nothing may be reported. When it has ended (for `Drop` and `Empty`: when it is dropped) there must be
/// one report, and dropping it must add none. The inner body must not be polled after its end.
///
/// Gives the report of each ending, in the order of [`Ending::ALL`], for the caller to judge what they say.
///
/// # Panics
/// When the law is broken.
pub async fn endings<B, O, R>(
    wrap: impl Fn(Script) -> (B, O),
    reports: impl Fn(&O) -> Vec<R>,
) -> [(Ending, R); Ending::ALL.len()]
where
    B: Body,
    B::Error: Into<BoxError>,
    R: Debug,
{
    let mut told = Vec::new();
    for ending in Ending::ALL {
        told.push((
            ending,
            in_time("endings", one(ending, &wrap, &reports)).await,
        ));
    }
    told.try_into().expect("one report for each ending")
}

async fn one<B, O, R>(
    ending: Ending,
    wrap: impl Fn(Script) -> (B, O),
    reports: impl Fn(&O) -> Vec<R>,
) -> R
where
    B: Body,
    B::Error: Into<BoxError>,
    R: Debug,
{
    let script = script(ending);
    let polls = script.polls();
    let (body, observer) = wrap(script);
    let expect = |count, when| expect(ending, reports(&observer), count, when);
    if ending == Ending::Empty {
        collect_by_hint(body).await;
    } else {
        let mut body = pin!(Some(body));
        let mut seen = Collected::default();
        while let Some(body) = body.as_mut().as_pin_mut() {
            let more = next(body, &mut seen).await;
            let over = !more || seen.hints.last().is_some_and(|hint| hint.end);
            let dropped = ending == Ending::Drop && seen.frames.len() == 1;
            expect(
                usize::from(over),
                if over { "at the end" } else { "before the end" },
            );
            if over || dropped {
                break;
            }
        }
        body.set(None);
        judge(ending, &seen);
    }
    assert_eq!(
        polls.after_end(),
        0,
        "endings, {ending:?}: the inner body was polled after its end"
    );
    assert!(
        polls.dropped(),
        "endings, {ending:?}: the inner body outlives its wrapper"
    );
    expect(1, "after the drop").pop().expect("one was counted")
}

fn expect<R: Debug>(ending: Ending, heard: Vec<R>, count: usize, when: &str) -> Vec<R> {
    assert_eq!(
        heard.len(),
        count,
        "endings, {ending:?}: {when} there were the reports {heard:?}"
    );
    heard
}

fn script(ending: Ending) -> Script {
    let data = Script::data(b"data: 1\n\ndata: 2\n\n", &Split::Bytes(9));
    let trailers = HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from_static("\"1\""))]);
    match ending {
        Ending::Drop | Ending::None => data,
        Ending::Empty => Script::empty(),
        Ending::Error => data.then(Item::Error),
        Ending::Hint => data.hinting(),
        Ending::Trailers => data.then(Item::Trailers(trailers)).hinting(),
    }
}

/// The wrapper must let the ending through, or another one was judged.
fn judge(ending: Ending, seen: &Collected) {
    let hinted = seen.hints.last().is_some_and(|hint| hint.end);
    let came = match (
        seen.error.is_some(),
        seen.trailers.is_some(),
        hinted,
        seen.frames.len(),
    ) {
        (true, false, false, 2) => Ending::Error,
        (false, true, true, 2) => Ending::Trailers,
        (false, false, true, 2) => Ending::Hint,
        (false, false, false, 2) => Ending::None,
        (false, false, false, 1) => Ending::Drop,
        _ => panic!("endings, {ending:?}: the wrapper changed the body: {seen:?}"),
    };
    assert_eq!(
        came, ending,
        "endings: the wrapper changed how the body ends: {seen:?}"
    );
}
