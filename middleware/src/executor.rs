//! Where background work runs: handed in, never assumed.
//!
//! Constructing a layer spawns nothing. What must outlive a request (reading an answer on after its
//! client has left) is given to an [`Executor`] that the embedder chose.

use std::future::Future;

/// Runs a future to its end beside the request that gave it.
pub trait Executor: Clone + Send + Sync + 'static {
    /// Takes the future over. It must be polled to its end or dropped; it is never forgotten.
    fn execute(&self, work: impl Future<Output = ()> + Send + 'static);
}

/// Runs background work on the tokio runtime of the caller, on the thread that polls the request
/// where the runtime has one thread. Where there is none, or one that ends, the work is dropped.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioExecutor;

impl Executor for TokioExecutor {
    fn execute(&self, work: impl Future<Output = ()> + Send + 'static) {
        if tokio::runtime::Handle::try_current().is_ok() {
            #[expect(
                clippy::disallowed_methods,
                reason = "the one place of the library that spawns"
            )]
            tokio::spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_polled_to_its_end() {
        let (done, ended) = tokio::sync::oneshot::channel();
        TokioExecutor.execute(async move {
            let _ = done.send(7);
        });
        assert_eq!(ended.await, Ok(7));
    }
}
