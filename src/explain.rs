//! `explain`: which route, target and layers a request would meet, and why. Nothing is sent.

mod budget;
mod caller;
mod words;

use std::fmt::Write as _;

use http::{
    HeaderName, HeaderValue, Method, Request, Uri,
    header::{CONTENT_TYPE, ORIGIN},
};
use tollgate_middleware::{
    clock::{Clock as _, SystemClock},
    dialect::{self, Recognised, Surface},
    error::Rejection,
    facts::Route,
    health::{Board, Wallet},
    json, peek,
    route::Ask,
    token_cap::Caps,
};

use crate::{
    config::{Clock, Config, Meter, show},
    gateway,
    routing::{self, Place, Way},
};

/// The request to explain.
#[derive(Debug)]
pub struct Question {
    request: Request<Vec<u8>>,
    caller: Option<String>,
}

/// A request that cannot be read; the text says why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable(String);

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreadable {}

impl Question {
    /// A POST to `path` whose body names `model`.
    ///
    /// # Errors
    ///
    /// A path that is no request target.
    pub fn of_model(model: &str, path: &str) -> Result<Self, Unreadable> {
        let mut body = br#"{"model":"#.to_vec();
        json::escape_into(model, &mut body);
        body.push(b'}');
        Self::post(path, body)
    }

    fn post(path: &str, body: Vec<u8>) -> Result<Self, Unreadable> {
        let req = Request::post(path).header(CONTENT_TYPE, "application/json");
        let req = req.body(body);
        req.map(Self::of)
            .map_err(|_| Unreadable(format!("`{path}` is no request target")))
    }

    /// What a file holds: a whole request, as [`of_text`](Self::of_text) takes it, or a JSON object, which is the body of a
    /// POST to `path`.
    ///
    /// # Errors
    ///
    /// What of the head is not as it must be; a path that is no request target.
    pub fn of_file(text: &[u8], path: &str) -> Result<Self, Unreadable> {
        if text.trim_ascii_start().starts_with(b"{") {
            return Self::post(path, text.to_vec());
        }
        Self::of_text(text)
    }

    /// A whole HTTP/1 request: request line, headers, an empty line, the body.
    ///
    /// # Errors
    ///
    /// What of the head is not as it must be.
    pub fn of_text(text: &[u8]) -> Result<Self, Unreadable> {
        let (head, body) = split(text);
        let head =
            std::str::from_utf8(head).map_err(|_| Unreadable("the head is no text".into()))?;
        let mut lines = head.lines();
        let first = lines.next().unwrap_or_default();
        let mut words = first.split_ascii_whitespace();
        let method = words
            .next()
            .and_then(|word| Method::from_bytes(word.as_bytes()).ok());
        let uri = words.next().and_then(|word| word.parse::<Uri>().ok());
        let (Some(method), Some(uri)) = (method, uri) else {
            let told = "the first line must be as in `POST /v1/chat/completions HTTP/1.1`";
            return Err(Unreadable(told.into()));
        };
        let mut req = Request::new(body.to_vec());
        (*req.method_mut(), *req.uri_mut()) = (method, uri);
        for line in lines.filter(|line| !line.trim().is_empty()) {
            let parsed = line.split_once(':').and_then(|(name, value)| {
                let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
                Some((name, HeaderValue::from_str(value.trim()).ok()?))
            });
            let Some((name, value)) = parsed else {
                return Err(Unreadable("a line of the head is not `name: value`".into()));
            };
            req.headers_mut().append(name, value);
        }
        Ok(Self::of(req))
    }

    fn of(request: Request<Vec<u8>>) -> Self {
        Self {
            request,
            caller: None,
        }
    }

    /// The same, asked by a page of this origin.
    #[must_use]
    pub fn from_page(mut self, origin: HeaderValue) -> Self {
        self.request.headers_mut().insert(ORIGIN, origin);
        self
    }

    /// The same, asked by this caller of the configuration, whatever key the request brings.
    #[must_use]
    pub fn by(mut self, caller: impl Into<String>) -> Self {
        self.caller = Some(caller.into());
        self
    }
}

/// Head and body, at the first empty line.
fn split(text: &[u8]) -> (&[u8], &[u8]) {
    let marks: [&[u8]; 2] = [b"\r\n\r\n", b"\n\n"];
    let at = |mark: &[u8]| {
        memchr::memmem::find(text, mark).map(|at| (&text[..at], &text[at + mark.len()..]))
    };
    let found = marks
        .into_iter()
        .filter_map(at)
        .min_by_key(|(head, _)| head.len());
    found.unwrap_or((text, &[]))
}

/// What would happen to the request, as lines of text; and whether it would be served.
pub fn explain(config: &Config, question: &Question) -> (String, bool) {
    let mut out = String::new();
    let served = told(config, question, &mut out);
    if let Err(refused) = &served {
        let (layer, reason) = (refused.layer(), refused.reason());
        say(
            &mut out,
            "refused",
            format_args!("by {layer}, {reason}: {}", refused.message()),
        );
    }
    (out, served.is_ok())
}

fn say(out: &mut String, what: &str, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{what:<10}{text}");
}

fn told(config: &Config, question: &Question, out: &mut String) -> Result<(), Rejection> {
    let (req, named) = (&question.request, question.caller.as_deref());
    let (path, headers) = (req.uri().path(), req.headers());
    say(out, "request", format_args!("{} {path}", req.method()));
    let recognised = dialect::recognise(req.method(), path, req.uri().query(), headers);
    let surface = surface(&recognised, out);
    let caller = caller::admitted(config, req, named)
        .inspect_err(|_| caller::pages(config, named, headers, out))?;
    let caller = caller.as_ref();
    caller::told(config, caller, out);
    let json = crate::stack::json(&config.server.limits);
    let intent = match surface {
        Some(surface) => peek::intent(req, surface, &json)?,
        None => None,
    };
    let in_path = surface.and_then(|surface| surface.model_in(path));
    let (intent, in_path) = (intent.as_ref(), in_path.as_deref());
    let ask = Ask::of(path, headers, &recognised, intent, in_path).by(caller);
    if let Some(model) = ask.model {
        say(out, "model", format_args!("{model}"));
    }
    let table = routing::table(config);
    for (name, condition) in table.passed_over(&ask) {
        let name = name.as_deref().unwrap_or_default();
        let why = match condition {
            "targets" => "none of its targets is the provider that the model names".to_owned(),
            condition => format!("its `match.{condition}` does not hold"),
        };
        say(out, "not", format_args!("{name}: {why}"));
    }
    let chosen = table.choose(&ask)?;
    if let Some(resolved) = chosen.model.as_deref().filter(|it| Some(*it) != ask.model) {
        let why = "after aliases and provider names";
        say(out, "resolved", format_args!("{resolved}, {why}"));
    }
    match &chosen.name {
        Some(name) => say(
            out,
            "route",
            format_args!("{name}, the first whose conditions hold"),
        ),
        None => say(
            out,
            "route",
            format_args!("none is configured: the provider that lists it"),
        ),
    }
    let mut ways = routing::ways(config, &Wallet::new());
    // The implicit routes lead to one way.
    let way = ways.swap_remove(chosen.index.min(ways.len() - 1));
    let seats = way.places.iter().map(|place| {
        let board = Board::new(SystemClock.now());
        routing::seat(config, place, &board, &gateway::prices(config), ())
    });
    let balance = routing::balanced(&way, seats);
    let (model, pin) = (chosen.model.as_deref(), chosen.pin.as_deref());
    let bound = match intent {
        Some(intent) => intent.continues(),
        None => surface.is_none(),
    };
    let eligible = balance.eligible(model, pin, bound);
    if way.places.len() > 1 {
        let sticky = way.sticky.map_or("", |on| on.word());
        let sticky = if sticky.is_empty() {
            String::new()
        } else {
            format!(", the same one for the same {sticky}")
        };
        say(
            out,
            "strategy",
            format_args!("{}{sticky}", way.strategy.word()),
        );
    }
    if bound && way.places.len() > 1 {
        say(
            out,
            "",
            format_args!("it is about what a provider keeps: only the state target is asked"),
        );
    }
    for (place, eligible) in way.places.iter().zip(eligible) {
        told_target(config, place, chosen.model.as_deref(), eligible, out);
    }
    let first = way
        .places
        .iter()
        .zip(balance.eligible(model, pin, bound))
        .find(|(_, why)| why.is_ok());
    let place = first.map_or(&way.places[0], |(place, _)| place);
    place.target.takes(surface, intent)?;
    let meter = way.meter.over(config.layers.meter);
    if config.providers[place.provider].passthrough {
        say(
            out,
            "",
            format_args!("paid with the caller's own credential"),
        );
    }
    say(
        out,
        "layers",
        format_args!("record, seal, cors, respond, hygiene"),
    );
    if let Some(every) = config.layers.keepalive {
        say(out, "", format_args!("keepalive of seal: every {every:?}"));
    }
    caller::limits(config, caller, out);
    say(
        out,
        "",
        format_args!(
            "peek: {} bytes within {:?}",
            config.server.limits.body, config.server.limits.body_timeout
        ),
    );
    say(out, "", format_args!("route"));
    caller::asked(config, chosen.model.as_deref(), out);
    if way.caps != Caps::off() {
        say(out, "", format_args!("{}", show::caps(&way.caps)));
    }
    words::told(&way.filter, req, surface, intent.is_some(), out)?;
    let routed = Route {
        name: chosen.name.clone(),
        model: chosen.model.clone(),
        pin: chosen.pin.clone(),
    };
    budget::told(config, &way, req, (caller, intent, routed), out)?;
    layers(out, config, &way, place, &meter);
    Ok(())
}

/// One target, what it would be asked for, and why it would not be asked at all.
fn told_target(
    config: &Config,
    place: &Place,
    model: Option<&str>,
    eligible: Result<(), &'static str>,
    out: &mut String,
) {
    let provider = &config.providers[place.provider];
    let name = place.target.name();
    let label = place
        .target
        .label_word()
        .map_or(String::new(), |label| format!(" ({label})"));
    let weight = if place.weight == 1 {
        String::new()
    } else {
        format!(", weight {}", place.weight)
    };
    let why = eligible
        .err()
        .map_or(String::new(), |why| format!("; not asked: {why}"));
    match &provider.base_url {
        Some(url) => say(
            out,
            "target",
            format_args!("{name}{label} at {url}{weight}{why}"),
        ),
        None => say(
            out,
            "target",
            format_args!("{name}{label}, built in{weight}{why}"),
        ),
    }
    if let (Some(asked), Ok(())) = (place.target.asked_for(model), eligible) {
        say(out, "asked for", format_args!("{asked}"));
    }
}

/// The surface that a path has; says what it is.
fn surface<'a>(recognised: &'a Recognised, out: &mut String) -> Option<&'a Surface> {
    match recognised {
        Recognised::Surface(surface) => {
            let (dialect, operation) = (surface.dialect, surface.operation);
            say(
                out,
                "surface",
                format_args!("{dialect} {operation}, by its path"),
            );
            return Some(surface);
        }
        Recognised::Prefixed(_) => say(
            out,
            "surface",
            format_args!("none that is known; relayed as it is"),
        ),
        Recognised::Wrong(_) | Recognised::Unknown => say(out, "surface", format_args!("none")),
    }
    None
}

/// The layers behind the limits, in the order of the stack, with the values that hold here.
fn layers(out: &mut String, config: &Config, way: &Way, place: &Place, meter: &Meter) {
    let clocks = &place.timeout;
    let shown = |clock: Clock| match clock.limit() {
        Some(limit) => format!("{limit:?}"),
        None => "off".to_owned(),
    };
    say(
        out,
        "",
        format_args!("timeout of the whole: {}", shown(way.total)),
    );
    let retry = show::choice::retry(&way.retry);
    say(out, "", format_args!("retry: {retry}"));
    say(out, "", format_args!("balance: {}", way.strategy.word()));
    if let Some(share) = &config.providers[place.provider].concurrency {
        let share = show::targets::share(share);
        say(
            out,
            "",
            format_args!("concurrency of the provider: {share}"),
        );
    }
    let breaker = show::targets::breaker(&place.breaker);
    say(out, "", format_args!("breaker: {breaker}"));
    say(
        out,
        "",
        format_args!(
            "timeout: connect {:?}, first_byte {} streamed and {} else, first_token {}, idle {}, total {}, min_rate {}",
            clocks.connect,
            shown(clocks.first_byte_stream),
            shown(clocks.first_byte_document),
            shown(clocks.first_token),
            shown(clocks.idle),
            shown(clocks.total),
            show::speed(clocks.min_rate),
        ),
    );
    say(out, "", format_args!("truncation"));
    say(out, "", format_args!("meter: {}", show::meter(meter)));
    say(out, "", format_args!("upstream, client"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Inputs, load};

    const FILE: &str = "
version: 1
providers:
  one: { dialect: openai, base_url: http://127.0.0.1:1/v1, credentials: [], models: { public: theirs } }
  two: { dialect: anthropic, base_url: http://127.0.0.1:2, credentials: [], timeout: { idle: 7s } }
aliases: { old: public }
routes:
  - { name: first, match: { model: public }, targets: [one] }
  - { name: rest, match: { dialect: anthropic }, targets: [two] }
";

    fn answer(question: &Question) -> (String, bool) {
        let inputs = Inputs {
            env: &|_| None,
            read: &|_| Err(std::io::ErrorKind::NotFound.into()),
            listen: None,
            admin: None,
        };
        let loaded = load(FILE, "test.yaml", &inputs).unwrap();
        explain(&loaded.config, question)
    }

    #[test]
    fn a_file_with_a_body_alone_is_a_post() {
        let body = b"\n{\"model\":\"gold\"}";
        let question = Question::of_file(body, "/v1/messages").expect("a path");
        let request = &question.request;
        assert_eq!(
            (request.method(), request.uri().path()),
            (&Method::POST, "/v1/messages")
        );
        assert_eq!(request.body(), body);
        assert!(Question::of_file(b"{}", "no path").is_err());
        let whole = b"GET /v1/models HTTP/1.1\n\n{}";
        let question = Question::of_file(whole, "/").expect("a request");
        assert_eq!(question.request.method(), Method::GET);
    }

    #[test]
    fn an_alias_is_followed_to_the_provider_s_own_name() {
        let question = Question::of_model("old", "/v1/chat/completions").unwrap();
        let (text, served) = answer(&question);
        assert!(served, "{text}");
        for part in [
            "openai chat",
            "public, after aliases",
            "first, the first",
            "asked for theirs",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn a_whole_request_is_read_and_the_provider_s_clock_holds() {
        let text =
            b"POST /v1/messages HTTP/1.1\r\nhost: x\r\n\r\n{\"model\":\"claude\",\"stream\":true}";
        let (text, served) = answer(&Question::of_text(text).unwrap());
        assert!(served, "{text}");
        assert!(
            text.contains("anthropic messages") && text.contains("idle 7s"),
            "{text}"
        );
    }

    /// The same for callers, of whom one has a key and one a hash.
    fn called(question: &Question) -> (String, bool) {
        let file = "
providers: { m: { dialect: mock, credentials: [] }, own: { dialect: openai, base_url: http://127.0.0.1:1/v1, credentials: passthrough } }
callers:
  team: { key: sk-of-the-team-0123456789, models: [\"x*\"], requests: { rate: 60/min, burst: 7 }, concurrency: 3, priority: 4,
          surfaces: [chat], allow_from: [10.0.0.0/8] }
  ops: { hash: \"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\" }
  gone: { key: sk-of-somebody-0123456789, disabled: true }
routes:
  - { name: ops, match: { caller: ops }, targets: [own] }
  - { name: rest, match: {}, targets: [m] }
layers: { rate_limit: { per_ip: 9/s, global: 8/s, per_model: { \"x*\": 5/s, y: 6/s } }, token_cap: { max_tokens: 11 } }
";
        let inputs = Inputs {
            env: &|_| None,
            read: &|_| Err(std::io::ErrorKind::NotFound.into()),
            listen: None,
            admin: None,
        };
        let loaded = load(file, "test.yaml", &inputs).unwrap();
        explain(&loaded.config, question)
    }

    #[test]
    fn what_holds_for_a_caller_is_told() {
        let asks = |model: &str| Question::of_model(model, "/v1/chat/completions").unwrap();
        let (text, served) = called(&asks("x1").by("team"));
        assert!(served, "{text}");
        for part in [
            "team\n",
            "from 10.0.0.0/8 only",
            "may use x*",
            "rest, the first",
            "by address: { rate: 9/s, burst: 9 }",
            "by caller: { rate: 60/min, burst: 7 }",
            "in all: { rate: 8/s",
            "concurrency: 3 of the caller's, 10000 in all, 1000 wait for 2s at most, of class 4",
            "by model x*: { rate: 5/s",
            "max_tokens: 11",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(!text.contains("by model y"), "{text}");
        let (text, served) = called(&asks("x1").by("ops"));
        assert!(served && text.contains("ops, the first"), "{text}");
        assert!(text.contains("the caller's own credential"), "{text}");
    }

    /// A caller of some pages only is asked for one, and let in from there.
    #[test]
    fn a_caller_with_origins_is_explained_for_a_page() {
        let file = "
providers: { m: { dialect: mock, credentials: [] } }
callers: { web: { key: the-key-of-some-pages, origins: [\"https://*.example.com\"] } }
";
        let inputs = Inputs {
            env: &|_| None,
            read: &|_| Err(std::io::ErrorKind::NotFound.into()),
            listen: None,
            admin: None,
        };
        let config = load(file, "test.yaml", &inputs).unwrap().config;
        let asks = || {
            let question = Question::of_model("m", "/v1/chat/completions").unwrap();
            question.by("web")
        };
        let from = |origin| asks().from_page(HeaderValue::from_static(origin));
        let (text, served) = explain(&config, &asks());
        assert!(!served, "{text}");
        let told = "from pages of https://*.example.com only; --origin says which one asks";
        assert!(text.contains(told), "{text}");
        let (text, served) = explain(&config, &from("https://a.example.com"));
        assert!(served, "{text}");
        let (text, served) = explain(&config, &from("https://example.org"));
        assert!(!served && text.contains("pages of"), "{text}");
        assert!(!text.contains("--origin"), "{text}");
    }

    /// The word filter says what it would find, where, and what would come of it.
    #[test]
    fn what_the_word_filter_finds_is_told_with_its_place() {
        let file = "
providers: { m: { dialect: mock, credentials: [] } }
routes:
  - { name: free, match: { model: free }, targets: [m], layers: { word_filter: off } }
  - { name: rest, match: {}, targets: [m] }
layers: { word_filter: { words: [forbidden], apply_to: [request], rules: [{ id: mail, entities: [email], action: mask }] } }
";
        let inputs = Inputs {
            env: &|_| None,
            read: &|_| Err(std::io::ErrorKind::NotFound.into()),
            listen: None,
            admin: None,
        };
        let loaded = load(file, "test.yaml", &inputs).unwrap();
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
        let told = |model: &str, text: &str| {
            let body = format!(
                r#"{{"model":"{model}","messages":[{{"role":"system","content":"ok"}},{{"role":"user","content":[{{"type":"text","text":"{text}"}}]}}]}}"#
            );
            let question = Question::of_file(body.as_bytes(), "/v1/chat/completions").unwrap();
            explain(&loaded.config, &question)
        };
        let (text, served) = told("m", "a@b.example and c@d.example");
        assert!(served, "{text}");
        for part in [
            "word_filter: of requests default (reject), mail (mask); of answers mail (mask)",
            "mail (mask) finds something in messages[1].content[0].text, 2 times",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        let (text, served) = told("m", "so Forbidden");
        assert!(
            !served && text.contains("by word_filter, content_blocked"),
            "{text}"
        );
        assert!(
            text.contains(
                "default (reject) finds something in messages[1].content[0].text, 1 time\n"
            ),
            "{text}"
        );
        let (text, served) = told("m", "clean");
        assert!(
            served && text.contains("nothing is found in 2 texts"),
            "{text}"
        );
        let (text, served) = told("free", "forbidden");
        assert!(served && !text.contains("word_filter:"), "{text}");
        let coded =
            b"POST /v1/chat/completions HTTP/1.1\nhost: x\ncontent-encoding: gzip\n\n\x1f\x8b";
        let (text, served) = explain(&loaded.config, &Question::of_text(coded).unwrap());
        assert!(
            !served && text.contains("by word_filter, unsupported"),
            "{text}"
        );
    }

    #[test]
    fn a_caller_is_refused_as_it_would_be() {
        let chat = |model: &str| Question::of_model(model, "/v1/chat/completions").unwrap();
        let embeddings = Question::of_model("x1", "/v1/embeddings").unwrap();
        let with = |key: &str| {
            let text = format!(
                "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{key}\r\n{{\"model\":\"x1\"}}"
            );
            Question::of_text(text.as_bytes()).unwrap()
        };
        for (question, words) in [
            (chat("y1").by("team"), "by route, model_not_found"),
            (embeddings.by("team"), "by auth, forbidden"),
            (chat("x1").by("gone"), "by auth, invalid_api_key"),
            (chat("x1"), "by auth, invalid_api_key"),
            (with(""), "by auth, invalid_api_key"),
            (
                with("x-api-key: abc\r\nauthorization: Bearer abcd\r\n"),
                "by auth, malformed",
            ),
        ] {
            let (text, served) = called(&question);
            assert!(!served && text.contains(words), "{words} is not in {text}");
        }
        // A request's own key says who it is.
        let (text, served) = called(&with("authorization: Bearer abc\r\n"));
        assert!(served && text.contains("ops\n"), "{text}");
    }

    #[test]
    fn a_refusal_says_by_whom_and_why() {
        let question = Question::of_model("nobody-s", "/v1/chat/completions").unwrap();
        let (text, served) = answer(&question);
        assert!(
            !served && text.contains("by route, model_not_found"),
            "{text}"
        );
    }
}
