mod clamp;
mod endings;
mod layer;
mod model;
mod reckoning;

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use http::{HeaderMap, Method, Request, Response, Uri};
use tollgate_testing::body::Script;
use tower::{Layer, Service, ServiceExt};

use super::{
    Admission, Budget, BudgetLayer, Journal, Ledger, Period, Policy, Receipt, ResponseBody,
    Settlement, Terms, Threshold, Usd,
};
use crate::{
    body::Held,
    clock::{Clock, SystemClock},
    error::{BoxError, Reason, Rejection},
    facts::{self, Caller},
    prices::{Price, Prices},
    record::Record,
};

/// Each output token costs one USD; the input is free.
fn prices() -> Prices {
    let price = Price {
        input: 0.0,
        output: 1e6,
        ..Price::default()
    };
    Prices::built_in().with("m", price)
}

fn money(usd: f64) -> Terms {
    Terms {
        money: Some(Budget {
            amount: Usd::new(usd),
            per: Period::Month,
        }),
        ..Terms::default()
    }
}

pub(super) fn policy(terms: Terms) -> Policy {
    Policy {
        callers: [("a".into(), terms)].into(),
        prices: prices(),
        ..Policy::off()
    }
}

/// A chat that asks for one token of `m`.
pub(super) fn chat() -> Request<Held<Script>> {
    post("/v1/chat/completions", r#"{"model":"m","max_tokens":1}"#)
}

pub(super) fn post(path: &str, body: &str) -> Request<Held<Script>> {
    let frames = [bytes::Bytes::copy_from_slice(body.as_bytes())];
    let mut req = Request::post(path).body(Held::whole(frames)).unwrap();
    let headers = HeaderMap::new();
    let record = Record::new(
        "r".parse().unwrap(),
        (&Method::POST, &Uri::try_from(path).unwrap(), &headers),
        SystemClock.now(),
        SystemTime::UNIX_EPOCH,
    );
    if let Some(surface) = record.surface() {
        let root = crate::json::check(body.as_bytes(), &crate::json::Limits::default()).unwrap();
        let asked = crate::dialect::read(surface, root).unwrap();
        let intent = facts::Intent::new(surface.clone(), None, asked, root.span());
        record.set_intent(intent.clone());
        req.extensions_mut().insert(intent);
    }
    req.extensions_mut().insert(record);
    let caller = Caller::new("a", facts::Terms::default());
    req.extensions_mut().insert(caller);
    req
}

pub(super) type Answer<C> = Result<Response<ResponseBody<Script, C>>, BoxError>;

pub(super) async fn ask<C: Clock, S>(
    layer: &BudgetLayer<C>,
    inner: S,
    req: Request<Held<Script>>,
) -> Answer<C>
where
    S: Service<Request<Held<Script>>, Response = Response<Script>, Error = BoxError> + Clone,
{
    layer.layer(inner).oneshot(req).await
}

pub(super) fn why<T>(answer: Result<T, BoxError>) -> Reason {
    let Err(error) = answer else {
        panic!("it was admitted");
    };
    let why = Rejection::find(&*error).expect("a rejection");
    assert_eq!(why.layer(), "budget");
    why.reason()
}

/// A journal that keeps what it is told, and signs when it is asked to.
#[derive(Clone, Default)]
pub(super) struct Book {
    pub(super) admitted: Arc<Mutex<Vec<(Admission, Receipt)>>>,
    pub(super) ended: Arc<Mutex<Vec<Settlement>>>,
    crossed: Arc<Mutex<Vec<Threshold>>>,
}

impl Journal for Book {
    fn admitted(&self, admission: Admission) -> Receipt {
        let receipt = Receipt::new();
        self.admitted
            .lock()
            .unwrap()
            .push((admission, receipt.clone()));
        receipt
    }

    fn ended(&self, settlement: Settlement) {
        self.ended.lock().unwrap().push(settlement);
    }

    fn crossed(&self, threshold: &Threshold) {
        self.crossed.lock().unwrap().push(threshold.clone());
    }
}

fn reserved(ledger: &Ledger) -> Usd {
    ledger.read_global(|account| account.sums().reserved(Period::Ever))
}

fn spent(ledger: &Ledger) -> Usd {
    ledger.read_global(|account| account.sums().spent(Period::Ever))
}

/// The layer behind what makes bodies held.
fn held(
    layer: &BudgetLayer,
    inner: tollgate_testing::laws::Inner,
) -> impl Service<
    Request<Script>,
    Response = Response<ResponseBody<Script>>,
    Error = BoxError,
    Future = impl Future<Output = Answer<SystemClock>> + Send,
> + Clone
+ Send
+ 'static {
    tower::util::MapRequest::new(layer.layer(inner), |req: Request<Script>| {
        req.map(Held::unread)
    })
}
