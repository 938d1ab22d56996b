//! The layers around their own client, served by your own hyper server.
//!
//! ```sh
//! tollgate mock --listen 127.0.0.1:8000
//! cargo run -p tollgate-middleware --features full --example in_hyper
//! curl -N 127.0.0.1:3000/v1/chat/completions -d '{"model":"echo","stream":true,"messages":[{"role":"user","content":"hi"}]}'
//! ```

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tollgate_middleware::{
    client::{Client, Pool},
    error::BoxError,
    peek::PeekLayer,
    record::{Record, RecordLayer, Sink},
    respond::RespondLayer,
    seal::SealLayer,
    truncation::TruncationLayer,
    upstream::{Target, UpstreamLayer},
};
use tower::{ServiceBuilder, ServiceExt};

#[derive(Clone)]
struct Print;

impl Sink for Print {
    fn ended(&self, record: &Record) {
        println!("{}: {:?}", record.path(), record.ended());
    }
}

#[tokio::main]
#[expect(clippy::disallowed_methods, reason = "a server spawns; layers do not")]
async fn main() -> Result<(), BoxError> {
    let provider: http::Uri = "http://127.0.0.1:8000/v1".parse()?;
    let connect = tower::service_fn(|uri: http::Uri| async move {
        let address = uri.authority().map_or("", |authority| authority.as_str());
        TcpStream::connect(address).await.map(TokioIo::new)
    });
    let stack = ServiceBuilder::new()
        .layer(RecordLayer::new(Print)) // told once per request, when its answer has ended
        .layer(SealLayer::new()) // a broken answer never looks whole
        .layer(RespondLayer::new()) // refusals from inside become answers
        .layer(PeekLayer::new(32 << 20)) // reads the body once
        .layer(TruncationLayer::new()) // a stream without its end mark is broken
        .layer(UpstreamLayer::new(Target::new("local", &provider)?))
        .service(Client::new(connect, provider, Pool::default()));

    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let stack = stack.clone();
        let service = service_fn(move |req| stack.clone().oneshot(req));
        let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                eprintln!("{error}");
            }
        });
    }
}
