//! A service that many requests call where it stands.

use std::{
    fmt,
    sync::Mutex,
    task::{Context, Poll, Waker},
};

use tower_service::Service;

/// A service, and the one clone of it that requests call in turn.
///
/// Whoever picks one of several services has to be ready before it is known which one is wanted, so the one that is picked is
/// cloned for its request. A clone of a stack counts all that it shares one up, and one down again; where a call is over before the next
/// one begins, as it is on one worker, one clone does for all. Where two threads call at once, one of them makes a clone of its own.
pub(crate) struct Resident<S> {
    service: S,
    called: Mutex<Option<S>>,
}

/// A call, or what is left of it where the service is not ready.
pub(crate) enum Called<S, R, F, E> {
    /// It was ready and was called.
    Runs(F),
    /// It failed before it was called.
    Failed(E),
    /// It is to be ready first: the service that was asked, and the request.
    Waits(S, R),
}

impl<S> Resident<S> {
    /// One that was not called yet.
    pub(crate) fn new(service: S) -> Self {
        Self {
            service,
            called: Mutex::new(None),
        }
    }

    /// The service.
    pub(crate) fn service(&self) -> &S {
        &self.service
    }

    /// Calls it if it is ready.
    pub(crate) fn call<R>(&self, req: R) -> Called<S, R, S::Future, S::Error>
    where
        S: Service<R> + Clone,
    {
        // Never waited for; and where a call has panicked under it, nobody knows what became of the clone.
        let Ok(mut called) = self.called.try_lock() else {
            let mut own = self.service.clone();
            return match ready(&mut own) {
                Poll::Ready(Ok(())) => Called::Runs(own.call(req)),
                Poll::Ready(Err(error)) => Called::Failed(error),
                Poll::Pending => Called::Waits(own, req),
            };
        };
        let service = called.get_or_insert_with(|| self.service.clone());
        match ready(service) {
            Poll::Ready(Ok(())) => Called::Runs(service.call(req)),
            Poll::Ready(Err(error)) => {
                // It is of no use any more.
                *called = None;
                Called::Failed(error)
            }
            Poll::Pending => {
                // It may hold a place in a queue, which is this request's.
                let own = called.take().unwrap_or_else(|| self.service.clone());
                Called::Waits(own, req)
            }
        }
    }
}

/// Nobody is woken: who is not ready is asked again, by its own request.
fn ready<R, S: Service<R>>(service: &mut S) -> Poll<Result<(), S::Error>> {
    service.poll_ready(&mut Context::from_waker(Waker::noop()))
}

impl<S> fmt::Debug for Resident<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resident").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        future::{Ready, ready},
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
    };

    use super::*;

    /// Ready unless it is told that it is not, or never will be; counts its clones.
    #[derive(Debug, Default)]
    struct Counted {
        clones: Arc<AtomicUsize>,
        says: Arc<AtomicUsize>,
    }

    const PENDING: usize = 1;
    const BROKEN: usize = 2;

    impl Clone for Counted {
        fn clone(&self) -> Self {
            self.clones.fetch_add(1, Relaxed);
            let (clones, says) = (self.clones.clone(), self.says.clone());
            Self { clones, says }
        }
    }

    impl Service<u32> for Counted {
        type Response = u32;
        type Error = &'static str;
        type Future = Ready<Result<u32, &'static str>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
            match self.says.load(Relaxed) {
                PENDING => Poll::Pending,
                BROKEN => Poll::Ready(Err("broken")),
                _ => Poll::Ready(Ok(())),
            }
        }

        fn call(&mut self, req: u32) -> Self::Future {
            ready(Ok(req))
        }
    }

    #[test]
    fn one_clone_serves_all_requests() {
        let counted = Counted::default();
        let resident = Resident::new(counted.clone());
        counted.clones.store(0, Relaxed);
        for _ in 0..100 {
            assert!(matches!(resident.call(1), Called::Runs(_)));
        }
        assert_eq!(counted.clones.load(Relaxed), 1);
    }

    #[test]
    fn who_has_to_wait_takes_along_the_one_that_it_asked() {
        let counted = Counted::default();
        let resident = Resident::new(counted.clone());
        counted.says.store(PENDING, Relaxed);
        assert!(matches!(resident.call(7), Called::Waits(_, 7)));
        let before = counted.clones.load(Relaxed);
        assert!(matches!(resident.call(8), Called::Waits(_, 8)));
        assert_eq!(
            counted.clones.load(Relaxed),
            before + 1,
            "the next one asks another"
        );
    }

    #[test]
    fn one_that_fails_is_asked_no_more() {
        let counted = Counted::default();
        let resident = Resident::new(counted.clone());
        counted.says.store(BROKEN, Relaxed);
        assert!(matches!(resident.call(1), Called::Failed("broken")));
        counted.says.store(0, Relaxed);
        let before = counted.clones.load(Relaxed);
        assert!(matches!(resident.call(1), Called::Runs(_)));
        assert_eq!(counted.clones.load(Relaxed), before + 1);
    }

    /// A service that is called while it is called: the second one is a clone, and nobody waits for ever.
    #[test]
    fn two_calls_at_once_do_not_wait_for_each_other() {
        #[derive(Clone)]
        struct Within(Arc<std::sync::OnceLock<Resident<Self>>>);

        impl Service<u32> for Within {
            type Response = u32;
            type Error = Infallible;
            type Future = Ready<Result<u32, Infallible>>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, depth: u32) -> Self::Future {
                let resident = self.0.get().expect("set before it is called");
                if depth < 3 {
                    assert!(matches!(resident.call(depth + 1), Called::Runs(_)));
                }
                ready(Ok(depth))
            }
        }

        let place = Arc::new(std::sync::OnceLock::new());
        let resident = Resident::new(Within(place.clone()));
        assert!(place.set(resident).is_ok());
        let resident = place.get().expect("it was set");
        assert!(matches!(resident.call(0), Called::Runs(_)));
    }
}
