use std::borrow::Cow;

use http::{HeaderMap, Method};
use proptest::prelude::*;

use super::*;
use crate::dialect;

fn recognise(method: &Method, path: &str) -> Recognised {
    dialect::recognise(method, path, None, &HeaderMap::new())
}

fn is_normal(method: &Method, path: &str) -> bool {
    check(path, |path| recognise(method, path)).is_ok()
}

fn normal(path: &str) -> bool {
    is_normal(&Method::POST, path)
}

#[test]
fn what_real_clients_send_is_normal() {
    for path in [
        "/",
        "/v1/chat/completions",
        "/v1/messages/count_tokens",
        "/openai/deployments/gpt%204o/chat/completions",
        "/openai/deployments/gpt-4.1/chat/completions",
        "/openai/deployments/org%2Fname/chat/completions",
        "/openai/deployments/org/name/chat/completions",
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent",
        "/v1beta/models/org%2Fname%3Afree:generateContent",
        "/v1beta/models/a/b:c:generateContent",
        "/v1/projects/p/locations/l/publishers/anthropic/models/c@1:streamRawPredict",
        "/model/anthropic.claude-3-5-sonnet-20240620-v1%3A0/converse-stream",
        "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.m/invoke",
        "/bedrock/model/arn:aws:bedrock:eu/profile/m/invoke",
        "/my%20mount/v1/chat/completions",
        "/v1/files/report%20%C3%A9t%C3%A9.pdf",
        "/v1/files/file-ABC/content",
        "/v1/files/",
        "/v1/files/.hidden/..x/...",
        "/v1/files/100%25",
        "/v1/threads/t_1/runs/r~1",
        "/v1/(a)/b!c/$d&e='f'*g+h,i",
        "/api/chat",
        "/favicon.ico",
    ] {
        assert!(normal(path), "{path}");
    }
    for path in [
        "/v1/models/org%2Fname",
        "/v1/models/gpt-4%2E1",
        "/v1/models/Org/Name:Free",
    ] {
        assert!(is_normal(&Method::GET, path), "{path}");
    }
    for path in ["/v1/models/ft%3Agpt-4o%3Aorg%2Fx", "/v1/models/ft:gpt-4o"] {
        assert!(is_normal(&Method::DELETE, path), "{path}");
    }
}

#[test]
fn what_two_servers_would_read_differently_is_not() {
    for path in [
        // The paths that the acceptance suite knows.
        "/v1/../admin",
        "/v1/%2e%2e/admin",
        "/v1/..%2fadmin",
        "//evil/v1/chat/completions",
        "/v1\\..\\admin",
        "/v1/%00",
        "/v1/chat/completions/../../../admin",
        "/v1/%5c..%5cadmin",
        "/v1/./chat/completions/%2E./x",
        "/../v1/chat/completions",
        "/v1/..;/admin",
        "/v1/chat/completions;/../../admin",
        "/v1/chat/completions%2f..%2f..%2fadmin",
        // Segments.
        "/v1/.",
        "/v1/..",
        "/.",
        "/v1//chat/completions",
        "/v1/%2Fchat",
        "/v1/models/a%2F%2Fb",
        "/v1/models/a%2F..%2F..%2Fadmin",
        // A surface that is hidden.
        "/v1/chat%2Fcompletions",
        "/v1%2Fchat/completions",
        "/v1/chat/complet%69ons",
        "/v1/chat/completions/",
        "/v1/chat/completions%2F",
        "/v1/Chat/Completions",
        "/V1/chat/completions",
        "/v1/CHAT/completions/",
        "/v1/chat/completions;v=1",
        "/v1/chat/completions%3Bv=1",
        "/v1/chat/completions%3Fx",
        "/v1/chat/completions%23x",
        "/v1beta/models/g%3AgenerateContent",
        "/openai/deployments/d%2Fchat/completions",
        // Encoding.
        "/v1/files/%66oo",
        "/v1/files/a%2Db",
        "/v1/files/a%2Fb",
        "/v1/files/%",
        "/v1/files/%4",
        "/v1/files/%4x",
        "/v1/files/%252e%252e",
        "/v1/files/%25%32%65",
        "/v1/models/org%252Fname:generateContent",
        "/v1/files/%ff",
        "/v1/files/%c0%ae%c0%ae",
        "/v1/files/%0d%0ahost:x",
        "/v1/files/%7f",
        "/v1/files/é",
        // No path.
        "*",
        "",
        "v1/models",
        "http://evil/v1/chat/completions",
    ] {
        assert!(!normal(path), "{path}");
    }
    for path in ["/v1/models/m/", "/v1/models/m%2F", "/v1/models/"] {
        assert!(
            !is_normal(&Method::GET, path) || path == "/v1/models/",
            "{path}"
        );
    }
    assert!(!is_normal(&Method::GET, "/v1/models/"), "as the list is");
}

#[test]
fn a_refusal_says_what_to_do() {
    let told = |path: &str| {
        let refused = check(path, |path| recognise(&Method::POST, path)).unwrap_err();
        assert!(refused.closes());
        refused.message().to_owned()
    };
    assert!(told("/v1//chat/completions").contains("base URL"));
    assert!(told("/v1/chat/completions/").contains("without a slash"));
    assert!(told("/v1/files/%2561").contains("twice"));
}

/// What a provider might make of a path: it decodes what it can `times` times, takes `\` for `/`, cuts segments at `;`,
/// resolves dot segments, merges slashes.
fn lenient(path: &str, times: usize) -> String {
    let mut text = path.to_owned();
    for _ in 0..times {
        text = each_escape(&text).into_owned();
    }
    let text = text.replace('\\', "/");
    let text = text.split(['?', '#']).next().unwrap();
    let mut segments: Vec<&str> = Vec::new();
    for segment in text.split('/') {
        match segment.split(';').next().unwrap() {
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    format!("/{}", segments.join("/"))
}

/// Undoes every well-formed escape and leaves the others, as many servers do.
fn each_escape(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let escape = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let byte =
            escape.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        let signed = escape.is_some_and(|hex| hex[0] == b'+');
        match byte.filter(|_| !signed) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// What a path asks for: dialect, operation, stream, model; or that it is no surface.
fn asked(method: &Method, path: &str) -> String {
    match recognise(method, path) {
        Recognised::Surface(it) => {
            let prefix = each_escape(&path[it.prefix.clone()]).into_owned();
            let model = it.model_in(path);
            format!(
                "{} {} {:?} {model:?} {prefix}",
                it.dialect, it.operation, it.stream
            )
        }
        Recognised::Prefixed(prefix) => format!("prefixed {}", each_escape(&path[prefix])),
        Recognised::Wrong(_) | Recognised::Unknown => "nothing".to_owned(),
    }
}

fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "v1", "v1beta", "openai", "deployments", "chat", "completions", "models", "model", "messages", "api", "converse",
            "invoke", "m:generateContent", "m", "org", "files", "gpt-4.1", "a:b", "Chat", "MODELS", "projects", "p",
        ]),
        2 => prop::sample::select(vec![
            ".", "..", "", "%2e", "%2E%2e", ".%2e", "%2f", "%2F", "%5c", "\\", ";", "..;", "%3b", "%00", "%25", "%252e", "%252f",
            "%25%32%66", "%3A", "%3a", "%3F", "%23", "%20", "%c3%a9", "%ff", "%", "%4", "%6d", "%2D", "é", "%25%25", "25", "2f", "+",
        ]),
    ];
    let glued = prop_oneof![3 => Just("/"), 1 => Just("")];
    // Half of them begin as real ones do, so that what follows is in a place that matters.
    let start = prop_oneof![
        3 => Just("/"),
        1 => Just("/v1/"),
        1 => Just("/v1beta/models/m"),
        1 => Just("/openai/deployments/"),
        1 => Just("/model/"),
    ];
    let end = prop_oneof![
        4 => Just(""),
        1 => Just(":generateContent"),
        1 => Just("%3AgenerateContent"),
        1 => Just("/chat/completions"),
        1 => Just("%2fcompletions"),
        1 => Just("/converse"),
    ];
    let middle = prop::collection::vec((glued, piece), 0..7);
    (start, middle, end).prop_map(|(start, parts, end)| {
        let middle: String = parts
            .iter()
            .flat_map(|(glue, piece)| [*glue, *piece])
            .collect();
        format!("{start}{middle}{end}")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// What passes asks for the same, decoded never, once or twice, by a provider that resolves whatever it can.
    #[test]
    fn a_normal_path_means_one_thing(path in pieces(), get in any::<bool>()) {
        let method = if get { Method::GET } else { Method::POST };
        if is_normal(&method, &path) {
            let ours = asked(&method, &path);
            for times in 1..=2 {
                let theirs = lenient(&path, times);
                let read = asked(&method, &theirs);
                prop_assert_eq!(&ours, &read, "{} read as {}", path, theirs);
            }
        }
    }

    /// What passes and is no surface has the segments that it shows: each decodes to itself, or to what no segment can hold.
    #[test]
    fn a_normal_path_has_the_segments_that_it_shows(path in pieces()) {
        if normal(&path) && recognise(&Method::POST, &path) == Recognised::Unknown {
            let shown: Vec<_> = path.split('/').filter(|it| !it.is_empty()).map(each_escape).collect();
            let read = lenient(&path, 1);
            let read: Vec<_> = read.split('/').filter(|it| !it.is_empty()).collect();
            prop_assert_eq!(shown, read);
        }
    }

    /// Any text is answered without a panic, and the quick reading finds what the slow one would.
    #[test]
    fn any_path_is_answered(path in "[/.%;a-zA-Z0-9\\\\é:]{0,24}") {
        if normal(&path) {
            prop_assert!(path.starts_with('/') && segments(&path).is_ok());
            prop_assert!(!path.contains(['\\', ';', 'é']));
        }
    }
}
