//! F15: heads as large as they may be, on many connections at once.

use tollgate_testing::{
    client::{Conn, call},
    upstream::Upstream,
};

use super::{program, scale};
use crate::binary::until;

/// KiB of a head, by default.
const LARGEST: u64 = 32;
/// KiB that a connection may cost beside it: HTTP, and what the allocator keeps of a buffer that grew.
const CONSTANT: u64 = 40;

#[tokio::test]
async fn heads_that_never_end_cost_what_a_head_may_have() {
    let count = scale(200, 2000);
    let upstream = Upstream::start().await;
    let program = program(upstream.addr(), "head_timeout: 120s").await;
    let (data, admin) = (program.data().await, program.admin().await);
    // One byte less than what is refused, and no end.
    let start = "GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nx: ";
    let head = start.to_owned() + &"a".repeat(LARGEST as usize * 1024 - start.len());
    let begin = async || {
        let conn = Conn::open(data).await;
        conn.send(&head).await.expect("it is taken");
        conn
    };
    for _ in 0..20 {
        begin().await.close().await;
    }
    let before = program.resident();
    let mut conns = Vec::new();
    for _ in 0..count {
        conns.push(begin().await);
    }
    // Each was read: the next byte is refused at once.
    let last = conns.pop().expect("many");
    last.send("a").await.expect("it is taken");
    assert_eq!(last.response().await.status(), 431);
    until("all of them", async || {
        let page = call(admin, "GET", "/metrics", &[], "").await.text();
        let open = format!("tollgate_connections{{side=\"client\"}} {}\n", count - 1);
        page.contains(&open).then_some(())
    })
    .await;
    let each = program.resident().saturating_sub(before) / count as u64;
    println!("{count} heads of {LARGEST} KiB: {each} KiB for each");
    assert!(each <= LARGEST + CONSTANT, "{each} KiB");
    assert!(conns.iter().all(|conn| conn.lost().is_none()));
    drop(conns);
    assert_eq!(program.terminate().await.code, Some(0));
}
