//! What a scripted upstream does with one request, step by step.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use tokio::sync::{Semaphore, watch};

use crate::{splits::Split, upstream::Exchange};

/// What a response head announces about its body, and so how `Body` steps are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `transfer-encoding: chunked`: each piece is one chunk.
    Chunked,
    /// `connection: close`: the end of the stream is the end of the body.
    Close,
    /// `content-length`: the given number, or with `None` the sum of the `Body` steps of the script.
    Length(Option<u64>),
    /// Nothing is announced.
    None,
}

/// One thing the upstream does.
#[derive(Clone, Debug)]
pub enum Step {
    /// Body bytes, written piece by piece in the framing of the last head.
    Body {
        /// The bytes without framing.
        bytes: Bytes,
        /// Where they are cut.
        split: Split,
    },
    /// The proper end of the response: the last chunk where chunked. Keeps the connection where the framing allows it.
    End,
    /// Closes the connection in an orderly way, wherever the response stands; behind TLS with a close notify.
    /// Where request bytes are left unread the kernel adds a reset, as it does for any server.
    Fin,
    /// A response head.
    Head {
        /// Status code; any number.
        status: u16,
        /// Headers in order, written as they are.
        headers: Vec<(String, String)>,
        /// The framing header added behind them.
        framing: Framing,
    },
    /// Any bytes, written as they are.
    Raw(Bytes),
    /// Resets the connection.
    Rst,
    /// Waits on tokio's clock, or until the peer goes.
    Sleep(Duration),
    /// Does nothing until the peer goes.
    Stall,
    /// Waits until the test opens the gate, or until the peer goes.
    Wait(Gate),
}

/// How much of the request is read before and while a script runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reads {
    /// The script starts at the head; the body is read beside it.
    Beside,
    /// The script starts at the head and nothing more is read, so that the peer's writes come to a halt.
    /// That the peer went is then seen only when a write fails.
    Head,
    /// The script starts when the request is whole.
    #[default]
    Whole,
}

/// The steps for one request. A script that comes to its end without `End` closes the connection.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub(crate) steps: Vec<Step>,
    pub(crate) reads: Reads,
}

/// Which script answers a request.
#[derive(Clone)]
pub enum Plan {
    /// The same for each request.
    Always(Script),
    /// One per attempt of the same test id; the last one repeats.
    Attempts(Vec<Script>),
    /// Chosen by looking at the request, whose body is not read yet.
    By(Arc<dyn Fn(&Exchange) -> Script + Send + Sync>),
}

/// A point where scripts halt until the test lets them pass. Clones are the same gate.
#[derive(Clone)]
pub struct Gate(Arc<GateState>);

struct GateState {
    name: String,
    permits: Semaphore,
    arrived: watch::Sender<usize>,
}

// ===== impl Script =====

impl Script {
    /// A script without steps: closes the connection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A whole response with a length.
    #[must_use]
    pub fn answer(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self::new()
            .head(
                status,
                &[("content-type", content_type)],
                Framing::Length(None),
            )
            .body(body)
            .end()
    }

    /// A whole 200 response with a JSON document.
    #[must_use]
    pub fn json(document: &serde_json::Value) -> Self {
        Self::answer(200, "application/json", document.to_string())
    }

    /// A chat completion in OpenAI's shape that says `text` and reports 7 prompt and 5 completion tokens.
    #[must_use]
    pub fn chat(text: &str) -> Self {
        Self::json(&serde_json::json!({
            "id": "chatcmpl-test", "object": "chat.completion", "created": 1, "model": "test-model",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
        }))
    }

    /// A chunked event stream, each event in a write of its own and without an end: add `.end()` or a fault.
    #[must_use]
    pub fn events<E: Into<Bytes>>(events: impl IntoIterator<Item = E>) -> Self {
        let script = Self::new().head(
            200,
            &[("content-type", "text/event-stream")],
            Framing::Chunked,
        );
        events.into_iter().fold(script, Self::body)
    }

    /// Adds a response head.
    #[must_use]
    pub fn head(self, status: u16, headers: &[(&str, &str)], framing: Framing) -> Self {
        let headers = headers
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        self.step(Step::Head {
            status,
            headers,
            framing,
        })
    }

    /// Adds body bytes in one piece.
    #[must_use]
    pub fn body(self, bytes: impl Into<Bytes>) -> Self {
        self.body_in(bytes, Split::Whole)
    }

    /// Adds body bytes cut into pieces.
    #[must_use]
    pub fn body_in(self, bytes: impl Into<Bytes>, split: Split) -> Self {
        self.step(Step::Body {
            bytes: bytes.into(),
            split,
        })
    }

    /// Adds bytes written as they are.
    #[must_use]
    pub fn raw(self, bytes: impl Into<Bytes>) -> Self {
        self.step(Step::Raw(bytes.into()))
    }

    /// Adds a wait on tokio's clock.
    #[must_use]
    pub fn sleep(self, time: Duration) -> Self {
        self.step(Step::Sleep(time))
    }

    /// Adds a wait for the test.
    #[must_use]
    pub fn wait(self, gate: &Gate) -> Self {
        self.step(Step::Wait(gate.clone()))
    }

    /// Adds a wait for the peer to go.
    #[must_use]
    pub fn stall(self) -> Self {
        self.step(Step::Stall)
    }

    /// Adds an orderly close.
    #[must_use]
    pub fn fin(self) -> Self {
        self.step(Step::Fin)
    }

    /// Adds a reset.
    #[must_use]
    pub fn rst(self) -> Self {
        self.step(Step::Rst)
    }

    /// Adds the proper end of the response.
    #[must_use]
    pub fn end(self) -> Self {
        self.step(Step::End)
    }

    /// Adds a step.
    #[must_use]
    pub fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Sets how the request is read; whole by default.
    #[must_use]
    pub fn reads(mut self, reads: Reads) -> Self {
        self.reads = reads;
        self
    }

    pub(crate) fn body_len(&self) -> u64 {
        let lengths = self.steps.iter().map(|step| match step {
            Step::Body { bytes, .. } => bytes.len() as u64,
            _ => 0,
        });
        lengths.sum()
    }
}

impl From<Vec<Step>> for Script {
    fn from(steps: Vec<Step>) -> Self {
        Self {
            steps,
            reads: Reads::default(),
        }
    }
}

/// The bytes of a response head; `len` is the body length that `Framing::Length(None)` announces.
pub(crate) fn head(
    status: u16,
    headers: &[(String, String)],
    framing: Framing,
    len: u64,
) -> Vec<u8> {
    let reason = StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("X");
    let mut head = format!("HTTP/1.1 {status} {reason}\r\n");
    for (name, value) in headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    match framing {
        Framing::Chunked => head.push_str("transfer-encoding: chunked\r\n"),
        Framing::Close => head.push_str("connection: close\r\n"),
        Framing::Length(given) => {
            head.push_str(&format!("content-length: {}\r\n", given.unwrap_or(len)));
        }
        Framing::None => {}
    }
    head.push_str("\r\n");
    head.into_bytes()
}

// ===== impl Plan =====

impl Plan {
    /// A plan that looks at the request.
    pub fn by(choose: impl Fn(&Exchange) -> Script + Send + Sync + 'static) -> Self {
        Self::By(Arc::new(choose))
    }

    pub(crate) fn script(&self, exchange: &Exchange) -> Script {
        match self {
            Self::Always(script) => script.clone(),
            Self::Attempts(scripts) => scripts
                .get(exchange.attempt)
                .or_else(|| scripts.last())
                .cloned()
                .unwrap_or_default(),
            Self::By(choose) => choose(exchange),
        }
    }
}

impl From<Script> for Plan {
    fn from(script: Script) -> Self {
        Self::Always(script)
    }
}

impl From<Vec<Script>> for Plan {
    fn from(scripts: Vec<Script>) -> Self {
        Self::Attempts(scripts)
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always(script) => f.debug_tuple("Always").field(script).finish(),
            Self::Attempts(scripts) => f.debug_tuple("Attempts").field(scripts).finish(),
            Self::By(_) => f.write_str("By"),
        }
    }
}

// ===== impl Gate =====

impl Gate {
    /// A closed gate; the name is shown when waiting for it fails.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let state = GateState {
            name: name.to_owned(),
            permits: Semaphore::new(0),
            arrived: watch::Sender::new(0),
        };
        Self(Arc::new(state))
    }

    /// Lets one script pass, now or when it comes.
    pub fn open(&self) {
        self.0.permits.add_permits(1);
    }

    /// Lets every script pass from now on.
    pub fn open_for_all(&self) {
        self.0.permits.close();
    }

    /// Waits until `count` scripts in all have come to the gate.
    ///
    /// # Panics
    /// When they do not come within [`crate::DEADLINE`].
    pub async fn reached(&self, count: usize) {
        let mut arrived = self.0.arrived.subscribe();
        let came = arrived.wait_for(|&here| here >= count);
        assert!(
            tokio::time::timeout(crate::DEADLINE, came).await.is_ok(),
            "gate {:?} was not reached {count} times",
            self.0.name
        );
    }

    pub(crate) async fn pass(&self) {
        self.0.arrived.send_modify(|here| *here += 1);
        // An error says that the gate stands open for all.
        if let Ok(permit) = self.0.permits.acquire().await {
            permit.forget();
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gate").field(&self.0.name).finish()
    }
}
