//! What the SDKs' users see of failures, and how many calls that costs: the SDK's own tries times the gateway's.

use crate::{
    harness::Stage,
    sdk::{python, run},
};

/// U04: `e500`: the gateway tries three times and says that it did, so the SDK asks once. `e429`: Retry-After of a second is
/// waited for. `cut`: an error is raised. `slow`: served.
#[tokio::test]
async fn sdks_see_failures_as_they_are_and_do_not_multiply_attempts() {
    for (name, package) in [("openai-sdk", "openai"), ("anthropic-sdk", "anthropic")] {
        let Some(python) = python(name, package) else {
            continue;
        };
        let stage = Stage::start("providers: { m: { dialect: mock } }\n");
        let base = format!("http://{}", stage.addr());
        let said = run(python, "failures.py", &[package, &base]).await;
        assert!(said.contains("failures: ok"), "{said}");
        let log = stage.log();
        stage.stop().await;
        // The script names its requests; the SDK's second try of one would be a request of its own.
        let attempts = |id: &str| log.first(id)["attempts"].as_array().map(Vec::len);
        let of = |start: &str| {
            log.requests()
                .into_iter()
                .filter(|id| id.starts_with(start))
                .count()
        };
        assert_eq!((of("e500"), attempts("e500")), (1, Some(3)), "{package}");
        assert_eq!((of("cut"), attempts("cut")), (1, Some(1)), "{package}");
        assert_eq!((of("slow"), attempts("slow")), (1, Some(1)), "{package}");
        // The wait is a short one, so the SDK is left its own: three tries of its, each tried three times here.
        let named = ["e500", "cut", "slow"];
        let ids = log.requests();
        let limited = ids
            .iter()
            .filter(|id| !named.iter().any(|it| id.starts_with(it)));
        let limited: Vec<_> = limited.map(|id| attempts(id)).collect();
        println!("{package}: e429: {limited:?} attempts");
        assert_eq!(limited, [Some(3); 3], "{package}");
    }
}

/// The frames that keep a silent stream alive are no part of it for an SDK: what it hands over is what the provider said, byte for
/// byte (row 4.5 of what clients bear).
#[tokio::test]
async fn sdks_do_not_notice_what_keeps_a_stream_alive() {
    for (name, package) in [("openai-sdk", "openai"), ("anthropic-sdk", "anthropic")] {
        let Some(python) = python(name, package) else {
            continue;
        };
        let stage = Stage::start(
            "providers: { m: { dialect: mock } }\nlayers: { keepalive: { every: 20ms } }\n",
        );
        let base = format!("http://{}", stage.addr());
        let said = run(python, "alive.py", &[package, &base]).await;
        assert!(said.contains("alive: ok"), "{said}");
        let log = stage.log();
        stage.stop().await;
        for id in log.requests() {
            let line = log.first(&id);
            assert_eq!(line["ended"], "complete", "{package}: {line}");
            assert_eq!(
                line["edited_by"],
                serde_json::json!(["seal"]),
                "{package}: {line}"
            );
        }
    }
}
