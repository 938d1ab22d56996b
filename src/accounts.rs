//! Keeps the budgets that several gateways share: a thread of its own, with a connection of its own, so that no request waits for it.

use std::{convert::Infallible, io, thread};

use tokio::{runtime, sync::oneshot};
use tollgate_middleware::{budget::Shared, clock::SystemClock};

/// The thread. Dropping it waits until the store knows what has ended, a second at most.
#[derive(Debug)]
pub(crate) struct Keeper {
    // Dropped first: that is what ends the thread.
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Keeper {
    /// Begins to keep these accounts; `connect` is called inside the thread's runtime, before anything else.
    ///
    /// # Errors
    ///
    /// The thread or its runtime cannot be made.
    pub(crate) fn start(
        accounts: Shared,
        connect: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel::<Infallible>();
        let run = async move {
            connect();
            tokio::select! {
                () = accounts.keep(SystemClock) => {}
                // The sender sends nothing: it is dropped.
                _ = stopped => {}
            }
            accounts.flush(SystemClock).await;
        };
        let thread = thread::Builder::new()
            .name("budgets".into())
            .spawn(move || runtime.block_on(run))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It ends when the store knows all, or does not answer.
            let _ = thread.join();
        }
    }
}
