//! A call that goes on inside, or has been answered before.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

#[cfg(any(
    feature = "auth",
    feature = "hygiene",
    feature = "token_cap",
    feature = "word_filter"
))]
use crate::error::BoxError;

pin_project! {
    /// What a layer waits for that lets a request in, or says at once what becomes of it: an error, or an answer of its own.
    #[derive(Debug)]
    pub(crate) struct Call<F, O> {
        #[pin]
        step: Step<F, O>,
    }
}

pin_project! {
    #[project = StepProj]
    #[derive(Debug)]
    enum Step<F, O> {
        Inside { #[pin] inner: F },
        Ours { said: Option<O> },
    }
}

/// What came of a call.
#[derive(Debug)]
pub(crate) enum Came<I, O> {
    /// What is inside has said this.
    Inside(I),
    /// The layer has.
    Ours(O),
}

// ===== impl Call =====

impl<F, O> Call<F, O> {
    /// The request goes on.
    pub(crate) fn inside(inner: F) -> Self {
        Self {
            step: Step::Inside { inner },
        }
    }

    /// The request goes no further.
    pub(crate) fn ours(said: O) -> Self {
        Self {
            step: Step::Ours { said: Some(said) },
        }
    }
}

impl<F: Future, O> Call<F, O> {
    /// # Panics
    ///
    /// When it is polled after it was ready.
    pub(crate) fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Came<F::Output, O>> {
        Poll::Ready(match self.project().step.project() {
            StepProj::Inside { inner } => Came::Inside(ready!(inner.poll(cx))),
            StepProj::Ours { said } => {
                let said = said.take();
                Came::Ours(said.expect("a future is not polled after it was ready"))
            }
        })
    }
}

#[cfg(any(
    feature = "auth",
    feature = "hygiene",
    feature = "token_cap",
    feature = "word_filter"
))]
impl<F> Call<F, BoxError> {
    /// One that was admitted, or was refused.
    pub(crate) fn admitted<E: Into<BoxError>>(
        admitted: Result<(), E>,
        inner: impl FnOnce() -> F,
    ) -> Self {
        match admitted {
            Ok(()) => Self::inside(inner()),
            Err(refused) => Self::ours(refused.into()),
        }
    }
}

#[cfg(any(
    feature = "auth",
    feature = "hygiene",
    feature = "token_cap",
    feature = "word_filter"
))]
impl<F, T, E> Call<F, BoxError>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    /// The answer from inside, an error from there, or the refusal.
    ///
    /// # Panics
    ///
    /// When it is polled after it was ready.
    pub(crate) fn poll_answer(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<T, BoxError>> {
        Poll::Ready(match ready!(self.poll(cx)) {
            Came::Inside(answer) => answer.map_err(Into::into),
            Came::Ours(refused) => Err(refused),
        })
    }
}
