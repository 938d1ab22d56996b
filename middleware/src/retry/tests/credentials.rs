//! With several credentials: `balance` and `upstream` inside, as in a stack.

use http::Uri;
use tollgate_testing::body::collect;
use tower::service_fn;

use super::*;
use crate::{
    balance::{Balance, Strategy, Target},
    clock::{Clock, SystemClock},
    facts::{Caller, Endpoint, Terms},
    health::{Board, Keys, Source, Wallet},
    upstream::{self, Credential, UpstreamLayer},
};

/// A provider that answers each credential in its own way.
struct Provider {
    keys: Keys,
    seen: Arc<Mutex<Vec<String>>>,
    answers: Arc<Mutex<Vec<(&'static str, Act)>>>,
}

type Answered = Response<Script>;

impl Provider {
    fn new(answers: &[(&'static str, Act)]) -> Self {
        let wallet = Wallet::new();
        let names = answers
            .iter()
            .zip(0..)
            .map(|((name, _), id)| (Some((*name).into()), wallet.key("p", id)));
        Self {
            keys: Keys::new(names),
            seen: Arc::default(),
            answers: Arc::new(Mutex::new(answers.to_vec())),
        }
    }

    fn whole(
        &self,
        policy: Policy,
    ) -> super::super::Retry<
        Balance<
            impl Service<
                Sent,
                Response = Response<upstream::ResponseBody<Script>>,
                Error = BoxError,
                Future: Send,
            > + Clone,
        >,
    > {
        let (seen, answers) = (self.seen.clone(), self.answers.clone());
        let leaf = service_fn(move |req: Sent| {
            let sent = req.headers()["authorization"]
                .to_str()
                .unwrap()
                .trim_start_matches("Bearer sk-")
                .to_owned();
            seen.lock().unwrap().push(sent.clone());
            let answers = answers.lock().unwrap();
            let act = answers
                .iter()
                .find(|(name, _)| *name == sent)
                .unwrap()
                .1
                .clone();
            let Act::Status(code, headers, body) = act else {
                unreachable!("an answer")
            };
            let mut response = Answered::new(Script::data(body.as_bytes(), &Split::Whole));
            *response.status_mut() = StatusCode::from_u16(code).unwrap();
            for (name, value) in headers {
                response.headers_mut().append(*name, value.parse().unwrap());
            }
            std::future::ready(Ok::<_, BoxError>(response))
        });
        let names: Vec<_> = self
            .answers
            .lock()
            .unwrap()
            .iter()
            .map(|(name, _)| *name)
            .collect();
        let credentials = names
            .iter()
            .map(|name| Credential::bearer(&format!("sk-{name}")).unwrap());
        let target = upstream::Target::new("p", &Uri::from_static("http://p/v1")).unwrap();
        let target = target.credentials(credentials, self.keys.clone());
        let service = UpstreamLayer::new(target).layer(leaf);
        let board = Board::new(SystemClock.now());
        let endpoint = Endpoint::new("p", "p", None);
        let seat = Target::new(endpoint, Source::fixed(&board, "p", "m"), service)
            .keys(self.keys.clone(), None);
        layer(policy).layer(Balance::new([seat], Strategy::Fallback).unwrap())
    }

    async fn ask(&self, caller: Option<&str>) -> (u16, Vec<String>) {
        self.ask_by(caller, Policy::default()).await
    }

    async fn ask_by(&self, caller: Option<&str>, policy: Policy) -> (u16, Vec<String>) {
        let mut req = post("hello");
        if let Some(pinned) = caller {
            let terms = Terms {
                credential: Some(pinned.into()),
                ..Terms::default()
            };
            req.extensions_mut().insert(Caller::new("team", terms));
        }
        let answer = self.whole(policy).oneshot(req).await.unwrap();
        let status = answer.status().as_u16();
        collect(answer.into_body()).await;
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        (status, seen)
    }
}

fn used(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_refused_credential_is_followed_by_another_and_left_alone() {
    for code in [401, 402, 429] {
        let provider = Provider::new(&[("bad", status(code)), ("good", OK)]);
        let (answered, seen) = provider.ask(None).await;
        assert_eq!((answered, seen), (200, used(&["bad", "good"])), "{code}");
        for _ in 0..3 {
            assert_eq!(
                provider.ask(None).await,
                (200, used(&["good"])),
                "{code}: it is parked"
            );
        }
    }
}

/// A 403 goes on, but parks nothing by itself.
#[tokio::test(start_paused = true)]
async fn a_403_goes_on_and_does_not_park() {
    let provider = Provider::new(&[("bad", status(403)), ("good", OK)]);
    let mut seen = Vec::new();
    for _ in 0..4 {
        let (answered, used) = provider.ask(None).await;
        assert_eq!(answered, 200);
        seen.extend(used);
    }
    assert!(
        seen.iter().filter(|name| *name == "bad").count() >= 2,
        "{seen:?}"
    );
}

/// A spent account parks the credential as a whole, a limit only for its model and until its reset.
#[tokio::test(start_paused = true)]
async fn a_spent_account_is_told_from_a_limit() {
    let quota = Act::Status(
        429,
        &[("retry-after", "1")],
        r#"{"error":{"code":"insufficient_quota","message":"spent"}}"#,
    );
    let provider = Provider::new(&[("spent", quota), ("good", OK)]);
    assert_eq!(provider.ask(None).await, (200, used(&["spent", "good"])));
    tokio::time::advance(seconds(9)).await;
    assert_eq!(
        provider.ask(None).await.1,
        used(&["good"]),
        "not the second that it named, but ten"
    );
    let limited = Act::Status(
        429,
        &[("retry-after", "3")],
        r#"{"error":{"code":"rate_limit_exceeded"}}"#,
    );
    let provider = Provider::new(&[("busy", limited), ("good", OK)]);
    assert_eq!(provider.ask(None).await.1, used(&["busy", "good"]));
    assert_eq!(provider.ask(None).await.1, used(&["good"]));
    tokio::time::advance(seconds(3)).await;
    let seen = [provider.ask(None).await.1, provider.ask(None).await.1].concat();
    assert!(seen.contains(&"busy".to_owned()), "{seen:?}");
}

/// Where nothing is tried again nobody waits for what a refusal says, but it is heard as it passes: with `retry: off` a spent account
/// was parked for the second that it named, as if it were a limit.
#[tokio::test(start_paused = true)]
async fn a_spent_account_is_parked_where_nothing_is_tried_again() {
    let quota = Act::Status(
        429,
        &[("retry-after", "1")],
        r#"{"error":{"code":"insufficient_quota","message":"spent"}}"#,
    );
    let provider = Provider::new(&[("spent", quota), ("good", OK)]);
    assert_eq!(
        provider.ask_by(None, Policy::off()).await,
        (429, used(&["spent"]))
    );
    for (wait, parked) in [(9, true), (2, false)] {
        tokio::time::advance(seconds(wait)).await;
        let mut seen = Vec::new();
        for _ in 0..2 {
            seen.extend(provider.ask_by(None, Policy::off()).await.1);
        }
        assert_eq!(!seen.contains(&"spent".to_owned()), parked, "{seen:?}");
    }
}

/// When all are parked, the answer is the provider's own, and nothing is tried without end.
#[tokio::test(start_paused = true)]
async fn when_all_are_refused_the_last_answer_is_passed_on() {
    let provider = Provider::new(&[("one", status(401)), ("two", status(401))]);
    assert_eq!(provider.ask(None).await, (401, used(&["one", "two"])));
    let (answered, seen) = provider.ask(None).await;
    assert_eq!(
        (answered, seen.len()),
        (401, 1),
        "the one that returns first"
    );
}

#[tokio::test(start_paused = true)]
async fn a_sole_credential_is_asked_once() {
    let provider = Provider::new(&[("sole", status(401))]);
    for _ in 0..2 {
        assert_eq!(provider.ask(None).await, (401, used(&["sole"])));
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_s_own_credential_is_used_and_no_other() {
    let provider = Provider::new(&[("usual", OK), ("spare", OK)]);
    for _ in 0..4 {
        assert_eq!(provider.ask(Some("spare")).await, (200, used(&["spare"])));
    }
    let provider = Provider::new(&[("usual", OK), ("spare", status(401))]);
    for _ in 0..2 {
        assert_eq!(provider.ask(Some("spare")).await, (401, used(&["spare"])));
    }
}
