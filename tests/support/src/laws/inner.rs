//! The service inside of the layer under law: scripted, and strict about readiness.

use std::{
    convert::Infallible,
    fmt,
    marker::PhantomData,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use crate::body::{BoxError, Collected, Fault, Polls, Script, collect};

/// An error the inner service can fail with.
pub trait Failure: Sized + Send + 'static {
    /// The failure, whose text is that of [`Fault`]; `None` when there can be none.
    fn failure() -> Option<Self>;
}

/// A service that reads the request to its end and gives a fixed response.
///
/// Each instance must be polled ready before each call, is first `Pending`, and a clone starts unready. It takes any request
/// body. `E` is its error.
pub struct Inner<E = BoxError> {
    shared: Arc<Shared>,
    state: State,
    error: PhantomData<fn() -> E>,
}

/// What was asked of an [`Inner`] and its clones.
#[derive(Clone, Debug)]
pub struct Calls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    answer: Act,
    log: Mutex<Log>,
}

#[derive(Debug)]
enum Act {
    Answer(Response<Script>),
    FailCall,
    FailReady,
}

#[derive(Debug, Default)]
struct Log {
    requests: Vec<Request<Collected>>,
    bodies: Vec<Polls>,
    unready: usize,
}

/// Unready -> Asked -> Ready by polls, then Unready by the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unready,
    Asked,
    Ready,
}

// ===== impl Inner =====

impl<E> Inner<E> {
    /// Answers each request with a clone of the response.
    #[must_use]
    pub fn answering(response: Response<Script>) -> Self {
        Self::new(Act::Answer(response))
    }

    /// Fails each call.
    #[must_use]
    pub fn failing() -> Self {
        Self::new(Act::FailCall)
    }

    /// Fails when asked whether it is ready.
    #[must_use]
    pub fn failing_ready() -> Self {
        Self::new(Act::FailReady)
    }

    fn new(answer: Act) -> Self {
        let shared = Arc::new(Shared {
            answer,
            log: Mutex::default(),
        });
        Self {
            shared,
            state: State::Unready,
            error: PhantomData,
        }
    }

    /// What is asked of it and of its clones.
    #[must_use]
    pub fn calls(&self) -> Calls {
        Calls(Arc::clone(&self.shared))
    }
}

impl<E> Clone for Inner<E> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            state: State::Unready,
            error: PhantomData,
        }
    }
}

impl<E> fmt::Debug for Inner<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("shared", &self.shared)
            .field("state", &self.state)
            .finish()
    }
}

impl<E, B> Service<Request<B>> for Inner<E>
where
    E: Failure,
    B: Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Script>;
    type Error = E;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Script>, E>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        if self.state == State::Unready {
            self.state = State::Asked;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let (Act::FailReady, Some(failure)) = (&self.shared.answer, E::failure()) {
            return Poll::Ready(Err(failure));
        }
        self.state = State::Ready;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request<B>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        if std::mem::replace(&mut self.state, State::Unready) != State::Ready {
            shared.with(|log| log.unready += 1);
        }
        Box::pin(async move {
            let (head, body) = req.into_parts();
            let body = collect(body).await;
            shared.with(|log| log.requests.push(Request::from_parts(head, body)));
            match (&shared.answer, E::failure()) {
                (Act::FailCall | Act::FailReady, Some(failure)) => Err(failure),
                (Act::Answer(response), _) => {
                    let response = response.clone();
                    shared.with(|log| log.bodies.push(response.body().polls()));
                    Ok(response)
                }
                (_, None) => unreachable!("an inner service that cannot fail was told to"),
            }
        })
    }
}

// ===== impl Calls =====

impl Calls {
    /// Takes the requests that came to their end, in that order.
    #[must_use]
    pub fn take(&self) -> Vec<Request<Collected>> {
        self.0.with(|log| std::mem::take(&mut log.requests))
    }

    /// How the response bodies given so far were treated.
    #[must_use]
    pub fn bodies(&self) -> Vec<Polls> {
        self.0.with(|log| log.bodies.clone())
    }

    /// The number of calls that came without readiness.
    #[must_use]
    pub fn unready(&self) -> usize {
        self.0.with(|log| log.unready)
    }
}

impl Shared {
    fn with<T>(&self, edit: impl FnOnce(&mut Log) -> T) -> T {
        // A panic elsewhere leaves the log whole.
        edit(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Failure for BoxError {
    fn failure() -> Option<Self> {
        Some(Fault.into())
    }
}

impl Failure for Infallible {
    fn failure() -> Option<Self> {
        None
    }
}

/// True when the error, or one it stems from, is the scripted one.
pub(super) fn is_fault(error: &BoxError) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error.as_ref());
    while let Some(error) = next {
        if error.is::<Fault>() || error.to_string() == Fault.to_string() {
            return true;
        }
        next = error.source();
    }
    false
}
