//! How many requests run at a place, while they run.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
};

/// How many requests run at a place, and how many of them asked for a stream.
///
/// A [`Record`](super::Record) that [was told of it](super::Record::set_running) counts in it until its request is over.
#[derive(Debug, Default)]
pub struct Running {
    requests: AtomicI64,
    streams: AtomicI64,
}

impl Running {
    /// Requests that run now.
    pub fn requests(&self) -> i64 {
        self.requests.load(Relaxed)
    }

    /// Those of them that asked for a stream.
    pub fn streams(&self) -> i64 {
        self.streams.load(Relaxed)
    }

    fn add(&self, stream: bool, by: i64) {
        self.requests.fetch_add(by, Relaxed);
        if stream {
            self.streams.fetch_add(by, Relaxed);
        }
    }
}

/// One request that runs.
#[derive(Debug)]
pub(super) struct Runs {
    at: Arc<Running>,
    stream: bool,
    ended: AtomicBool,
}

impl Runs {
    pub(super) fn begin(at: Arc<Running>, stream: bool) -> Self {
        at.add(stream, 1);
        Self {
            at,
            stream,
            ended: AtomicBool::new(false),
        }
    }

    /// For the one who settles the request.
    pub(super) fn end(&self) {
        if !self.ended.load(Relaxed) {
            self.ended.store(true, Relaxed);
            self.at.add(self.stream, -1);
        }
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_runs_is_counted_until_it_ends_and_once() {
        let at = Arc::new(Running::default());
        let (document, stream) = (
            Runs::begin(at.clone(), false),
            Runs::begin(at.clone(), true),
        );
        assert_eq!((at.requests(), at.streams()), (2, 1));
        stream.end();
        stream.end();
        assert_eq!((at.requests(), at.streams()), (1, 0));
        drop(stream);
        drop(document);
        assert_eq!((at.requests(), at.streams()), (0, 0));
    }
}
