//! Tells a callback of requests that have ended, beside their way.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use super::{Record, Sink};

/// A [`Sink`] that hands each record to a callback on another thread. No request waits for it: what finds the queue full is
/// dropped and counted. Clones share the queue.
///
/// ```
/// use tollgate_middleware::record::{Ended, Queue, RecordLayer};
///
/// let (queue, events) = Queue::pair(1024);
/// let teller = std::thread::spawn(move || {
///     events.run(|record| {
///         let failed = record.ended().is_some_and(Ended::is_failure);
///         record.with_metered(|metered| println!("{failed}: {:?}", metered.map(|it| it.charge)));
///     });
/// });
/// let layer = RecordLayer::new(queue);
/// // With the last sink the thread ends.
/// drop(layer);
/// teller.join().unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Queue {
    to: SyncSender<Record>,
    dropped: Arc<AtomicU64>,
}

/// The other end of a [`Queue`]: give it a thread.
pub struct Events(Receiver<Record>);

// ===== impl Queue =====

impl Queue {
    /// A sink, and what calls back. At most `capacity` records wait, and at least one.
    pub fn pair(capacity: usize) -> (Self, Events) {
        let (to, from) = sync_channel(capacity.max(1));
        let queue = Self {
            to,
            dropped: Arc::default(),
        };
        (queue, Events(from))
    }

    /// Requests whose end nobody was told, since the queue was full or its other end gone.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Sink for Queue {
    fn ended(&self, record: &Record) {
        if self.to.try_send(record.clone()).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// ===== impl Events =====

impl Events {
    /// Calls back with each record, in the order in which the requests ended, until every sink is gone. Blocks: it is for a thread,
    /// not for a task.
    pub fn run(self, mut tell: impl FnMut(&Record)) {
        while let Ok(record) = self.0.recv() {
            tell(&record);
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use http::{HeaderMap, HeaderValue, Method};

    use super::*;
    use crate::{
        clock::{Clock, SystemClock},
        record::Ended,
    };

    fn record(ended: Ended) -> Record {
        let head = (
            &Method::POST,
            &"/v1/messages".parse().unwrap(),
            &HeaderMap::new(),
        );
        let id = HeaderValue::from_static("id");
        let record = Record::new(id, head, SystemClock.now(), SystemTime::UNIX_EPOCH);
        record.set_ended(ended);
        record
    }

    #[test]
    fn each_end_is_told_in_order_and_a_full_queue_drops() {
        let (queue, events) = Queue::pair(2);
        let other = queue.clone();
        queue.ended(&record(Ended::Complete));
        other.ended(&record(Ended::UpstreamTruncated));
        queue.ended(&record(Ended::Complete));
        assert_eq!((queue.dropped(), other.dropped()), (1, 1));
        drop((queue, other));
        let mut told = Vec::new();
        events.run(|record| told.extend(record.ended()));
        assert_eq!(told, [Ended::Complete, Ended::UpstreamTruncated]);
        let failed: Vec<bool> = told.into_iter().map(Ended::is_failure).collect();
        assert_eq!(failed, [false, true]);
    }

    #[test]
    fn nobody_waits_for_an_end_that_is_gone() {
        let (queue, events) = Queue::pair(0);
        drop(events);
        queue.ended(&record(Ended::Complete));
        assert_eq!(queue.dropped(), 1);
    }
}
