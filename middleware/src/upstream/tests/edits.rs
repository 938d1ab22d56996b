//! What arrives at the provider.

use super::*;

// ===== where to =====

#[tokio::test]
async fn the_base_path_takes_the_place_of_the_callers_prefix_and_the_query_stays() {
    for (base, asked, expected) in [
        (
            "https://a.test",
            "/v1/chat/completions?a=%2F&b",
            "/v1/chat/completions?a=%2F&b",
        ),
        ("https://a.test/", CHAT, CHAT),
        ("https://a.test/v1", CHAT, CHAT),
        (
            "https://a.test/openai/v1/",
            CHAT,
            "/openai/v1/chat/completions",
        ),
        (
            "https://a.test/api/v3",
            "/mount/v1/files?x",
            "/api/v3/files?x",
        ),
        ("https://a.test/base", "/elsewhere", "/base/elsewhere"),
        (
            "https://a.test/v1beta",
            "/v1beta/models/g:generateContent",
            "/v1beta/models/g:generateContent",
        ),
        (
            "https://a.test",
            "/model/a%3Ab/converse",
            "/model/a%3Ab/converse",
        ),
    ] {
        let got = arrives(target(base), post(asked, "{}")).await;
        assert_eq!(got.uri(), expected, "{base} {asked}");
        assert!(got.uri().authority().is_none());
        assert_eq!(header(&got, "host"), Some("a.test"));
    }
    let full = arrives(
        target("http://u:p@a.test:81/v1"),
        post("http://gateway/v1/responses", "{}"),
    )
    .await;
    assert_eq!(
        (full.uri().to_string().as_str(), header(&full, "host")),
        ("/v1/responses", Some("a.test:81"))
    );
}

#[tokio::test]
async fn the_key_of_a_gemini_query_stays_here() {
    let path = "/v1beta/models/g:generateContent";
    for (query, left) in [
        ("key=k", ""),
        ("alt=sse&key=k", "?alt=sse"),
        ("%6Bey=k&alt=sse&key", "?alt=sse"),
        ("keys=k", "?keys=k"),
    ] {
        let got = arrives(bare(), post(&format!("{path}?{query}"), "{}")).await;
        assert_eq!(got.uri().to_string(), format!("{path}{left}"));
    }
    let files = arrives(bare(), post("/v1beta/files?key=k&page=2", "{}")).await;
    assert_eq!(
        files.uri().query(),
        Some("page=2"),
        "its prefix is Gemini's"
    );
    let chat = arrives(bare(), post("/v1/chat/completions?key=k", "{}")).await;
    assert_eq!(chat.uri().query(), Some("key=k"), "elsewhere it is no key");
}

// ===== headers =====

#[tokio::test]
async fn the_callers_credentials_stay_here_and_the_providers_goes_out() {
    let slots = [
        "authorization",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "proxy-authorization",
        "tollgate-key",
        "x-tollgate-metadata",
        "cookie",
    ];
    for (dialect, slot, value) in [
        (Dialect::OpenAi, "authorization", "Bearer theirs"),
        (Dialect::Anthropic, "x-api-key", "theirs"),
        (Dialect::Azure, "api-key", "theirs"),
        (Dialect::Gemini, "x-goog-api-key", "theirs"),
    ] {
        let mut req = post(CHAT, "{}");
        for slot in slots {
            req.headers_mut()
                .append(slot, HeaderValue::from_static("ours"));
            req.headers_mut()
                .append(slot, HeaderValue::from_static("ours-2"));
        }
        let credential = Credential::of(dialect, "theirs").unwrap();
        let got = arrives(bare().credential(credential), req).await;
        for name in slots {
            let values: Vec<_> = got.headers().get_all(name).iter().collect();
            let expected: &[&str] = if name == slot { &[value] } else { &[] };
            assert_eq!(values, expected, "{name}");
        }
        assert!(got.headers()[slot].is_sensitive());
    }
}

#[tokio::test]
async fn what_is_passed_through_goes_on_in_its_slot_and_our_key_does_not() {
    let passes = || bare().passthrough(true);
    let theirs = [
        ("authorization", "Bearer own"),
        ("x-api-key", "own"),
        ("api-key", "own"),
        ("x-goog-api-key", "own"),
        ("openai-organization", "org"),
        ("openai-project", "project"),
        ("x-goog-user-project", "project"),
    ];
    let ours = [
        ("tollgate-key", "tg-ours"),
        ("x-tollgate-metadata", "{}"),
        ("cookie", "s=1"),
        ("proxy-authorization", "Basic eA=="),
    ];
    for (name, value) in theirs.into_iter().chain(ours) {
        let mut req = post(CHAT, "{}");
        req.headers_mut()
            .insert(name, HeaderValue::from_static(value));
        let got = arrives(passes(), req).await;
        let goes_on = theirs.iter().any(|it| it.0 == name);
        assert_eq!(header(&got, name), goes_on.then_some(value), "{name}");
    }
    let path = "/v1beta/models/g:generateContent?key=own&alt=sse";
    let got = arrives(passes(), post(path, "{}")).await;
    assert_eq!(got.uri().to_string(), path);
}

#[tokio::test]
async fn what_belongs_to_the_connection_stays_here() {
    let mut req = post(CHAT, "{}");
    for (name, value) in [
        ("connection", "Keep-Alive, X-First"),
        ("connection", "x-SECOND ,close,, bad name"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("te", "trailers"),
        ("trailer", "x"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("http2-settings", "x"),
        ("expect", "100-continue"),
        ("x-first", "1"),
        ("x-second", "2"),
        ("x-third", "3"),
    ] {
        req.headers_mut().append(name, value.parse().unwrap());
    }
    let got = arrives(bare(), req).await;
    let mut names: Vec<_> = got.headers().keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "host", "x-third"]);

    for value in ["x-first", "Close, X-First"] {
        let mut req = post(CHAT, "{}");
        req.headers_mut()
            .insert("connection", value.parse().unwrap());
        req.headers_mut().insert("x-first", "1".parse().unwrap());
        assert_eq!(
            header(&arrives(bare(), req).await, "x-first"),
            None,
            "{value}"
        );
    }
}

#[tokio::test]
async fn a_coding_is_asked_for_only_where_nobody_reads() {
    for (path, expected) in [
        (CHAT, &["identity"][..]),
        ("/v1/embeddings", &["identity"]),
        ("/v1/audio/speech", &["gzip", "br"]),
        ("/v1/files", &["gzip", "br"]),
    ] {
        let mut req = post(path, "{}");
        for coding in ["gzip", "br"] {
            req.headers_mut()
                .append("accept-encoding", coding.parse().unwrap());
        }
        let got = arrives(bare(), req).await;
        let codings: Vec<_> = got.headers().get_all("accept-encoding").iter().collect();
        assert_eq!(codings, expected, "{path}");
    }
    let got = arrives(bare(), post(CHAT, "{}")).await;
    assert_eq!(
        header(&got, "accept-encoding"),
        None,
        "nothing was asked for"
    );
}

#[tokio::test]
async fn our_name_of_the_request_goes_out_unless_the_caller_has_one() {
    let mut req = post(CHAT, "{}");
    req.extensions_mut().insert(record(CHAT));
    req.headers_mut()
        .insert("x-request-id", "theirs".parse().unwrap());
    let got = arrives(bare(), req).await;
    assert_eq!(header(&got, "x-client-request-id"), Some("id-1"));
    assert_eq!(header(&got, "x-request-id"), Some("theirs"));

    let mut req = post(CHAT, "{}");
    req.extensions_mut().insert(record(CHAT));
    req.headers_mut()
        .insert("x-client-request-id", "own".parse().unwrap());
    assert_eq!(
        header(&arrives(bare(), req).await, "x-client-request-id"),
        Some("own")
    );
}

#[tokio::test]
async fn configured_headers_stand_in_the_place_of_the_callers() {
    let mut own = HeaderMap::new();
    own.append("x-org", "one".parse().unwrap());
    own.append("x-org", "two".parse().unwrap());
    let mut req = post(CHAT, "{}");
    for value in ["a", "b", "c"] {
        req.headers_mut().append("x-org", value.parse().unwrap());
        req.headers_mut().append("x-other", value.parse().unwrap());
    }
    let got = arrives(bare().headers(own), req).await;
    let values = |name| got.headers().get_all(name).iter().collect::<Vec<_>>();
    assert_eq!(values("x-org"), ["one", "two"]);
    assert_eq!(values("x-other"), ["a", "b", "c"]);
}

// ===== the model =====

#[tokio::test]
async fn the_providers_name_stands_in_the_place_of_the_callers_and_the_length_fits() {
    let text = "{ \"model\" : \"a\\u006cias\", \"x\":1.0}";
    let got = arrives(bare(), routed(post(CHAT, text), "real \"one\"")).await;
    let expected = "{ \"model\" : \"real \\\"one\\\"\", \"x\":1.0}";
    assert_eq!(got.body().text(), expected);
    assert_eq!(
        header(&got, "content-length"),
        Some(expected.len().to_string().as_str())
    );

    // Not another name: not a byte changes.
    let got = arrives(bare(), routed(post(CHAT, text), "alias")).await;
    assert_eq!(got.body().text(), text);

    let renames = bare().renames(|name| (name == "alias").then(|| "renamed".into()));
    let got = arrives(renames.clone(), post(CHAT, text)).await;
    assert_eq!(got.body().text(), "{ \"model\" : \"renamed\", \"x\":1.0}");
    let got = arrives(renames.model("fixed"), post(CHAT, text)).await;
    assert_eq!(got.body().text(), "{ \"model\" : \"fixed\", \"x\":1.0}");
}

#[tokio::test]
async fn a_model_in_the_path_is_replaced_there() {
    for (asked, expected) in [
        (
            "/v1beta/models/alias:generateContent?alt=sse",
            "/v1beta/models/real%20m/1:generateContent?alt=sse",
        ),
        (
            "/openai/deployments/alias/chat/completions",
            "/openai/deployments/real%20m/1/chat/completions",
        ),
        (
            "/model/al%69as/converse-stream",
            "/model/real%20m/1/converse-stream",
        ),
    ] {
        let got = arrives(
            bare(),
            routed(post(asked, r#"{"model":"body"}"#), "real m/1"),
        )
        .await;
        assert_eq!(got.uri(), expected);
        assert_eq!(got.body().text(), r#"{"model":"body"}"#);
        // The same of a body that nobody could read.
        let mut unread = post(asked, "");
        unread.extensions_mut().remove::<Intent>();
        let got = arrives(bare(), routed(unread, "real m/1")).await;
        assert_eq!(got.uri(), expected);
        let same = arrives(bare(), routed(post(asked, "{}"), "alias")).await;
        assert_eq!(same.uri(), asked, "no other name, no change");
    }
}

#[tokio::test]
async fn a_model_cannot_lead_to_another_path() {
    for model in [
        "../../admin",
        "x/../../admin",
        "..",
        ".",
        "x/./y",
        "%2e%2e/x/..",
    ] {
        let req = routed(post("/v1beta/models/alias:generateContent", "{}"), model);
        let inner = Inner::<BoxError>::answering(Response::new(Script::empty()));
        let calls = inner.calls();
        let answer = UpstreamLayer::new(bare()).layer(inner).oneshot(req).await;
        let error = answer.err().unwrap_or_else(|| panic!("{model} went out"));
        assert_eq!(
            Rejection::find(&*error).unwrap().reason(),
            Reason::Malformed
        );
        assert!(calls.take().is_empty());
    }
    let query = routed(post("/v1beta/models/alias:generateContent", "{}"), "x?y#z%");
    let got = arrives(bare(), query).await;
    assert_eq!(got.uri(), "/v1beta/models/x%3Fy%23z%25:generateContent");
}

// ===== extra members =====

#[tokio::test]
async fn configured_members_are_added_where_the_caller_did_not_set_them() {
    let target = || bare().extra_body([("tier", "\"flex\""), ("n\"x", "{\"a\":1}")]);
    for (text, expected) in [
        ("{}", "{\"tier\":\"flex\",\"n\\\"x\":{\"a\":1}}"),
        (" { \n} ", " { \n\"tier\":\"flex\",\"n\\\"x\":{\"a\":1}} "),
        (
            "{\"a\":[]}",
            "{\"a\":[],\"tier\":\"flex\",\"n\\\"x\":{\"a\":1}}",
        ),
        (
            "{\"t\\u0069er\":null}",
            "{\"t\\u0069er\":null,\"n\\\"x\":{\"a\":1}}",
        ),
        ("{\"tier\":1,\"n\\\"x\":2}", "{\"tier\":1,\"n\\\"x\":2}"),
    ] {
        let got = arrives(target(), post(CHAT, text)).await;
        assert_eq!(got.body().text(), expected);
        assert_eq!(
            header(&got, "content-length"),
            Some(expected.len().to_string().as_str())
        );
    }
    let got = arrives(target().model("m"), post(CHAT, "{\"model\":\"a\"}")).await;
    assert_eq!(
        got.body().text(),
        "{\"model\":\"m\",\"tier\":\"flex\",\"n\\\"x\":{\"a\":1}}"
    );
}

/// A cap that was put into the body is there already, and there is something before what comes behind it.
#[tokio::test]
async fn a_member_that_a_cap_was_put_into_is_not_added_again() {
    for (text, cap, expected) in [
        ("{}", "\"max_tokens\":9", "{\"max_tokens\":9,\"tier\":1}"),
        (
            "{\"a\":1}",
            ",\"max_tokens\":9",
            "{\"a\":1,\"max_tokens\":9,\"tier\":1}",
        ),
    ] {
        let mut req = post(CHAT, text);
        let end = text.len() - 1;
        req.body_mut().edit(end..end, cap);
        req.extensions_mut().insert(OutputLimit {
            tokens: 9,
            inserted: Some("max_tokens"),
        });
        let target = bare().extra_body([("max_tokens", "5"), ("tier", "1")]);
        assert_eq!(arrives(target, req).await.body().text(), expected);
    }
}

#[tokio::test]
async fn a_body_that_is_still_coming_is_not_edited() {
    let rest = Script::data(b"\"alias\"}", &Split::Whole);
    let mut req = post(CHAT, "{\"model\":\"alias\"}");
    *req.body_mut() = Held::begun([Bytes::from_static(b"{\"model\":")], rest);
    let got = arrives(bare().model("m").extra_body([("a", "1")]), req).await;
    assert_eq!(got.body().text(), "{\"model\":\"alias\"}");
    assert_eq!(header(&got, "content-length"), Some("17"));
}

#[tokio::test]
async fn what_describes_the_body_is_not_removed_because_connection_names_it() {
    let mut req = post("/v1/files", "{}");
    let headers = req.headers_mut();
    headers.insert("connection", "content-encoding, x-hop".parse().unwrap());
    headers.insert("content-encoding", "gzip".parse().unwrap());
    headers.insert("x-hop", "1".parse().unwrap());
    let got = arrives(bare(), req).await;
    assert_eq!(got.headers()["content-encoding"], "gzip");
    assert!(!got.headers().contains_key("x-hop"));
}
