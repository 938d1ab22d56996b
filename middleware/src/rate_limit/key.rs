use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use http::{Extensions, HeaderMap, HeaderName, Request};

use super::quota::Quotas;
use crate::facts::{Caller, ClientAddress, Intent, Route};

/// What is known of a request when it is counted.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// The facts of the layers outside.
    pub facts: &'a Extensions,
}

/// Whose requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Id<'a> {
    /// Those of an address, or of a network that is as good as one.
    Address(IpAddr),
    /// All of them.
    Everyone,
    /// Those of a name.
    Name(&'a str),
    /// Those of a name that means something only within another.
    Within(&'a str, &'a str),
}

/// How a request is counted.
#[derive(Clone, Debug)]
pub struct Counted<'a> {
    /// Together with whose.
    pub id: Id<'a>,
    /// Against what.
    pub quotas: Quotas,
    /// The name is from a list that ends: it always has a cell of its own, which is never evicted.
    pub listed: bool,
}

/// Says how a request is counted, and whether it is at all.
///
/// ```
/// use tollgate_middleware::rate_limit::{Asked, Counted, Id, Key, Quotas};
///
/// struct ByTenant(Quotas);
///
/// impl Key for ByTenant {
///     fn count<'a>(&self, asked: &Asked<'a>) -> Option<Counted<'a>> {
///         let tenant = asked.headers.get("x-tenant")?.to_str().ok()?;
///         Some(Counted { id: Id::Name(tenant), quotas: self.0.clone(), listed: false })
///     }
/// }
/// ```
pub trait Key: Send + Sync + 'static {
    /// `None`: this request does not count here.
    fn count<'a>(&self, asked: &Asked<'a>) -> Option<Counted<'a>>;
}

/// By the address of the client: IPv6 by its network of 64 bits, an IPv4 address inside IPv6 as itself. A client without an
/// address (over a unix socket) does not count.
#[derive(Clone, Debug)]
pub struct ByAddress(pub Quotas);

/// By the caller, each against its own quotas. One without quotas does not count, nor one whom nobody named.
///
/// A caller that another one stands for (a claim of a token) counts by itself, against the quotas of that one.
#[derive(Clone, Debug)]
pub struct ByCaller {
    quotas: HashMap<Arc<str>, Quotas>,
}

/// All requests together.
#[derive(Clone, Debug)]
pub struct Everyone(pub Quotas);

/// All requests for the models that fit, together: by the name that aliases lead to.
pub struct ByModel {
    fits: Box<Fits>,
    quotas: Quotas,
}

type Fits = dyn Fn(&str) -> bool + Send + Sync;

/// By the end user, within the caller. A request that names none does not count.
#[derive(Clone, Debug)]
pub struct ByUser {
    sources: Box<[UserSource]>,
    quotas: Quotas,
}

/// Where the end user is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserSource {
    /// In the body: `user`, `safety_identifier`, Anthropic's `metadata.user_id`.
    Body,
    /// In a header.
    Header(HeaderName),
}

impl<'a> Asked<'a> {
    pub(super) fn of<B>(req: &'a Request<B>) -> Self {
        Self {
            headers: req.headers(),
            facts: req.extensions(),
        }
    }
}

impl Key for ByAddress {
    fn count<'a>(&self, asked: &Asked<'a>) -> Option<Counted<'a>> {
        let address = ClientAddress::of(asked.facts)?;
        Some(Counted {
            id: Id::Address(network(address)),
            quotas: self.0.clone(),
            listed: false,
        })
    }
}

/// What one client can have as many addresses of as it likes.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

impl ByCaller {
    /// Callers and their quotas.
    pub fn new(quotas: impl IntoIterator<Item = (Arc<str>, Quotas)>) -> Self {
        Self {
            quotas: quotas.into_iter().collect(),
        }
    }
}

impl Key for ByCaller {
    fn count<'a>(&self, asked: &Asked<'a>) -> Option<Counted<'a>> {
        let caller: &Caller = asked.facts.get()?;
        let quotas = self.quotas.get(caller.listed_as())?.clone();
        let id = if caller.is_derived() {
            Id::Within(caller.listed_as(), caller.name())
        } else {
            Id::Name(caller.name())
        };
        Some(Counted {
            id,
            quotas,
            listed: !caller.is_derived(),
        })
    }
}

impl Key for Everyone {
    fn count<'a>(&self, _: &Asked<'a>) -> Option<Counted<'a>> {
        Some(Counted {
            id: Id::Everyone,
            quotas: self.0.clone(),
            listed: true,
        })
    }
}

impl ByModel {
    /// The models that `fits` says yes to, together.
    pub fn new(fits: impl Fn(&str) -> bool + Send + Sync + 'static, quotas: Quotas) -> Self {
        Self {
            fits: Box::new(fits),
            quotas,
        }
    }
}

impl Key for ByModel {
    fn count<'a>(&self, asked: &Asked<'a>) -> Option<Counted<'a>> {
        let routed = asked
            .facts
            .get()
            .and_then(|route: &Route| route.model.as_deref());
        let model = routed.or_else(|| asked.facts.get().and_then(Intent::model))?;
        (self.fits)(model).then(|| Counted {
            id: Id::Everyone,
            quotas: self.quotas.clone(),
            listed: true,
        })
    }
}

impl fmt::Debug for ByModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByModel")
            .field("quotas", &self.quotas)
            .finish_non_exhaustive()
    }
}

impl ByUser {
    /// The first of the sources that names a user counts.
    pub fn new(sources: impl IntoIterator<Item = UserSource>, quotas: Quotas) -> Self {
        Self {
            sources: sources.into_iter().collect(),
            quotas,
        }
    }
}

impl Key for ByUser {
    fn count<'a>(&self, asked: &Asked<'a>) -> Option<Counted<'a>> {
        let named = |source: &UserSource| match source {
            UserSource::Body => asked.facts.get().and_then(Intent::user),
            UserSource::Header(name) => asked.headers.get(name)?.to_str().ok(),
        };
        let user = self
            .sources
            .iter()
            .find_map(|source| named(source).filter(|user| !user.is_empty()))?;
        let caller = asked
            .facts
            .get()
            .map_or("", |caller: &Caller| caller.name());
        Some(Counted {
            id: Id::Within(caller, user),
            quotas: self.quotas.clone(),
            listed: false,
        })
    }
}
