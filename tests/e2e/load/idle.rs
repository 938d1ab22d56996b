//! R12: connections on which nothing goes on.

use tollgate_testing::{
    client::{Conn, request},
    upstream::Upstream,
};

use super::{program, scale};
use crate::binary::until;

/// What is kept of one that never spoke is its task and its socket; HTTP is made when the first byte comes, and is kept
/// afterwards. The bounds are those of a debug build: a release build has half of it.
#[tokio::test]
async fn a_connection_that_says_nothing_costs_little() {
    let count = scale(400, 9000);
    let upstream = Upstream::start().await;
    let program = program(upstream.addr(), "head_timeout: 120s").await;
    let data = program.data().await;
    let root = request("GET", "/", &[], b"");
    for _ in 0..50 {
        let conn = Conn::open(data).await;
        conn.send(&root).await.unwrap();
        assert_eq!(conn.response().await.status(), 200);
        conn.close().await;
    }
    let before = program.resident();
    let mut conns = Vec::new();
    for _ in 0..count {
        conns.push(Conn::open(data).await);
    }
    let admin = program.admin().await;
    until("all of them", async || {
        let page = tollgate_testing::client::call(admin, "GET", "/metrics", &[], "").await;
        let open = format!("tollgate_connections_open {count}\n");
        page.text().contains(&open).then_some(())
    })
    .await;
    let fresh = program.resident();
    for conn in &conns {
        conn.next("GET");
        conn.send(&root).await.unwrap();
    }
    for conn in &conns {
        assert_eq!(conn.response().await.status(), 200);
    }
    let used = program.resident();
    let each = |now: u64| now.saturating_sub(before) / count as u64;
    println!(
        "{count} connections: {} KiB each that was never used, {} KiB after a request",
        each(fresh),
        each(used)
    );
    assert!(each(fresh) <= 8, "{} KiB each", each(fresh));
    assert!(each(used) <= 48, "{} KiB each", each(used));
    drop(conns);
    assert_eq!(program.terminate().await.code, Some(0));
}
