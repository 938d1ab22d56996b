//! The command line as a user sees it: what each command prints, where it looks, how it ends.

mod calls;
mod check;
mod commands;
mod descriptors;
mod drain;
mod ends;
mod secrets;

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
};

use tempfile::tempdir;
use tokio::time::Instant;
use tollgate_testing::{
    client::{call, head, request},
    needs,
    upstream::Upstream,
};

use crate::binary::{CHAT, Program, chat, over_unix, serve, shown, tollgate};

/// The mock provider for every model.
pub(crate) const MOCK: &str = "version: 1
providers: { mock: { dialect: mock } }
routes: [{ name: all, match: {}, targets: [mock] }]
";

/// Two routes, of which neither takes a model named `other`.
const ROUTES: &str = "version: 1
providers:
  one: { dialect: openai, base_url: http://127.0.0.1:1/v1, credentials: [], models: [small] }
  two: { dialect: anthropic, base_url: http://127.0.0.1:2, credentials: [], models: [large] }
routes:
  - { name: first, match: { model: small }, targets: [one] }
  - { name: second, match: { model: large }, targets: [two] }
";

#[tokio::test]
async fn the_version_is_told() {
    let ended = tollgate(["version"]).run().await;
    assert_eq!(ended.code, Some(0));
    assert_eq!(
        ended.out,
        format!(
            "tollgate {} (without tokenizer)\n",
            env!("CARGO_PKG_VERSION")
        )
    );
    let ended = tollgate(["--version"]).run().await;
    assert_eq!(
        (ended.code, ended.out.contains(env!("CARGO_PKG_VERSION"))),
        (Some(0), true)
    );
}

/// As in a container with processors of its own: the allocator, too, has nothing to say of it, and finds its way.
#[tokio::test]
async fn on_one_processor_of_many_it_runs_as_on_all() {
    if !needs::command("taskset") {
        return;
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let allowed = status
        .lines()
        .find(|it| it.starts_with("Cpus_allowed_list"));
    // `0-3,8`
    let mut numbers = allowed.unwrap().rsplit(|char: char| !char.is_ascii_digit());
    let last = numbers.find(|number| !number.is_empty());
    let folder = tempdir().unwrap();
    let config = folder.path().join("tollgate.yaml");
    fs::write(&config, MOCK).unwrap();
    let program = serve(&config)
        .pinned(last.unwrap().parse().unwrap())
        .start();
    let data = program.data().await;
    let answer = call(data, "POST", CHAT, &[], chat("echo", false)).await;
    assert_eq!(answer.status(), 200);
    let ended = program.terminate().await;
    assert!(!ended.err.contains("jemalloc"), "{ended:?}");
    assert_eq!(ended.code, Some(0));
}

#[tokio::test]
async fn bad_usage_exits_2_and_says_how_it_is_done() {
    for args in [
        &[][..],
        &["nonsense"],
        &["serve", "--no-such-flag"],
        &["demo", "--listen", "8080"],
        &["mock"],
        &["explain"],
        &["explain", "--model", "a", "--request", "b"],
        &["check", "--format", "xml"],
        &["key"],
    ] {
        let ended = tollgate(args.iter().copied()).run().await;
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        assert!(
            ended.out.is_empty() && (ended.err.contains("Usage") || ended.err.contains("--help")),
            "{args:?}: {ended:?}"
        );
    }
}

#[tokio::test]
async fn serve_with_nothing_to_serve_names_what_would_do() {
    let ended = tollgate(["serve"]).on_any_ports().run().await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    for way in [
        "tollgate demo",
        "--config",
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
    ] {
        assert!(ended.err.contains(way), "{way}: {}", ended.err);
    }
    assert_eq!(tollgate(["check"]).run().await.code, Some(2));
}

#[tokio::test]
async fn a_new_key_has_the_hash_that_hashing_gives() {
    let made = tollgate(["key", "new"]).run().await;
    assert_eq!(made.code, Some(0));
    let part = |name: &str| {
        let line = made.out.lines().find_map(|line| line.strip_prefix(name));
        line.expect(name).to_owned()
    };
    let (key, hash) = (part("key: "), part("hash: "));
    assert!(key.starts_with("tg-") && key.len() > 40 && hash.starts_with("sha256:"));
    for line_end in ["", "\n", "\r\n"] {
        let input = format!("{key}{line_end}");
        let hashed = tollgate(["key", "hash"]).input(&input).run().await;
        assert_eq!((hashed.code, hashed.out), (Some(0), format!("{hash}\n")));
    }
    assert_ne!(tollgate(["key", "new"]).run().await.out, made.out);
    let nothing = tollgate(["key", "hash"]).run().await;
    assert_eq!((nothing.code, nothing.out.as_str()), (Some(1), ""));
}

/// C10: a key is told whole when it is made, and never again: not when it comes into force, nor when another one takes its
/// place, nor when its caller is gone.
#[tokio::test]
async fn a_key_is_told_once() {
    let key = async || {
        let made = tollgate(["key", "new"]).run().await.out;
        let key = made.lines().find_map(|line| line.strip_prefix("key: "));
        key.expect("a key").to_owned()
    };
    let (first, second) = (key().await, key().await);
    let folder = tempdir().unwrap();
    let path = folder.path().join("tollgate.yaml");
    let of = |callers: &str| {
        format!("providers: {{ m: {{ dialect: mock }} }}\ncallers: {{ {callers} }}\n")
    };
    fs::write(
        &path,
        of(&format!("a: {{ key: {first} }}, b: {{ key: {second} }}")),
    )
    .unwrap();
    let program = serve(&path).env("TOLLGATE_LOG", "trace").start();
    let (data, admin) = (program.data().await, program.admin().await);
    let mut told = String::new();
    for callers in [
        format!("a: {{ key: {second} }}"),
        format!("b: {{ key: {first} }}"),
    ] {
        for key in [&first, &second] {
            let bearer = format!("Bearer {key}");
            let answer = call(
                data,
                "POST",
                CHAT,
                &[("authorization", &bearer)],
                &chat("echo", false),
            )
            .await;
            assert!(matches!(answer.status(), 200 | 401), "{}", answer.text());
            told += &shown(&answer);
        }
        for page in ["/config", "/metrics"] {
            told += &call(admin, "GET", page, &[], "").await.text();
        }
        fs::write(&path, of(&callers)).unwrap();
        told += &call(admin, "POST", "/reload", &[], "").await.text();
    }
    let ended = program.terminate().await;
    told += &(ended.out + &ended.err);
    assert!(told.contains("callers"), "{told}");
    for key in [first, second] {
        let secret = &key[3..];
        // Half of it is too much, too.
        let (front, back) = secret.split_at(secret.len() / 2);
        assert!(!told.contains(front) && !told.contains(back), "{told}");
    }
}

#[tokio::test]
async fn explain_says_where_a_request_would_go() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("tollgate.yaml"), ROUTES).unwrap();
    let explain = async |args: &[&str]| {
        let args = ["explain"].into_iter().chain(args.iter().copied());
        tollgate(args).within(folder.path()).run().await
    };

    let model = explain(&["--model", "small"]).await;
    assert_eq!(model.code, Some(0), "{model:?}");
    for part in [
        "openai chat",
        "first",
        "one at http://127.0.0.1:1/v1",
        "truncation",
    ] {
        assert!(model.out.contains(part), "{part}: {}", model.out);
    }

    let text = request(
        "POST",
        "/v1/messages",
        &[],
        r#"{"model":"large","stream":true}"#,
    );
    fs::write(folder.path().join("request.http"), text).unwrap();
    let whole = explain(&["--request", "request.http"]).await;
    assert_eq!(whole.code, Some(0), "{whole:?}");
    for part in ["anthropic messages", "second", "two at http://127.0.0.1:2"] {
        assert!(whole.out.contains(part), "{part}: {}", whole.out);
    }

    let unserved = explain(&["--model", "other"]).await;
    assert_eq!(unserved.code, Some(1), "{unserved:?}");
    assert!(unserved.out.contains("refused") && unserved.out.contains("model_not_found"));
    let missing = explain(&["--request", "missing.http"]).await;
    assert_eq!(
        (missing.code, missing.err.contains("missing.http")),
        (Some(1), true)
    );
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_the_flag_that_chooses_another() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let free = "127.0.0.1:0";
    for (listen, admin, flag) in [(&*address, free, "--listen"), (free, &*address, "--admin")] {
        let ended = tollgate(["demo", "--listen", listen, "--admin", admin])
            .run()
            .await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{ended:?}");
        assert!(
            ended.err.contains(&address) && ended.err.contains(flag),
            "{}",
            ended.err
        );
    }
    let mock = tollgate(["mock", "--listen", &address]).run().await;
    assert_eq!(
        (mock.code, mock.err.contains(&address)),
        (Some(1), true),
        "{mock:?}"
    );
}

#[tokio::test]
async fn the_variables_of_the_sdks_are_a_configuration() {
    let upstream = Upstream::start().await;
    let url = format!("http://{}/v1", upstream.addr());
    let program = tollgate(["serve"])
        .on_any_ports()
        .env("OPENAI_API_KEY", "sk-the-key-of-the-environment")
        .env("OPENAI_BASE_URL", &url)
        .start();
    let answer = call(
        program.data().await,
        "POST",
        CHAT,
        &[("authorization", "Bearer the-caller-s-own")],
        chat("gpt-x", false),
    )
    .await;
    assert_eq!(answer.status(), 200, "{}", answer.text());

    let seen = upstream.finished("", 1).await;
    assert_eq!(seen.target(), "/v1/chat/completions");
    assert_eq!(
        seen.header("authorization"),
        Some("Bearer sk-the-key-of-the-environment")
    );
    let ended = program.terminate().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended
            .err
            .contains("provider openai from OPENAI_API_KEY, OPENAI_BASE_URL"),
        "{ended:?}"
    );
    assert!(!format!("{ended:?}").contains("sk-the-key"), "{ended:?}");
}

#[tokio::test]
async fn the_file_is_found_where_the_documentation_says() {
    let folder = tempdir().unwrap();
    let named = |name: &str| MOCK.replace("name: all", &format!("name: {name}"));
    let put = |path: &str, name: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, named(name)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (flag, variable) = (
        put("flag.yaml", "by-flag"),
        put("variable.yaml", "by-variable"),
    );
    put("home/.config/tollgate/tollgate.yaml", "by-home");
    put("work/tollgate.yaml", "by-folder");
    let home = folder.path().join("home").to_str().unwrap().to_owned();
    let check = || tollgate(["check"]).env("HOME", &home);
    let work = folder.path().join("work");

    let tries = [
        ("by-home", check()),
        ("by-folder", check().within(&work)),
        (
            "by-variable",
            check().within(&work).env("TOLLGATE_CONFIG", &variable),
        ),
        (
            "by-flag",
            check()
                .within(&work)
                .env("TOLLGATE_CONFIG", &variable)
                .arg("--config")
                .arg(&flag),
        ),
    ];
    for (name, start) in tries {
        let ended = start.run().await;
        assert_eq!(ended.code, Some(0), "{name}: {ended:?}");
        assert!(
            ended.out.contains(&format!("route {name}:")),
            "{name}: {}",
            ended.out
        );
    }

    let serving = tollgate(["serve"]).on_any_ports().within(&work).start();
    let answer = call(serving.data().await, "POST", CHAT, &[], chat("echo", false)).await;
    assert_eq!(answer.status(), 200);
    assert!(
        serving.said().err.contains("tollgate.yaml"),
        "{:?}",
        serving.said()
    );
}

#[tokio::test]
async fn the_demo_shows_a_chat_its_log_line_and_a_command_and_then_serves() {
    let program = tollgate(["demo"]).on_any_ports().start();
    let [data, admin] = program.shown().await;
    let told = program
        .until(|said| said.out.contains("curl -N ").then(|| said.out.clone()))
        .await;
    let mut rest = told.as_str();
    for part in [
        "POST /v1/chat/completions",
        "HTTP/1.1 200",
        "data: {",
        "data: [DONE]",
        "{\"time\":",
        "\"route\":\"demo\"",
        "\"ended\":\"complete\"",
        "curl -N ",
    ] {
        let (_, behind) = rest
            .split_once(part)
            .unwrap_or_else(|| panic!("{part}: {told}"));
        rest = behind;
    }
    assert!(
        rest.starts_with(&format!("{data}/v1/chat/completions -d '{{")),
        "{rest}"
    );

    let answer = call(data, "POST", CHAT, &[], chat("echo", true)).await;
    assert!(
        answer.whole() && answer.text().contains("hello"),
        "{}",
        shown(&answer)
    );
    assert_eq!(call(admin, "GET", "/readyz", &[], "").await.status(), 200);
    // The second line: the demo's own chat was the first.
    program
        .until(|said| (said.out.matches("{\"time\":").count() == 2).then_some(()))
        .await;
}

#[tokio::test]
async fn the_command_of_the_demo_can_be_pasted() {
    if !needs::command("curl") {
        return;
    }
    let program = tollgate(["demo"]).on_any_ports().start();
    let command = program
        .until(|said| {
            let (_, rest) = said.out.split_once("curl -N ")?;
            Some(format!("curl -sN {}", rest.split_once('\n')?.0))
        })
        .await;
    let pasted = std::process::Command::new("sh")
        .args(["-c", &command])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&pasted.stdout);
    assert!(
        pasted.status.success() && text.ends_with("data: [DONE]\n\n"),
        "{pasted:?}"
    );
}

#[tokio::test]
async fn a_quiet_demo_prints_its_log_and_nothing_else() {
    let folder = tempdir().unwrap();
    let (program, data) = quiet_demo(folder.path());
    for _ in 0..2 {
        let answer = over_unix(&data, &request("POST", CHAT, &[], chat("echo", true))).await;
        assert!(answer.whole(), "{}", shown(&answer));
    }
    let ended = program.terminate().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines: Vec<serde_json::Value> = ended
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect();
    assert_eq!(lines.len(), 2, "{}", ended.out);
    assert!(lines.iter().all(|line| line["ended"] == "complete"));
}

/// What `curl -d` and scripts without any library send.
#[tokio::test]
async fn a_request_needs_no_content_type_and_no_key() {
    let folder = tempdir().unwrap();
    let (_program, data) = quiet_demo(folder.path());
    for headers in [
        &[][..],
        &[
            ("content-type", "application/x-www-form-urlencoded"),
            ("accept", "*/*"),
        ],
    ] {
        for stream in [false, true] {
            let bytes = request("POST", CHAT, headers, chat("echo", stream));
            let answer = over_unix(&data, &bytes).await;
            assert_eq!(answer.status(), 200, "{headers:?}: {}", answer.text());
            assert!(
                answer.whole() && answer.text().contains("hello"),
                "{}",
                shown(&answer)
            );
        }
    }
}

#[tokio::test]
async fn the_first_event_comes_soon_after_the_start() {
    let folder = tempdir().unwrap();
    let began = Instant::now();
    let (_program, data) = quiet_demo(folder.path());
    let answer = over_unix(&data, &request("POST", CHAT, &[], chat("slow", true))).await;
    let first = answer.grown.iter().find(|(_, length)| *length > 0);
    let took = first.expect("an event").0 - began;
    println!("start to the first byte of an answer: {took:?}");
    assert!(took.as_secs() < 5, "{took:?}");
}

#[tokio::test]
async fn the_mock_serves_alone() {
    let program = tollgate(["mock", "--listen", "127.0.0.1:0"]).start();
    let data = program.told("the mock provider listens").await;
    let answer = call(data, "POST", CHAT, &[], chat("echo", false)).await;
    assert!(answer.text().contains("Echo: hello"), "{}", shown(&answer));
    assert_eq!(answer.header("server-timing"), None, "a gateway answered");
    let ended = program.terminate().await;
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn unix_sockets_serve_and_their_files_go_with_the_program() {
    let folder = tempdir().unwrap();
    let (program, data) = quiet_demo(folder.path());
    let answer = over_unix(&data, &request("POST", CHAT, &[], chat("echo", false))).await;
    assert_eq!(answer.status(), 200);
    let admin = folder.path().join("admin.sock");
    let ready = over_unix(&admin, &head("GET", "/readyz", &[], None)).await;
    assert_eq!((ready.status(), ready.text().as_str()), (200, "ok"));
    assert!(data.exists() && admin.exists());

    assert_eq!(program.terminate().await.code, Some(0));
    assert!(!data.exists() && !admin.exists());
}

/// The demo on unix sockets, which need no port; gives the path of the data listener.
fn quiet_demo(folder: &Path) -> (Program, PathBuf) {
    let unix = |name: &str| format!("unix:{}", folder.join(name).display());
    let (data, admin) = (unix("data.sock"), unix("admin.sock"));
    let args = ["demo", "--quiet", "--listen", &data, "--admin", &admin];
    (tollgate(args).start(), folder.join("data.sock"))
}
