use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{Ask, Choice, Table};
use crate::{
    dialect,
    error::{BoxError, Rejection},
    facts::{Caller, Intent, Route},
    record::Record,
    resident::{Called, Resident},
};

/// A service made of one service per route.
#[derive(Debug)]
pub struct Router<S>(Arc<Inner<S>>);

#[derive(Debug)]
struct Inner<S> {
    table: Table,
    routes: Box<[Resident<S>]>,
}

impl<S> Router<S> {
    /// A router to `routes`, in the order of the table's rules, or of its providers without rules.
    ///
    /// # Panics
    ///
    /// If there are not as many routes as the table leads to.
    pub fn new(table: Table, routes: impl IntoIterator<Item = S>) -> Self {
        let routes: Box<[_]> = routes.into_iter().map(Resident::new).collect();
        assert_eq!(routes.len(), table.len(), "a route for each rule");
        Self(Arc::new(Inner { table, routes }))
    }

    /// The services, in the order of the table.
    pub fn routes(&self) -> impl ExactSizeIterator<Item = &S> {
        self.0.routes.iter().map(Resident::service)
    }

    fn choose<B>(&self, req: &Request<B>) -> Result<Choice, Rejection> {
        let (uri, headers) = (req.uri(), req.headers());
        let recognised;
        let recognised = match req.extensions().get::<Record>() {
            Some(record) => record.recognised(),
            None => {
                recognised = dialect::recognise(req.method(), uri.path(), uri.query(), headers);
                &recognised
            }
        };
        let intent = req.extensions().get::<Intent>();
        let named = recognised.surface().and_then(|it| it.model_in(uri.path()));
        let named = named.as_deref();
        let ask = Ask::of(uri.path(), headers, recognised, intent, named);
        self.0
            .table
            .choose(&ask.by(req.extensions().get::<Caller>()))
    }
}

impl<S> Clone for Router<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Router<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    S::Error: Into<BoxError>,
{
    type Response = Response<ResBody>;
    type Error = BoxError;
    type Future = ResponseFuture<S, ReqBody>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // Which service must be ready depends on the request.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut req: Request<ReqBody>) -> Self::Future {
        let choice = match self.choose(&req) {
            Ok(choice) => choice,
            Err(error) => {
                let error = Some(error.into());
                return ResponseFuture {
                    step: Step::Refused { error },
                };
            }
        };
        if let Some(record) = req.extensions().get::<Record>() {
            if let Some(name) = &choice.name {
                record.set_route(name.clone(), choice.index);
            }
            if let Some(running) = self.0.table.running(choice.index) {
                record.set_running(running);
            }
        }
        req.extensions_mut().insert(Route {
            name: choice.name,
            model: choice.model,
            pin: choice.pin,
        });
        let step = match self.0.routes[choice.index].call(req) {
            Called::Runs(inner) => Step::Called { inner },
            Called::Failed(error) => Step::Refused {
                error: Some(error.into()),
            },
            Called::Waits(inner, req) => Step::Readying {
                ready: Some(Box::new((inner, req))),
            },
        };
        ResponseFuture { step }
    }
}

pin_project! {
    /// The future of [`Router`].
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        step: Step<S, S::Future, B>,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<S, F, B> {
        // → Called when the chosen service is ready. Boxed: it is rare, and each future would be as large.
        Readying { ready: Option<Box<(S, Request<B>)>> },
        Called { #[pin] inner: F },
        Refused { error: Option<BoxError> },
    }
}

impl<S, B> Future for ResponseFuture<S, B>
where
    S: Service<Request<B>>,
    S::Error: Into<BoxError>,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut step = self.project().step;
        loop {
            match step.as_mut().project() {
                StepProj::Readying { ready } => {
                    let waits = ready.as_mut().expect("taken only when the step changes");
                    let (inner, _) = &mut **waits;
                    ready!(inner.poll_ready(cx)).map_err(Into::into)?;
                    let (mut inner, req) = *ready.take().expect("it was there just now");
                    step.set(Step::Called {
                        inner: inner.call(req),
                    });
                }
                StepProj::Called { inner } => return inner.poll(cx).map_err(Into::into),
                StepProj::Refused { error } => {
                    let error = error
                        .take()
                        .expect("a future is not polled after it was ready");
                    return Poll::Ready(Err(error));
                }
            }
        }
    }
}

impl<S, B> fmt::Debug for ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
