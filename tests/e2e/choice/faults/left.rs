//! What is left when all is over: nothing.

use tollgate_testing::{
    client::{self, Message},
    upstream::{Gate, Script, Upstream},
};

use super::{super::CHAT, AT_ONCE, Theatre};
use crate::{binary::until, harness::Ask};

impl Theatre {
    /// A figure of the gateway's.
    pub(super) async fn figure(&self, name: &str) -> u64 {
        let page = client::call(self.stage.admin(), "GET", "/metrics", &[], "").await;
        let text = page.text();
        let value = |line: &str| -> Option<u64> {
            let rest = line.strip_prefix(name)?;
            // Whatever its labels are.
            let value = rest
                .strip_prefix('{')
                .map_or(Some(rest), |labels| Some(labels.split_once('}')?.1))?;
            value.strip_prefix(' ')?.trim().parse().ok()
        };
        let values: Vec<_> = text.lines().filter_map(value).collect();
        assert!(!values.is_empty(), "{name} is not in {text}");
        values.into_iter().sum()
    }

    /// The sockets of this process that lead to the gateway or to a provider.
    fn sockets(&self) -> usize {
        let ports = self.upstreams.iter().map(Upstream::port);
        let ports: Vec<_> = ports.chain([self.stage.addr().port()]).collect();
        sockets(&ports)
    }

    /// Waits until nothing runs any more: no request, permit, task or socket beyond the `tasks` that there were at first.
    pub(super) async fn is_idle(&self, tasks: u64) {
        for name in [
            "tollgate_requests_in_flight",
            "tollgate_concurrency_held",
            "tollgate_concurrency_queued",
            "tollgate_streams_in_flight",
        ] {
            until(name, async || (self.figure(name).await == 0).then_some(())).await;
        }
        until("the tasks of the beginning", async || {
            (self.figure("tollgate_tasks").await == tasks).then_some(())
        })
        .await;
        // Those to the providers are kept for the next request.
        let clients = r#"tollgate_connections{side="client"}"#;
        until(clients, async || {
            (self.figure(clients).await == 0).then_some(())
        })
        .await;
        until("no socket", async || (self.sockets() == 0).then_some(())).await;
    }

    /// Every place at each provider is free: as many streams as there are places run at once, and not one more.
    pub(super) async fn every_place_is_free(&self) {
        let event = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n";
        for (name, upstream) in ["one", "two"].into_iter().zip(&self.upstreams) {
            let gate = Gate::new("all places are taken");
            let held = Script::events([event])
                .wait(&gate)
                .body("data: [DONE]\n\n")
                .end();
            upstream.serve("held", held);
            let body = format!(r#"{{"model":"{name}/m","stream":true,"messages":[]}}"#);
            let mut streams = Vec::new();
            for n in 0..=AT_ONCE {
                let id = format!("held-{name}-{n}");
                let mut ask = Ask::post(&id, CHAT, body.as_bytes());
                ask.script = "held";
                let conn = self.stage.open(ask.bytes()).await;
                let place = n < AT_ONCE;
                let came = |answer: &Message| answer.body == event.as_bytes() || answer.whole();
                assert!(conn.until(came).await, "{id}");
                let answer = conn.message();
                let told = (answer.status(), answer.header("tollgate-refused-by"));
                let refused = (503, Some("concurrency"));
                assert_eq!(told, if place { (200, None) } else { refused }, "{id}");
                streams.push(conn);
            }
            gate.open_for_all();
            for conn in streams {
                assert!(conn.response().await.whole());
                conn.close().await;
            }
        }
    }
}

/// The sockets that a process holds and that lead from or to one of these ports; who listens there is left out.
fn sockets(ports: &[u16]) -> usize {
    const LISTENS: &str = "0A";
    let table =
        std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table of connections");
    let port = |field: &str| {
        let (_, port) = field.split_once(':').expect("address:port");
        u16::from_str_radix(port, 16).expect("hexadecimal")
    };
    let lines = table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    // Without an inode it is the kernel's, which waits for what is late.
    let held = lines.filter(|it| it[3] != LISTENS && it[9] != "0");
    held.filter(|it| {
        [it[1], it[2]]
            .into_iter()
            .any(|end| ports.contains(&port(end)))
    })
    .count()
}
