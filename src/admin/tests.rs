use super::*;

use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

fn pages() -> Pages {
    Pages {
        readiness: Readiness::new(),
        metrics: Box::new(|format: Format| format!("tollgate_up 1\n# {format:?}\n")),
        config: Box::new(|| "version: 1\n".to_owned()),
        reload: Box::new(|| answered(Ok(2))),
        drain: Box::new(|| ()),
    }
}

fn answered(outcome: Outcome) -> oneshot::Receiver<Outcome> {
    let (answer, answered) = oneshot::channel();
    answer.send(outcome).unwrap();
    answered
}

fn desk(token: &str, reach: Reach) -> Desk {
    Desk {
        pages: pages(),
        token: Token::new(Some(token.to_owned())),
        reach,
    }
}

/// The answer to a request with these headers.
async fn ask(desk: &Desk, line: &str, headers: &[(&str, &str)]) -> Response<Full<Bytes>> {
    let (method, path) = line.split_once(' ').unwrap();
    let mut req = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        req = req.header(*name, *value);
    }
    desk.page(&req.body(()).unwrap()).finished().await
}

async fn status(desk: &Desk, line: &str, headers: &[(&str, &str)]) -> u16 {
    ask(desk, line, headers).await.status().as_u16()
}

async fn text(response: Response<Full<Bytes>>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

const LOCAL: (&str, &str) = ("host", "127.0.0.1:9901");

#[tokio::test]
async fn only_the_admin_pages_are_served_each_by_its_methods() {
    let desk = desk("", Reach::Machine);
    for path in ["/livez", "/healthz", "/metrics", "/config"] {
        for (method, want) in [("GET", 200), ("HEAD", 200), ("POST", 405), ("DELETE", 405)] {
            let response = ask(&desk, &format!("{method} {path}"), &[LOCAL]).await;
            assert_eq!(response.status(), want, "{method} {path}");
            let allow = response.headers().get(ALLOW);
            assert_eq!(allow.is_some_and(|it| it == "GET, HEAD"), want == 405);
        }
    }
    for (path, want) in [("/reload", 200), ("/drain", 202)] {
        assert_eq!(status(&desk, &format!("POST {path}"), &[LOCAL]).await, want);
        for method in ["GET", "HEAD", "PUT", "OPTIONS"] {
            let response = ask(&desk, &format!("{method} {path}"), &[LOCAL]).await;
            assert_eq!(response.status(), 405, "{method} {path}");
            assert_eq!(response.headers()[ALLOW], "POST");
        }
    }
    for path in [
        "/",
        "/v1/chat/completions",
        "/livez/",
        "/config/x",
        "/reload/",
    ] {
        for method in ["GET", "POST"] {
            let line = format!("{method} {path}");
            assert_eq!(status(&desk, &line, &[LOCAL]).await, 404, "{line}");
        }
    }
}

#[tokio::test]
async fn readiness_says_what_it_waits_for() {
    let response = ask(&desk("", Reach::Machine), "GET /readyz", &[LOCAL]).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(text(response).await, "starting");
}

#[tokio::test]
async fn what_comes_of_a_reload_is_told() {
    for (outcome, status, told) in [
        (Ok(7), 200, "generation 7\n"),
        (
            Err(Failed::Refused("error: unknown key `a`".into())),
            400,
            "error: unknown key `a`\nthe running configuration was left as it is\n",
        ),
        (Err(Failed::Internal), 500, "internal error"),
        (Err(Failed::Busy), 503, "too many"),
        (Err(Failed::NoSource), 501, "no file"),
    ] {
        let mut desk = desk("", Reach::Machine);
        desk.pages.reload = Box::new(move || answered(outcome.clone()));
        let response = ask(&desk, "POST /reload", &[LOCAL]).await;
        assert_eq!(response.status(), status, "{told}");
        let text = text(response).await;
        assert!(text.contains(told), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_hangs_is_not_waited_for_for_ever() {
    let (hung, asked) = oneshot::channel();
    let page = Page::Reload(asked);
    assert_eq!(page.finished().await.status(), 503);
    drop(hung);
}

#[tokio::test]
async fn others_need_the_token_for_what_is_guarded_and_for_nothing_else() {
    let desk = desk("secret", Reach::Others);
    for line in ["GET /config", "POST /reload", "POST /drain"] {
        assert_eq!(status(&desk, line, &[]).await, 401, "{line}");
        for bearer in [
            "secret",
            "Bearer",
            "Bearer ",
            "Bearer secre",
            "Bearer secrets",
            "Bearer  Secret",
            "Basic secret",
        ] {
            let headers = [("authorization", bearer)];
            assert_eq!(status(&desk, line, &headers).await, 401, "{line} {bearer}");
        }
        for bearer in ["Bearer secret", "bearer secret", "BEARER   secret "] {
            let headers = [("authorization", bearer), ("host", "gateway.example")];
            assert!(status(&desk, line, &headers).await < 300, "{line} {bearer}");
        }
    }
    for line in ["GET /livez", "GET /metrics"] {
        assert_eq!(status(&desk, line, &[("host", "10.0.0.7:9901")]).await, 200);
    }
}

#[tokio::test]
async fn another_token_holds_at_once() {
    let desk = desk("one", Reach::Others);
    let token = desk.token.clone();
    token.set(Some("two".to_owned()));
    for (bearer, want) in [("Bearer one", 401), ("Bearer two", 200)] {
        let headers = [("authorization", bearer)];
        assert_eq!(status(&desk, "GET /config", &headers).await, want);
    }
    token.set(None);
    for bearer in ["Bearer two", "Bearer ", "Bearer"] {
        let headers = [("authorization", bearer)];
        assert_eq!(
            status(&desk, "GET /config", &headers).await,
            401,
            "{bearer}"
        );
    }
}

#[tokio::test]
async fn a_name_that_was_pointed_here_is_refused_without_the_token() {
    let desk = desk("secret", Reach::Machine);
    let pages = ["GET /config", "GET /metrics", "GET /livez", "POST /drain"];
    for line in pages {
        for host in [
            "evil.example",
            "evil.example:9901",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "user@localhost",
            "localhost@evil.example",
            "10.0.0.1",
            "[2001:db8::1]:80",
            "",
            "a b",
        ] {
            assert_eq!(status(&desk, line, &[("host", host)]).await, 403, "{host}");
        }
        for host in [
            "127.0.0.1",
            "127.9.9.9:1",
            "localhost:9901",
            "LOCALHOST",
            "[::1]:9901",
        ] {
            assert!(status(&desk, line, &[("host", host)]).await < 300, "{host}");
        }
        // Programs of the last century name no host; browsers do.
        assert!(status(&desk, line, &[]).await < 300);
        let two = [LOCAL, ("host", "evil.example")];
        assert_eq!(status(&desk, line, &two).await, 403);
        let with_token = [("host", "evil.example"), ("authorization", "Bearer secret")];
        assert!(status(&desk, line, &with_token).await < 300);
    }
    assert_eq!(
        status(&desk, "GET http://evil.example/config", &[LOCAL]).await,
        403
    );
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing() {
    let desk = desk("secret", Reach::Machine);
    for line in ["POST /reload", "POST /drain"] {
        for foreign in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert_eq!(
                status(&desk, line, &[LOCAL, foreign]).await,
                403,
                "{foreign:?}"
            );
            let token = ("authorization", "Bearer secret");
            assert!(status(&desk, line, &[LOCAL, foreign, token]).await < 300);
        }
        for own in [
            ("origin", "http://localhost:9901"),
            ("sec-fetch-site", "none"),
            ("sec-fetch-site", "same-origin"),
        ] {
            assert!(status(&desk, line, &[LOCAL, own]).await < 300, "{own:?}");
        }
    }
}

#[tokio::test]
async fn over_a_unix_socket_any_name_will_do() {
    let desk = desk("", Reach::Files);
    let headers = [("host", "whatever")];
    assert_eq!(status(&desk, "GET /config", &headers).await, 200);
    assert_eq!(status(&desk, "POST /drain", &headers).await, 202);
}

#[test]
fn a_public_listener_without_a_token_does_not_start() {
    for token in [None, Some(String::new())] {
        let token = Token::new(token);
        let listen = "0.0.0.0:0".parse().unwrap();
        let error = start(Settings { listen, token }, pages()).unwrap_err();
        assert!(matches!(error, StartError::Open(_)));
        assert!(error.to_string().contains("admin.token"));
    }
}

#[test]
fn a_taken_port_names_the_option_of_the_admin_listener() {
    let settings = Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        token: Token::default(),
    };
    let admin = start(settings, pages()).unwrap();
    let again = Settings {
        listen: admin.address().clone(),
        token: Token::default(),
    };
    let error = start(again, pages()).unwrap_err().to_string();
    assert!(error.ends_with("is taken; choose another with --admin"));
}

#[tokio::test]
async fn it_serves_over_a_socket_until_it_is_dropped() {
    let settings = Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        token: Token::default(),
    };
    let admin = start(settings, pages()).unwrap();
    let at = admin.address().socket_addr().unwrap();
    let mut client = TcpStream::connect(at).await.unwrap();
    client
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut read = String::new();
    client.read_to_string(&mut read).await.unwrap();
    assert!(read.starts_with("HTTP/1.1 200 OK\r\n"), "{read}");
    assert!(
        read.contains("content-type: text/plain; version=0.0.4"),
        "{read}"
    );
    assert!(read.ends_with("tollgate_up 1\n# Plain\n"), "{read}");
    drop(admin);
    assert!(TcpStream::connect(at).await.is_err());
}

#[test]
fn the_token_is_not_in_debug_output() {
    let settings = Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        token: Token::new(Some("hunter2".into())),
    };
    assert!(!format!("{settings:?}").contains("hunter2"));
}
