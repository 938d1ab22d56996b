//! What of an answer is shown, where it may echo our credential.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body::Body;

use super::{
    body::ResponseBody,
    mask::{Ends, Masker},
    secrets::Secrets,
};
use crate::{
    dialect::{self, Framing, Shape, Told},
    facts::Intent,
    record::Record,
};

/// The answer without our credential in it. Without a record its label alone tells whether it is a stream.
pub(super) fn mask<B>(
    mut response: Response<B>,
    secrets: Arc<Secrets>,
    record: Option<Record>,
) -> Response<ResponseBody<B>>
where
    B: Body<Data = Bytes>,
{
    secrets.mask_headers(response.headers_mut());
    if response.body().is_end_stream() {
        return response.map(ResponseBody::plain);
    }
    let masker = if response.status().is_success() {
        ends(&response, record.as_ref()).map(|ends| Masker::of_events(secrets, ends))
    } else if is_unreadable(&response) {
        return replace(response, record.as_ref());
    } else {
        Some(Masker::of_error(secrets))
    };
    response.map(|body| match masker {
        Some(masker) => ResponseBody::masked(body, masker, record),
        None => ResponseBody::plain(body),
    })
}

/// How a success is cut into events; `None` for one document, and for what cannot be read.
fn ends<B>(response: &Response<B>, record: Option<&Record>) -> Option<Ends> {
    let surface = record.and_then(Record::surface);
    // Unread, a body may have asked for a stream: the answer's label then says.
    let asked = surface.is_some_and(|surface| surface.stream.unwrap_or(true));
    let intent = record.and_then(Record::intent);
    let stream = intent.map_or(asked, Intent::stream);
    match dialect::framing_of(surface, stream, response.status(), response.headers()) {
        Framing::Sse => Some(Ends::Blank),
        // A stream that was asked for may be labelled a document.
        Framing::Document if stream => Some(Ends::Blank),
        Framing::Lines => Some(Ends::Line),
        Framing::Array => Some(Ends::Never),
        Framing::Document | Framing::EventStream | Framing::Opaque => None,
    }
}

/// The answer's own status with a text of ours.
fn replace<B: Body>(response: Response<B>, record: Option<&Record>) -> Response<ResponseBody<B>> {
    let shape = Shape::of(record.and_then(Record::surface));
    let (mut head, _) = response.into_parts();
    let told = Told {
        status: head.status.as_u16(),
        kind: "server_error",
        code: "upstream_error",
        message: "tollgate: the provider's own words for this error are compressed or too long to be shown; \
                  its status is the answer's",
        request_id: record.map_or("", Record::request_id),
    };
    let text = dialect::error_body(shape, &told);
    head.headers.remove(header::CONTENT_ENCODING);
    let json = HeaderValue::from_static("application/json");
    head.headers.insert(header::CONTENT_TYPE, json);
    let length = HeaderValue::from(text.len());
    head.headers.insert(header::CONTENT_LENGTH, length);
    if let Some(record) = record {
        record.set_edited_by("upstream");
    }
    Response::from_parts(head, ResponseBody::replaced(text.into()))
}

/// Whether the body of an error cannot be looked into.
fn is_unreadable<B: Body>(response: &Response<B>) -> bool {
    let mut codings = response.headers().get_all(header::CONTENT_ENCODING).iter();
    let coded = |coding: &HeaderValue| {
        let coding = coding.as_bytes().trim_ascii();
        !coding.eq_ignore_ascii_case(b"identity") && !coding.is_empty()
    };
    codings.any(coded) || response.body().size_hint().lower() > MOST
}

/// An error that announces more is not taken for one that somebody wrote.
const MOST: u64 = 256 * 1024;
