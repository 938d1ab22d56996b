//! What the layers know of a request: typed values in its extensions, one writer each.
//!
//! | fact | writer | absent means |
//! |---|---|---|
//! | [`Record`](crate::record::Record) | `record` | nobody keeps a record: write nothing |
//! | [`Conn`] | the server | the transport acknowledges nothing |
//! | [`ClientAddress`] | `hygiene` | no trusted hop named a client: it is the peer |
//! | [`Intent`] | `peek` | the body was not read, or cannot be: compressed, not JSON, no body |
//! | [`Route`] | `route` | the request was not routed: keep its model |
//!
//! Facts are answers, not handles to services; they are cheap to clone. A guard is never a fact.

use std::{net::IpAddr, ops::Range, sync::Arc};

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
        }))
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

    /// How much text a JSON body holds: its bytes without images and files in base64, and how many of these it holds.
    pub fn prompt(&self) -> (u64, u64) {
        self.0.prompt
    }

    /// Where the JSON object of the body lies; `None` if the body is not JSON.
    pub fn object(&self) -> Option<Range<usize>> {
        self.0.object.clone()
    }
}

/// Which route took the request, and for which model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The route's name; `None` for an implicit route.
    pub name: Option<Arc<str>>,
    /// The model after aliases and `provider/model` were resolved; `None` where none is named.
    pub model: Option<Arc<str>>,
}
