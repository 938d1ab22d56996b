//! What a program that has a tokenizer charges by estimate.

use tollgate_testing::{
    client::{Conn, request},
    upstream::{Gate, Script, Upstream},
};

use crate::{
    binary::{CHAT, chat, until},
    inside::{Inside, config, one},
};

/// Eleven tokens by `o200k`, and fewer by the heuristic.
const SAID: &str = "antidisestablishmentarianism 31415926535";
const COMPLETION: u64 = 11;

/// Of [`chat`]: one token of a text, four around its message, three around them all.
const PROMPT: u64 = 8;

/// The counting is on a thread of its own, and a request does not wait for it: sooner or later it is in time.
#[tokio::test]
async fn who_leaves_is_charged_what_the_tokenizer_counts() {
    let (upstream, gate) = (Upstream::start().await, Gate::new("rest"));
    let event = format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{SAID}\"}},\"finish_reason\":null}}]}}\n\n"
    );
    upstream.serve_default(Script::events([event.clone()]).wait(&gate).end());
    let inside = Inside::start(&config(&one(upstream.addr(), "")));
    let mut asked = 0;
    until("a charge that was counted", async || {
        let conn = Conn::open(inside.data()).await;
        conn.send(request("POST", CHAT, &[], chat("gpt-4o", true)))
            .await
            .expect("the gateway reads the request");
        assert!(conn.until(|answer| answer.body.len() >= event.len()).await);
        conn.close().await;
        asked += 1;
        let charged = &inside.lines(asked).await.pop().expect("a line")["charged"];
        assert_eq!(charged["source"], "estimated");
        let told = |field: &str| charged[field].as_u64().expect("a number");
        ((told("prompt"), told("completion")) == (PROMPT, COMPLETION)).then_some(())
    })
    .await;
}
