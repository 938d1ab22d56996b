//! The pool, over in-memory pipes and with a clock that the test moves.

use std::cell::Cell;

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

type Piped<K> = Client<Pipes, Sent, TokioIo<DuplexStream>, K>;

fn piped<K: Clock>(pool: Pool, clock: K) -> (Piped<K>, Pipes) {
    let pipes = Pipes::default();
    let origin = Uri::from_static("http://provider.test");
    (
        Client::with_clock(pipes.clone(), origin, pool, clock),
        pipes,
    )
}

/// Leaves `count` idle connections in the pool; gives the provider's ends, the one that became idle first in front.
async fn fill<K: Clock>(client: &Piped<K>, pipes: &Pipes, count: usize) -> Vec<DuplexStream> {
    let mut answers = Vec::new();
    let mut ends = Vec::new();
    for _ in 0..count {
        let (answer, end) = tokio::join!(call(client, post("x", "{}")), async {
            settle().await;
            let mut end = pipes.last();
            read_request(&mut end, "{}").await;
            write(&mut end, OK).await;
            end
        });
        answers.push(answer.unwrap());
        ends.push(end);
    }
    for answer in answers {
        answer.into_body().collect().await.unwrap();
    }
    ends
}

/// Sends a request over a pooled connection that ends at `end`.
async fn goes_to<K: Clock>(client: &Piped<K>, end: &mut DuplexStream) {
    let (answer, ()) = tokio::join!(text(client, post("x", "{}")), async {
        read_request(end, "{}").await;
        write(end, OK).await;
    });
    assert_eq!(answer.unwrap(), "ok");
}

fn pool(idle: u64, max_idle: usize, max_age: u64) -> Pool {
    Pool {
        idle: Duration::from_secs(idle),
        max_idle,
        max_age: Duration::from_secs(max_age),
    }
}

#[tokio::test]
async fn the_connection_that_was_used_last_is_used_next() {
    let (client, pipes) = piped(Pool::default(), SystemClock);
    let mut ends = fill(&client, &pipes, 3).await;
    assert_eq!(client.idle(), 3);
    goes_to(&client, &mut ends[2]).await;
    goes_to(&client, &mut ends[2]).await;
    drop(ends.pop());
    goes_to(&client, &mut ends[1]).await;
    assert_eq!((client.idle(), pipes.count()), (2, 0), "nothing was opened");
}

/// The system is asked about a connection only if the runtime has not looked at it while it was idle, and such a one is
/// taken only where there is no other.
#[tokio::test]
async fn one_that_the_runtime_has_looked_at_goes_before_others_and_unasked() {
    thread_local! {
        static LOOKS: Cell<u64> = const { Cell::new(1) };
        static ASKED: Cell<usize> = const { Cell::new(0) };
    }
    let (client, pipes) = piped(Pool::default(), SystemClock);
    let client = client.looks(|| LOOKS.get()).quiet(|_| {
        ASKED.set(ASKED.get() + 1);
        true
    });
    let mut ends = fill(&client, &pipes, 2).await;
    LOOKS.set(2);
    goes_to(&client, &mut ends[1]).await;
    goes_to(&client, &mut ends[0]).await;
    assert_eq!(ASKED.get(), 0, "the runtime would have heard");
    goes_to(&client, &mut ends[0]).await;
    assert_eq!(ASKED.get(), 1, "no look since it was given back");
    assert_eq!((client.idle(), pipes.count()), (2, 0));
}

#[tokio::test]
async fn a_dead_connection_is_passed_over_for_one_that_lives() {
    let (client, pipes) = piped(Pool::default(), SystemClock);
    let mut ends = fill(&client, &pipes, 2).await;
    drop(ends.pop());
    goes_to(&client, &mut ends[0]).await;
    assert_eq!((client.idle(), pipes.count()), (1, 0));
}

#[tokio::test]
async fn a_request_that_was_not_written_goes_out_over_a_fresh_connection_as_it_was() {
    let (client, pipes) = piped(Pool::default(), SystemClock);
    let ends = fill(&client, &pipes, 2).await;
    drop(ends);
    let (answer, sent) = tokio::join!(text(&client, post("x", "the body")), async {
        settle().await;
        let mut end = pipes.last();
        let sent = read_request(&mut end, "the body").await;
        write(&mut end, OK).await;
        sent
    });
    assert_eq!(answer.unwrap(), "ok");
    assert!(sent.starts_with("POST /v1/chat/completions?a=%2F HTTP/1.1\r\n"));
    assert!(sent.contains("content-length: 8\r\n"));
    assert_eq!(client.idle(), 0, "its other end is gone");
}

#[tokio::test]
async fn no_more_than_max_idle_are_kept_and_the_oldest_goes_first() {
    let (client, pipes) = piped(pool(60, 2, 600), SystemClock);
    let mut ends = fill(&client, &pipes, 3).await;
    assert_eq!(client.idle(), 2);
    assert_eq!(ends[0].read(&mut [0]).await.unwrap(), 0, "it was closed");
    goes_to(&client, &mut ends[2]).await;

    let (client, pipes) = piped(pool(60, 0, 600), SystemClock);
    let mut ends = fill(&client, &pipes, 1).await;
    assert_eq!(client.idle(), 0);
    assert_eq!(ends[0].read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_connection_that_was_idle_too_long_is_not_used() {
    let clock = Manual::new();
    let (client, pipes) = piped(pool(60, 9, 600), clock.clone());
    let mut ends = fill(&client, &pipes, 1).await;
    clock.advance(Duration::from_millis(59_999));
    goes_to(&client, &mut ends[0]).await;
    clock.advance(Duration::from_secs(60));
    assert_eq!(client.idle(), 1, "nobody has looked yet");
    fill(&client, &pipes, 1).await;
    assert_eq!(ends[0].read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_connection_of_age_serves_no_further_request() {
    let clock = Manual::new();
    let (client, pipes) = piped(pool(60, 9, 100), clock.clone());
    let mut ends = fill(&client, &pipes, 1).await;
    clock.advance(Duration::from_secs(50));
    goes_to(&client, &mut ends[0]).await;
    clock.advance(Duration::from_secs(49));
    goes_to(&client, &mut ends[0]).await;
    assert_eq!(client.idle(), 1);
    clock.advance(Duration::from_secs(1));
    let fresh = fill(&client, &pipes, 1).await;
    assert_eq!(ends[0].read(&mut [0]).await.unwrap(), 0);
    assert_eq!((fresh.len(), client.idle()), (1, 1));
}

#[tokio::test]
async fn sweeping_closes_what_is_past_its_time_and_nothing_else() {
    let clock = Manual::new();
    let (client, pipes) = piped(pool(60, 9, 600), clock.clone());
    let mut ends = fill(&client, &pipes, 2).await;
    clock.advance(Duration::from_secs(30));
    goes_to(&client, &mut ends[1]).await;
    client.sweep();
    assert_eq!(client.idle(), 2);
    clock.advance(Duration::from_secs(30));
    client.sweep();
    assert_eq!(client.idle(), 1);
    assert_eq!(ends[0].read(&mut [0]).await.unwrap(), 0);
    goes_to(&client, &mut ends[1]).await;
}

#[tokio::test]
async fn a_retired_client_keeps_no_connection() {
    let (client, pipes) = piped(pool(60, 9, 600), SystemClock);
    let mut ends = fill(&client, &pipes, 2).await;
    client.retire();
    assert_eq!(client.idle(), 0);
    for end in &mut ends {
        assert_eq!(end.read(&mut [0]).await.unwrap(), 0, "it was closed");
    }
    // Who still has a clone is served, on a connection that is closed behind the answer.
    let mut ends = fill(&client.clone(), &pipes, 1).await;
    assert_eq!(client.idle(), 0);
    assert_eq!(ends[0].read(&mut [0]).await.unwrap(), 0);
}
