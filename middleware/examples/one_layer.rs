//! One layer in a service of your own: `peek` reads a body once, refuses what is ambiguous, and says what is asked for.
//!
//! ```sh
//! cargo run -p tollgate-middleware --features peek --example one_layer
//! ```

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tollgate_middleware::{
    body::Held,
    error::{BoxError, Rejection},
    facts::Intent,
    peek::{Limited, PeekLayer},
};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

/// Your service: it finds the fact in the request's extensions, and the body as it came.
async fn answer(req: Request<Held<Limited<Full<Bytes>>>>) -> Result<Response<String>, BoxError> {
    let told = match req.extensions().get::<Intent>() {
        Some(intent) => format!("{:?}, streamed: {}", intent.model(), intent.stream()),
        None => "nothing that can be read".to_owned(),
    };
    Ok(Response::new(told))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let mut service = ServiceBuilder::new()
        .layer(PeekLayer::new(1 << 20))
        .service(service_fn(answer));
    for body in [
        r#"{"model":"echo","stream":true,"messages":[]}"#,
        r#"{"model":"echo","mod\u0065l":"another","messages":[]}"#,
    ] {
        let request = Request::post("/v1/chat/completions").body(Full::from(body))?;
        match service.ready().await?.call(request).await {
            Ok(response) => println!("asked for {}", response.body()),
            // Your edge decides what a refusal looks like; `respond` is one that exists.
            Err(error) => match Rejection::find(&*error) {
                Some(why) => println!("{}: {}", why.reason(), why.message()),
                None => return Err(error),
            },
        }
    }
    Ok(())
}
