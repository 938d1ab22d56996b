//! What reading a stream costs, an event: nothing, the judge of endings, the meter. Prints nanoseconds; asserts nothing.
//!
//! ```sh
//! cargo run --release -p tollgate-middleware --features meter,truncation --example meter_cost
//! ```

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::Empty;
use tollgate_middleware::{
    clock::{Clock, SystemClock},
    error::BoxError,
    meter::MeterLayer,
    truncation::TruncationLayer,
};
use tower::{Layer, Service, ServiceExt, service_fn};

/// Gives the same frame so many times.
struct Repeated(Bytes, usize);

impl Body for Repeated {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(left) = self.1.checked_sub(1) else {
            return Poll::Ready(None);
        };
        self.1 = left;
        Poll::Ready(Some(Ok(Frame::data(self.0.clone()))))
    }
}

const EVENTS: usize = 1_000_000;

/// Nanoseconds an event of the body behind `layer`.
async fn cost<L, B>(layer: &L, path: &str, event: &Bytes) -> Result<u128, BoxError>
where
    L: Layer<tower::util::BoxCloneService<Request<Empty<Bytes>>, Response<Repeated>, Infallible>>,
    L::Service: Service<Request<Empty<Bytes>>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes, Error = BoxError>,
{
    let event = event.clone();
    let inner = service_fn(move |_| {
        let mut response = Response::new(Repeated(event.clone(), EVENTS));
        let kind = http::HeaderValue::from_static("text/event-stream");
        response.headers_mut().insert("content-type", kind);
        std::future::ready(Ok(response))
    });
    let request = Request::post(path).body(Empty::new())?;
    let service = layer.layer(tower::util::BoxCloneService::new(inner));
    let response = service.oneshot(request).await?;
    let mut body = std::pin::pin!(response.into_body());
    let mut cx = Context::from_waker(Waker::noop());
    let start = SystemClock.now();
    while let Poll::Ready(Some(Ok(_))) = body.as_mut().poll_frame(&mut cx) {}
    Ok(start.elapsed().as_nanos() / EVENTS as u128)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    println!("nanoseconds an event     nothing  truncation  meter");
    for (name, path, event) in [
        (
            "OpenAI chat",
            "/v1/chat/completions",
            r#"data: {"id":"chatcmpl-AbCdEfGhIjKlMnOpQrStUv","object":"chat.completion.chunk","created":1720000000,"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_0123456789","choices":[{"index":0,"delta":{"content":" world"},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"aB3dE5"}"#,
        ),
        (
            "Anthropic",
            "/v1/messages",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" some words of an answer\"}}",
        ),
        (
            "OpenAI Responses",
            "/v1/responses",
            "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":42,\"item_id\":\"msg_0123456789abcdef0123456789abcdef0123456789abcdef\",\"output_index\":0,\"content_index\":0,\"delta\":\" world\",\"logprobs\":[],\"obfuscation\":\"aB3dE5fG\"}",
        ),
    ] {
        let event = Bytes::from(format!("{event}\n\n"));
        let nothing = cost(&tower::layer::util::Identity::new(), path, &event).await?;
        let judged = cost(&TruncationLayer::new(), path, &event).await?;
        let metered = cost(&MeterLayer::new(), path, &event).await?;
        println!(
            "{name:<16} {:>4} B {nothing:>10} {judged:>11} {metered:>6}",
            event.len()
        );
    }
    Ok(())
}
