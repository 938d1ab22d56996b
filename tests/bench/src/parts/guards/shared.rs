//! What a limit costs a request that is counted in Redis, beside one that is counted here: in the runtime of a worker.

use std::{
    hint::black_box,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use tempfile::{TempDir, tempdir};
use tokio::runtime::{Builder, Runtime};
use tollgate_middleware::{
    facts::{Caller, Terms},
    rate_limit::{ByCaller, Cells, Limit, Quota, RateLimitLayer},
    store::{
        Contact, OnError, Store,
        redis::{Redis, Settings},
    },
};
use tower_layer::Layer;
use tower_service::Service;

use super::{Inside, added, head, request};

/// A server of this run.
pub(crate) struct Server(Child, TempDir);

/// Tells of each way to count what it costs a request.
pub(super) fn each(tell: &mut impl FnMut(&str, f64)) {
    let Some(server) = Server::start() else {
        eprintln!("not measured: a limit that is counted in Redis needs redis-server");
        return;
    };
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime of this thread");
    let store = server.link(&runtime);
    // The burst alone says how large a lease is: a tenth of it for both.
    let leased = quota(u32::MAX);
    let each = quota(19);
    let local = cost(&runtime, None, leased);
    let lease = cost(&runtime, Some(store.clone()), leased);
    let trip = cost(&runtime, Some(store), each);
    tell("rate_limit by caller, counted here, in a runtime", local);
    tell("rate_limit by caller, counted in Redis, leased", lease);
    tell(
        "rate_limit by caller, counted in Redis, a trip for each request",
        trip,
    );
}

/// So often that it never refuses here.
fn quota(burst: u32) -> Quota {
    let quota = Quota::new(u32::MAX, Duration::from_secs(1)).expect("a rate");
    quota.with_burst(burst).expect("a burst")
}

fn cost(runtime: &Runtime, store: Option<Arc<dyn Store>>, quota: Quota) -> f64 {
    let key = ByCaller::new([("team-500".into(), quota.into())]);
    let limit = Limit::new("requests", key, Cells::new(0));
    let layer = RateLimitLayer::new([limit]).shared(store);
    let (made, caller) = (head(), Caller::new("team-500", Terms::default()));
    let make = || request(&made, None, Some(&caller));
    let (mut bare, mut guarded) = (Inside, layer.layer(Inside));
    added(
        || drop(black_box(runtime.block_on(bare.call(make())))),
        || {
            let answer = runtime.block_on(async { guarded.call(make()).await });
            assert!(answer.is_ok(), "the request is let in");
            drop(black_box(answer));
        },
    )
}

impl Server {
    pub(crate) fn start() -> Option<Self> {
        let folder = tempdir().ok()?;
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket", "redis.sock"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Some(Self(child.ok()?, folder))
    }

    /// A connection that is up.
    pub(crate) fn link(&self, runtime: &Runtime) -> Arc<dyn Store> {
        let url = format!("unix://{}/redis.sock", self.1.path().display());
        let settings = Settings {
            // Nothing here is to be decided without it.
            timeout: Duration::from_secs(10),
            replicas: 2,
            on_error: OnError::Refuse,
        };
        let redis = Redis::new(&url, settings).expect("an address");
        let (link, upkeep) = redis.link();
        runtime.spawn(upkeep.run());
        runtime.block_on(async {
            while link.contact() != Contact::Up {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Arc::new(link)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
