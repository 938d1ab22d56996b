//! Every way in which a request can end: settled once, and nothing stays reserved.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    task::Poll,
};

use http::{Request, Response};
use http_body_util::BodyExt;
use tollgate_testing::{
    body::{Item, Script},
    splits::Random,
};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::{chat, policy, reserved, spent};
use crate::{
    body::Held,
    budget::{
        Admission, Budget, BudgetLayer, Journal, Ledger, Period, Receipt, Settlement, Terms, Usd,
    },
    conn::{Conn, Cut},
    error::{BoxError, Reason, Rejection},
    record::{Charge, Ended, Record, Source},
};

/// How a request ends here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Success,
    /// The provider says no.
    Error,
    /// The clock runs out before there is a head.
    Timeout,
    /// The client leaves before there is a head.
    GoneEarly,
    /// It leaves in the middle.
    Gone,
    /// The provider breaks off.
    Cut,
    /// The answer is broken off by a drain.
    Drain,
    /// Something inside panics.
    Panic,
}

const ENDS: [End; 8] = [
    End::Success,
    End::Error,
    End::Timeout,
    End::GoneEarly,
    End::Gone,
    End::Cut,
    End::Drain,
    End::Panic,
];

/// What was written down, as sums.
#[derive(Default)]
struct Totals {
    admitted: u64,
    ended: u64,
    cost: u64,
    by: [u64; Ended::ALL.len()],
}

struct Sums(Arc<Mutex<Totals>>);

impl Journal for Sums {
    fn admitted(&self, _: Admission) -> Receipt {
        self.0.lock().unwrap().admitted += 1;
        Receipt::signed()
    }

    fn ended(&self, settlement: Settlement) {
        let mut totals = self.0.lock().unwrap();
        totals.ended += 1;
        totals.cost += settlement.cost.map_or(0, Usd::units);
        totals.by[settlement.ended as usize] += 1;
    }
}

fn data() -> Item {
    Item::Data("x".into())
}

/// A provider that ends so, having been charged with so many tokens.
fn provider(
    end: End,
    tokens: u64,
) -> impl Service<Request<Held<Script>>, Response = Response<Script>, Error = BoxError> + Clone {
    service_fn(move |req: Request<Held<Script>>| {
        let record = req.extensions().get::<Record>().unwrap().clone();
        async move {
            record.begin_attempt(crate::record::Attempt::default());
            match end {
                End::Timeout => {
                    return Err(Rejection::new(Reason::UpstreamTimeout, "timeout", "late").into());
                }
                End::GoneEarly => std::future::pending::<()>().await,
                End::Panic => panic!("on purpose"),
                _ => {}
            }
            record.begin_metering();
            let error = end == End::Error;
            record.update_metered(|metered| {
                if !error {
                    metered.charge = Charge {
                        prompt: 0,
                        completion: tokens,
                        source: Source::Provider,
                    };
                }
            });
            let body = match end {
                End::Cut => Script::new([data(), Item::Error]),
                _ => Script::new([data(), data()]),
            };
            let mut response = Response::new(body);
            if error {
                *response.status_mut() = http::StatusCode::BAD_REQUEST;
            }
            Ok(response)
        }
    })
}

/// B03, B04: ten thousand requests, of a long run a hundred thousand, that end in all ways, by chance: nothing stays reserved, the account is the sum of what was
/// written down, and somebody who has spent next to nothing is never refused.
#[tokio::test(start_paused = true)]
async fn random_endings_leave_the_sum_of_their_charges() {
    let count = if tollgate_testing::long() {
        100_000
    } else {
        10_000
    };
    let ledger = Ledger::new(0);
    let totals = Arc::new(Mutex::new(Totals::default()));
    let budget = Budget {
        amount: Usd::new(1e8),
        per: Period::Month,
    };
    let terms = Terms {
        money: Some(budget),
        ..Terms::default()
    };
    let layer =
        BudgetLayer::new(policy(terms), ledger.clone()).journal(Arc::new(Sums(totals.clone())));
    let mut random = Random::new(4);
    let mut charged = 0;
    for _ in 0..count {
        let end = ENDS[random.below(ENDS.len())];
        let tokens = random.below(4) as u64;
        let (mut req, conn) = (chat(), Conn::new());
        req.extensions_mut().insert(conn.clone());
        let mut asking = Box::pin(layer.layer(provider(end, tokens)).oneshot(req));
        let first = std::future::poll_fn(|cx| {
            Poll::Ready(catch_unwind(AssertUnwindSafe(|| asking.as_mut().poll(cx))))
        });
        let answer = match first.await {
            Ok(Poll::Ready(answer)) => answer,
            // Pending before the head, or a panic: the future is dropped.
            Ok(Poll::Pending) | Err(_) => continue,
        };
        drop(asking);
        let Ok(response) = answer else {
            assert_eq!(end, End::Timeout);
            continue;
        };
        if end != End::Error {
            charged += Usd::new(tokens as f64).units();
        }
        let mut body = response.into_body();
        if end == End::Drain {
            conn.cut(Cut::Drain);
        }
        if matches!(end, End::Gone | End::Drain) {
            drop(body);
            continue;
        }
        while let Some(Ok(_)) = body.frame().await {}
    }
    assert_eq!(reserved(&ledger), Usd::ZERO);
    let totals = totals.lock().unwrap();
    assert_eq!(
        (totals.admitted, totals.ended),
        (count, count),
        "all are admitted, and each ends once"
    );
    assert_eq!((spent(&ledger).units(), totals.cost), (charged, charged));
    let seen = |ended: Ended| totals.by[ended as usize] > 0;
    assert!(
        [
            Ended::Complete,
            Ended::ClientGone,
            Ended::Timeout,
            Ended::Drain
        ]
        .into_iter()
        .all(seen)
    );
}
