//! The decisions: what a body is, and what it says.

use std::{borrow::Cow, time::Duration};

use http::{HeaderMap, Method, header};

use crate::{
    dialect::{Parts, Reading, Surface, multipart::Model},
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
    /// Until the part `model` is known.
    Multipart(Box<Parts>),
    /// Not at all.
    Pass,
}

impl Plan {
    pub(super) fn of(method: &Method, headers: &HeaderMap, surface: Option<&Surface>) -> Self {
        let bodiless = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        let Some(surface) = surface.filter(|_| !bodiless) else {
            return Self::Pass;
        };
        let text = |name| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::trim)
        };
        if text(header::CONTENT_ENCODING).is_some_and(|it| !it.eq_ignore_ascii_case("identity")) {
            return Self::Pass;
        }
        let label = text(header::CONTENT_TYPE).unwrap_or_default();
        // What nearly all say.
        if label == "application/json" && surface.is_json() {
            return Self::Json;
        }
        if let Some(parts) = Parts::new(label) {
            return Self::Multipart(Box::new(parts));
        }
        let kind = label
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        let other = [
            "audio/",
            "image/",
            "multipart/",
            "video/",
            "application/octet-stream",
        ];
        if surface.is_json() && !other.iter().any(|prefix| kind.starts_with(prefix)) {
            Self::Json
        } else {
            Self::Pass
        }
    }
}

/// What a JSON body asks for on `surface`: the one reading that the layer does, for tools.
///
/// # Errors
///
/// [`Reason::Malformed`], with the place of the fault: of a text that is no acceptable JSON the first one of that, also
/// if a member before it has a wrong type.
pub fn json(
    surface: &Surface,
    path: &str,
    text: &[u8],
    limits: &json::Limits,
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
            name => format!(
                "`{name}` has a value of the wrong type (byte {})",
                unfit.offset
            ),
        };
        Rejection::new(Reason::Malformed, LAYER, told)
    })?;
    let named = surface.model_in(path);
    Ok(Intent::new(
        surface.clone(),
        named.as_deref(),
        asked,
        root.span(),
    ))
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
