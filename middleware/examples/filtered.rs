//! The word filter around a bare hyper client, in a service of your own: one rule refuses, another one masks.
//!
//! ```sh
//! tollgate mock --listen 127.0.0.1:8000
//! cargo run -p tollgate-middleware --features peek,word_filter --example filtered
//! ```

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tollgate_middleware::{
    body::Held,
    error::BoxError,
    peek::{Limited, PeekLayer},
    word_filter::{Action, Entity, Filter, Rule, WordFilterLayer},
};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

const PROVIDER: &str = "127.0.0.1:8000";

/// A client of your own: a connection for each request.
#[expect(clippy::disallowed_methods, reason = "hyper's connections are tasks")]
async fn ask(request: Request<Held<Limited<Full<Bytes>>>>) -> Result<Response<Incoming>, BoxError> {
    let stream = TcpStream::connect(PROVIDER).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let mut secret = Rule::new("secret");
    secret.words.push("project x".into());
    let mut mail = Rule::new("mail");
    (mail.entities, mail.action) = (vec![Entity::Email], Action::Mask);
    let mut service = ServiceBuilder::new()
        .layer(PeekLayer::new(1 << 20))
        .layer(WordFilterLayer::new(Filter::new([secret, mail])?))
        .service(service_fn(ask));
    for text in ["I am a@b.example, who are you?", "What of Project\\u0020X?"] {
        let body =
            format!(r#"{{"model":"echo","messages":[{{"role":"user","content":"{text}"}}]}}"#);
        let request = Request::post("/v1/chat/completions").header("host", PROVIDER);
        let request = request.header("content-type", "application/json");
        match service
            .ready()
            .await?
            .call(request.body(Full::from(body))?)
            .await
        {
            Ok(answer) => println!("{:?}", answer.into_body().collect().await?.to_bytes()),
            Err(refused) => println!("{refused}"),
        }
    }
    Ok(())
}
