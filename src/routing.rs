//! From the configuration to the values that the routing layers work with.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use tollgate_middleware::{
    attempt::TARGETS,
    balance::{self, StickyOn, Strategy},
    budget::{Offer, Offers},
    facts::Endpoint,
    health::{Board, Keys, Source, Wallet},
    models::Listed,
    prices::Prices,
    retry::Policy,
    route::{Catalogue, Matcher, Models, Pattern, Prompt, Rule, Table, Taken},
    token_cap::Caps,
    upstream::{Credential, Target},
    word_filter::Filter,
};

use crate::config::{
    self, Auth, Breaker, Config, Dialect, MeterOverride, Provider, TimeoutOverride, TokenCap,
};
use crate::regex;

/// What stands behind one rule, or, without routes, behind the implicit ones.
#[derive(Debug)]
pub(crate) struct Way {
    /// The targets, in their order; at least one.
    pub(crate) places: Vec<Place>,
    /// Which of them is asked.
    pub(crate) strategy: config::Strategy,
    /// What the choice sticks to, where it sticks.
    pub(crate) sticky: Option<config::StickyOn>,
    /// Where that goes which a provider keeps.
    pub(crate) state_target: usize,
    /// What is tried again.
    pub(crate) retry: Policy,
    /// How long all of it may take.
    pub(crate) total: config::Clock,
    /// How the route's answers are metered.
    pub(crate) meter: MeterOverride,
    /// What a request may ask for on this route.
    pub(crate) caps: Caps,
    /// What may be spent on it, but for what callers may.
    pub(crate) budget: config::Budgets,
    /// What is looked for in its texts.
    pub(crate) filter: Filter,
}

/// What leads to one target.
#[derive(Debug)]
pub(crate) struct Place {
    /// Which provider, by its index.
    pub(crate) provider: usize,
    /// The model that this target always asks for.
    pub(crate) model: Option<String>,
    /// The provider as this target asks it.
    pub(crate) target: Target,
    /// The clocks that hold here; `total` only where it is shorter than that of the whole.
    pub(crate) timeout: config::Timeout,
    /// When it is not asked any more.
    pub(crate) breaker: Breaker,
    /// How much of the traffic it gets.
    pub(crate) weight: u32,
    /// How often it is asked for one request at the most.
    pub(crate) attempts: Option<u32>,
    /// Whether only the models that the provider lists are asked for.
    pub(crate) listed: bool,
}

/// The ways, in the order of the table; without routes, one that all of the table leads to.
pub(crate) fn ways(config: &Config, wallet: &Wallet) -> Vec<Way> {
    let caps = &config.layers.token_cap;
    if config.routes.is_empty() {
        let all: Vec<_> = (0..config.providers.len()).collect();
        // So many targets are told apart; where there are more, each stands alone.
        let groups = if all.len() > TARGETS {
            1
        } else {
            all.len().max(1)
        };
        let way = |providers: &[usize]| {
            let places = providers.iter().map(|at| Place {
                listed: providers.len() > 1,
                ..place(config, wallet, *at, TimeoutOverride::default())
            });
            Way {
                places: places.collect(),
                strategy: config::Strategy::Fallback,
                sticky: None,
                state_target: 0,
                retry: config.layers.retry.clone(),
                total: config::Clock::Off,
                meter: MeterOverride::default(),
                caps: TokenCap::default().over(caps),
                budget: config.layers.budget,
                filter: config.layers.word_filter.filter.clone(),
            }
            .within()
        };
        return all.chunks(groups).map(way).collect();
    }
    let way = |route: &config::Route| {
        let places = route.targets.iter().map(|own| {
            let named = |provider: &Provider| provider.name == own.provider;
            let at = config.providers.iter().position(named);
            let at = at.expect("a route to an unknown provider is refused when the file is read");
            let mut place = place(config, wallet, at, own.timeout.or(route.timeout));
            if let Some(model) = &own.model {
                place.target = place.target.model(model.as_str());
            }
            if let Some(label) = &own.label {
                place.target = place.target.label(label.as_str());
            }
            if let Some(credential) = &own.credential {
                place.target = place.target.pin(credential.as_str());
            }
            Place {
                listed: own.model.is_none(),
                model: own.model.clone(),
                breaker: own.breaker.over(route.breaker.over(config.layers.breaker)),
                weight: own.weight,
                attempts: own.attempts,
                ..place
            }
        });
        Way {
            places: places.collect(),
            strategy: route.strategy,
            sticky: route.sticky,
            state_target: route.state_target,
            retry: route.retry.over(&config.layers.retry),
            total: config::Clock::Off,
            meter: route.meter,
            caps: route.token_cap.over(caps),
            budget: route.budget.over(config.layers.budget),
            filter: route.word_filter.filter.clone(),
        }
        .within()
    };
    config.routes.iter().map(way).collect()
}

impl Way {
    /// One deadline for the whole: the longest of its targets', each of which keeps its own if that is shorter.
    fn within(mut self) -> Self {
        let totals = self.places.iter().map(|place| place.timeout.total.limit());
        let longest = totals.reduce(|one, other| Some(one?.max(other?))).flatten();
        self.total = longest.map_or(config::Clock::Off, config::Clock::After);
        for place in &mut self.places {
            if place.timeout.total == self.total {
                place.timeout.total = config::Clock::Off;
            }
        }
        self
    }
}

fn place(config: &Config, wallet: &Wallet, at: usize, timeout: TimeoutOverride) -> Place {
    let provider = &config.providers[at];
    Place {
        provider: at,
        model: None,
        target: target(provider, wallet),
        timeout: timeout.over(provider.timeout.over(config.layers.timeout)),
        breaker: config.layers.breaker,
        weight: 1,
        attempts: None,
        listed: true,
    }
}

/// The target of a place, with all that is to be known for choosing it.
pub(crate) fn seat<S>(
    config: &Config,
    place: &Place,
    board: &Board,
    prices: &Prices,
    service: S,
) -> balance::Target<S> {
    let provider = &config.providers[place.provider];
    let endpoint = Endpoint::new(
        provider.name.as_str(),
        place.target.name().clone(),
        place.target.label_word().cloned(),
    );
    let source = source(board, provider, place.model.as_deref());
    let (keys, pin) = place.target.keys();
    let (target, prices) = (place.target.clone(), prices.clone());
    let price = move |model: Option<&str>| offer(&target, &prices, model).price;
    let mut seat = balance::Target::new(endpoint, source, service)
        .weight(place.weight)
        .callers_own(provider.passthrough)
        .prices(price);
    if !keys.is_empty() {
        seat = seat.keys(keys.clone(), pin.map(Into::into));
    }
    if let Some(attempts) = place.attempts {
        seat = seat.attempts(attempts);
    }
    if !place.listed {
        return seat;
    }
    let names = models(&provider.models);
    match &names {
        // On the implicit routes, one that lists nothing is asked only by its name.
        Models::Any if config.routes.is_empty() => seat.only_by_name(),
        _ => seat.serves(move |model| names.serves(model)),
    }
}

/// How the targets of a way are chosen from.
pub(crate) fn balanced<S>(
    way: &Way,
    seats: impl IntoIterator<Item = balance::Target<S>>,
) -> balance::Balance<S> {
    use config::{StickyOn as On, Strategy as Word};
    let strategy = match way.strategy {
        Word::Cheapest => Strategy::Cheapest,
        Word::Fallback => Strategy::Fallback,
        Word::LeastInflight => Strategy::LeastInflight,
        Word::LeastLatency => Strategy::LeastLatency,
        Word::P2c => Strategy::P2c,
        Word::RoundRobin => Strategy::RoundRobin,
        Word::Sticky => Strategy::Sticky,
        Word::Weighted => Strategy::Weighted,
    };
    let balance = balance::Balance::new(seats, strategy)
        .expect("a route without targets, or without weights, is refused when the file is read")
        .state_target(way.state_target);
    match way.sticky {
        None => balance,
        Some(On::Caller) => balance.sticky(StickyOn::Caller),
        Some(On::Session) => balance.sticky(StickyOn::Session),
        Some(On::User) => balance.sticky(StickyOn::User),
    }
}

/// Whose circuit a request meets at a target.
pub(crate) fn source(board: &Board, provider: &Provider, model: Option<&str>) -> Source {
    if let Some(model) = model {
        return Source::fixed(board, &provider.name, model);
    }
    let names = models(&provider.models);
    Source::by_model(board, &provider.name, move |model| {
        names.own_name(model).cloned()
    })
}

/// What the targets of a way that may be asked take for a request: those that the way's choice would leave in.
pub(crate) fn offers(config: &Config, way: &Way, board: &Board) -> Arc<Offers> {
    let prices = crate::gateway::prices(config);
    let seats = way.places.iter();
    let balance = balanced(
        way,
        seats.map(|place| seat(config, place, board, &prices, ())),
    );
    let targets: Vec<Target> = way.places.iter().map(|it| it.target.clone()).collect();
    Arc::new(move |question| {
        let able = balance.eligible(question.model, question.pin, question.bound);
        let able = targets.iter().zip(able).filter(|(_, why)| why.is_ok());
        able.map(|(target, _)| offer(target, &prices, question.model))
            .collect()
    })
}

/// What a target takes for a model. As it is settled: by the provider's name of the model, else by the caller's.
fn offer(target: &Target, prices: &Prices, model: Option<&str>) -> Offer {
    let own = target.asked_for(model);
    let price = own.as_deref().and_then(|own| prices.of(own));
    Offer {
        price: price.or_else(|| prices.of(model?)).copied(),
        model: own.map(|own| own.as_ref().into()),
    }
}

/// The decision table of the router.
pub(crate) fn table(config: &Config) -> Table {
    let catalogue = |provider: &Provider| {
        let unread = provider.dialect == Dialect::Raw;
        Catalogue::new(provider.name.as_str(), models(&provider.models)).unread(unread)
    };
    let rule = |route: &config::Route| {
        let rule = Rule::new(route.name.as_str()).when(matcher(&route.matches));
        // What is drained takes no request, and so no model either.
        let targets = route.targets.iter().filter(|target| target.weight > 0);
        targets.fold(rule, |rule, target| {
            let model = target.model.as_deref().map(Arc::from);
            rule.to(target.provider.as_str(), model)
        })
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
            let first = route.targets.first();
            let owner = first.map_or("tollgate", |target| target.provider.as_str());
            all.push(Listed::new(name.clone(), name, owner));
        }
    }
    for alias in &config.aliases {
        let (name, model) = (alias.name.as_str(), alias.model.as_str());
        all.push(Listed::new(name, model, "tollgate"));
    }
    all
}

/// Whether there is one provider, which knows by itself what may be asked for.
pub(crate) fn sole_knows(config: &Config) -> bool {
    let [provider] = &*config.providers else {
        return false;
    };
    match &provider.models {
        config::Models::Any => true,
        config::Models::Listed(models) => models.iter().any(|model| model.public.star),
    }
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
        caller: patterns(&matches.caller),
        dialect: matches.dialect.clone(),
        stream: matches.stream,
        header: headers.collect(),
        tools: matches.tools,
        metadata: {
            let members = matches.metadata.iter();
            members
                .map(|(name, value)| (name.as_str().into(), pattern(value)))
                .collect()
        },
        prompt: matches.prompt.as_ref().map(prompt),
    }
}

fn prompt(prompt: &config::Prompt) -> Prompt {
    let words = |words: &[String]| words.iter().map(|it| it.as_str().into()).collect();
    Prompt {
        contains: words(&prompt.contains),
        not_contains: words(&prompt.not_contains),
        taken: prompt.regex.as_ref().map(|source| {
            let regex = regex::Regex::new(source)
                .expect("what cannot be compiled is refused when the file is read");
            Taken::new(source.as_str(), move |text| regex.is_match(text))
        }),
    }
}

/// Whether a route asks what the user says.
pub(crate) fn asks_for_texts(config: &Config) -> bool {
    config
        .routes
        .iter()
        .any(|route| route.matches.prompt.is_some())
}

fn pattern(pattern: &config::Pattern) -> Pattern {
    if pattern.star {
        Pattern::starting(&pattern.text)
    } else {
        Pattern::exactly(&pattern.text)
    }
}

fn target(provider: &Provider, wallet: &Wallet) -> Target {
    let names = models(&provider.models);
    let extra = provider.extra_body.iter();
    Target::new(provider.name.as_str(), &base_url(provider))
        .expect("a base URL without an authority is refused when the file is read")
        .credentials(credentials(provider), keys(provider, wallet))
        .passthrough(provider.passthrough)
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

/// The credentials that are sent: none where there is no slot for them.
fn sent(provider: &Provider) -> &[config::Credential] {
    match provider.auth {
        Auth::None => &[],
        _ => &provider.credentials,
    }
}

fn credentials(provider: &Provider) -> impl Iterator<Item = Credential> {
    sent(provider).iter().map(|credential| {
        let key = credential.secret.expose();
        let slot = match provider.auth {
            Auth::Bearer | Auth::None => return Credential::bearer(key).expect(USABLE),
            Auth::ApiKey => "api-key",
            Auth::XApiKey => "x-api-key",
            Auth::XGoogApiKey => "x-goog-api-key",
        };
        Credential::header(HeaderName::from_static(slot), key).expect(USABLE)
    })
}

/// What is known of them: by what they are, so that a new one under an old name begins anew.
fn keys(provider: &Provider, wallet: &Wallet) -> Keys {
    let key = |credential: &config::Credential| {
        let mut hasher = DefaultHasher::new();
        credential.secret.expose().hash(&mut hasher);
        let name = credential.name.as_deref().map(Into::into);
        (name, wallet.key(&provider.name, hasher.finish()))
    };
    Keys::new(sent(provider).iter().map(key))
}

const USABLE: &str = "a credential that no header can hold is refused when the file is read";
