use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header, uri::InvalidUriParts};

use super::secrets::Secrets;
use crate::{
    dialect::{Dialect, Surface},
    error::{Reason, Rejection},
    facts::Intent,
    health::{Key, Keys},
};

/// A provider, and how a request has to look for it.
#[derive(Clone, Debug)]
pub struct Target {
    pub(super) provider: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) label: Option<Arc<str>>,
    pub(super) host: HeaderValue,
    pub(super) base_path: Box<str>,
    pub(super) sent: Box<[Sent]>,
    pub(super) passthrough: bool,
    pub(super) keys: Keys,
    pub(super) pin: Option<Box<str>>,
    pub(super) headers: HeaderMap,
    pub(super) extra_body: Vec<(Box<str>, Box<str>)>,
    pub(super) model: Option<Arc<str>>,
    pub(super) renames: Renames,
}

/// A credential, and how it could be echoed.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) credential: Credential,
    pub(super) secrets: Option<Arc<Secrets>>,
}

/// The provider's own name for a public one.
type Own = dyn Fn(&str) -> Option<Arc<str>> + Send + Sync;

#[derive(Clone)]
pub(super) struct Renames(pub(super) Option<Arc<Own>>);

impl fmt::Debug for Renames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Renames").field(&self.0.is_some()).finish()
    }
}

/// What proves to the provider who asks. Never shown by `Debug`.
#[derive(Clone)]
pub enum Credential {
    /// Nothing is sent.
    None,
    /// This header.
    Header(HeaderName, HeaderValue),
}

impl Credential {
    /// `authorization: Bearer …`; `None` if the key cannot stand in a header.
    pub fn bearer(key: &str) -> Option<Self> {
        Self::header(header::AUTHORIZATION, &format!("Bearer {key}"))
    }

    /// A header that holds the key alone; `None` if the key cannot stand in a header.
    pub fn header(name: HeaderName, key: &str) -> Option<Self> {
        let mut value = HeaderValue::from_str(key).ok()?;
        value.set_sensitive(true);
        Some(Self::Header(name, value))
    }

    /// The key alone, without the scheme before it.
    fn key(&self) -> Option<&str> {
        let Self::Header(name, value) = self else {
            return None;
        };
        let value = value.to_str().ok()?;
        let key = match value.split_once(' ') {
            Some((_, key)) if *name == header::AUTHORIZATION => key,
            _ => value,
        };
        Some(key.trim())
    }

    /// The key in the slot that the dialect's own clients use.
    pub fn of(dialect: Dialect, key: &str) -> Option<Self> {
        let slot = match dialect {
            Dialect::Anthropic => "x-api-key",
            Dialect::Azure => "api-key",
            Dialect::Gemini => "x-goog-api-key",
            _ => return Self::bearer(key),
        };
        Self::header(HeaderName::from_static(slot), key)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Header(name, _) => f.debug_tuple("Header").field(name).finish(),
        }
    }
}

impl Target {
    /// A provider at `base_url`: its authority is asked, and its path stands in the place of the
    /// caller's API prefix. Without a path the caller's path is kept whole.
    ///
    /// # Errors
    ///
    /// If `base_url` names no authority.
    pub fn new(provider: impl Into<Arc<str>>, base_url: &Uri) -> Result<Self, InvalidUriParts> {
        let provider = provider.into();
        let Some(authority) = base_url.authority() else {
            // The one way to make the error that says so.
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(http::uri::Scheme::HTTP);
            return Err(Uri::from_parts(parts).expect_err("a scheme without an authority"));
        };
        // Userinfo is no part of `host`.
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        let host = HeaderValue::from_str(host).expect("an authority is visible ASCII");
        Ok(Self {
            name: provider.clone(),
            provider,
            label: None,
            host,
            base_path: base_url.path().trim_end_matches('/').into(),
            sent: Box::default(),
            passthrough: false,
            keys: Keys::new([]),
            pin: None,
            headers: HeaderMap::new(),
            extra_body: Vec::new(),
            model: None,
            renames: Renames(None),
        })
    }

    /// The credential to send.
    #[must_use]
    pub fn credential(self, credential: Credential) -> Self {
        let some = matches!(credential, Credential::Header(..));
        let known = some.then(|| (None, Key::default()));
        self.credentials(some.then_some(credential), Keys::new(known))
    }

    /// The credentials to send, in turn, in the order of what is known of them.
    ///
    /// # Panics
    ///
    /// If there are not as many of these as of those.
    #[must_use]
    pub fn credentials(
        mut self,
        credentials: impl IntoIterator<Item = Credential>,
        keys: Keys,
    ) -> Self {
        let sent = credentials
            .into_iter()
            .take(Keys::MOST)
            .map(|credential| Sent {
                secrets: credential.key().and_then(Secrets::of).map(Arc::new),
                credential,
            });
        self.sent = sent.collect();
        assert_eq!(
            self.sent.len(),
            keys.len(),
            "as much is known of each credential"
        );
        self.keys = keys;
        self
    }

    /// Whether the caller's own credential goes on, in the slots that it came in: those of the APIs' clients, Gemini's `key=` in the
    /// query, and the names of the account that is meant. A credential of ours still takes its own slot. What is echoed of the
    /// caller's own is not masked: it goes back to whom it is of.
    #[must_use]
    pub fn passthrough(mut self, yes: bool) -> Self {
        self.passthrough = yes;
        self
    }

    /// Always send the credential of this name, unless the caller has one of its own.
    #[must_use]
    pub fn pin(mut self, name: impl Into<Box<str>>) -> Self {
        self.pin = Some(name.into());
        self
    }

    /// What is known of its credentials, and the name of the one that it always sends.
    pub fn keys(&self) -> (&Keys, Option<&str>) {
        (&self.keys, self.pin.as_deref())
    }

    /// Headers to set on each request.
    #[must_use]
    pub fn headers(mut self, headers: HeaderMap) -> Self {
        self.headers = headers;
        self
    }

    /// Members to add to a JSON body where the caller did not set them: name and JSON text.
    #[must_use]
    pub fn extra_body<N, T>(mut self, members: impl IntoIterator<Item = (N, T)>) -> Self
    where
        N: Into<Box<str>>,
        T: Into<Box<str>>,
    {
        let members = members
            .into_iter()
            .map(|(name, text)| (name.into(), text.into()));
        self.extra_body = members.collect();
        self
    }

    /// Always ask for this model, in the provider's words.
    #[must_use]
    pub fn model(mut self, model: impl Into<Arc<str>>) -> Self {
        let model = model.into();
        self.name = format!("{}/{model}", self.provider).into();
        self.model = Some(model);
        self
    }

    /// The name that this provider has for a public name, if it has another.
    #[must_use]
    pub fn renames(
        mut self,
        own: impl Fn(&str) -> Option<Arc<str>> + Send + Sync + 'static,
    ) -> Self {
        self.renames = Renames(Some(Arc::new(own)));
        self
    }

    /// The label under which the target appears in the log.
    #[must_use]
    pub fn label(mut self, label: impl Into<Arc<str>>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Its name: the provider, or `provider/model` where it always asks for one.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The label under which it appears in the log.
    pub fn label_word(&self) -> Option<&Arc<str>> {
        self.label.as_ref()
    }

    /// The model that the provider is asked for when `model` is, after aliases.
    pub fn asked_for(&self, model: Option<&str>) -> Option<Arc<str>> {
        let own = model.and_then(|model| self.own_name(model));
        own.or_else(|| self.model.clone())
            .or_else(|| model.map(Into::into))
    }

    /// Whether a request on `surface` can be made to fit: what is to be added to a JSON body must have a place in it.
    ///
    /// # Errors
    ///
    /// [`Reason::UnsupportedCoding`] for a body that nobody read, or that is none of JSON, where `extra_body` has to go into it.
    pub fn takes(
        &self,
        surface: Option<&Surface>,
        intent: Option<&Intent>,
    ) -> Result<(), Rejection> {
        let json = surface.is_some_and(Surface::is_json);
        let read = intent.is_some_and(|intent| intent.object().is_some());
        if self.extra_body.is_empty() || !json || read {
            return Ok(());
        }
        let told = "the body is compressed or not labelled as JSON, and the gateway has to add to it; \
                    send it as plain JSON";
        Err(Rejection::new(Reason::UnsupportedCoding, "upstream", told))
    }

    /// The name that the provider is asked for, given the resolved one.
    pub(super) fn own_name(&self, model: &str) -> Option<Arc<str>> {
        let renamed = || self.renames.0.as_ref().and_then(|own| own(model));
        self.model.clone().or_else(renamed)
    }
}
