//! Who asks: by the layer that says so when a request comes, as far as that can be known without one.

use std::{
    convert::Infallible,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::SystemTime,
};

use http::{HeaderMap, HeaderValue, Request, Response, header::ORIGIN};
use tollgate_middleware::{
    auth::{AuthLayer, Known, Presented, Unknown},
    error::{BoxError, Reason, Rejection},
    facts::Caller,
};
use tower::{Layer, ServiceExt, service_fn};

use super::say;
use crate::{
    config::{self, Config, show},
    guards::{self, Counts},
};

/// Lets the request in as `auth` would; where it comes from is not known and not judged. A caller that is named brings no key.
pub(super) fn admitted(
    config: &Config,
    req: &Request<Vec<u8>>,
    named: Option<&str>,
) -> Result<Option<Caller>, Rejection> {
    let mut head = Request::new(());
    *head.method_mut() = req.method().clone();
    head.uri_mut().clone_from(req.uri());
    head.headers_mut().clone_from(req.headers());
    let found = named.and_then(|name| config.callers.iter().find(|it| it.name == name));
    let layer = match found {
        Some(caller) => {
            let name = HeaderValue::from_static("named");
            head.headers_mut().insert("tollgate-key", name);
            let (known, ends) = (Arc::new(guards::grant(&anywhere(caller))), caller.expires);
            let gone = caller.disabled;
            AuthLayer::new(move |presented: &Presented<'_>| {
                let over = ends.is_some_and(|ends: SystemTime| ends <= presented.now);
                if gone || over {
                    return Err(Unknown::Key);
                }
                Ok(Known::new(known.caller().clone(), known.clone()))
            })
        }
        None => {
            let mut config = config.clone();
            config.callers = config.callers.iter().map(anywhere).collect();
            Counts::new(&config).auth(&config)
        }
    };
    let inside = service_fn(async |req: Request<()>| {
        let caller: Option<&Caller> = req.extensions().get();
        Ok::<_, Infallible>(Response::new(caller.cloned()))
    });
    let asking = pin!(layer.layer(inside).oneshot(head));
    match asking.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(answer)) => Ok(answer.into_body()),
        Poll::Ready(Err(error)) => Err(rejection(error)),
        // Nothing in it waits.
        Poll::Pending => Err(Rejection::new(Reason::Internal, "auth", "it waits")),
    }
}

pub(super) fn rejection(error: BoxError) -> Rejection {
    match error.downcast() {
        Ok(refused) => *refused,
        Err(error) => Rejection::new(Reason::Internal, "auth", "it failed").because(error),
    }
}

fn anywhere(caller: &config::Caller) -> config::Caller {
    config::Caller {
        allow_from: Vec::new(),
        ..caller.clone()
    }
}

/// Says which pages a caller may ask from, where it asks from none.
pub(super) fn pages(config: &Config, named: Option<&str>, headers: &HeaderMap, out: &mut String) {
    let found = named.and_then(|name| config.callers.iter().find(|it| it.name == name));
    let Some(caller) = found.filter(|it| !it.origins.is_empty()) else {
        return;
    };
    let origins: Vec<_> = caller.origins.iter().map(ToString::to_string).collect();
    let (name, origins) = (&caller.name, origins.join(", "));
    say(out, "caller", format_args!("{name}"));
    let said = if headers.contains_key(ORIGIN) {
        ""
    } else {
        "; --origin says which one asks"
    };
    say(out, "", format_args!("from pages of {origins} only{said}"));
}

/// The one in the file on whose terms somebody is.
pub(super) fn listed<'a>(config: &'a Config, caller: &Caller) -> Option<&'a config::Caller> {
    config
        .callers
        .iter()
        .find(|it| *it.name == **caller.listed_as())
}

/// Says who asks, and what is agreed with them but for what layers further inside enforce.
pub(super) fn told(config: &Config, caller: Option<&Caller>, out: &mut String) {
    let Some(caller) = caller else {
        let who = if config.layers.auth.open {
            "nobody has to say who they are"
        } else {
            "nobody has to say who they are, and only this machine is served"
        };
        return say(out, "caller", format_args!("{who}"));
    };
    let (name, terms) = (caller.name(), caller.listed_as());
    if caller.is_derived() {
        say(
            out,
            "caller",
            format_args!("{name}, on the terms of {terms}"),
        );
    } else {
        say(out, "caller", format_args!("{name}"));
    }
    let Some(listed) = listed(config, caller) else {
        return;
    };
    if !listed.allow_from.is_empty() {
        let networks: Vec<_> = listed.allow_from.iter().map(ToString::to_string).collect();
        let networks = networks.join(", ");
        say(
            out,
            "",
            format_args!("from {networks} only, which is not judged here"),
        );
    }
    if let Some(models) = &listed.models {
        let models: Vec<_> = models.iter().map(ToString::to_string).collect();
        say(out, "", format_args!("may use {}", models.join(", ")));
    }
}

/// Which limits it meets before anything of its body is read.
pub(super) fn limits(config: &Config, caller: Option<&Caller>, out: &mut String) {
    let limits = &config.layers.rate_limit;
    let listed = caller.and_then(|it| listed(config, it));
    if let Some(quota) = &limits.per_ip {
        say(
            out,
            "",
            format_args!("rate_limit by address: {}", show::rate(quota)),
        );
    }
    say(out, "", format_args!("auth"));
    if let Some(quota) = listed.and_then(|it| it.requests.as_ref()) {
        say(
            out,
            "",
            format_args!("rate_limit by caller: {}", show::rate(quota)),
        );
    }
    if let Some(quota) = &limits.global {
        say(
            out,
            "",
            format_args!("rate_limit in all: {}", show::rate(quota)),
        );
    }
    let all = &config.layers.concurrency;
    if *all == config::Concurrency::OFF {
        return say(out, "", format_args!("concurrency: off"));
    }
    let own = listed
        .and_then(|it| it.concurrency)
        .unwrap_or(all.per_caller);
    let class = listed.map_or(0, |it| it.priority);
    let of = caller.map_or_else(String::new, |_| format!("{own} of the caller's, "));
    say(
        out,
        "",
        format_args!(
            "concurrency: {of}{} in all, {} wait for {:?} at most, of class {class}",
            all.max, all.queue, all.wait
        ),
    );
}

/// Which limits it meets that depend on what it asks for.
pub(super) fn asked(config: &Config, model: Option<&str>, out: &mut String) {
    let limits = &config.layers.rate_limit;
    if let Some(user) = &limits.per_user {
        say(
            out,
            "",
            format_args!("rate_limit by end user: {}", show::rate(&user.quota)),
        );
    }
    let fits = |pattern: &config::Pattern| model.is_some_and(|model| pattern.matches(model));
    for (pattern, quota) in limits.per_model.iter().filter(|it| fits(&it.0)) {
        say(
            out,
            "",
            format_args!("rate_limit by model {pattern}: {}", show::rate(quota)),
        );
    }
}
