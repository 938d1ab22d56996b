use std::{
    fmt,
    future::Future,
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Method, Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    body::RequestBody,
    forwarded,
    head::{self, Seen},
    local, path,
};
use crate::{
    call::Call,
    conn::Conn,
    dialect,
    error::{BoxError, Reason, Rejection},
    facts::ClientAddress,
    record::Record,
};

/// Lets in only heads that everybody behind reads alike.
#[derive(Clone, Default)]
pub struct HygieneLayer {
    trusted: Option<Arc<Trusted>>,
    local_only: bool,
}

type Trusted = dyn Fn(IpAddr) -> bool + Send + Sync;

impl HygieneLayer {
    /// A layer that trusts no hop and serves everyone.
    pub fn new() -> Self {
        Self::default()
    }

    /// Which peers are proxies whose word about their clients counts. Asked only where a head names a client; a peer over a
    /// unix socket, and `::1`, is asked about as 127.0.0.1, an IPv4 address inside IPv6 as itself.
    #[must_use]
    pub fn trusted_hops(
        mut self,
        trusted: impl Fn(IpAddr) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.trusted = Some(Arc::new(trusted));
        self
    }

    /// Whether only this machine is served, and no page of another site in its browsers.
    #[must_use]
    pub fn local_only(mut self, yes: bool) -> Self {
        self.local_only = yes;
        self
    }

    /// Judges and cleans a head.
    fn judge<B>(&self, req: &mut Request<B>) -> Result<(), Rejection> {
        method(req.method())?;
        path::check(req.uri().path(), |path| recognise(req, path))?;
        let seen = head::read(req.headers())?;
        head::authority(req.uri(), seen.host)?;
        if self.local_only {
            local(req, &seen)?;
        }
        let (dirty, forwarded) = (seen.dirty, seen.forwarded);
        if forwarded && let Some(client) = self.client(req) {
            req.extensions_mut().insert(ClientAddress::new(client));
        }
        if dirty {
            head::clean(req.headers_mut());
        }
        Ok(())
    }

    /// Whom a trusted peer speaks for.
    fn client<B>(&self, req: &Request<B>) -> Option<IpAddr> {
        let trusted = self.trusted.as_ref()?;
        let peer = req.extensions().get::<Conn>()?.peer();
        let peer = peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |peer| peer.ip());
        let trusted = |ip: IpAddr| {
            let ip = ip.to_canonical();
            trusted(if ip.is_loopback() && ip.is_ipv6() {
                Ipv4Addr::LOCALHOST.into()
            } else {
                ip
            })
        };
        forwarded::client(req.headers(), peer, trusted)
    }
}

impl fmt::Debug for HygieneLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HygieneLayer")
            .field("trusted_hops", &self.trusted.is_some())
            .field("local_only", &self.local_only)
            .finish()
    }
}

/// What a path is, in a request that has this head. What is known of the path as it came is not found out again.
fn recognise<B>(req: &Request<B>, path: &str) -> dialect::Recognised {
    let uri = req.uri();
    match req.extensions().get::<Record>() {
        Some(record) if path == uri.path() => record.recognised().clone(),
        _ => dialect::recognise(req.method(), path, uri.query(), req.headers()),
    }
}

fn method(method: &Method) -> Result<(), Rejection> {
    match *method {
        Method::POST
        | Method::GET
        | Method::HEAD
        | Method::DELETE
        | Method::PUT
        | Method::PATCH
        | Method::OPTIONS => Ok(()),
        _ => Err(not_served()),
    }
}

#[cold]
fn not_served() -> Rejection {
    let told = "this method is not served; methods are written in capitals";
    Rejection::new(Reason::MethodNotAllowed, "hygiene", told).close()
}

/// Whether a request may be served where only this machine is.
fn local<B>(req: &Request<B>, seen: &Seen<'_>) -> Result<(), Rejection> {
    let conn = req.extensions().get::<Conn>();
    let near = conn.is_some_and(|conn| {
        let peer = conn.peer();
        peer.is_none_or(|peer| local::is_loopback_address(peer.ip()))
    });
    let host = match seen.host {
        Some(host) => local::is_loopback(host.as_bytes()),
        None => {
            let authority = req.uri().authority();
            authority.is_some_and(|authority| local::is_loopback(authority.as_str().as_bytes()))
        }
    };
    let told = if !near {
        "nobody has to say who they are here, so only this machine is served"
    } else if !host {
        "nobody has to say who they are here, so only this machine is served, by the host localhost, 127.0.0.1 or [::1]"
    } else if seen.forwarded {
        "nobody has to say who they are here, so only this machine is served, and not what a proxy passes on"
    } else if seen.foreign {
        "nobody has to say who they are here, so pages of other sites are not served"
    } else {
        return Ok(());
    };
    Err(Rejection::new(Reason::Forbidden, "hygiene", told))
}

impl<S> Layer<S> for HygieneLayer {
    type Service = Hygiene<S>;

    fn layer(&self, inner: S) -> Hygiene<S> {
        Hygiene {
            inner,
            policy: self.clone(),
        }
    }
}

/// The service of [`HygieneLayer`].
#[derive(Clone, Debug)]
pub struct Hygiene<S> {
    inner: S,
    policy: HygieneLayer,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Hygiene<S>
where
    S: Service<Request<RequestBody<ReqBody>>, Response = Response<ResBody>>,
    S::Error: Into<BoxError>,
{
    type Response = Response<ResBody>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut req: Request<ReqBody>) -> Self::Future {
        let judged = self.policy.judge(&mut req);
        let call = Call::admitted(judged, || self.inner.call(req.map(RequestBody::new)));
        ResponseFuture { call }
    }
}

pin_project! {
    /// The future of [`Hygiene`].
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        call: Call<F, BoxError>,
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<B>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll_answer(cx)
    }
}
