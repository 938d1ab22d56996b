//! What the layers know of a request: typed values in its extensions, one writer each.
//!
//! | fact | writer | absent means |
//! |---|---|---|
//! | [`Record`](crate::record::Record) | `record` | nobody keeps a record: write nothing |
//! | [`Conn`] | the server | the transport acknowledges nothing |
//! | [`ClientAddress`] | `hygiene` | no trusted hop named a client: it is the peer |
//! | [`Caller`] | `auth` | nobody asked who is calling |
//! | [`Intent`] | `peek` | the body was not read, or cannot be: compressed, not JSON, no body |
//! | [`OutputLimit`] | `token_cap`, lowered by `budget` | the output is limited as the body says |
//! | [`Route`] | `route` | the request was not routed: keep its model |
//! | [`PricedOnly`] | `budget` | what has no price may be asked, too |
//! | [`Deadline`] | `timeout` | the whole has no limit |
//! | [`Attempt`](crate::attempt::Attempt) | `retry` | nobody tries again |
//! | [`Endpoint`] | `balance` | nobody picked a target |
//!
//! Facts are answers, not handles to services; they are cheap to clone. A guard is never a fact.

use std::{net::IpAddr, ops::Range, sync::Arc, time::Instant};

use http::Extensions;

use crate::{
    conn::Conn,
    dialect::{Asked, Limit, Surface, multipart},
};

/// Who the client is, where a proxy that is trusted speaks for it.
///
/// ```
/// use http::Extensions;
/// use tollgate_middleware::{conn::Conn, facts::ClientAddress};
///
/// let mut facts = Extensions::new();
/// facts.insert(Conn::of(Some(([127, 0, 0, 1], 50_000).into())));
/// assert_eq!(ClientAddress::of(&facts), Some([127, 0, 0, 1].into()));
/// facts.insert(ClientAddress::new([203, 0, 113, 9].into()));
/// assert_eq!(ClientAddress::of(&facts), Some([203, 0, 113, 9].into()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(IpAddr);

impl ClientAddress {
    /// What a trusted hop said. An IPv4 address inside IPv6 is the IPv4 address.
    pub fn new(ip: IpAddr) -> Self {
        Self(ip.to_canonical())
    }

    /// The address.
    pub fn ip(self) -> IpAddr {
        self.0
    }

    /// The address that decisions go by: what a trusted hop said, else that of the peer. `None` over a unix socket, and
    /// where nobody says who the peer is.
    pub fn of(facts: &Extensions) -> Option<IpAddr> {
        let said = facts.get::<Self>().map(|client| client.0);
        let peer = || Some(facts.get::<Conn>()?.peer()?.ip().to_canonical());
        said.or_else(peer)
    }
}

/// Who is calling, and what is agreed with them.
///
/// ```
/// use tollgate_middleware::facts::{Caller, Terms};
///
/// let caller = Caller::new("team-a", Terms { models: Some(["gpt-4o*".into()].into()), ..Terms::default() });
/// assert!(caller.may_use("gpt-4o-mini") && !caller.may_use("o3"));
/// ```
#[derive(Clone, Debug)]
pub struct Caller {
    name: Arc<str>,
    terms: Arc<Terms>,
    // The one on whose terms it is, if that is another one.
    stands_for: Option<Arc<str>>,
}

/// What is agreed with a caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Which goes first where requests wait: the higher one.
    pub priority: i32,
    /// The models that may be used, exact or with a trailing `*`; `None` is all.
    pub models: Option<Box<[Box<str>]>>,
    /// Labels for whoever accounts for it.
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// The provider's credential to use, by its name.
    pub credential: Option<Box<str>>,
}

impl Caller {
    /// A caller that is known by this name.
    pub fn new(name: impl Into<Arc<str>>, terms: impl Into<Arc<Terms>>) -> Self {
        Self {
            name: name.into(),
            terms: terms.into(),
            stands_for: None,
        }
    }

    /// Somebody whom a third party names, on the terms of this caller.
    #[must_use]
    pub fn derive(&self, name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            terms: self.terms.clone(),
            stands_for: Some(self.listed_as().clone()),
        }
    }

    /// The name, for logs and limits.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether the name is not from a list that ends: a third party made it.
    pub fn is_derived(&self) -> bool {
        self.stands_for.is_some()
    }

    /// The name in the list of callers: its own, or that of the one on whose terms it is.
    pub fn listed_as(&self) -> &Arc<str> {
        self.stands_for.as_ref().unwrap_or(&self.name)
    }

    /// What is agreed.
    pub fn terms(&self) -> &Arc<Terms> {
        &self.terms
    }

    /// Whether the caller may use this model, by the name that aliases lead to.
    pub fn may_use(&self, model: &str) -> bool {
        let Some(models) = &self.terms.models else {
            return true;
        };
        models
            .iter()
            .any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => model.starts_with(start),
                None => **pattern == *model,
            })
    }
}

/// What a request asks for.
///
/// Spans are places in the body as it arrived, as [`Held::edit`](crate::body::Held::edit) takes them.
#[derive(Clone, Debug)]
pub struct Intent(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    surface: Surface,
    model: Option<Box<str>>,
    model_span: Option<Range<usize>>,
    form_span: Option<Range<usize>>,
    stream: bool,
    choices: u32,
    limits: Box<[Limit]>,
    include_usage: bool,
    tools: bool,
    user: Option<Box<str>>,
    object: Option<Range<usize>>,
    prompt: (u64, u64),
    cache_key: Option<Box<str>>,
    continues: bool,
    user_texts: Option<Box<[Box<str>]>>,
}

impl Intent {
    /// What was found in a JSON body whose outermost object lies at `object`. `named` is the model
    /// that the path names, decoded, where the path names one.
    pub fn new(
        surface: Surface,
        named: Option<&str>,
        asked: Asked<'_>,
        object: Range<usize>,
    ) -> Self {
        Self(Arc::new(Inner {
            surface,
            model: named.or(asked.model.as_deref()).map(Into::into),
            model_span: asked.model_span,
            form_span: None,
            stream: asked.stream,
            choices: asked.choices,
            limits: asked.limits.into(),
            include_usage: asked.include_usage,
            tools: asked.tools,
            user: asked.user.as_deref().map(Into::into),
            object: Some(object),
            prompt: asked.prompt,
            cache_key: asked.cache_key.as_deref().map(Into::into),
            continues: asked.continues,
            user_texts: None,
        }))
    }

    /// Keeps these texts of the user. Before it is given to anybody.
    #[must_use]
    pub fn with_user_texts(mut self, texts: impl IntoIterator<Item = Box<str>>) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.user_texts = Some(texts.into_iter().collect());
        }
        self
    }

    /// What is known of a body that is not JSON and names no model: at most the model that the path
    /// names, decoded.
    pub fn opaque(surface: Surface, named: Option<&str>) -> Self {
        Self::unread(surface, named, None)
    }

    /// What was found in a form that names its model.
    pub fn form(surface: Surface, model: &multipart::Model) -> Self {
        Self::unread(surface, Some(&model.value), Some(model.span.clone()))
    }

    fn unread(surface: Surface, model: Option<&str>, form_span: Option<Range<usize>>) -> Self {
        let stream = surface.stream.unwrap_or(false);
        Self(Arc::new(Inner {
            surface,
            model: model.map(Into::into),
            model_span: None,
            form_span,
            stream,
            choices: 1,
            limits: Box::default(),
            include_usage: false,
            tools: false,
            user: None,
            object: None,
            prompt: (0, 0),
            cache_key: None,
            continues: false,
            user_texts: None,
        }))
    }

    /// The surface that was asked.
    pub fn surface(&self) -> &Surface {
        &self.0.surface
    }

    /// The model that was asked for, in the body or in the path; decoded.
    pub fn model(&self) -> Option<&str> {
        self.0.model.as_deref()
    }

    /// Where the model's string lies in a JSON body, quotes included; `None` if the path names it.
    pub fn model_span(&self) -> Option<Range<usize>> {
        self.0.model_span.clone()
    }

    /// Where the model's name lies in a form, raw; `None` if the path names it, or the body is no form.
    pub fn form_span(&self) -> Option<Range<usize>> {
        self.0.form_span.clone()
    }

    /// Whether a streamed answer was asked for.
    pub fn stream(&self) -> bool {
        self.0.stream
    }

    /// How many alternatives are to be generated; at least 1.
    pub fn choices(&self) -> u32 {
        self.0.choices
    }

    /// Every output limit that the body sets, in its order.
    pub fn limits(&self) -> &[Limit] {
        &self.0.limits
    }

    /// Whether a stream was asked to report its usage.
    pub fn include_usage(&self) -> bool {
        self.0.include_usage
    }

    /// Whether tools are offered.
    pub fn tools(&self) -> bool {
        self.0.tools
    }

    /// Who the body says the end user is.
    pub fn user(&self) -> Option<&str> {
        self.0.user.as_deref()
    }

    /// What the caller wants requests with a common beginning to be known by: `prompt_cache_key`.
    pub fn cache_key(&self) -> Option<&str> {
        self.0.cache_key.as_deref()
    }

    /// Whether the request goes on from what the provider keeps: an earlier response, a conversation, cached content.
    pub fn continues(&self) -> bool {
        self.0.continues
    }

    /// How much text a JSON body holds: its bytes without images and files in base64, and how many of these it holds.
    pub fn prompt(&self) -> (u64, u64) {
        self.0.prompt
    }

    /// The texts of the user, in their order, if `peek` was asked for them and the body is JSON.
    pub fn user_texts(&self) -> Option<&[Box<str>]> {
        self.0.user_texts.as_deref()
    }

    /// Where the JSON object of the body lies; `None` if the body is not JSON.
    pub fn object(&self) -> Option<Range<usize>> {
        self.0.object.clone()
    }
}

/// How much output a request asks for, once it has been capped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputLimit {
    /// Tokens of all alternatives together.
    pub tokens: u64,
    /// The member of the body that the limit was put into, if the body had none.
    pub inserted: Option<&'static str>,
}

/// Only targets whose price is known may be asked: what others cost could not be paid from a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PricedOnly;

/// Which target is asked. Clones are cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Arc<Names>);

#[derive(Debug, PartialEq, Eq)]
struct Names {
    provider: Arc<str>,
    target: Arc<str>,
    label: Option<Arc<str>>,
}

impl Endpoint {
    /// A target by its provider's name, its own, and its label if it has one.
    pub fn new(
        provider: impl Into<Arc<str>>,
        target: impl Into<Arc<str>>,
        label: Option<Arc<str>>,
    ) -> Self {
        Self(Arc::new(Names {
            provider: provider.into(),
            target: target.into(),
            label,
        }))
    }

    /// The provider's name.
    pub fn provider(&self) -> &Arc<str> {
        &self.0.provider
    }

    /// The target's name: the provider, or `provider/model` where the target names a model.
    pub fn target(&self) -> &Arc<str> {
        &self.0.target
    }

    /// The target's label.
    pub fn label(&self) -> Option<&Arc<str>> {
        self.0.label.as_ref()
    }
}

/// When all of a request has to be over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(pub Instant);

/// Which route took the request, and for which model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The route's name; `None` for an implicit route.
    pub name: Option<Arc<str>>,
    /// The model after aliases and `provider/model` were resolved; `None` where none is named.
    pub model: Option<Arc<str>>,
    /// The only provider that may be asked, where the request names one (`provider/model`).
    pub pin: Option<Arc<str>>,
}
