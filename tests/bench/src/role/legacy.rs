//! The reference *legacy*: a hyper server before hyper-util's pooled client on one multi-thread runtime, which is
//! what a pass-through proxy in Rust is if nobody thinks about it.

use std::io;
use std::net::SocketAddr;

use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo};

/// Serves until the process is killed.
pub(crate) fn run(address: SocketAddr, upstream: SocketAddr) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(super::WORKERS)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let relay = Relay::new(upstream)?;
        let listener = super::listen(address)?;
        super::accept(listener, |stream| {
            let relay = relay.clone();
            async move {
                let service = service_fn(|req| relay.pass(req));
                // A cut connection is seen at the load generator.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            }
        })
        .await
    })
}

#[derive(Clone)]
struct Relay {
    client: Client<HttpConnector, Incoming>,
    authority: Authority,
    host: HeaderValue,
}

// ===== impl Relay =====

impl Relay {
    fn new(upstream: SocketAddr) -> io::Result<Self> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            authority: upstream.to_string().parse().map_err(io::Error::other)?,
            host: super::host_of(upstream)?,
        })
    }

    async fn pass(&self, mut req: Request<Incoming>) -> Result<Response<Incoming>, Error> {
        super::to_upstream(req.headers_mut(), &self.host);
        let mut parts = std::mem::take(req.uri_mut()).into_parts();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        parts
            .path_and_query
            .get_or_insert(PathAndQuery::from_static("/"));
        *req.uri_mut() = Uri::from_parts(parts).expect("scheme, authority and path are all there");
        let mut res = self.client.request(req).await?;
        super::strip(res.headers_mut());
        Ok(res)
    }
}
