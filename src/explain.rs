//! `explain`: which route, target and layers a request would meet, and why. Nothing is sent.

mod budget;
mod caller;
mod question;
mod words;

use std::fmt::Write as _;

use tollgate_middleware::{
    clock::{Clock as _, SystemClock},
    dialect::{self, Recognised, Surface},
    error::Rejection,
    facts::{Caller, Route},
    health::{Board, Wallet},
    peek,
    route::{Ask, Choice},
    token_cap::Caps,
};

pub use self::question::{Question, Unreadable};
use crate::{
    config::{Clock, Config, Meter, show},
    gateway,
    routing::{self, Place, Way},
};

/// What would happen to the request, as lines of text; and whether it would be served.
pub fn explain(config: &Config, question: &Question) -> (String, bool) {
    let mut out = String::new();
    let served = told(config, question, &mut out);
    if let Err(refused) = &served {
        let (layer, reason) = (refused.layer(), refused.reason());
        say(
            &mut out,
            "refused",
            format_args!("by {layer}, {reason}: {}", refused.message()),
        );
    }
    (out, served.is_ok())
}

fn say(out: &mut String, what: &str, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{what:<10}{text}");
}

fn told(config: &Config, question: &Question, out: &mut String) -> Result<(), Rejection> {
    let (req, named) = (&question.request, question.caller.as_deref());
    let (path, headers) = (req.uri().path(), req.headers());
    say(out, "request", format_args!("{} {path}", req.method()));
    let recognised = dialect::recognise(req.method(), path, req.uri().query(), headers);
    let surface = surface(&recognised, out);
    let caller = caller::admitted(config, req, named)
        .inspect_err(|_| caller::pages(config, named, headers, out))?;
    let caller = caller.as_ref();
    caller::told(config, caller, out);
    let json = crate::stack::json(&config.server.limits);
    let intent = match surface {
        Some(surface) => peek::intent(req, surface, &json)?,
        None => None,
    };
    let in_path = surface.and_then(|surface| surface.model_in(path));
    let (intent, in_path) = (intent.as_ref(), in_path.as_deref());
    let ask = Ask::of(path, headers, &recognised, intent, in_path).by(caller);
    if let Some(model) = ask.model {
        say(out, "model", format_args!("{model}"));
    }
    let chosen = route(config, &ask, out)?;
    let mut ways = routing::ways(config, &Wallet::new());
    // The implicit routes lead to one way.
    let way = ways.swap_remove(chosen.index.min(ways.len() - 1));
    let bound = match intent {
        Some(intent) => intent.continues(),
        None => surface.is_none(),
    };
    let place = targets(config, &way, &chosen, bound, out);
    place.target.takes(surface, intent)?;
    if config.providers[place.provider].passthrough {
        say(
            out,
            "",
            format_args!("paid with the caller's own credential"),
        );
    }
    before_routing(config, caller, out);
    caller::asked(config, chosen.model.as_deref(), out);
    if way.caps != Caps::off() {
        say(out, "", format_args!("{}", show::caps(&way.caps)));
    }
    words::told(&way.filter, req, surface, intent.is_some(), out)?;
    let routed = Route {
        name: chosen.name.clone(),
        model: chosen.model.clone(),
        pin: chosen.pin.clone(),
    };
    budget::told(config, &way, req, (caller, intent, routed), out)?;
    let meter = way.meter.over(config.layers.meter);
    layers(out, config, &way, place, &meter);
    Ok(())
}

/// The route that is taken, why those before it are not, and the model that it is about.
fn route(config: &Config, ask: &Ask<'_>, out: &mut String) -> Result<Choice, Rejection> {
    let table = routing::table(config);
    for (name, condition) in table.passed_over(ask) {
        let name = name.as_deref().unwrap_or_default();
        let why = match condition {
            "targets" => "none of its targets is the provider that the model names".to_owned(),
            condition => format!("its `match.{condition}` does not hold"),
        };
        say(out, "not", format_args!("{name}: {why}"));
    }
    let chosen = table.choose(ask)?;
    if let Some(resolved) = chosen.model.as_deref().filter(|it| Some(*it) != ask.model) {
        let why = "after aliases and provider names";
        say(out, "resolved", format_args!("{resolved}, {why}"));
    }
    match &chosen.name {
        Some(name) => say(
            out,
            "route",
            format_args!("{name}, the first whose conditions hold"),
        ),
        None => say(
            out,
            "route",
            format_args!("none is configured: the provider that lists it"),
        ),
    }
    Ok(chosen)
}

/// Who may be asked, and how one is chosen; the first of them. `bound`: it is about what a provider keeps.
fn targets<'w>(
    config: &Config,
    way: &'w Way,
    chosen: &Choice,
    bound: bool,
    out: &mut String,
) -> &'w Place {
    let seats = way.places.iter().map(|place| {
        let board = Board::new(SystemClock.now());
        routing::seat(config, place, &board, &gateway::prices(config), ())
    });
    let balance = routing::balanced(way, seats);
    let model = chosen.model.as_deref();
    let eligible = balance.eligible(model, chosen.pin.as_deref(), bound);
    if way.places.len() > 1 {
        let sticky = way.sticky.map_or("", |on| on.word());
        let sticky = if sticky.is_empty() {
            String::new()
        } else {
            format!(", the same one for the same {sticky}")
        };
        say(
            out,
            "strategy",
            format_args!("{}{sticky}", way.strategy.word()),
        );
    }
    if bound && way.places.len() > 1 {
        say(
            out,
            "",
            format_args!("it is about what a provider keeps: only the state target is asked"),
        );
    }
    for (place, eligible) in way.places.iter().zip(&eligible) {
        told_target(config, place, model, *eligible, out);
    }
    let first = eligible.iter().position(Result::is_ok);
    &way.places[first.unwrap_or(0)]
}

/// The layers outside of the routes, in the order of the stack, with the values that hold here.
fn before_routing(config: &Config, caller: Option<&Caller>, out: &mut String) {
    say(
        out,
        "layers",
        format_args!("record, seal, cors, respond, hygiene"),
    );
    if let Some(every) = config.layers.keepalive {
        say(out, "", format_args!("keepalive of seal: every {every:?}"));
    }
    caller::limits(config, caller, out);
    say(
        out,
        "",
        format_args!(
            "peek: {} bytes within {:?}",
            config.server.limits.body, config.server.limits.body_timeout
        ),
    );
    say(out, "", format_args!("route"));
}

/// One target, what it would be asked for, and why it would not be asked at all.
fn told_target(
    config: &Config,
    place: &Place,
    model: Option<&str>,
    eligible: Result<(), &'static str>,
    out: &mut String,
) {
    let provider = &config.providers[place.provider];
    let name = place.target.name();
    let label = place
        .target
        .label_word()
        .map_or(String::new(), |label| format!(" ({label})"));
    let weight = if place.weight == 1 {
        String::new()
    } else {
        format!(", weight {}", place.weight)
    };
    let why = eligible
        .err()
        .map_or(String::new(), |why| format!("; not asked: {why}"));
    match &provider.base_url {
        Some(url) => say(
            out,
            "target",
            format_args!("{name}{label} at {url}{weight}{why}"),
        ),
        None => say(
            out,
            "target",
            format_args!("{name}{label}, built in{weight}{why}"),
        ),
    }
    if let (Some(asked), Ok(())) = (place.target.asked_for(model), eligible) {
        say(out, "asked for", format_args!("{asked}"));
    }
}

/// The surface that a path has; says what it is.
fn surface<'a>(recognised: &'a Recognised, out: &mut String) -> Option<&'a Surface> {
    match recognised {
        Recognised::Surface(surface) => {
            let (dialect, operation) = (surface.dialect, surface.operation);
            say(
                out,
                "surface",
                format_args!("{dialect} {operation}, by its path"),
            );
            return Some(surface);
        }
        Recognised::Prefixed(_) => say(
            out,
            "surface",
            format_args!("none that is known; relayed as it is"),
        ),
        Recognised::Wrong(_) | Recognised::Unknown => say(out, "surface", format_args!("none")),
    }
    None
}

/// The layers behind the limits, in the order of the stack, with the values that hold here.
fn layers(out: &mut String, config: &Config, way: &Way, place: &Place, meter: &Meter) {
    let clocks = &place.timeout;
    let shown = |clock: Clock| match clock.limit() {
        Some(limit) => format!("{limit:?}"),
        None => "off".to_owned(),
    };
    say(
        out,
        "",
        format_args!("timeout of the whole: {}", shown(way.total)),
    );
    let retry = show::choice::retry(&way.retry);
    say(out, "", format_args!("retry: {retry}"));
    say(out, "", format_args!("balance: {}", way.strategy.word()));
    if let Some(share) = &config.providers[place.provider].concurrency {
        let share = show::targets::share(share);
        say(
            out,
            "",
            format_args!("concurrency of the provider: {share}"),
        );
    }
    let breaker = show::targets::breaker(&place.breaker);
    say(out, "", format_args!("breaker: {breaker}"));
    say(
        out,
        "",
        format_args!(
            "timeout: connect {:?}, first_byte {} streamed and {} else, first_token {}, idle {}, total {}, min_rate {}",
            clocks.connect,
            shown(clocks.first_byte_stream),
            shown(clocks.first_byte_document),
            shown(clocks.first_token),
            shown(clocks.idle),
            shown(clocks.total),
            show::speed(clocks.min_rate),
        ),
    );
    say(out, "", format_args!("truncation"));
    say(out, "", format_args!("meter: {}", show::meter(meter)));
    say(out, "", format_args!("upstream, client"));
}

#[cfg(test)]
mod tests;
