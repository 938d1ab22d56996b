use super::*;

use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

fn pages() -> Pages {
    Pages {
        readiness: Readiness::new(),
        metrics: Box::new(|| "tollgate_up 1\n# EOF\n".to_owned()),
        config: Box::new(|| "version: 1\n".to_owned()),
    }
}

fn desk(token: Option<&str>) -> Desk {
    Desk {
        pages: pages(),
        token: token.map(str::to_owned),
    }
}

fn status(desk: &Desk, method: &Method, path: &str) -> u16 {
    desk.page(method, path, None).status().as_u16()
}

fn config_with(desk: &Desk, bearer: &'static str) -> u16 {
    let bearer = HeaderValue::from_static(bearer);
    let response = desk.page(&Method::GET, "/config", Some(&bearer));
    response.status().as_u16()
}

#[test]
fn only_the_admin_pages_are_served() {
    let desk = desk(None);
    for path in ["/livez", "/healthz", "/metrics", "/config"] {
        assert_eq!(status(&desk, &Method::GET, path), 200, "{path}");
        assert_eq!(status(&desk, &Method::POST, path), 405, "{path}");
    }
    for path in ["/", "/v1/chat/completions", "/livez/", "/config/x"] {
        assert_eq!(status(&desk, &Method::GET, path), 404, "{path}");
        assert_eq!(status(&desk, &Method::POST, path), 404, "{path}");
    }
}

#[tokio::test]
async fn readiness_says_what_it_waits_for() {
    let response = desk(None).page(&Method::GET, "/readyz", None);
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "starting");
}

#[test]
fn the_configuration_needs_the_token_and_nothing_else_does() {
    let desk = desk(Some("secret"));
    assert_eq!(status(&desk, &Method::GET, "/config"), 401);
    for bearer in [
        "secret",
        "Bearer",
        "Bearer ",
        "Bearer secre",
        "Bearer secrets",
        "Bearer  Secret",
        "Basic secret",
    ] {
        assert_eq!(config_with(&desk, bearer), 401, "{bearer}");
    }
    for bearer in ["Bearer secret", "bearer secret", "BEARER   secret "] {
        assert_eq!(config_with(&desk, bearer), 200, "{bearer}");
    }
    for path in ["/livez", "/metrics"] {
        assert_eq!(status(&desk, &Method::GET, path), 200);
    }
}

#[test]
fn a_public_listener_without_a_token_does_not_start() {
    for token in [None, Some(String::new())] {
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
        token: None,
    };
    let admin = start(settings, pages()).unwrap();
    let again = Settings {
        listen: admin.address().clone(),
        token: None,
    };
    let error = start(again, pages()).unwrap_err().to_string();
    assert!(error.ends_with("is taken; choose another with --admin"));
}

#[tokio::test]
async fn it_serves_over_a_socket_until_it_is_dropped() {
    let settings = Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        token: None,
    };
    let admin = start(settings, pages()).unwrap();
    let at = admin.address().socket_addr().unwrap();
    let mut client = TcpStream::connect(at).await.unwrap();
    client
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut read = String::new();
    client.read_to_string(&mut read).await.unwrap();
    assert!(read.starts_with("HTTP/1.1 200 OK\r\n"), "{read}");
    assert!(read.contains(METRICS_TYPE), "{read}");
    assert!(read.ends_with("tollgate_up 1\n# EOF\n"), "{read}");
    drop(admin);
    assert!(TcpStream::connect(at).await.is_err());
}

#[test]
fn the_token_is_not_in_debug_output() {
    let settings = Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        token: Some("hunter2".into()),
    };
    assert!(!format!("{settings:?}").contains("hunter2"));
}
