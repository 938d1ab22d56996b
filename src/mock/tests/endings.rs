//! Pace, length and untimely ends.

use std::task::Poll;

use super::*;

const WORD: Duration = Duration::from_millis(100);

#[tokio::test(start_paused = true)]
async fn slow_begins_a_stream_at_once_and_takes_its_time_for_each_word() {
    for way in WAYS {
        let seen = way.say("slow", true, "a b c").await;
        assert_eq!(way.text(&seen, true), "Echo: a b c");
        let (first, last) = (seen.frames[0].0, seen.frames.last().unwrap().0);
        assert_eq!(
            (seen.head_at, first),
            (Duration::ZERO, Duration::ZERO),
            "{way:?}"
        );
        // APIs without an opening event begin with a word.
        let words = if matches!(way, Way::Chat | Way::Messages | Way::Responses) {
            4
        } else {
            3
        };
        let (least, most) = (WORD * words, WORD * words + Duration::from_millis(20));
        assert!(least <= last && last <= most, "{way:?} took {last:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn slow_holds_a_document_back_until_all_is_said() {
    for way in WAYS {
        let seen = way.say("slow", false, "a b c").await;
        assert_eq!(way.text(&seen, false), "Echo: a b c");
        let most = WORD * 4 + Duration::from_millis(20);
        assert!(
            WORD * 4 <= seen.head_at && seen.head_at <= most,
            "{way:?} took {:?}",
            seen.head_at
        );
    }
}

#[tokio::test(start_paused = true)]
async fn long_says_400_words() {
    for way in WAYS {
        for streamed in [true, false] {
            let seen = way.say("long", streamed, "hi").await;
            let text = way.text(&seen, streamed);
            assert_eq!(text.split_whitespace().count(), 400, "{way:?} {streamed}");
            assert_eq!(text.trim(), text);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn cut_streams_three_events_and_dies() {
    for way in WAYS {
        let seen = way.say("cut", true, "hi").await;
        assert_eq!(
            (seen.status, way.events(&seen).len()),
            (StatusCode::OK, 3),
            "{way:?}"
        );
        assert!(seen.error.is_some(), "{way:?} has to fail");
    }
}

#[tokio::test(start_paused = true)]
async fn cut_dies_in_the_middle_of_a_document_whose_length_it_announced() {
    for way in WAYS {
        let seen = way.say("cut", false, "hi").await;
        let announced: usize = seen.headers["content-length"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        let came = seen.bytes().len();
        assert!(
            0 < came && came < announced,
            "{way:?}: {came} of {announced}"
        );
        assert!(seen.error.is_some(), "{way:?} has to fail");
    }
}

#[tokio::test]
async fn a_cut_body_is_over_after_its_error_only() {
    for streamed in [true, false] {
        let (path, body) = Way::Chat.request("cut", streamed, "hi");
        let request = Request::post(path)
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        let body = Mock.oneshot(request).await.unwrap().into_body();
        let mut body = std::pin::pin!(body);
        let mut ended = false;
        while !ended {
            assert!(!body.is_end_stream(), "the error is still to come");
            ended = body.frame().await.unwrap().is_err();
        }
        assert!(body.is_end_stream() && body.frame().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_pauses_before_its_error_is_not_over() {
    let (path, body) = Way::Chat.request("cut", false, "hi");
    let request = Request::post(path)
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap();
    let body = Mock.oneshot(request).await.unwrap().into_body();
    let mut body = std::pin::pin!(body);
    body.frame().await.unwrap().unwrap();
    let pending = std::future::poll_fn(|cx| Poll::Ready(body.as_mut().poll_frame(cx).is_pending()));
    assert!(pending.await && !body.is_end_stream());
    assert!(body.frame().await.unwrap().is_err() && body.is_end_stream());
}

#[tokio::test]
async fn count_gives_that_many_content_events_and_few_others() {
    for n in [0, 1, 25, 1000] {
        for way in WAYS {
            let seen = way.say(&format!("count-{n}"), true, "hi").await;
            let numbers: Vec<String> = (1..=n).map(|i| i.to_string()).collect();
            assert_eq!(way.text(&seen, true), numbers.join(" "), "{way:?}");
            if way == Way::Chat {
                assert_eq!(seen.frames.len(), n + 4);
            }
            let seen = way.say(&format!("count-{n}"), false, "hi").await;
            assert_eq!(way.text(&seen, false), numbers.join(" "), "{way:?}");
        }
    }
}

#[tokio::test]
async fn the_most_that_is_counted_is_100000() {
    let seen = Way::Chat.say("count-100000", true, "hi").await;
    assert_eq!(seen.frames.len(), 100_004);
    for name in [
        "count-100001",
        "count-99999999999999999999",
        "count-",
        "count-+5",
        "count--1",
    ] {
        assert_eq!(
            Way::Chat.say(name, true, "hi").await.status,
            StatusCode::NOT_FOUND,
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_stream_says_that_it_is_over_with_its_last_event() {
    for way in WAYS {
        for model in ["echo", "count-0"] {
            let (path, body) = way.request(model, true, "");
            let request = Request::post(path)
                .body(Full::new(Bytes::from(body.to_string())))
                .unwrap();
            let body = Mock.oneshot(request).await.unwrap().into_body();
            let mut body = std::pin::pin!(body);
            assert_eq!(body.size_hint().exact(), None);
            let mut last = Bytes::new();
            while !body.is_end_stream() {
                last = body.frame().await.unwrap().unwrap().into_data().unwrap();
            }
            assert!(body.frame().await.is_none(), "{way:?} {model}");
            let last = std::str::from_utf8(&last).unwrap();
            let marks = ["[DONE]", "message_stop", "response.completed", "STOP"];
            assert!(
                marks.iter().any(|mark| last.contains(mark)),
                "{way:?}: {last}"
            );
        }
    }
}
