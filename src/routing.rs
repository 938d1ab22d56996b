//! From the configuration to the values that the routing layers work with.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use tollgate_middleware::{
    budget::Offers,
    models::Listed,
    route::{Catalogue, Matcher, Models, Pattern, Rule, Table},
    token_cap::Caps,
    upstream::{Credential, Target},
};

use crate::config::{
    self, Auth, Config, Dialect, MeterOverride, Provider, TimeoutOverride, TokenCap,
};

/// What leads to one target: the router wants one for each rule, or, without routes, for each
/// provider.
#[derive(Debug)]
pub(crate) struct Place {
    /// Which provider, by its index.
    pub(crate) provider: usize,
    /// The provider as this target asks it.
    pub(crate) target: Target,
    /// The route's own clocks.
    pub(crate) timeout: TimeoutOverride,
    /// How the route's answers are metered.
    pub(crate) meter: MeterOverride,
    /// What a request may ask for on this route.
    pub(crate) caps: Caps,
}

/// The targets, in the order of the table.
pub(crate) fn places(config: &Config) -> Vec<Place> {
    let caps = &config.layers.token_cap;
    if config.routes.is_empty() {
        let place = |(at, provider)| Place {
            provider: at,
            target: target(provider),
            timeout: TimeoutOverride::default(),
            meter: MeterOverride::default(),
            caps: TokenCap::default().over(caps),
        };
        return config.providers.iter().enumerate().map(place).collect();
    }
    let place = |route: &config::Route| {
        let named = |provider: &Provider| provider.name == route.target.provider;
        let at = config.providers.iter().position(named);
        let at = at.expect("a route to an unknown provider is refused when the file is read");
        let mut target = target(&config.providers[at]);
        if let Some(model) = &route.target.model {
            target = target.model(model.as_str());
        }
        if let Some(label) = &route.target.label {
            target = target.label(label.as_str());
        }
        Place {
            provider: at,
            target,
            timeout: route.timeout,
            meter: route.meter,
            caps: route.token_cap.over(caps),
        }
    };
    config.routes.iter().map(place).collect()
}

/// The prices at which a route's targets may be asked for a model.
pub(crate) fn offers(config: &Config, targets: &[&Target]) -> Arc<Offers> {
    let prices = crate::gateway::prices(config);
    let targets: Vec<Target> = targets.iter().map(|target| (*target).clone()).collect();
    Arc::new(move |model| {
        let price = |target: &Target| {
            let asked = target.asked_for(model);
            let own = asked.as_deref().and_then(|own| prices.of(own));
            // As it is settled: by the provider's name of the model, else by the caller's.
            own.or_else(|| prices.of(model?)).copied()
        };
        targets.iter().map(price).collect()
    })
}

/// The decision table of the router.
pub(crate) fn table(config: &Config) -> Table {
    let catalogue = |provider: &Provider| {
        let unread = provider.dialect == Dialect::Raw;
        Catalogue::new(provider.name.as_str(), models(&provider.models)).unread(unread)
    };
    let rule = |route: &config::Route| {
        let model = route.target.model.as_deref().map(Arc::from);
        Rule::new(route.name.as_str())
            .when(matcher(&route.matches))
            .to(route.target.provider.as_str(), model)
    };
    let aliases = config
        .aliases
        .iter()
        .map(|alias| (alias.name.clone(), alias.model.clone()));
    Table::new(
        config.providers.iter().map(catalogue),
        aliases,
        config.routes.iter().map(rule),
    )
}

/// The names that may be asked for, as far as the configuration can name them.
pub(crate) fn listed(config: &Config) -> Vec<Listed> {
    let exact = |pattern: &config::Pattern| (!pattern.star).then(|| pattern.text.clone());
    let mut all = Vec::new();
    for provider in &config.providers {
        let config::Models::Listed(models) = &provider.models else {
            continue;
        };
        for name in models.iter().filter_map(|model| exact(&model.public)) {
            all.push(Listed::new(name.clone(), name, provider.name.as_str()));
        }
    }
    for route in &config.routes {
        for name in route.matches.model.iter().filter_map(exact) {
            let owner = route.target.provider.as_str();
            all.push(Listed::new(name.clone(), name, owner));
        }
    }
    for alias in &config.aliases {
        let (name, model) = (alias.name.as_str(), alias.model.as_str());
        all.push(Listed::new(name, model, "tollgate"));
    }
    all
}

fn models(models: &config::Models) -> Models {
    match models {
        config::Models::Any => Models::Any,
        config::Models::Listed(models) => {
            let listed = |model: &config::Model| {
                (
                    pattern(&model.public),
                    model.upstream.as_deref().map(Arc::from),
                )
            };
            Models::Listed(models.iter().map(listed).collect())
        }
    }
}

fn matcher(matches: &config::Match) -> Matcher {
    let patterns = |patterns: &[config::Pattern]| patterns.iter().map(pattern).collect();
    let headers = matches
        .header
        .iter()
        .map(|(name, value)| (name.clone(), pattern(value)));
    Matcher {
        model: patterns(&matches.model),
        path: patterns(&matches.path),
        dialect: matches.dialect.clone(),
        stream: matches.stream,
        header: headers.collect(),
    }
}

fn pattern(pattern: &config::Pattern) -> Pattern {
    if pattern.star {
        Pattern::starting(&pattern.text)
    } else {
        Pattern::exactly(&pattern.text)
    }
}

fn target(provider: &Provider) -> Target {
    let names = models(&provider.models);
    let extra = provider.extra_body.iter();
    Target::new(provider.name.as_str(), &base_url(provider))
        .expect("a base URL without an authority is refused when the file is read")
        .credential(credential(provider))
        .headers(headers(provider))
        .extra_body(extra.map(|member| (member.name.as_str(), member.json.as_str())))
        .renames(move |model| names.own_name(model).cloned())
}

/// Where a provider is; the built-in one is nowhere, and takes the caller's path as it is.
fn base_url(provider: &Provider) -> Uri {
    match &provider.base_url {
        Some(url) => Uri::try_from(url.to_string()),
        None => Uri::try_from("http://mock"),
    }
    .expect("a bad base URL is refused when the file is read")
}

fn headers(provider: &Provider) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &provider.headers {
        let mut value = HeaderValue::from_str(value.expose())
            .expect("a value that no header can hold is refused when the file is read");
        value.set_sensitive(true);
        headers.append(name.clone(), value);
    }
    headers
}

fn credential(provider: &Provider) -> Credential {
    let Some(credential) = &provider.credential else {
        return Credential::None;
    };
    let key = credential.secret.expose();
    let slot = match provider.auth {
        Auth::None => return Credential::None,
        Auth::Bearer => return Credential::bearer(key).expect(USABLE),
        Auth::ApiKey => "api-key",
        Auth::XApiKey => "x-api-key",
        Auth::XGoogApiKey => "x-goog-api-key",
    };
    Credential::header(HeaderName::from_static(slot), key).expect(USABLE)
}

const USABLE: &str = "a credential that no header can hold is refused when the file is read";
