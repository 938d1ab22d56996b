//! The open connections of one worker, so that a drain can reach them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{Notify, OwnedSemaphorePermit};
use tollgate_middleware::conn::Cut;

use super::{
    Tally,
    connection::{Order, Shared},
};

/// Touched when a connection opens and when it closes, never in between.
#[derive(Debug, Default)]
pub(super) struct Registry {
    open: Mutex<HashMap<u64, Arc<Shared>>>,
    next: AtomicU64,
    closed: Notify,
}

/// The entry of one connection; dropping it is the connection's end.
#[derive(Debug)]
pub(super) struct Entry {
    id: u64,
    registry: Arc<Registry>,
    tally: Tally,
    _room: OwnedSemaphorePermit,
}

impl Registry {
    pub(super) fn enter(
        self: Arc<Self>,
        shared: Arc<Shared>,
        tally: Tally,
        room: OwnedSemaphorePermit,
    ) -> Entry {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.open().insert(id, shared);
        Entry {
            id,
            registry: self,
            tally,
            _room: room,
        }
    }

    /// Each connection closes when it is between two requests.
    pub(super) fn finish(&self) {
        for shared in self.open().values() {
            shared.order(Order::Finish);
        }
    }

    /// The layers end the running answers; returns how many there are.
    pub(super) fn cut(&self) -> usize {
        let open = self.open();
        let busy = open
            .values()
            .filter(|shared| shared.phase.is_busy())
            .count();
        for shared in open.values() {
            shared.conn.cut(Cut::Drain);
            shared.order(Order::Finish);
        }
        busy
    }

    /// Completes when no connection is open.
    pub(super) async fn empty(&self) {
        loop {
            let closed = self.closed.notified();
            if self.open().is_empty() {
                return;
            }
            closed.await;
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Shared>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut open = self.registry.open();
        open.remove(&self.id);
        if open.is_empty() {
            self.registry.closed.notify_one();
        }
        self.tally.connection_closed();
    }
}
