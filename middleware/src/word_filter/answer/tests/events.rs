//! Words over events, choices, escapes and frames; what waits for them, and how long.

use super::*;

/// Bytes that are out after each of these frames.
fn out(hold: &mut Hold, frames: &[Vec<u8>]) -> Vec<usize> {
    let mut total = 0;
    let mut all = Vec::new();
    for frame in frames {
        hold.feed(Bytes::copy_from_slice(frame));
        while let Some(frame) = hold.next() {
            total += frame.len();
        }
        all.push(total);
    }
    all
}

fn chat(words: &[&str], action: Action) -> Hold {
    hold(CHAT, Framing::Sse, &rules(words, action), LIMITS)
}

fn text(hold: &mut Hold, body: &[u8]) -> String {
    let (out, stopped) = filtered(hold, [body]);
    assert_eq!(stopped, None);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_frame_in_which_nothing_begins_goes_on_as_it_came() {
    let mut hold = chat(&["blocked"], Action::Mask);
    let frames = [
        chunk(0, "all is"),
        [chunk(0, " well"), chunk(1, "x"), b": ping\n\n".to_vec()].concat(),
        DONE.to_vec(),
    ];
    for frame in frames.map(Bytes::from) {
        hold.feed(frame.clone());
        let passed = hold.next().expect("nothing waits");
        assert_eq!(
            (passed.as_ptr(), passed.len()),
            (frame.as_ptr(), frame.len())
        );
        assert_eq!(hold.next(), None);
    }
}

#[test]
fn an_event_waits_exactly_while_something_may_begin_in_it() {
    let mut hold = chat(&["blocked"], Action::Mask);
    let events = ["a ", "b blo", "cke", "ts ", "b", "l", "ue"].map(|text| chunk(0, text));
    let ends: Vec<usize> = events
        .iter()
        .scan(0, |end, event| {
            *end += event.len();
            Some(*end)
        })
        .collect();
    let expected = [
        ends[0], ends[0], ends[0], ends[3], ends[3], ends[3], ends[6],
    ];
    assert_eq!(out(&mut hold, &events), expected);
}

#[test]
fn what_follows_an_event_that_waits_waits_too_and_its_order_stays() {
    let mut hold = chat(&["blocked"], Action::Mask);
    let first = chunk(0, "blo");
    let behind = [chunk(1, "other"), b": ping\n\n".to_vec(), chunk(0, "om")].concat();
    assert_eq!(out(&mut hold, std::slice::from_ref(&first)), [0]);
    hold.feed(behind.clone().into());
    let mut seen = Vec::new();
    while let Some(frame) = hold.next() {
        seen.extend_from_slice(&frame);
    }
    assert_eq!(seen, [first, behind].concat());
}

#[test]
fn the_end_of_a_text_lets_go_what_waits_for_it() {
    let finish = br#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    for end in [[&finish[..], b"\n\n"].concat(), DONE.to_vec()] {
        let mut hold = chat(&["blocked"], Action::Mask);
        let first = chunk(0, "b blo");
        let seen = out(&mut hold, &[first.clone(), end.clone()]);
        assert_eq!(seen, [0, first.len() + end.len()]);
    }
    let event = |kind: &str, rest: &str| {
        format!("event: {kind}\ndata: {{\"type\":\"{kind}\",\"index\":0{rest}}}\n\n").into_bytes()
    };
    let rules = rules(&["blocked"], Action::Mask);
    let mut hold = hold("/v1/messages", Framing::Sse, &rules, LIMITS);
    let frames = [
        event(
            "content_block_start",
            r#","content_block":{"type":"text","text":""}"#,
        ),
        event(
            "content_block_delta",
            r#","delta":{"type":"text_delta","text":"a blo"}"#,
        ),
        event("content_block_stop", ""),
    ];
    let lengths = [frames[0].len(), frames[0].len(), frames.concat().len()];
    assert_eq!(out(&mut hold, &frames), lengths);
}

#[test]
fn a_finish_reason_before_the_text_of_its_event_ends_that_text_too() {
    let body =
        br#"data: {"choices":[{"finish_reason":"stop","delta":{"content":"a blo"},"index":0}]}

"#;
    let mut hold = chat(&["blocked"], Action::Mask);
    assert_eq!(out(&mut hold, &[body.to_vec()]), [body.len()]);
}

#[test]
fn a_text_that_goes_on_behind_its_finish_reason_is_still_searched() {
    let one = |text: &str| {
        format!("data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"{text}\"}}]}},\"finishReason\":\"STOP\"}}]}}\n\n").into_bytes()
    };
    let path = "/v1beta/models/m:streamGenerateContent?alt=sse";
    for (action, expected) in [(Action::Mask, Some("a blo*** b")), (Action::Reject, None)] {
        let mut hold = hold(path, Framing::Sse, &rules(&["blocked"], action), LIMITS);
        let (seen, stopped) = filtered(&mut hold, [&one("a blo")[..], &one("cked b")]);
        assert_eq!(stopped.is_none(), expected.is_some());
        let seen = String::from_utf8(seen).unwrap();
        let texts = seen
            .split("\"text\":\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap());
        let seen: String = texts.collect();
        assert_eq!(seen, expected.unwrap_or("a blo"));
    }
}

#[test]
fn halves_in_two_choices_are_no_word_and_each_choice_has_its_own() {
    let mut hold = chat(&["blocked"], Action::Mask);
    let body = [
        chunk(0, "a blo"),
        chunk(1, "b blo"),
        chunk(0, "cked c"),
        chunk(1, "x cked"),
        DONE.to_vec(),
    ];
    let expected = [
        chunk(0, "a ***"),
        chunk(1, "b blo"),
        chunk(0, " c"),
        chunk(1, "x cked"),
        DONE.to_vec(),
    ];
    assert_eq!(
        text(&mut hold, &body.concat()).into_bytes(),
        expected.concat()
    );
}

#[test]
fn escapes_are_read_as_what_they_stand_for() {
    let body = |text: &str| {
        format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
    };
    let split = |one: &str, two: &str| body(one) + &body(two);
    let cases = [
        (r"a bl\u006fcked b".to_owned(), r"a *** b".to_owned()),
        (
            r"\u0062\u006C\u006f\u0063ked\n".to_owned(),
            r"***\n".to_owned(),
        ),
        (r"x\\blocked\/".to_owned(), r"x\\***\/".to_owned()),
    ];
    for (text, expected) in cases {
        let mut hold = chat(&["blocked"], Action::Mask);
        assert_eq!(
            self::text(&mut hold, body(&text).as_bytes()),
            body(&expected)
        );
    }
    // A surrogate pair, whole and in two strings; one half alone and two that do not fit.
    let smile = [
        (split(r"a \ud83d\ude00", "b"), split("a ***", "b")),
        (split(r"a \ud83d", r"\ude00b"), split("a ***", "b")),
        (
            split(r"a \ud83d", r"x\ude00b"),
            split(r"a \ud83d", r"x\ude00b"),
        ),
        (
            split(r"\ud83d\ud83d\ude00", r"\ude00"),
            split(r"\ud83d***", r"\ude00"),
        ),
    ];
    for (given, expected) in smile {
        let mut hold = chat(&["😀"], Action::Mask);
        assert_eq!(text(&mut hold, given.as_bytes()), expected);
    }
}

#[test]
fn a_half_of_a_character_waits_for_the_other_half() {
    let one = br#"data: {"choices":[{"delta":{"content":"a \ud83d"}}]}

"#;
    let mut hold = chat(&["blocked"], Action::Mask);
    assert_eq!(out(&mut hold, &[one.to_vec()]), [0]);
    let two = chunk(0, "x");
    assert_eq!(
        out(&mut hold, std::slice::from_ref(&two)),
        [one.len() + two.len()]
    );
}

/// S17, under the filter: line ends of every kind, a mark first, NUL and what is no UTF-8.
#[test]
fn unusual_ways_to_write_the_same_event_are_read_alike() {
    let pretty = "{\n  \"choices\" : [ {\n \"delta\" : { \"content\" : \"a blocked b\" } , \"index\" : 0 } ] }";
    let lines = |end: &str| {
        let lines = pretty.lines().map(|line| format!("data: {line}{end}"));
        lines.collect::<String>() + end
    };
    for body in [
        lines("\n"),
        lines("\r\n"),
        lines("\r"),
        format!("\u{feff}{}", lines("\n")),
        format!(": c\r\nevent: x\ndata:{}\r\r", pretty.replace('\n', "")),
    ] {
        for size in [1, 2, 7, body.len()] {
            let mut hold = chat(&["blocked"], Action::Mask);
            let (seen, _) = filtered(&mut hold, body.as_bytes().chunks(size));
            let seen = String::from_utf8(seen).unwrap();
            assert_eq!(seen, body.replace("blocked", "***"), "{size} {body:?}");
        }
    }
    // What is no UTF-8 stays, and the text beside it is found; an event that no reader takes passes as it is.
    let odd = |inner: &[u8]| {
        let head = b"data: {\"choices\":[{\"delta\":{\"content\":\"";
        [&head[..], inner, b"\"}}]}\r\n\n"].concat()
    };
    for (given, expected) in [
        (
            &b"\xff\xc3 blocked \xe2\x82"[..],
            &b"\xff\xc3 *** \xe2\x82"[..],
        ),
        (b"\0 here", b"\0 here"),
    ] {
        let (given, expected) = (odd(given), odd(expected));
        for size in [1, 7, given.len()] {
            let mut hold = chat(&["blocked"], Action::Mask);
            assert_eq!(filtered(&mut hold, given.chunks(size)).0, expected);
        }
    }
    // The other reader is strict: a word in a member's name is none, nor is one in the model's.
    let mut hold = chat(&["blocked"], Action::Reject);
    let body =
        br#"data: {"model":"blocked","blocked":1,"choices":[{"delta":{"blocked":"blocked"}}]}

"#;
    assert_eq!(text(&mut hold, body).as_bytes(), body);
}

#[test]
fn the_tokens_of_an_edited_event_are_taken_out() {
    let body = |text: &str, tokens: &str| {
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"logprobs\":{tokens},\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"
        )
    };
    let tokens = r#"{"content":[{"token":"x"}]}"#;
    let given = body("a blo", tokens) + &body("cked", tokens) + &body(" b", tokens);
    let expected = body("a ***", "null") + &body("", "null") + &body(" b", tokens);
    let mut hold = chat(&["blocked"], Action::Mask);
    assert_eq!(text(&mut hold, given.as_bytes()), expected);
}

fn call(arguments: &str) -> String {
    let arguments = serde_json::to_string(arguments).unwrap();
    format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{{\"index\":0,\"function\":{{\"arguments\":{arguments}}}}}]}}}}]}}\n\n"
    )
}

/// What the deltas of a call say together.
fn called(body: &[u8]) -> String {
    let client = client::Client {
        dialect: "openai.chat".to_owned(),
        format: "sse".to_owned(),
        stream: true,
    };
    let texts = client.texts(body);
    texts
        .get("choice 0 call 0")
        .map_or_else(String::new, |said| said.text.clone())
}

#[test]
fn arguments_are_decoded_twice_and_a_mask_is_written_twice() {
    let given = [
        r#"{"blocked":"a bl"#,
        r"\u006",
        r#"fcked b","n":["x\"blo"#,
        r#"cked\\"],"m":"\ud83"#,
        r#"d\ude00"}"#,
    ];
    let mask = "\"<x>\\\n";
    let rules = Rules::new(
        &[Rule {
            words: vec!["blocked".to_owned(), "😀".to_owned()],
            whole_word: false,
            action: Action::Mask,
            mask: mask.into(),
            ..Rule::new("words")
        }],
        Side::Response,
    )
    .unwrap();
    let body: String = given.iter().map(|piece| call(piece)).collect();
    for size in [1, 5, body.len()] {
        let mut hold = hold(CHAT, Framing::Sse, &rules, LIMITS);
        let (seen, stopped) = filtered(&mut hold, body.as_bytes().chunks(size));
        assert_eq!(stopped, None);
        let seen: serde_json::Value = serde_json::from_str(&called(&seen)).expect("JSON");
        let expected = serde_json::json!({
            "blocked": format!("a {mask} b"), "n": [format!("x\"{mask}\\")], "m": mask,
        });
        assert_eq!(seen, expected);
    }
}

#[test]
fn a_match_over_the_end_of_a_value_refuses_also_where_it_would_be_masked() {
    for (arguments, refused) in [
        (r#"{"a":"x blo","b":"cked y"}"#, true),
        (r#"["blo",1,"cked"]"#, true),
        (r#"{"a":"blo","cked":"y"}"#, false),
        (r#"{"blo":"cked"}"#, false),
        (r#"{"a":"blocked","b":"cked"}"#, false),
    ] {
        for cut in 0..arguments.len() {
            let body = call(&arguments[..cut]) + &call(&arguments[cut..]);
            let mut hold = chat(&["blocked"], Action::Mask);
            let (seen, stopped) = filtered(&mut hold, [body.as_bytes()]);
            assert_eq!(stopped.is_some(), refused, "{arguments} at {cut}");
            assert!(
                !called(&seen).contains("blo\",\"b\":\"cked"),
                "{arguments} at {cut}"
            );
        }
    }
    // Where the next value may go on with it, it waits; once the arguments have closed, none follows.
    let mut waits = chat(&["blocked"], Action::Mask);
    let deltas = [r#"{"a":"x blo"#, r#"","b":1"#, "}"].map(|piece| call(piece).into_bytes());
    let all = deltas.concat().len();
    assert_eq!(out(&mut waits, &deltas), [0, 0, all]);
    let log = rules(&["blocked"], Action::Log);
    let mut hold = hold(CHAT, Framing::Sse, &log, LIMITS);
    let body = call(r#"{"a":"blo","b":"cked"}"#) + std::str::from_utf8(DONE).unwrap();
    assert_eq!(text(&mut hold, body.as_bytes()), body);
    assert_eq!(hold.take_hits().count(), 1);
}

#[test]
fn a_text_under_a_signature_is_not_edited_but_may_be_refused() {
    let delta = |kind: &str, name: &str, text: &str| {
        format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"{kind}\",\"{name}\":\"{text}\"}}}}\n\n"
        )
    };
    let body = delta("thinking_delta", "thinking", "a blo")
        + &delta("thinking_delta", "thinking", "cked")
        + &delta("signature_delta", "signature", "Eblocked==");
    let mut masks = hold(
        "/v1/messages",
        Framing::Sse,
        &rules(&["blocked"], Action::Mask),
        LIMITS,
    );
    assert_eq!(text(&mut masks, body.as_bytes()), body);
    let hits: Vec<_> = masks.take_hits().map(|(_, action)| action).collect();
    assert_eq!(hits, [Action::Log]);
    let mut refuses = hold(
        "/v1/messages",
        Framing::Sse,
        &rules(&["blocked"], Action::Reject),
        LIMITS,
    );
    assert_eq!(
        filtered(&mut refuses, [body.as_bytes()]),
        (Vec::new(), Some(Stop::Rule("words".into())))
    );
}

#[test]
fn a_text_that_is_told_again_is_counted_once_and_masked_each_time() {
    let event = |kind: &str, rest: &str| {
        format!(
            "event: {kind}\ndata: {{\"type\":\"{kind}\",\"item_id\":\"m\",\"output_index\":0,\"content_index\":0{rest}}}\n\n"
        )
    };
    let item = |text: &str| {
        format!(r#"{{"type":"message","content":[{{"type":"output_text","text":"{text}"}}]}}"#)
    };
    let body = |deltas: [&str; 2], whole: &str| {
        deltas
            .map(|delta| {
                event(
                    "response.output_text.delta",
                    &format!(r#","delta":"{delta}""#),
                )
            })
            .concat()
            + &event(
                "response.output_text.done",
                &format!(r#","text":"{whole}""#),
            )
            + &event(
                "response.output_item.done",
                &format!(r#","item":{}"#, item(whole)),
            )
            + &event(
                "response.completed",
                &format!(
                    r#","response":{{"instructions":"blocked","output":[{}]}}"#,
                    item(whole)
                ),
            )
    };
    let given = body(["so blo", "cked end"], "so blocked end");
    for size in [1, 9, given.len()] {
        let mut hold = hold(
            "/v1/responses",
            Framing::Sse,
            &rules(&["blocked"], Action::Mask),
            LIMITS,
        );
        let (seen, stopped) = filtered(&mut hold, given.as_bytes().chunks(size));
        let expected = body(["so ***", " end"], "so *** end");
        assert_eq!(
            (String::from_utf8(seen).unwrap(), stopped),
            (expected, None)
        );
        assert_eq!(hold.take_hits().count(), 1);
    }
}

#[test]
fn a_word_that_ends_with_its_text_is_found_in_the_last_event() {
    let whole = Rules::new(
        &[Rule {
            words: vec!["blocked".to_owned()],
            action: Action::Mask,
            ..Rule::new("words")
        }],
        Side::Response,
    )
    .unwrap();
    let mut hold = hold(CHAT, Framing::Sse, &whole, LIMITS);
    let body = [chunk(0, "a unblocked BLO"), chunk(0, "CKED"), DONE.to_vec()].concat();
    let expected = [chunk(0, "a unblocked ***"), chunk(0, ""), DONE.to_vec()].concat();
    assert_eq!(text(&mut hold, &body).into_bytes(), expected);
}

#[test]
fn a_cut_lets_go_the_events_that_are_whole() {
    let mut hold = chat(&["blocked"], Action::Mask);
    let first = chunk(0, "a blo");
    let second = &chunk(0, "cked")[..20];
    assert_eq!(out(&mut hold, &[first.clone(), second.to_vec()]), [0, 0]);
    hold.cut_off();
    assert_eq!(hold.next().as_deref(), Some(&first[..]));
    assert_eq!((hold.next(), hold.stopped()), (None, None));
}

/// S16, under the filter.
#[test]
fn an_event_over_the_limit_is_refused_or_passes_and_is_never_kept() {
    let large = [
        chunk(0, &"x".repeat(3 << 20)),
        chunk(0, "blocked"),
        DONE.to_vec(),
    ]
    .concat();
    let rules = rules(&["blocked"], Action::Mask);
    let mut refuses = hold(CHAT, Framing::Sse, &rules, LIMITS);
    let (seen, stopped) = filtered(&mut refuses, large.chunks(4096));
    assert_eq!((seen.len(), stopped), (0, Some(Stop::TooLarge)));
    let passing = Limits {
        passes: true,
        ..LIMITS
    };
    let mut passes = hold(CHAT, Framing::Sse, &rules, passing);
    let mut longest = 0;
    let mut seen = Vec::new();
    for piece in large.chunks(4096) {
        passes.feed(Bytes::copy_from_slice(piece));
        while let Some(frame) = passes.next() {
            seen.extend_from_slice(&frame);
        }
        longest = longest.max(passes.waits());
    }
    passes.finish();
    while let Some(frame) = passes.next() {
        seen.extend_from_slice(&frame);
    }
    // The event that was too large passed; the one behind it is read.
    let expected = String::from_utf8(large).unwrap().replace("blocked", "***");
    assert!(seen == expected.into_bytes());
    assert!(longest <= LIMITS.event as u64, "{longest} bytes waited");
}

#[test]
fn a_row_of_events_that_would_wait_for_ever_is_refused_or_passes() {
    let word = "ab".repeat(2000);
    let body: Vec<Vec<u8>> = (0..1000).map(|_| chunk(0, "ab")).collect();
    let rules = rules(&[&word], Action::Mask);
    let small = Limits {
        event: 32 * 1024,
        ..LIMITS
    };
    let mut refuses = hold(CHAT, Framing::Sse, &rules, small);
    let (seen, stopped) = filtered(&mut refuses, body.iter().map(Vec::as_slice));
    assert_eq!((seen.len(), stopped), (0, Some(Stop::TooLarge)));
    let passing = Limits {
        passes: true,
        ..small
    };
    let mut passes = hold(CHAT, Framing::Sse, &rules, passing);
    let (seen, stopped) = filtered(&mut passes, body.iter().map(Vec::as_slice));
    assert!(seen == body.concat() && stopped.is_none());
}

#[test]
fn more_texts_than_anybody_has_are_refused_or_pass() {
    let body: Vec<u8> = (0..3000).flat_map(|choice| chunk(choice, "x")).collect();
    let rules = rules(&["blocked"], Action::Mask);
    let mut refuses = hold(CHAT, Framing::Sse, &rules, LIMITS);
    assert_eq!(
        filtered(&mut refuses, body.chunks(1000)).1,
        Some(Stop::TooLarge)
    );
    let passing = Limits {
        passes: true,
        ..LIMITS
    };
    let mut passes = hold(CHAT, Framing::Sse, &rules, passing);
    assert!(filtered(&mut passes, body.chunks(1000)) == (body, None));
}

#[test]
fn a_clean_event_allocates_nothing() {
    let mut hold = chat(&["blocked", "nowhere"], Action::Mask);
    let frames: Vec<Bytes> = (0..64)
        .map(|_| chunk(0, " all is well, sa\u{ed}d \"he\"").into())
        .collect();
    let (early, late) = frames.split_at(32);
    let feed = |hold: &mut Hold, frames: &[Bytes]| {
        for frame in frames {
            hold.feed(frame.clone());
            assert!(hold.next().is_some());
        }
    };
    feed(&mut hold, early);
    let counted = tollgate_testing::alloc::count(|| feed(&mut hold, late));
    // `Bytes` of a vector allocates its count when it is cloned first.
    assert!(counted.count <= late.len() as u64, "{counted:?}");
    let counted = tollgate_testing::alloc::count(|| feed(&mut hold, late));
    assert_eq!(counted.count, 0, "{counted:?}");
}
