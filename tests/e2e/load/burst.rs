//! D12: connections that come all at once and say nothing.

use std::time::Duration;

use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    task::JoinSet,
    time::{Instant, timeout},
};
use tollgate_testing::{client::call, upstream::Upstream};

use super::{patience, program, scale};
use crate::binary::{CHAT, chat};

/// What became of a connection that said nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Not accepted.
    Refused,
    /// Accepted, and closed in its time.
    Closed,
}

/// One that says nothing until it is closed.
async fn silent(data: std::net::SocketAddr) -> (Fate, Duration) {
    let began = Instant::now();
    let life = async {
        let Ok(mut stream) = TcpStream::connect(data).await else {
            return Fate::Refused;
        };
        let mut bytes = [0; 1024];
        // An answer that says 408 may come first; a reset is an end too.
        while let Ok(1..) = stream.read(&mut bytes).await {}
        Fate::Closed
    };
    let fate = timeout(patience(), life).await;
    (fate.expect("a connection hangs"), began.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_connects_and_then_silence_leaves_none_hanging() {
    let count = scale(500, 5000);
    // Room for all, and room for a few: then the others wait in the kernel until it is their turn.
    for limits in ["head_timeout: 1s", "head_timeout: 1s, connections: 2000"] {
        let limits = limits.replace("2000", &scale(200, 2000).to_string());
        let upstream = Upstream::start().await;
        let program = program(upstream.addr(), &limits).await;
        let data = program.data().await;
        let mut running = JoinSet::new();
        for _ in 0..count {
            running.spawn(silent(data));
        }
        let fates = running.join_all().await;
        let closed = fates
            .iter()
            .filter(|(fate, _)| *fate == Fate::Closed)
            .count();
        let last = fates.iter().map(|(_, took)| *took).max().expect("some");
        println!(
            "{count} connects with {limits}: {closed} accepted and closed, {} refused, the last after {last:?}",
            count - closed
        );
        assert!(closed > 0, "none was accepted");
        // Some for each listener: each worker still accepts.
        for _ in 0..16 {
            let answer = call(data, "POST", CHAT, &[], chat("m", false)).await;
            assert_eq!(answer.status(), 200, "{}", answer.text());
        }
        assert_eq!(upstream.snapshot().exchanges.len(), 16);
        assert_eq!(program.terminate().await.code, Some(0));
    }
}
