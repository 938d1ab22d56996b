use tollgate_testing::{
    body::Script,
    laws::{self, Inner, Outcome},
    splits::Split,
};
use tower::ServiceExt;

use super::{super::rules::Rule, *};
use crate::error::Reason;

fn filter(passes: bool) -> WordFilterLayer {
    let rule = Rule {
        words: vec!["bad".into()],
        ..Rule::new("r")
    };
    WordFilterLayer::new(Filter::new([rule]).unwrap().uninspected(passes))
}

/// The layer behind what makes bodies held.
fn held(
    layer: &WordFilterLayer,
    inner: Inner,
) -> impl Service<
    Request<Script>,
    Response = Response<ResponseBody<Script>>,
    Error = BoxError,
    Future = impl Future<Output = Result<Response<ResponseBody<Script>>, BoxError>> + Send,
> + Clone
+ Send
+ 'static {
    tower::util::MapRequest::new(layer.layer(inner), |req: Request<Script>| {
        req.map(Held::unread)
    })
}

#[tokio::test(start_paused = true)]
async fn keeps_the_laws() {
    let layer = WordFilterLayer::new(Filter::off());
    laws::transparent_over(|inner: Inner| held(&layer, inner), laws::cases()).await;
    laws::ready_over(
        |inner: Inner| held(&layer, inner),
        || Request::new(Script::empty()),
    )
    .await;
    // Without facts the surface is found in the head, and a body that was not read is closed to it.
    let filter = filter(false);
    let closes = |outcome: &Outcome| {
        matches!(outcome, Outcome::Refused(error)
            if Rejection::find(&**error).map(Rejection::reason) == Some(Reason::UnsupportedCoding))
    };
    laws::absent_facts_over(|inner: Inner| held(&filter, inner), closes).await;
    fn types<S: Service<Request<Held<Script>>> + Clone + Send + Sync + 'static>(_: S)
    where
        S::Future: Send,
    {
    }
    types(layer.layer(Inner::<BoxError>::answering(Response::new(Script::empty()))));
}

/// D04: on surfaces without text there is nothing to look for, so nothing is refused.
#[tokio::test]
async fn what_cannot_be_read_is_refused_where_there_is_text() {
    let rows = [
        ("/v1/chat/completions", true),
        ("/v1/embeddings", true),
        ("/v1/messages", true),
        ("/v1/audio/transcriptions", false),
        ("/v1/files", false),
        ("/anything", false),
    ];
    for (path, text) in rows {
        for passes in [false, true] {
            let req = || {
                let body = Script::data(b"\x1f\x8bbad", &Split::Whole);
                let req = Request::post(path).header("content-encoding", "gzip");
                req.body(Held::unread(body)).unwrap()
            };
            let inner =
                tower::service_fn(async |_| Ok::<_, BoxError>(Response::new(Script::empty())));
            let told = filter(passes).layer(inner).oneshot(req()).await;
            let reason = told
                .as_ref()
                .err()
                .and_then(|why| Rejection::find(&**why))
                .map(Rejection::reason);
            let expected = (text && !passes).then_some(Reason::UnsupportedCoding);
            assert_eq!(reason, expected, "{path}");
        }
    }
}

#[test]
fn a_filter_is_what_it_was_made_of() {
    assert_eq!(Filter::off(), Filter::new([]).unwrap());
    assert_ne!(filter(false).filter, filter(true).filter);
    assert!(filter(true).filter.passes_uninspected() && Filter::off().rules().is_empty());
    let regex = Rule {
        regex: vec!["ok".into(), "(".into()],
        ..Rule::new("odd")
    };
    let why = Filter::new([regex]).unwrap_err();
    assert_eq!((why.rule(), why.regex()), ("odd", Some(1)));
    assert!(why.to_string().contains("odd") && !why.why().is_empty());
}
