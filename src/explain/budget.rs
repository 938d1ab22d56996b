//! What would be reserved: by the layers that would do it, as far as that can be known before it is asked.

use std::{
    convert::Infallible,
    pin::pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tollgate_middleware::{
    body::Held,
    budget::{Bound, Part, Reckoned},
    error::{BoxError, Reason, Rejection},
    facts::{Caller, Intent, Route},
    token_cap::TokenCapLayer,
};
use tower::{Layer, ServiceExt, service_fn};

use super::{
    caller::{listed, rejection},
    say,
};
use crate::{
    config::{Config, show},
    guards::Counts,
    routing::Way,
};

type Asked = Request<Held<Full<Bytes>>>;

/// Says what is reserved for a request, of what, and how that number comes about; refuses what the budget would refuse whatever is
/// left.
pub(super) fn told(
    config: &Config,
    way: &Way,
    req: &Request<Vec<u8>>,
    facts: (Option<&Caller>, Option<&Intent>, Route),
    out: &mut String,
) -> Result<(), Rejection> {
    if way.budget.off {
        say(out, "", format_args!("budget: off"));
        return Ok(());
    }
    let caller = facts.0;
    let capped = capped(way, req, facts)?;
    let policy = Counts::new(config).reckons(config, way);
    let reckoned = policy.reckon(&capped)?;
    let listed = caller.and_then(|caller| listed(config, caller));
    let tokens = listed
        .and_then(|it| it.tokens)
        .map(|it| it.rate.to_string());
    let money = listed.and_then(|it| it.budget).map(|it| it.to_string());
    let all = way.budget.global.map(|it| format!("{it} of all together"));
    let limits: Vec<_> = tokens.into_iter().chain(money).chain(all).collect();
    if limits.is_empty() {
        say(out, "", format_args!("budget: no limit"));
        return Ok(());
    }
    let Some(reckoned) = reckoned else {
        say(out, "", format_args!("budget: it costs nothing"));
        return Ok(());
    };
    reserved(&reckoned, &limits.join(", "), out);
    if reckoned.leaves_out() {
        let why = "targets without a price are left out";
        say(out, "", format_args!("  {why} (unpriced: refuse)"));
    }
    let short = show::on_short(way.budget.on_short);
    say(out, "", format_args!("  where less is left: {short}"));
    Ok(())
}

fn reserved(reckoned: &Reckoned, limits: &str, out: &mut String) {
    let worst = reckoned.worst();
    let Part {
        offer,
        input,
        output,
    } = reckoned.dearest();
    let at = match (&offer.model, &offer.price) {
        (Some(model), Some(_)) => format!(", at the price of {model}"),
        (None, Some(_)) => String::new(),
        (_, None) => ", which has no price".to_owned(),
    };
    let (tokens, cost) = (worst.tokens, worst.cost);
    say(
        out,
        "",
        format_args!("budget: reserves {tokens} tokens and {cost}{at}, of {limits}"),
    );
    say(
        out,
        "",
        format_args!("  input: {input} tokens, an estimate and a quarter more"),
    );
    if let Some((tokens, bound)) = output {
        let why = match bound {
            Bound::Left => "which is what is left",
            Bound::Model => "the most that the model may answer, since no limit is set",
            Bound::Request => "as the request is limited",
            Bound::Usual => "since no limit is set, and the model's own is not known",
        };
        say(out, "", format_args!("  output: {tokens} tokens, {why}"));
    }
    if reckoned.times() > 1 {
        let times = reckoned.times();
        let why = "each attempt is charged (waste: charge)";
        say(out, "", format_args!("  {times} times: {why}"));
    }
}

/// The request as it would come to the budget: with what is known of it, and with the limit that a cap would put into it.
fn capped(
    way: &Way,
    req: &Request<Vec<u8>>,
    (caller, intent, routed): (Option<&Caller>, Option<&Intent>, Route),
) -> Result<Asked, Rejection> {
    let body = Bytes::copy_from_slice(req.body());
    let mut asked = Request::new(Held::whole([body]));
    asked.method_mut().clone_from(req.method());
    asked.uri_mut().clone_from(req.uri());
    asked.headers_mut().clone_from(req.headers());
    let facts = asked.extensions_mut();
    if let Some(caller) = caller {
        facts.insert(caller.clone());
    }
    if let Some(intent) = intent {
        facts.insert(intent.clone());
    }
    facts.insert(routed);
    let inside = service_fn(async |asked: Asked| Ok::<_, Infallible>(Response::new(asked)));
    let layer = TokenCapLayer::new(way.caps.clone());
    let asking = pin!(layer.layer(inside).oneshot(asked));
    let answer: Poll<Result<Response<Asked>, BoxError>> =
        asking.poll(&mut Context::from_waker(Waker::noop()));
    match answer {
        Poll::Ready(Ok(answer)) => Ok(answer.into_body()),
        Poll::Ready(Err(error)) => Err(rejection(error)),
        // Nothing in it waits.
        Poll::Pending => Err(Rejection::new(Reason::Internal, "token_cap", "it waits")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Question, explain};
    use crate::config::{Inputs, Loaded, load};

    const CHAT: &str = "/v1/chat/completions";

    /// `more` is of the layers.
    fn file(more: &str) -> Loaded {
        let text = format!(
            "
version: 1
providers:
  one: {{ dialect: openai, base_url: http://127.0.0.1:1/v1, credentials: [], models: [m, odd] }}
callers:
  a: {{ key: sk-caller-of-somebody-rich, tokens: 5k/min, budget: 3usd }}
  free: {{ key: sk-caller-of-nobody-at-all }}
layers: {{ {more} }}
state: {{ dir: ./spent }}
prices: {{ overrides: {{ m: {{ input: 0, output: 1000000, max_output: 7 }} }} }}
"
        );
        let inputs = Inputs {
            env: &|_| None,
            read: &|_| Err(std::io::ErrorKind::NotFound.into()),
            listen: None,
            admin: None,
        };
        load(&text, "test.yaml", &inputs).unwrap()
    }

    fn asked(more: &str, question: Question, caller: &str) -> (String, bool) {
        explain(&file(more).config, &question.by(caller))
    }

    #[test]
    fn what_is_reserved_is_told_and_why() {
        let rows = [
            (
                "",
                r#"{"model":"m"}"#,
                "reserves 11 tokens and 7 USD, at the price of m, of 5000 tokens per minute, 3 USD in all",
                "output: 7 tokens, the most that the model may answer",
            ),
            (
                "",
                r#"{"model":"m","n":2,"max_tokens":2}"#,
                "and 4 USD",
                "output: 4 tokens, as the request is limited",
            ),
            (
                "token_cap: { max_tokens: 5 }",
                r#"{"model":"m"}"#,
                "and 5 USD",
                "output: 5 tokens, as the request is limited",
            ),
            (
                "budget: { waste: charge, global: 9usd/day }, retry: { attempts: 2 }",
                r#"{"model":"m","max_tokens":1}"#,
                "and 2 USD, at the price of m, of 5000 tokens per minute, 3 USD in all, 9 USD per day of all together",
                "2 times",
            ),
            (
                "budget: { unpriced: free, on_short: clamp }",
                r#"{"model":"odd"}"#,
                "and 0 USD, which has no price",
                "where less is left: clamp",
            ),
        ];
        for (more, body, first, second) in rows {
            let question = Question::of_file(body.as_bytes(), CHAT).unwrap();
            let (text, served) = asked(more, question, "a");
            assert!(served, "{text}");
            for words in [first, second] {
                assert!(text.contains(words), "{words} is not in {text}");
            }
        }
    }

    #[test]
    fn what_is_free_and_what_is_refused_is_told() {
        let of = |model| Question::of_model(model, CHAT).unwrap();
        let (text, served) = asked("", of("m"), "free");
        assert!(served && text.contains("budget: no limit"), "{text}");
        let (text, served) = asked("", of("odd"), "a");
        assert!(!served && text.contains("by budget, "), "{text}");
        assert!(text.contains("this model has no price here"), "{text}");
        let body = br#"{"model":"m","max_tokens":9}"#;
        let question = Question::of_file(body, CHAT).unwrap();
        let more = "token_cap: { max_tokens: 5, on_exceed: reject }";
        let (text, served) = asked(more, question, "a");
        assert!(!served && text.contains("by token_cap, "), "{text}");
    }

    #[test]
    fn check_warns_of_models_without_a_price_and_of_budgets_without_a_meter() {
        let warned = |more| file(more).warnings.to_string();
        let unpriced = "`odd` has no price: it is refused to those with a budget of money";
        assert!(warned("").contains(unpriced), "{}", warned(""));
        assert!(!warned("budget: { unpriced: free }").contains(unpriced));
        let unmetered = "nobody meters here";
        assert!(warned("meter: off").contains(unmetered));
        assert!(!warned("").contains(unmetered));
    }
}
