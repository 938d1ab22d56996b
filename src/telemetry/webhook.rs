//! Tells somebody else's server of requests that have ended: in batches, signed, tried again, and never waited for.
//!
//! A bounded queue lies between: what does not fit is dropped and counted. One thread posts what is in it. A batch that the
//! receiver does not take is tried a few times with growing waits, then dropped and counted too.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use aws_lc_rs::hmac;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tollgate_middleware::{
    budget::Threshold,
    client::{Client, Pool},
    clock::{Clock, SystemClock},
    record::Ended,
};
use tower::ServiceExt;

use crate::{
    config::{self, Scheme},
    connect::{Connector, Io, TlsError},
};

/// Where events are put. Clones are the same queue.
#[derive(Clone, Debug)]
pub struct Hook {
    queue: mpsc::Sender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

/// Owns the thread that posts. Dropping it gives what is in the queue one try, and two seconds.
#[derive(Debug)]
pub struct Poster {
    hook: Hook,
    close: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Why a webhook cannot be served.
#[derive(Debug)]
pub enum StartError {
    /// Its certificates cannot be read.
    Tls(TlsError),
    /// Its thread cannot be made.
    Thread(io::Error),
}

/// What a batch is posted with.
struct Post {
    client: Client<Connector, Full<Bytes>, Io>,
    uri: Uri,
    key: Option<hmac::Key>,
    dropped: Arc<AtomicU64>,
}

impl Hook {
    /// Puts the line of a request that ended into the queue, if there is room.
    pub fn tell(&self, ended: Ended, line: &[u8]) {
        // A line is an object with members.
        let rest = line.strip_prefix(b"{").unwrap_or(line);
        self.put([b"{\"type\":\"", word(ended).as_bytes(), b"\",", rest].concat());
    }

    /// Puts an event into the queue, if there is room: a JSON object that begins with its type.
    pub fn put(&self, event: Vec<u8>) {
        if self.queue.try_send(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Puts the news that a share of a budget is spent into the queue, if there is room.
    pub fn threshold(&self, threshold: &Threshold) {
        let at = jiff::Timestamp::try_from(threshold.at).unwrap_or_default();
        let (budget, period) = (threshold.budget, threshold.budget.per.as_str());
        let event = serde_json::json!({
            "type": "budget.threshold",
            "time": format!("{at:.3}"),
            "caller": threshold.account,
            "percent": threshold.percent,
            "spent_usd": threshold.spent.usd(),
            "budget_usd": budget.amount.usd(),
            "period": period,
        });
        if self.queue.try_send(event.to_string().into_bytes()).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Events that were dropped: the queue was full, or the receiver did not take them.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// The type of an event.
fn word(ended: Ended) -> &'static str {
    if ended.is_failure() {
        "request.failed"
    } else {
        "request.finished"
    }
}

impl Poster {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// The system's certificates cannot be read, or the thread cannot be made.
    pub fn start(webhook: &config::Webhook) -> Result<Self, StartError> {
        let scheme = match webhook.url.scheme_str() {
            Some("https") => Scheme::Https,
            _ => Scheme::Http,
        };
        let connector = Connector::new(scheme, None).map_err(StartError::Tls)?;
        let (queue, events) = mpsc::channel(QUEUED);
        let (close, closed) = oneshot::channel();
        let hook = Hook {
            queue,
            dropped: Arc::default(),
        };
        let key = webhook
            .secret
            .as_ref()
            .map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()));
        let post = Post {
            client: Client::new(connector, webhook.url.clone(), Pool::default())
                .connect_timeout(ONE_TRY)
                .quiet(Io::is_quiet),
            uri: webhook.url.clone(),
            key,
            dropped: hook.dropped.clone(),
        };
        let built = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = built.map_err(StartError::Thread)?;
        let thread = thread::Builder::new()
            .name("webhook".into())
            .spawn(move || runtime.block_on(run(post, events, closed)))
            .map_err(StartError::Thread)?;
        Ok(Self {
            hook,
            close: Some(close),
            thread: Some(thread),
        })
    }

    /// The queue.
    pub fn hook(&self) -> &Hook {
        &self.hook
    }
}

impl Drop for Poster {
    fn drop(&mut self) {
        drop(self.close.take());
        if let Some(thread) = self.thread.take() {
            // It ends by itself, soon.
            let _ = thread.join();
        }
    }
}

async fn run(post: Post, mut events: mpsc::Receiver<Vec<u8>>, mut closed: oneshot::Receiver<()>) {
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            biased;
            _ = &mut closed => break,
            count = events.recv_many(&mut batch, BATCH) => {
                if count == 0 {
                    return;
                }
                // Others that end now go with it.
                sleep(GATHER).await;
                while batch.len() < BATCH && let Ok(event) = events.try_recv() {
                    batch.push(event);
                }
                let body = joined(&mut batch);
                tokio::select! {
                    biased;
                    () = post.deliver(&body) => {}
                    _ = &mut closed => {
                        let _ = timeout(LAST, post.once(&body)).await;
                        break;
                    }
                }
            }
        }
    }
    while let Ok(event) = events.try_recv() {
        batch.push(event);
    }
    if !batch.is_empty() {
        let body = joined(&mut batch);
        let _ = timeout(LAST, post.once(&body)).await;
    }
}

/// A batch as it is posted, and how many events are in it.
struct Batch {
    body: Bytes,
    events: u64,
}

fn joined(events: &mut Vec<Vec<u8>>) -> Batch {
    let mut body = b"{\"events\":[".to_vec();
    body.extend(events.join(&b','));
    body.extend(b"]}");
    let count = events.len() as u64;
    events.clear();
    Batch {
        body: body.into(),
        events: count,
    }
}

/// What became of a try.
enum Tried {
    Taken,
    /// It may be taken later.
    Later,
    /// It will never be.
    Refused,
}

impl Post {
    /// Tries until the batch is taken, refused, or there is no sense in it any more.
    async fn deliver(&self, batch: &Batch) {
        let mut wait = FIRST_WAIT;
        for last in (0..TRIES).rev() {
            match self.once(batch).await {
                Tried::Taken => return,
                Tried::Refused => break,
                Tried::Later if last == 0 => break,
                Tried::Later => {
                    sleep(wait).await;
                    wait *= 2;
                }
            }
        }
        self.dropped.fetch_add(batch.events, Ordering::Relaxed);
        tracing::warn!(
            events = batch.events,
            "the webhook's receiver takes no events"
        );
    }

    async fn once(&self, batch: &Batch) -> Tried {
        let Ok(answer) = timeout(ONE_TRY, self.send(batch)).await else {
            return Tried::Later;
        };
        match answer {
            Some(status) if status.is_success() => Tried::Taken,
            Some(StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS) | None => {
                Tried::Later
            }
            Some(status) if status.is_client_error() || status.is_redirection() => Tried::Refused,
            Some(_) => Tried::Later,
        }
    }

    async fn send(&self, batch: &Batch) -> Option<StatusCode> {
        let target = self
            .uri
            .path_and_query()
            .map_or("/", |target| target.as_str());
        let host = self.uri.authority()?.as_str();
        let host = host.rsplit('@').next().unwrap_or(host);
        let mut request = Request::post(target)
            .header(header::HOST, host)
            .header(header::CONTENT_TYPE, "application/json")
            .header(
                header::USER_AGENT,
                concat!("tollgate/", env!("CARGO_PKG_VERSION")),
            );
        if let Some(key) = &self.key {
            let now = SystemClock.wall().duration_since(SystemTime::UNIX_EPOCH);
            let seconds = now.unwrap_or_default().as_secs();
            request = request.header(SIGNATURE, signature(key, seconds, &batch.body));
        }
        let request = request.body(Full::new(batch.body.clone())).ok()?;
        let answer = self.client.clone().oneshot(request).await.ok()?;
        let status = answer.status();
        // Read to its end, so that the connection can serve again; of an endless one that is not wanted.
        let _ = Limited::new(answer.into_body(), ANSWER).collect().await;
        Some(status)
    }
}

/// `t=<unix seconds>,v1=<hex HMAC-SHA256 of "t.body">`.
fn signature(key: &hmac::Key, seconds: u64, body: &[u8]) -> HeaderValue {
    use std::fmt::Write as _;
    let mut context = hmac::Context::with_key(key);
    context.update(seconds.to_string().as_bytes());
    context.update(b".");
    context.update(body);
    let mut text = format!("t={seconds},v1=");
    for byte in context.sign().as_ref() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    HeaderValue::try_from(text).expect("digits, letters and punctuation are visible ASCII")
}

const SIGNATURE: &str = "tollgate-signature";
/// Events that wait.
const QUEUED: usize = 8192;
/// Events of one post.
const BATCH: usize = 100;
/// How long events gather for one post.
const GATHER: Duration = Duration::from_millis(100);
/// How often a batch is tried.
const TRIES: u32 = 6;
/// The wait after the first try; each is twice the one before.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// How long one try takes at most.
const ONE_TRY: Duration = Duration::from_secs(10);
/// What is left at the end has this long.
const LAST: Duration = Duration::from_secs(2);
/// How much of an answer is read.
const ANSWER: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, section 4.3, with what stands before the body.
    #[test]
    fn a_signature_is_that_of_the_time_and_the_body() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"Jefe");
        let want = hmac::sign(&key, b"1700000000.what do ya want for nothing?");
        let want: String = want
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let told = signature(&key, 1_700_000_000, b"what do ya want for nothing?");
        assert_eq!(told, format!("t=1700000000,v1={want}"));
        assert_eq!(want.len(), 64);
    }

    #[test]
    fn a_full_queue_drops_and_counts_and_never_waits() {
        let (queue, _events) = mpsc::channel(1);
        let hook = Hook {
            queue,
            dropped: Arc::default(),
        };
        for _ in 0..3 {
            hook.tell(Ended::Complete, b"{\"status\":200}");
        }
        assert_eq!(hook.dropped(), 2);
    }

    #[test]
    fn an_event_is_the_line_with_its_type() {
        let (queue, mut events) = mpsc::channel(4);
        let hook = Hook {
            queue,
            dropped: Arc::default(),
        };
        hook.tell(Ended::Complete, b"{\"status\":200}");
        hook.tell(Ended::UpstreamTruncated, b"{\"status\":200}");
        let mut batch = vec![events.try_recv().unwrap(), events.try_recv().unwrap()];
        let whole: serde_json::Value = serde_json::from_slice(&joined(&mut batch).body).unwrap();
        assert_eq!(
            whole,
            serde_json::json!({"events": [
                {"type": "request.finished", "status": 200},
                {"type": "request.failed", "status": 200},
            ]})
        );
    }
}
