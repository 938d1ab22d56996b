//! The decisions: what a body is, and what it says.

use std::{borrow::Cow, time::Duration};

use http::{HeaderMap, Method, Request, header};

use crate::{
    dialect::{
        self, Parts, Reading, Role, Surface,
        multipart::{Model, Unclear},
    },
    error::{Reason, Rejection},
    facts::Intent,
    json,
};

const LAYER: &str = "peek";

/// How a body is to be read.
#[derive(Debug)]
pub(super) enum Plan {
    /// Whole, as JSON.
    Json,
    /// Until the part `model` is known, and judged to its end.
    Multipart(Box<Parts>),
    /// Not at all.
    Pass,
}

impl Plan {
    pub(super) fn of(
        method: &Method,
        headers: &HeaderMap,
        surface: Option<&Surface>,
    ) -> Result<Self, Rejection> {
        let bodiless = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        let Some(surface) = surface.filter(|_| !bodiless) else {
            return Ok(Self::Pass);
        };
        let text = |name| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::trim)
        };
        if text(header::CONTENT_ENCODING).is_some_and(|it| !it.eq_ignore_ascii_case("identity")) {
            return Ok(Self::Pass);
        }
        let label = text(header::CONTENT_TYPE).unwrap_or_default();
        // What nearly all say.
        if label == "application/json" {
            return Ok(Self::Json);
        }
        if !surface.is_json() {
            return Self::of_form(headers, label);
        }
        let kind = kind(label);
        let other = [
            "audio/",
            "image/",
            "multipart/",
            "video/",
            "application/octet-stream",
        ];
        if other.iter().any(|prefix| kind.starts_with(prefix)) {
            Ok(Self::Pass)
        } else {
            Ok(Self::Json)
        }
    }

    /// On a surface that takes forms. Some of these take JSON too.
    fn of_form(headers: &HeaderMap, label: &str) -> Result<Self, Rejection> {
        if kind(label) == "application/json" {
            return Ok(Self::Json);
        }
        let parts = match Parts::new(label) {
            Ok(Some(parts)) => parts,
            Ok(None) => return Ok(Self::Pass),
            Err(why) => return Err(unclear(why)),
        };
        if headers
            .get_all(header::CONTENT_TYPE)
            .iter()
            .nth(1)
            .is_some()
        {
            let told = "the request has two content types";
            return Err(Rejection::new(Reason::Malformed, LAYER, told));
        }
        Ok(Self::Multipart(Box::new(parts)))
    }
}

/// A content type without its parameters.
fn kind(label: &str) -> String {
    let kind = label.split(';').next().unwrap_or_default();
    kind.trim().to_ascii_lowercase()
}

/// What a request asks for whose body is whole: the one reading that the layer does, for tools. `None` for a body that the
/// layer would let pass unread. The texts of the user are kept.
///
/// # Errors
///
/// [`Reason::Malformed`] for a body that the layer would refuse, with the place of the fault.
pub fn intent<B: AsRef<[u8]>>(
    req: &Request<B>,
    surface: &Surface,
    limits: &json::Limits,
) -> Result<Option<Intent>, Rejection> {
    let (path, body) = (req.uri().path(), req.body().as_ref());
    Ok(
        match Plan::of(req.method(), req.headers(), Some(surface))? {
            Plan::Json => Some(json(surface, path, body, limits, true)?),
            Plan::Multipart(mut parts) => {
                let judged = parts.feed(body).and_then(|()| parts.finish());
                judged.map_err(unclear)?;
                Some(opaque(surface.clone(), path, parts.model()))
            }
            Plan::Pass => None,
        },
    )
}

/// What a JSON body asks for on `surface`.
///
/// Refused with the place of the fault: of a text that is no acceptable JSON the first one of that, also
/// if a member before it has a wrong type.
pub(super) fn json(
    surface: &Surface,
    path: &str,
    text: &[u8],
    limits: &json::Limits,
    user_texts: bool,
) -> Result<Intent, Rejection> {
    let mut reading = Reading::new(surface);
    let root = json::check_members(text, limits, |name, value| {
        reading.member(name, value);
    });
    let root = root.map_err(|fault| {
        let told = format!("the request body is not acceptable JSON: {fault}");
        Rejection::new(Reason::Malformed, LAYER, told)
    })?;
    let asked = reading.finish(root).map_err(|unfit| {
        let told = match unfit.member {
            "" => "the request body must be a JSON object".to_owned(),
            name if unfit.alike => format!(
                "`{name}` is spelled in other letters, which not all take for another member (byte {})",
                unfit.offset
            ),
            name => format!(
                "`{name}` has a value of the wrong type (byte {})",
                unfit.offset
            ),
        };
        Rejection::new(Reason::Malformed, LAYER, told)
    })?;
    let named = surface.model_in(path);
    let intent = Intent::new(surface.clone(), named.as_deref(), asked, root.span());
    if !user_texts {
        return Ok(intent);
    }
    let mut texts = Vec::new();
    dialect::texts(surface, root, &mut |role, value| {
        if role == Role::User {
            texts.extend(
                value
                    .as_str()
                    .map(|text| text.into_owned().into_boxed_str()),
            );
        }
    });
    Ok(intent.with_user_texts(texts))
}

/// What a body that is not JSON asks for. As everywhere, the model of the path goes before that of the body.
pub(super) fn opaque(surface: Surface, path: &str, found: Option<&Model>) -> Intent {
    let named = surface.model_in(path).map(Cow::into_owned);
    match (named, found) {
        (None, Some(model)) => Intent::form(surface, model),
        (named, _) => Intent::opaque(surface, named.as_deref()),
    }
}

/// Refuses a body by the length that it announces.
pub(super) fn announced(headers: &HeaderMap, limit: u64) -> Result<(), Rejection> {
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    match length.map(str::parse::<u64>) {
        Some(Ok(length)) if length > limit => Err(too_large(limit)),
        _ => Ok(()),
    }
}

/// All requests together hold as much as they may.
pub(super) fn no_room() -> Rejection {
    let told = "the gateway holds as many request bodies as its memory allows; ask again";
    Rejection::new(Reason::Overloaded, LAYER, told).retry_after(Duration::from_secs(1))
}

pub(super) fn too_large(limit: u64) -> Rejection {
    let told = format!("the request body is larger than the limit of {limit} bytes");
    Rejection::new(Reason::TooLarge, LAYER, told)
}

/// Nobody knows what the provider would read.
pub(super) fn unclear(why: Unclear) -> Rejection {
    let told = format!("the form in the request can be read in more than one way: {why}");
    Rejection::new(Reason::Malformed, LAYER, told)
}

pub(super) fn too_slow() -> Rejection {
    Rejection::new(
        Reason::RequestTimeout,
        LAYER,
        "the request body did not come in time",
    )
}

pub(super) fn broken(error: impl Into<crate::error::BoxError>) -> crate::error::BoxError {
    Rejection::unread(LAYER, error)
}
