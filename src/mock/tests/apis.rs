//! The shapes of whole answers.

use super::*;

#[tokio::test(start_paused = true)]
async fn echo_says_the_users_text_in_every_api_streamed_and_not() {
    for way in WAYS {
        for streamed in [true, false] {
            let seen = way.say("echo", streamed, "hello there judge").await;
            assert_eq!(
                (seen.status, &seen.error),
                (StatusCode::OK, &None),
                "{way:?}"
            );
            assert_eq!(
                way.text(&seen, streamed),
                "Echo: hello there judge",
                "{way:?} {streamed}"
            );
            let text = String::from_utf8(seen.bytes()).unwrap();
            assert!(
                text.contains("r-1"),
                "{way:?}: the answer's id contains the request's"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn streams_are_announced_as_event_streams_and_documents_with_their_length() {
    for way in WAYS {
        let seen = way.say("echo", true, "hi").await;
        let expected = match way {
            Way::GeminiArray => "application/json; charset=utf-8",
            _ => "text/event-stream; charset=utf-8",
        };
        assert_eq!(seen.headers["content-type"], expected, "{way:?}");
        assert_eq!(seen.headers["cache-control"], "no-cache");
        let seen = way.say("echo", false, "hi").await;
        assert_eq!(
            seen.headers["content-length"],
            seen.bytes().len().to_string()
        );
    }
}

#[tokio::test]
async fn usage_counts_words_in_every_api_streamed_and_not() {
    let usages = [
        (
            Way::Chat,
            "/usage",
            ["prompt_tokens", "completion_tokens", "total_tokens"],
        ),
        (
            Way::Completions,
            "/usage",
            ["prompt_tokens", "completion_tokens", "total_tokens"],
        ),
        (
            Way::Responses,
            "/usage",
            ["input_tokens", "output_tokens", "total_tokens"],
        ),
        (
            Way::Gemini,
            "/usageMetadata",
            [
                "promptTokenCount",
                "candidatesTokenCount",
                "totalTokenCount",
            ],
        ),
        (
            Way::GeminiArray,
            "/usageMetadata",
            [
                "promptTokenCount",
                "candidatesTokenCount",
                "totalTokenCount",
            ],
        ),
    ];
    for (way, pointer, names) in usages {
        for streamed in [true, false] {
            let seen = way.say("echo", streamed, "one two  three\n").await;
            let holder = match (streamed, way) {
                (false, _) => seen.json(),
                (true, Way::Responses) => way.events(&seen).pop().unwrap()["response"].take(),
                (true, _) => way
                    .events(&seen)
                    .into_iter()
                    .rfind(|e| e.is_object())
                    .unwrap(),
            };
            let usage = holder.pointer(pointer).unwrap();
            assert_eq!(
                names.map(|name| usage[name].clone()),
                [json!(3), json!(4), json!(7)],
                "{way:?} {streamed}"
            );
        }
    }
    let seen = Way::Messages
        .say("echo", false, "one two three")
        .await
        .json();
    assert_eq!(
        (
            &seen["usage"]["input_tokens"],
            &seen["usage"]["output_tokens"]
        ),
        (&json!(3), &json!(4))
    );
}

#[tokio::test]
async fn a_chat_stream_is_role_words_finish_usage_done() {
    let seen = Way::Chat.say("echo", true, "a b").await;
    let mut events = Way::Chat.events(&seen);
    assert_eq!(events.pop().unwrap(), "[DONE]");
    for event in &events {
        assert_eq!(event["id"], "chatcmpl-r-1");
        assert_eq!(event["object"], "chat.completion.chunk");
        assert_eq!(event["model"], "echo");
        assert!(event["created"].as_i64().unwrap() > 1_700_000_000);
        assert!(event["choices"].is_array() && event.get("usage").is_some());
    }
    let deltas: Vec<&Value> = events.iter().map(|e| &e["choices"][0]["delta"]).collect();
    assert_eq!(deltas[0], &json!({ "role": "assistant", "content": "" }));
    assert_eq!(
        deltas[1..4],
        [
            &json!({ "content": "Echo: " }),
            &json!({ "content": "a " }),
            &json!({ "content": "b" })
        ]
    );
    assert_eq!(
        events[4]["choices"][0],
        json!({ "index": 0, "delta": {}, "finish_reason": "stop" })
    );
    assert_eq!(events[5]["choices"], json!([]));
    assert_eq!(events.len(), 6);
}

#[tokio::test]
async fn usage_comes_only_if_it_was_asked_for() {
    for path in ["/v1/chat/completions", "/v1/completions"] {
        let body = json!({ "model": "echo", "stream": true, "prompt": "a" });
        let seen = post(path, &body).await;
        assert!(
            !String::from_utf8(seen.bytes()).unwrap().contains("usage"),
            "{path}"
        );
        assert!(seen.bytes().ends_with(b"data: [DONE]\n\n"));
    }
}

#[tokio::test]
async fn a_responses_stream_has_the_provider_s_event_names_and_numbers() {
    let seen = Way::Responses.say("echo", true, "a").await;
    let events = Way::Responses.events(&seen);
    let names: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number);
    }
    assert_eq!(events[6]["text"], "Echo: a");
    let mut whole = Way::Responses.say("echo", false, "a").await.json();
    let completed = &events[9]["response"];
    for key in ["created_at", "completed_at"] {
        whole[key] = completed[key].clone();
    }
    assert_eq!(completed, &whole, "the stream ends with the document");
}

#[tokio::test]
async fn a_messages_stream_has_the_provider_s_events() {
    let seen = Way::Messages.say("echo", true, "a b c").await;
    let events = Way::Messages.events(&seen);
    let names: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(
        names[..4],
        [
            "message_start",
            "content_block_start",
            "ping",
            "content_block_delta"
        ]
    );
    assert_eq!(
        names[names.len() - 3..],
        ["content_block_stop", "message_delta", "message_stop"]
    );
    assert_eq!(events[0]["message"]["id"], "msg_r-1");
    assert_eq!(events[0]["message"]["usage"]["input_tokens"], 3);
    let delta = &events[events.len() - 2];
    assert_eq!(delta["delta"]["stop_reason"], "end_turn");
    assert_eq!(delta["usage"]["output_tokens"], 4);
}

#[tokio::test]
async fn a_gemini_stream_ends_with_its_reason_and_usage() {
    for way in [Way::Gemini, Way::GeminiArray] {
        let events = way.events(&way.say("echo", true, "a").await);
        let (last, words) = events.split_last().unwrap();
        assert_eq!(last["candidates"][0]["finishReason"], "STOP");
        assert_eq!((words.len(), &last["modelVersion"]), (2, &json!("echo")));
        assert!(
            words
                .iter()
                .all(|e| e["responseId"] == "r-1" && e.get("usageMetadata").is_none())
        );
    }
}

#[tokio::test]
async fn paths_are_taken_with_and_without_a_prefix() {
    for prefix in ["", "/v1", "/v1beta"] {
        for way in WAYS {
            let (path, body) = way.request("mock/echo", false, "hi");
            let path = path.trim_start_matches("/v1beta").trim_start_matches("/v1");
            let seen = post(&format!("{prefix}{path}"), &body).await;
            assert_eq!(way.text(&seen, false), "Echo: hi", "{prefix}{path}");
        }
    }
}

#[tokio::test]
async fn tokens_are_counted_without_an_answer() {
    let body = json!({ "model": "echo", "system": "be brief", "messages": [{ "role": "user", "content": [
        { "type": "text", "text": "one two" }, { "type": "tool_result", "content": "three" },
    ] }] });
    assert_eq!(
        post("/v1/messages/count_tokens", &body).await.json(),
        json!({ "input_tokens": 5 })
    );
    let body = json!({ "contents": [{ "parts": [{ "text": "one two" }] }] });
    let path = "/v1beta/models/echo:countTokens";
    assert_eq!(post(path, &body).await.json(), json!({ "totalTokens": 2 }));
    let wrapped = json!({ "generateContentRequest": body });
    assert_eq!(
        post(path, &wrapped).await.json(),
        json!({ "totalTokens": 2 })
    );
}

#[tokio::test]
async fn models_are_listed_in_the_callers_dialect() {
    let names = json!(["echo", "slow", "long", "cut", "e429", "e500"]);
    let of = |list: &Value, key: &str| {
        Value::from_iter(list.as_array().unwrap().iter().map(|m| m[key].clone()))
    };
    let openai = ask(Method::GET, "/v1/models", &[], "").await.json();
    assert_eq!(
        (&openai["object"], of(&openai["data"], "id")),
        (&json!("list"), names.clone())
    );
    let anthropic = ask(
        Method::GET,
        "/v1/models",
        &[("anthropic-version", "2023-06-01")],
        "",
    )
    .await
    .json();
    assert_eq!(
        (
            &anthropic["has_more"],
            of(&anthropic["data"], "display_name")
        ),
        (&json!(false), names)
    );
    let geminis = [
        ("/v1beta/models", "x-any", "x"),
        ("/v1/models", "x-goog-api-key", "x"),
        ("/models", "x-goog-api-client", "x"),
    ];
    for (path, name, value) in geminis {
        let gemini = ask(Method::GET, path, &[(name, value)], "").await.json();
        assert_eq!(gemini["models"][0]["name"], "models/echo", "{path}");
        assert_eq!(gemini["models"].as_array().unwrap().len(), 6);
    }
    let one = ask(Method::GET, "/v1/models/count-7", &[], "").await;
    assert_eq!(one.json()["id"], "count-7");
    let none = ask(Method::GET, "/v1/models/gpt", &[], "").await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn embeddings_are_a_vector_for_each_text_as_numbers_or_base64() {
    let body = json!({ "model": "echo", "input": ["a b", "c"], "dimensions": 4 });
    let seen = post("/v1/embeddings", &body).await.json();
    assert_eq!(seen["data"].as_array().unwrap().len(), 2);
    assert_eq!(seen["data"][1]["embedding"].as_array().unwrap().len(), 4);
    assert_ne!(seen["data"][0]["embedding"], seen["data"][1]["embedding"]);
    assert_eq!(
        seen["usage"],
        json!({ "prompt_tokens": 3, "total_tokens": 3 })
    );
    let body =
        json!({ "model": "echo", "input": "a b", "dimensions": 4, "encoding_format": "base64" });
    let seen = post("/v1/embeddings", &body).await.json();
    assert_eq!(
        seen["data"][0]["embedding"].as_str().unwrap().len(),
        24,
        "16 bytes in base64"
    );
    let body = json!({ "model": "echo", "input": [1, 2, 3] });
    assert_eq!(
        post("/embeddings", &body).await.json()["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let body = json!({ "model": "echo", "input": "a", "dimensions": 1_000_000_000_000_u64 });
    assert_eq!(
        post("/embeddings", &body).await.status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn the_answers_id_is_the_client_request_id_first() {
    let (path, body) = Way::Chat.request("echo", false, "");
    let id = async |headers: &[(&str, &str)]| {
        ask(Method::POST, &path, headers, body.to_string())
            .await
            .json()["id"]
            .clone()
    };
    assert_eq!(
        id(&[("x-request-id", "a"), ("x-client-request-id", "b")]).await,
        "chatcmpl-b"
    );
    assert_eq!(id(&[("x-request-id", "a\"b")]).await, "chatcmpl-a\"b");
    assert_eq!(id(&[]).await, "chatcmpl-mock");
    assert_eq!(
        id(&[("x-request-id", &"x".repeat(129))]).await,
        "chatcmpl-mock"
    );
}
