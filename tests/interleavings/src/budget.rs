//! B01, B03: whoever goes first, no more is reserved than there is, each admission ends once, and nothing stays reserved.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, combinators::MapErr};
use shuttle::{
    future::{self, yield_now},
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    thread,
};
use tollgate_middleware::{
    body::Held,
    budget::{
        Admission, Budget, BudgetLayer, Journal, Ledger, Offer, Period, Policy, Rate, Receipt,
        Settlement, Terms, Usd,
    },
    error::{BoxError, Reason, Rejection},
    facts::{self, Caller},
    prices::Price,
};
use tower_layer::Layer;
use tower_service::Service;

use crate::still::Still;

type Answer = Response<MapErr<Empty<Bytes>, fn(std::convert::Infallible) -> BoxError>>;

/// A provider that answers, or fails.
#[derive(Clone)]
struct Inside {
    ledger: Ledger,
    fails: bool,
}

impl Service<Request<Held<Empty<Bytes>>>> for Inside {
    type Response = Answer;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Held<Empty<Bytes>>>) -> Self::Future {
        let Self { ledger, fails } = self.clone();
        Box::pin(async move {
            within(&ledger);
            yield_now().await;
            within(&ledger);
            if fails {
                return Err(Rejection::new(Reason::UpstreamTimeout, "inside", "it fails").into());
            }
            let never: fn(std::convert::Infallible) -> BoxError = |never| match never {};
            Ok(Response::new(Empty::new().map_err(never)))
        })
    }
}

/// What is spent and reserved in one account.
fn used(ledger: &Ledger, name: &str) -> [u64; 2] {
    let sums = |account: &tollgate_middleware::budget::Account| {
        let sums = account.sums();
        [sums.spent(Period::Ever), sums.reserved(Period::Ever)].map(Usd::units)
    };
    match name {
        "" => ledger.read_global(sums),
        name => ledger.read(name, sums).unwrap_or_default(),
    }
}

/// No account has more in it than it may.
fn within(ledger: &Ledger) {
    for (name, most) in [("a", OWN), ("b", OWN), ("", ALL)] {
        let [spent, reserved] = used(ledger, name);
        assert!(spent + reserved <= most, "{name}: {spent} and {reserved}");
    }
}

/// Somebody else's hand writes it down, or finds no paper.
#[derive(Default)]
struct Book {
    admitted: AtomicU64,
    ended: AtomicU64,
    cost: AtomicU64,
}

struct Hand(Arc<Book>);

impl Journal for Hand {
    fn admitted(&self, admission: Admission) -> Receipt {
        self.0.admitted.fetch_add(1, SeqCst);
        let receipt = Receipt::new();
        let written = receipt.clone();
        thread::spawn(move || match admission.number % 3 {
            2 => written.fail(),
            _ => written.sign(),
        });
        receipt
    }

    fn ended(&self, settlement: Settlement) {
        self.0.ended.fetch_add(1, SeqCst);
        let cost = settlement.cost.map_or(0, Usd::units);
        self.0.cost.fetch_add(cost, SeqCst);
    }
}

/// Each request reserves this, and costs it if it is answered.
const COST: u64 = 10_000_000_000;
const OWN: u64 = 2 * COST;
const ALL: u64 = 3 * COST;

fn policy() -> Policy {
    let budget = |units| Budget {
        amount: Usd::from_units(units),
        per: Period::Ever,
    };
    // As many as it reserves without a limit cost one USD.
    let price = Price {
        output: 1e6 / 4096.0,
        ..Price::default()
    };
    let offer = Offer {
        model: None,
        price: Some(price),
    };
    let terms = Terms {
        money: Some(budget(OWN)),
        tokens: Rate::new(2 * 4096, Duration::from_secs(3600)),
        ..Terms::default()
    };
    Policy {
        callers: ["a", "b"].map(|name| (name.into(), terms)).into(),
        global: Some(budget(ALL)),
        offers: Some(Arc::new(move |_| vec![offer.clone()])),
        ..Policy::off()
    }
}

fn asks(layer: &BudgetLayer<Still>, inside: Inside, name: &'static str) -> u64 {
    let mut req = Request::post("/v1/chat/completions")
        .body(Held::whole([]))
        .expect("a request");
    let caller = Caller::new(name, facts::Terms::default());
    req.extensions_mut().insert(caller);
    match future::block_on(layer.layer(inside).call(req)) {
        // What was reserved is charged when the body has gone.
        Ok(answer) => {
            drop(answer);
            COST
        }
        Err(_) => 0,
    }
}

const ORDERS: usize = 3_000;

#[test]
fn what_is_reserved_fits_and_comes_back_whoever_goes_first() {
    shuttle::check_random(
        || {
            let (ledger, book) = (Ledger::new(0), Arc::new(Book::default()));
            let layer = BudgetLayer::new(policy(), ledger.clone())
                .journal(Arc::new(Hand(book.clone())))
                .clock(Still::now());
            let ask = |at: usize| {
                let (layer, ledger) = (layer.clone(), ledger.clone());
                let name = if at.is_multiple_of(2) { "a" } else { "b" };
                let inside = Inside {
                    ledger,
                    fails: at == 4,
                };
                thread::spawn(move || (name, asks(&layer, inside, name)))
            };
            let threads: Vec<_> = (0..6).map(ask).collect();
            let (mut own, mut all) = ([0; 2], 0);
            for thread in threads {
                let (name, charged) = thread.join().expect("no thread panics");
                own[usize::from(name == "b")] += charged;
                all += charged;
            }
            assert_eq!(used(&ledger, ""), [all, 0]);
            assert_eq!(
                ["a", "b"].map(|name| used(&ledger, name)),
                own.map(|own| [own, 0])
            );
            let counts = [&book.admitted, &book.ended].map(|it| it.load(SeqCst));
            assert_eq!(counts[0], counts[1], "each ends once");
            assert_eq!(book.cost.load(SeqCst), all);
            // Tokens that were not used are there again.
            for (name, own) in ["a", "b"].into_iter().zip(own) {
                let left = ledger.read(name, |account| account.bucket().map(|it| it.left(0)));
                assert_eq!(left, Some(Some((OWN - own) / COST * 4096)), "{name}");
            }
        },
        ORDERS,
    );
}
