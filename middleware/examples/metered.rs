//! The meter around a bare hyper client, in a service of your own: what a streamed chat cost, while it is printed.
//!
//! ```sh
//! tollgate mock --listen 127.0.0.1:8000
//! cargo run -p tollgate-middleware --features meter --example metered
//! ```

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tollgate_middleware::{error::BoxError, meter::MeterLayer, record::Record};
use tower::{ServiceBuilder, ServiceExt, service_fn};

const PROVIDER: &str = "127.0.0.1:8000";
const ASKED: &str = r#"{"model":"echo","stream":true,"messages":[{"role":"user","content":"what does it cost?"}],
    "stream_options":{"include_usage":true}}"#;

/// A client of your own: a connection for each request.
#[expect(clippy::disallowed_methods, reason = "hyper's connections are tasks")]
async fn ask(request: Request<Full<Bytes>>) -> Result<Response<Incoming>, BoxError> {
    let stream = TcpStream::connect(PROVIDER).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let service = ServiceBuilder::new()
        .layer(MeterLayer::new())
        .service(service_fn(ask));
    let request = Request::post("/v1/chat/completions")
        .header("host", PROVIDER)
        .header("content-type", "application/json")
        .body(Full::from(ASKED))?;
    let answer = service.oneshot(request).await?;
    // Without a layer that keeps records, the meter makes one for each answer.
    let record = answer.extensions().get::<Record>().cloned();
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            print!("{}", String::from_utf8_lossy(&data));
        }
    }
    if let Some(record) = record {
        record.with_metered(|metered| println!("{metered:#?}"));
    }
    Ok(())
}
