//! The model of a form, also of one that is still coming.

use proptest::prelude::*;

use super::*;
use crate::dialect::Parts;

const PATH: &str = "/v1/audio/transcriptions";
const KIND: &str = "multipart/form-data; boundary=\"X-1\"";
const FORM: &str = "--X-1\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\nalias\r\n\
    --X-1\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n alias \r\n\
    --X-1\r\nContent-Disposition: form-data; name=\"file\"; filename=\"alias\"\r\n\r\nalias\u{1}\u{2}\r\n--X-1--\r\n";

/// The form, of which these frames were read.
fn begun(read: &[&[u8]], rest: &[u8]) -> Request<Held<Script>> {
    let mut req = post(PATH, "");
    let kind = HeaderValue::from_static(KIND);
    req.headers_mut().insert("content-type", kind);
    let length = read.concat().len() + rest.len();
    req.headers_mut().insert("content-length", length.into());
    let mut parts = Parts::new(KIND).unwrap().expect("multipart");
    for frame in read {
        parts.feed(frame).unwrap();
    }
    let (method, uri, headers) = (&Method::POST, req.uri(), req.headers());
    let surface = match dialect::recognise(method, uri.path(), None, headers) {
        Recognised::Surface(surface) => surface,
        other => panic!("{other:?}"),
    };
    let intent = Intent::form(surface, parts.model().expect("it was read"));
    req.extensions_mut().insert(intent);
    let frames = read.iter().map(|frame| Bytes::copy_from_slice(frame));
    *req.body_mut() = if rest.is_empty() {
        Held::whole(frames)
    } else {
        Held::begun(frames, Script::data(rest, &Split::Bytes(7)))
    };
    req
}

/// Behind the delimiter that ends the model's part.
fn known() -> usize {
    FORM.find("; name=\"file\"").expect("it is there")
}

proptest! {
    #[test]
    fn the_providers_name_stands_in_a_form_however_much_of_it_was_read(
        read in known()..=FORM.len(),
        sizes in prop::collection::vec(1usize..40, 0..30),
        name in "[a-z/: \u{e9}]{1,30}",
    ) {
        prop_assume!(name != "alias");
        let (read, rest) = FORM.as_bytes().split_at(read);
        let req = begun(&Split::Sizes(sizes).pieces(read), rest);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let got = runtime.block_on(arrives(bare(), routed(req, &name)));
        let (before, after) = FORM.split_once(" alias ").expect("it is there");
        let text = got.body().text();
        prop_assert_eq!(&text, &format!("{before} {name} {after}"));
        prop_assert_eq!(header(&got, "content-length"), Some(&*text.len().to_string()));
    }
}

#[tokio::test]
async fn a_form_that_names_the_providers_model_already_does_not_change() {
    let (read, rest) = FORM.as_bytes().split_at(known());
    let target = bare().extra_body([("n", "1")]);
    let got = arrives(target, routed(begun(&[read], rest), "alias")).await;
    assert_eq!(got.body().text(), FORM);
    assert_eq!(
        header(&got, "content-length"),
        Some(&*FORM.len().to_string())
    );
}

#[tokio::test]
async fn a_form_of_unknown_length_stays_one() {
    let (read, rest) = FORM.as_bytes().split_at(known());
    // Less than was read is no length either.
    for announced in [None, Some("1"), Some("x")] {
        let mut req = begun(&[read], rest);
        req.headers_mut().remove("content-length");
        if let Some(length) = announced {
            let length = HeaderValue::from_static(length);
            req.headers_mut().insert("content-length", length);
        }
        let got = arrives(bare().model("real"), req).await;
        assert_eq!(header(&got, "content-length"), None, "{announced:?}");
        assert_eq!(got.body().text(), FORM.replace(" alias ", " real "));
    }
}

#[tokio::test]
async fn a_name_that_would_break_the_form_is_refused() {
    let (read, rest) = FORM.as_bytes().split_at(known());
    for model in ["a\r\nb", "a\rb", "a\nb", "--X-1", "aX-1b"] {
        let record = record(PATH);
        let mut req = routed(begun(&[read], rest), model);
        req.extensions_mut().insert(record.clone());
        let inner = Inner::<BoxError>::answering(Response::new(Script::empty()));
        let calls = inner.calls();
        let answer = UpstreamLayer::new(bare()).layer(inner).oneshot(req).await;
        let error = answer.err().unwrap_or_else(|| panic!("{model:?} went out"));
        let rejection = Rejection::find(&*error).unwrap();
        assert_eq!(rejection.reason(), Reason::Malformed);
        assert!(calls.take().is_empty() && record.attempts().is_empty());
    }
}
