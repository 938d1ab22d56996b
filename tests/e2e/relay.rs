//! The main promise: every recording passes byte for byte in both directions, however it is cut into reads.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde_json::Value;
use tollgate_testing::{
    client::{Message, request},
    recordings::{Recording, all},
    splits::{Random, Split},
    upstream::{Exchange, Framing, Script, Upstream},
};
use xxhash_rust::xxh3::xxh3_128;

use crate::harness::{Ask, CALLER, KEY, Stage, each, provider, random_split, seed};

/// Below this many recordings nothing is shown.
const LEAST: usize = 15;
/// Answers up to this size are replayed byte by byte.
const MEDIUM: usize = 64 * 1024;
/// Requests up to this size are sent in the pieces of the answer.
const SMALL: usize = 3000;
/// Seeded splits of each recording.
const RANDOM: u64 = 3;

/// Headers that speak of one connection, of coding or length, or that the client writes by itself.
const TRANSPORT: [&str; 13] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "date",
    "host",
    "keep-alive",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
];

/// One gateway before one upstream, with a provider for each way of addressing a recording.
struct Replay {
    stage: Stage,
    upstream: Upstream,
    names: BTreeMap<Way, String>,
}

/// Dialect, path of the base URL, whether the transport marks the end.
type Way = (&'static str, &'static str, bool);

fn way(recording: &'static Recording) -> Way {
    (recording.dialect, &recording.base, recording.unmarked)
}

/// The header of the credential, and how the caller's own and the provider's look in it.
fn slot(dialect: &str) -> (&'static str, &'static str) {
    match dialect {
        "anthropic" => ("x-api-key", ""),
        "gemini" => ("x-goog-api-key", ""),
        "azure" => ("api-key", ""),
        _ => ("authorization", "Bearer "),
    }
}

impl Replay {
    async fn start() -> Self {
        assert!(
            all().len() >= LEAST,
            "only {} recordings: nothing is shown by them",
            all().len()
        );
        let upstream = Upstream::start().await;
        let mut names = BTreeMap::new();
        let (mut providers, mut routes) = (String::new(), String::new());
        for way @ (dialect, base, unmarked) in all().iter().map(way) {
            let name = format!("p{}", names.len());
            if names.contains_key(&way) {
                continue;
            }
            let bearer = if slot(dialect).0 == "authorization" {
                ", auth: bearer"
            } else {
                ""
            };
            let end = if unmarked { ", end: transport" } else { "" };
            providers += &provider(&name, dialect, &upstream, base, &format!("{bearer}{end}"));
            routes += &format!(
                "  - {{ name: by-{name}, match: {{ path: \"*\", header: {{ x-to: {name} }} }}, targets: [{name}] }}\n"
            );
            names.insert(way, name);
        }
        let stage = Stage::start(&format!(
            "version: 1\nlayers: {{ breaker: off, retry: off }}\nproviders:\n{providers}routes:\n{routes}"
        ));
        Self {
            stage,
            upstream,
            names,
        }
    }

    /// Replays one recording in one framing and split, and judges all that can be seen of it.
    async fn check(&self, id: &str, recording: &'static Recording, framing: Framing, split: Split) {
        let what = format!("{} {framing:?} {split:?} ({id})", recording.name);
        let script = script(recording, framing, split.clone());
        self.upstream.serve(id, script);
        let name = &self.names[&way(recording)];
        let (slot, before) = slot(recording.dialect);
        let credential = format!("{before}{CALLER}");
        let mut headers = vec![
            (slot, credential.as_str()),
            ("x-to", name),
            ("X-MiXed", "caf\u{e9} \"q\"; a=b"),
            ("x-twice", "first"),
            ("x-twice", "second, third"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("cookie", "session=1"),
        ];
        let recorded = recording.request_headers.iter();
        headers.extend(
            recorded
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .filter(|(name, _)| !TRANSPORT.contains(name)),
        );
        let ask = Ask {
            id,
            script: id,
            method: &recording.method,
            path: &recording.asked,
            headers: &headers,
            body: &recording.request,
        };
        let answer = send(&self.stage, &ask, &split).await;
        let seen = self.upstream.seen(id);
        assert_eq!(
            seen.len(),
            1,
            "{what}: attempts; the answer was {answer:#?}"
        );
        at_the_provider(&what, recording, &seen[0], &headers);
        at_the_client(&what, recording, &answer);
        in_the_log(&what, recording, name, &self.stage.line(id).await, &answer);
    }
}

/// The recorded answer, with headers that must not pass.
fn script(recording: &Recording, framing: Framing, split: Split) -> Script {
    let mut headers: Vec<(&str, &str)> = recording
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| !TRANSPORT.contains(name))
        .collect();
    headers.extend([
        ("x-back", "1"),
        ("connection", "x-back"),
        ("keep-alive", "timeout=9"),
    ]);
    Script::new()
        .head(recording.status, &headers, framing)
        .body_in(recording.body.clone(), split)
        .end()
}

/// Sends the request in pieces of the same kind as the answer's.
async fn send(stage: &Stage, ask: &Ask<'_>, split: &Split) -> Message {
    let conn = stage.connect().await;
    conn.next(ask.method);
    let bytes = request(ask.method, ask.path, &ask.all_headers(), ask.body);
    let split = if bytes.len() <= SMALL {
        split.clone()
    } else {
        Split::Whole
    };
    for piece in split.pieces(&bytes) {
        conn.send(piece)
            .await
            .expect("the gateway reads the request");
    }
    let answer = conn.response().await;
    conn.close().await;
    answer
}

fn at_the_provider(what: &str, recording: &Recording, seen: &Exchange, sent: &[(&str, &str)]) {
    let line = format!("{} {} HTTP/1.1", recording.method, recording.arrives);
    assert_eq!(seen.start, line, "{what}");
    assert!(
        seen.body == recording.request,
        "{what}: the request body changed"
    );
    let (slot, before) = slot(recording.dialect);
    assert_eq!(
        seen.header(slot),
        Some(&*format!("{before}{KEY}")),
        "{what}"
    );
    let head = String::from_utf8_lossy(&seen.head).into_owned();
    assert!(
        !head.contains(CALLER),
        "{what}: the caller's credential went upstream: {head}"
    );
    for gone in ["x-hop", "keep-alive", "cookie", "connection"] {
        assert_eq!(seen.header(gone), None, "{what}: {gone} went upstream");
    }
    for (name, values) in by_name(sent.iter().copied()) {
        if [slot, "x-hop", "keep-alive", "cookie", "connection"].contains(&&*name) {
            continue;
        }
        // The upstream reads header bytes as Latin-1.
        let values: Vec<String> = values
            .iter()
            .map(|value| value.bytes().map(char::from).collect())
            .collect();
        let came: Vec<&str> = seen
            .headers
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(&name))
            .map(|(_, value)| value.as_str())
            .collect();
        assert_eq!(came, values, "{what}: request header {name}");
    }
}

fn at_the_client(what: &str, recording: &Recording, answer: &Message) {
    assert_eq!(answer.status(), recording.status, "{what}");
    let same = answer
        .body
        .iter()
        .zip(&recording.body)
        .take_while(|(a, b)| a == b)
        .count();
    assert!(
        answer.body == recording.body,
        "{what}: {} bytes of {}, the same up to {same}, ended {:?}",
        answer.body.len(),
        recording.body.len(),
        answer.ended
    );
    assert!(answer.whole(), "{what}: ended {:?}", answer.ended);
    for (name, values) in by_name(
        recording
            .headers
            .iter()
            .map(|(name, value)| (&**name, &**value)),
    ) {
        if !TRANSPORT.contains(&&*name) {
            assert_eq!(answer.all(&name), values, "{what}: response header {name}");
        }
    }
    assert_eq!(
        answer.header("x-back"),
        None,
        "{what}: a nominated header passed"
    );
    assert_eq!(answer.header("keep-alive"), None, "{what}");
    assert!(answer.trailers.is_empty(), "{what}");
}

fn in_the_log(what: &str, recording: &Recording, provider: &str, line: &Value, answer: &Message) {
    let digest = format!("{:032x}", xxh3_128(&recording.body));
    assert_eq!(line["digest"]["upstream"], digest, "{what}: {line}");
    assert_eq!(line["digest"]["client"], digest, "{what}: {line}");
    assert!(
        line["edited_by"].as_array().is_none_or(Vec::is_empty),
        "{what}: {line}"
    );
    let ended = line["ended"].as_str().unwrap_or_default();
    assert!(recording.ended().contains(&ended), "{what}: ended {ended}");
    assert_eq!(line["bytes_in"], recording.request.len(), "{what}");
    assert_eq!(line["bytes_out"], answer.body.len(), "{what}");
    assert_eq!(line["status"], recording.status, "{what}");
    assert_eq!(line["method"], *recording.method, "{what}");
    assert_eq!(
        line["path"],
        recording.asked.split('?').next().unwrap_or_default(),
        "{what}"
    );
    assert_eq!(line["provider"], provider, "{what}");
    assert_eq!(line["route"], format!("by-{provider}"), "{what}");
    if let Some(stream) = recording.asked_stream() {
        assert_eq!(line["stream"], stream, "{what}");
    }
    let attempts = line["attempts"].as_array().cloned().unwrap_or_default();
    assert_eq!(attempts.len(), 1, "{what}: {line}");
    assert_eq!(attempts[0]["provider"], provider, "{what}");
    assert_eq!(attempts[0]["status"], recording.status, "{what}");
    crate::metering::agrees(what, recording, line);
}

/// The values of each header in order.
fn by_name<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> HashMap<String, Vec<&'a str>> {
    let mut all = HashMap::<_, Vec<_>>::new();
    for (name, value) in headers {
        all.entry(name.to_ascii_lowercase())
            .or_default()
            .push(value);
    }
    all
}

/// The framings and splits in which a recording is replayed.
fn plans(recording: &Recording, index: usize, seed: u64) -> Vec<(Framing, Split)> {
    let usual = if recording.stream {
        Framing::Chunked
    } else {
        Framing::Length(None)
    };
    let mut plans = vec![(usual, Split::Whole)];
    let size = recording.body.len();
    // Byte by byte a larger one costs seconds and finds nothing more.
    if size <= MEDIUM {
        plans.push((Framing::Chunked, Split::Bytes(1)));
    }
    if let Some(sizes) = &recording.chunks {
        plans.push((Framing::Chunked, Split::Sizes(sizes.clone())));
    }
    let mut random = Random::new(seed ^ index as u64);
    for _ in 0..RANDOM {
        let framing = match random.below(4) {
            // Where only marks tell that a stream is complete, the close may be its end too.
            0 if recording.stream => Framing::Close,
            1 => Framing::Length(None),
            2 => usual,
            _ => Framing::Chunked,
        };
        plans.push((framing, random_split(&mut random, size)));
    }
    plans
}

#[tokio::test]
async fn every_recording_passes_byte_for_byte_however_it_is_cut() {
    let seed = seed();
    let exchanges = all().iter().enumerate().flat_map(|(index, recording)| {
        plans(recording, index, seed)
            .into_iter()
            .map(move |plan| (recording, plan))
    });
    let exchanges: Vec<_> = exchanges.collect();
    let count = exchanges.len();
    println!("{} recordings, {count} exchanges", all().len());
    assert!(count >= all().len() * 4);
    replay("relay", exchanges, 8).await;
}

#[tokio::test]
async fn many_recordings_at_once_see_only_their_own_bytes() {
    let mut random = Random::new(seed());
    let exchanges = (0..200).map(|_| {
        let recording = &all()[random.below(all().len())];
        let framing = if random.below(2) == 0 {
            Framing::Chunked
        } else {
            Framing::Length(None)
        };
        let split = random_split(&mut random, recording.body.len());
        (recording, (framing, split))
    });
    replay("many", exchanges.collect(), 32).await;
}

/// Replays all of these through one gateway, so many at a time.
async fn replay(id: &str, exchanges: Vec<(&'static Recording, (Framing, Split))>, at_once: usize) {
    let replay = Arc::new(Replay::start().await);
    let runs = exchanges
        .into_iter()
        .enumerate()
        .map(|(n, (recording, (framing, split)))| {
            let (replay, id) = (Arc::clone(&replay), format!("{id}-{n}"));
            async move { replay.check(&id, recording, framing, split).await }
        });
    each(at_once, runs).await;
    let replay = Arc::into_inner(replay).expect("the tasks are over");
    assert_eq!(replay.stage.stop().await, 0);
}
