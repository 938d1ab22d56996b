//! How an answer is broken off, and by whom.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_answer_without_framing_is_broken_by_a_reset() {
    for (version, length, reset) in [
        (Version::HTTP_10, None, true),
        (Version::HTTP_10, Some(500), false),
        (Version::HTTP_11, None, false),
    ] {
        let conn = Conn::new();
        let case = Case {
            version,
            length,
            conn: Some(conn.clone()),
            ..Case::default()
        };
        case.cut("data: {}\n\n").await;
        assert_eq!(conn.asked_to_reset(), reset, "{version:?} {length:?}");
    }
    let conn = Conn::new();
    let case = Case {
        version: Version::HTTP_10,
        conn: Some(conn.clone()),
        ..Case::default()
    };
    let whole = case.seal(Script::data(b"data: {}\n\n", &Split::Whole), truncated);
    assert!(collect(whole).await.whole() && !conn.asked_to_reset());
}

#[tokio::test(start_paused = true)]
async fn a_server_can_cut_a_running_answer() {
    for (cut, reason, code) in [
        (Cut::Drain, Reason::Draining, "\"code\":\"draining\""),
        (
            Cut::SlowReader,
            Reason::SlowReader,
            "\"code\":\"slow_reader\"",
        ),
    ] {
        let conn = Conn::new();
        let case = Case {
            conn: Some(conn.clone()),
            ..Case::default()
        };
        let script = Script::data(b"data: 1\n\ndata: 2\n\n", &Split::Bytes(9));
        let polls = script.polls();
        let mut body = case.seal(script, truncated);
        assert!(poll(&mut body).is_ready());
        conn.cut(cut);
        let Poll::Ready(Some(Ok(event))) = poll(&mut body) else {
            panic!("no event");
        };
        let event: Bytes = event.into_data().unwrap();
        assert!(std::str::from_utf8(&event).unwrap().contains(code));
        assert!(polls.dropped());
        conn.flushed();
        let Poll::Ready(Some(Err(error))) = poll(&mut body) else {
            panic!("not broken");
        };
        assert_eq!(Rejection::find(&*error).unwrap().reason(), reason);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_back_inside_comes_before_the_cut() {
    let conn = Conn::new();
    let case = Case {
        conn: Some(conn.clone()),
        ..Case::default()
    };
    let script = Script::data(b"data: 1\n\ndata: 2\n\n", &Split::Bytes(9));
    let mut body = case.seal(script.then(Item::Error), truncated);
    assert!(poll(&mut body).is_ready());
    let kept = conn.withhold();
    conn.cut(Cut::Drain);
    assert!(kept.is_over());
    let Poll::Ready(Some(Ok(frame))) = poll(&mut body) else {
        panic!("no frame");
    };
    assert_eq!(frame.into_data().unwrap(), "data: 2\n\n");
    // Behind it the end, in the words of who cut.
    let Poll::Ready(Some(Ok(event))) = poll(&mut body) else {
        panic!("no event");
    };
    let event = event.into_data().unwrap();
    assert!(std::str::from_utf8(&event).unwrap().contains("draining"));
    drop(kept);
    assert!(!conn.is_withholding());
}

#[tokio::test(start_paused = true)]
async fn dropping_the_sealed_body_drops_the_inner_one() {
    let script = Script::data(b"data: {}\n\n", &Split::Whole);
    let polls = script.polls();
    drop(Case::default().seal(script, truncated));
    assert!(polls.dropped());
}
