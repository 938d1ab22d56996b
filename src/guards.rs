//! Who may call, how often, and how much at once: the layers of a configuration, over what is counted for the whole process.

use std::{
    collections::HashMap,
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use tollgate_middleware::{
    auth::{
        AuthLayer, Digest, Grant, Keys,
        jwt::{Issuer, KeysOrTokens},
    },
    budget::{self, BudgetLayer, Dates, Journal, Ledger, Policy},
    clock::{Clock, SystemClock},
    concurrency::{Limits, Permits},
    estimate::Estimator,
    facts::{Caller, Terms},
    health::{Change, Wallet},
    rate_limit::{
        ByAddress, ByCaller, ByModel, ByUser, Cells, Everyone, Id, Limit, Quotas, RateLimitLayer,
        UserSource,
    },
};

use crate::{
    accounts::Keeper,
    config::{self, CallerKey, Config, Jwt},
    connect::Open,
    jwks::{KeySets, StartError},
    routing::{self, Way},
    shared::{Link, Shared},
    spool::{self, Spool},
    targets::Targets,
    telemetry::{limited::Left, store::Figures},
};

/// So many addresses, and so many end users, have a cell of their own.
const STRANGERS: usize = 65_536;

/// What is counted: one for the process, shared by its workers, kept by a reload.
#[derive(Clone)]
pub struct Counts {
    all: Arc<Inner>,
    // Of the worker whose these are.
    store: Link,
}

#[derive(Debug)]
struct Inner {
    addresses: Cells,
    callers: Cells,
    everyone: Cells,
    users: Cells,
    // By pattern: one that goes and comes again goes on.
    models: Mutex<HashMap<String, Cells>>,
    permits: Permits,
    key_sets: KeySets,
    wallet: Wallet,
    targets: Targets,
    ledger: Ledger,
    spool: Option<Spool>,
    shared: Option<Shared>,
    // Budgets, where several processes share them.
    accounts: Option<budget::Shared>,
    // Taught by the meters, asked by the budgets.
    estimator: Estimator,
    upstream: Open,
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Counts").field(&self.all).finish()
    }
}

impl Counts {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self::telling(config, None, 1, None, |_| {})
    }

    /// Nothing counted yet, but for what the spool knows, and for so many workers; `tell` hears of shares of
    /// budgets that are spent by several processes, `told` of each change of a circuit.
    #[must_use]
    pub fn telling(
        config: &Config,
        spool: Option<Spool>,
        workers: usize,
        tell: Option<spool::Tell>,
        told: impl Fn(&Change) + Send + Sync + 'static,
    ) -> Self {
        let shared = config.state.redis.as_ref();
        // One connection more: budgets are kept over it.
        let shared = shared.map(|shared| Shared::new(shared, workers + 1));
        let link = shared.as_ref().and_then(|shared| shared.link(workers));
        let ledger = match &spool {
            Some(spool) => spool.ledger().clone(),
            None => Ledger::new(STRANGERS),
        };
        let accounts = link.map(|link| {
            let accounts = budget::Shared::new(link, STRANGERS).remembering(ledger.clone());
            match tell {
                Some(tell) => accounts.telling(tell),
                None => accounts,
            }
        });
        let all = Inner {
            addresses: Cells::new(STRANGERS),
            callers: Cells::new(STRANGERS),
            everyone: Cells::new(0),
            users: Cells::new(STRANGERS),
            models: Mutex::default(),
            permits: Permits::new(limits(config)),
            key_sets: KeySets::default(),
            wallet: Wallet::new(),
            targets: Targets::new(told),
            ledger,
            spool,
            shared,
            accounts,
            estimator: Estimator::default(),
            upstream: Open::default(),
        };
        Self {
            all: Arc::new(all),
            store: None,
        }
    }

    /// The same for this worker: what it shares with other processes goes over a connection of its own.
    #[must_use]
    pub fn of_worker(&self, worker: usize) -> Self {
        let shared = self.all.shared.as_ref();
        Self {
            all: self.all.clone(),
            store: shared.and_then(|shared| shared.link(worker)),
        }
    }

    /// Begins to keep the connection of a worker up. Inside the worker's runtime.
    pub fn keep(&self, worker: usize) {
        if let Some(shared) = &self.all.shared {
            shared.keep(worker);
        }
    }

    /// What the shared store did so far, if there is one.
    pub(crate) fn store(&self) -> Option<Figures> {
        self.all.shared.as_ref().map(Shared::figures)
    }

    /// Begins to keep budgets that several processes share, if there are any; so many workers have connections of their own.
    ///
    /// # Errors
    ///
    /// The thread for it cannot be made.
    pub(crate) fn keep_accounts(&self, workers: usize) -> io::Result<Option<Keeper>> {
        let accounts = self.all.accounts.clone();
        let begin = accounts.map(|accounts| {
            let counts = self.clone();
            Keeper::start(accounts, move || counts.keep(workers))
        });
        begin.transpose()
    }

    /// Budgets that several processes share.
    pub(crate) fn accounts(&self) -> Option<&budget::Shared> {
        self.all.accounts.as_ref()
    }

    /// Fetches the keys that this configuration's tokens are signed with, if nobody does so yet.
    ///
    /// # Errors
    ///
    /// What has to be there for that is not.
    pub fn prepare(&self, config: &Config) -> Result<(), StartError> {
        self.all.key_sets.prepare(config.layers.jwt.as_ref())
    }

    /// Bounds from now on what runs as this configuration says.
    pub fn adopt(&self, config: &Config) {
        self.all.permits.set(limits(config));
        self.all.key_sets.keep(config.layers.jwt.as_ref());
        self.all.targets.adopt(config);
    }

    pub(crate) fn targets(&self) -> &Targets {
        &self.all.targets
    }

    /// What is known of the credentials.
    pub(crate) fn wallet(&self) -> &Wallet {
        &self.all.wallet
    }

    /// Who may call.
    pub(crate) fn auth(&self, config: &Config) -> AuthLayer {
        if config.callers.is_empty() {
            return AuthLayer::open();
        }
        let keys = config.callers.iter();
        let keys = keys.filter_map(|it| Some((digest(it)?, grant(it))));
        let keys = Keys::new(keys).expect(REFUSED);
        match &config.layers.jwt {
            None => AuthLayer::new(keys),
            Some(jwt) => AuthLayer::new(KeysOrTokens {
                keys,
                tokens: self.issuer(config, jwt),
            }),
        }
    }

    fn issuer(&self, config: &Config, jwt: &Jwt) -> Issuer {
        let keys = self.all.key_sets.of(&jwt.jwks);
        let algorithms = jwt.algorithms.iter().copied();
        let issuer = Issuer::new(keys, algorithms, &jwt.issuer, &jwt.audience)
            .claim(&jwt.caller)
            .callers(config.callers.iter().map(grant));
        let named = |it: &&config::Caller| Some(&it.name) == jwt.stands_for.as_ref();
        match config.callers.iter().find(named) {
            Some(caller) => issuer.others_as(grant(caller)),
            None => issuer,
        }
    }

    /// What is kept of what was spent.
    pub(crate) fn spool(&self) -> Option<&Spool> {
        self.all.spool.as_ref()
    }

    /// What may be spent, at these prices.
    pub(crate) fn budget(&self, config: &Config, way: &Way) -> BudgetLayer {
        let ledger = self.all.ledger.clone();
        if way.budget.off {
            return BudgetLayer::new(Policy::off(), ledger);
        }
        let layer = BudgetLayer::new(self.reckons(config, way), ledger);
        let layer = match &self.all.spool {
            Some(spool) => layer.journal(Arc::new(spool.clone()) as Arc<dyn Journal>),
            None => layer,
        };
        match (&self.all.accounts, &self.store) {
            (Some(accounts), Some(store)) => layer.shared(accounts.over(store.clone())),
            _ => layer,
        }
    }

    /// By what a way's requests are reckoned up.
    pub(crate) fn reckons(&self, config: &Config, way: &Way) -> Policy {
        let callers = config.callers.iter().filter_map(|it| {
            let tokens = it.tokens.map(|tokens| (tokens.rate, tokens.reserve));
            let terms = budget::Terms {
                tokens: tokens.map(|(rate, _)| rate),
                reserve: tokens.map(|(_, reserve)| reserve).unwrap_or_default(),
                money: it.budget,
            };
            let limited = terms.tokens.is_some() || terms.money.is_some();
            limited.then(|| (it.name.as_str().into(), terms))
        });
        Policy {
            callers: callers.collect(),
            global: way.budget.global,
            unpriced: way.budget.unpriced,
            on_short: way.budget.on_short,
            waste: way.budget.waste,
            attempts: way.retry.attempts,
            prices: crate::gateway::prices(config),
            offers: Some(routing::offers(config, way, self.all.targets.board())),
            estimator: self.all.estimator.clone(),
        }
    }

    /// What is known of how long tokens are.
    pub(crate) fn estimator(&self) -> &Estimator {
        &self.all.estimator
    }

    /// The connections to providers.
    pub(crate) fn upstream(&self) -> &Open {
        &self.all.upstream
    }

    /// What is left of the limits that all share, as this configuration has them.
    pub(crate) fn left(&self, config: &Config) -> Vec<Left> {
        let left = |kind: &str, held: usize, most: usize| Left {
            limit: "concurrency",
            kind: kind.to_owned(),
            ratio: most.saturating_sub(held) as f64 / most.max(1) as f64,
        };
        let money = config.layers.budget.global.map(|budget| {
            let mut sums = match &self.all.accounts {
                Some(accounts) => accounts.sums(None).unwrap_or_default(),
                None => self.all.ledger.read_global(|account| *account.sums()),
            };
            // Nobody may have asked since the window began.
            sums.open(Dates::at(SystemClock.wall()));
            Left {
                limit: "budget",
                kind: "global".to_owned(),
                ratio: (sums.left(budget).usd() / budget.amount.usd()).clamp(0.0, 1.0),
            }
        });
        let rates = self
            .rates(config)
            .into_iter()
            .chain(self.of_callers(config));
        let most = limits(config).most;
        let all = (most != usize::MAX).then(|| left("global", self.all.permits.held(), most));
        let providers = config.providers.iter();
        let shares = providers.filter_map(|provider| {
            let (held, most) = self.all.targets.held(provider)?;
            Some(left(&provider.name, held, most))
        });
        let all = all.into_iter().chain(shares);
        all.chain(money).chain(rates).collect()
    }

    /// What is left of the rates by names that the configuration gives; nothing where several processes count them together. What
    /// is known of callers who are no more is kept, and not told.
    fn rates(&self, config: &Config) -> Vec<Left> {
        if self.all.shared.is_some() {
            return Vec::new();
        }
        let now = SystemClock.now();
        let left = |kind: String, ratio: Option<f64>| Left {
            limit: "rate_limit",
            kind,
            // Whoever has not come has all of it.
            ratio: ratio.unwrap_or(1.0),
        };
        let limits = &config.layers.rate_limit;
        let everyone = |cells: &Cells| cells.left(&Id::Everyone, now);
        let global = limits.global.as_ref();
        let global = global.map(|_| left("global".to_owned(), everyone(&self.all.everyone)));
        let models = self.all.models.lock();
        let models = models.unwrap_or_else(PoisonError::into_inner);
        let models = limits.per_model.iter().map(|(pattern, _)| {
            let cells = models.get(&pattern.to_string());
            left(format!("model {pattern}"), cells.and_then(everyone))
        });
        let callers = self.requests(config, now);
        let callers = callers.map(|ratio| left("requests".to_owned(), ratio));
        global.into_iter().chain(callers).chain(models).collect()
    }

    /// What is left to the caller who has the least, if any is bounded; `None` within if none of them has come.
    fn requests(&self, config: &Config, now: Instant) -> Option<Option<f64>> {
        let bounded = || config.callers.iter().filter(|it| it.requests.is_some());
        bounded().next()?;
        let cells = &self.all.callers;
        let named = bounded().filter_map(|it| cells.left(&Id::Name(&it.name), now));
        // Those whom a claim of a token names count by themselves, as the one who stands for them.
        let jwt = config.layers.jwt.as_ref();
        let stands = jwt.and_then(|jwt| jwt.stands_for.as_ref());
        let claimed = bounded().any(|it| Some(&it.name) == stands);
        let claimed = claimed.then(|| cells.least_left_unlisted(now)).flatten();
        Some(named.chain(claimed).reduce(f64::min))
    }

    /// What is left of callers' budgets and tokens: to the one of those in the file who has the least of it.
    fn of_callers(&self, config: &Config) -> Vec<Left> {
        let (ledger, today) = (&self.all.ledger, Dates::at(SystemClock.wall()));
        let money = config.callers.iter().filter_map(|caller| {
            let budget = caller.budget?;
            let mut sums = match &self.all.accounts {
                Some(accounts) => accounts.sums(Some(&caller.name)),
                None => ledger.read(&caller.name, |account| *account.sums()),
            }
            .unwrap_or_default();
            sums.open(today);
            Some(sums.left(budget).usd() / budget.amount.usd())
        });
        let now = ledger.nanos(SystemClock.now());
        // Where they are shared, a process knows but its own part of them.
        let alone = self.all.accounts.is_none();
        let tokens = config.callers.iter().filter(|_| alone);
        let tokens = tokens.filter_map(|caller| {
            let rate = caller.tokens?.rate;
            let left = ledger.read(&caller.name, |account| {
                let bucket = account.bucket().filter(|bucket| bucket.rate() == rate)?;
                Some(bucket.left(now) as f64 / f64::from(rate.tokens()))
            });
            Some(left.flatten().unwrap_or(1.0))
        });
        let least = |kind: &str, ratios: &mut dyn Iterator<Item = f64>| {
            ratios.reduce(f64::min).map(|ratio| Left {
                limit: "budget",
                kind: kind.to_owned(),
                ratio: ratio.clamp(0.0, 1.0),
            })
        };
        let money = least("callers", &mut { money });
        money
            .into_iter()
            .chain(least("tokens", &mut { tokens }))
            .collect()
    }

    pub(crate) fn permits(&self) -> Permits {
        self.all.permits.clone()
    }

    /// By address: what strangers may.
    pub(crate) fn strangers(&self, config: &Config) -> RateLimitLayer {
        let quota = config.layers.rate_limit.per_ip;
        let limit = |quota: tollgate_middleware::rate_limit::Quota| {
            let key = ByAddress(quota.into());
            Limit::new("address", key, self.all.addresses.clone()).gives_back(false)
        };
        RateLimitLayer::new(quota.map(limit)).shared(self.store.clone())
    }

    /// By caller, then in all.
    pub(crate) fn known(&self, config: &Config) -> RateLimitLayer {
        let callers = config.callers.iter();
        let quotas = callers.filter_map(|it| Some((it.name.as_str().into(), it.requests?.into())));
        let quotas: Vec<(Arc<str>, Quotas)> = quotas.collect();
        let callers = (!quotas.is_empty()).then(|| {
            let cells = self.all.callers.clone();
            Limit::new("requests", ByCaller::new(quotas), cells).told(true)
        });
        let global = config.layers.rate_limit.global.map(|quota| {
            let cells = self.all.everyone.clone();
            Limit::new("global", Everyone(quota.into()), cells)
        });
        RateLimitLayer::new(callers.into_iter().chain(global)).shared(self.store.clone())
    }

    /// By end user, then by model.
    pub(crate) fn asked(&self, config: &Config) -> RateLimitLayer {
        let limits = &config.layers.rate_limit;
        let user = limits.per_user.as_ref().map(|it| {
            let headers = it.headers.iter().cloned().map(UserSource::Header);
            let body = it.body.then_some(UserSource::Body);
            let key = ByUser::new(headers.chain(body), it.quota.into());
            Limit::new("user", key, self.all.users.clone())
        });
        let models = self.all.models.lock();
        let mut models = models.unwrap_or_else(PoisonError::into_inner);
        let models = limits.per_model.iter().map(|(pattern, quota)| {
            let cells = models.entry(pattern.to_string());
            let cells = cells.or_insert_with(|| Cells::new(0)).clone();
            let (name, pattern) = (pattern.to_string(), pattern.clone());
            let key = ByModel::new(move |model| pattern.matches(model), (*quota).into());
            Limit::new("model", key, cells).apart(name)
        });
        let all: Vec<_> = user.into_iter().chain(models).collect();
        RateLimitLayer::new(all).shared(self.store.clone())
    }
}

const REFUSED: &str = "a key that is none, or that two have, is refused when the file is read";

/// None for a caller whom only tokens name.
fn digest(caller: &config::Caller) -> Option<Digest> {
    let digest = match &caller.key {
        CallerKey::Key(key) => Digest::of(key.expose()),
        CallerKey::Hash(hash) => hash.expose().parse(),
        CallerKey::Token => return None,
    };
    Some(digest.expect(REFUSED))
}

pub(crate) fn grant(caller: &config::Caller) -> Grant {
    let models = caller.models.as_ref();
    let terms = Terms {
        priority: caller.priority,
        models: models.map(|all| all.iter().map(|it| it.to_string().into()).collect()),
        labels: caller
            .labels
            .iter()
            .map(|(name, text)| (name.as_str().into(), text.as_str().into()))
            .collect(),
        credential: caller.credential.as_deref().map(Into::into),
    };
    let mut grant = Grant::new(Caller::new(caller.name.as_str(), terms))
        .disabled(caller.disabled)
        .origins(caller.origins.iter().cloned());
    if let Some(expires) = caller.expires {
        grant = grant.expires(expires);
    }
    if let Some(surfaces) = &caller.surfaces {
        grant = grant.surfaces(surfaces.iter().copied());
    }
    if caller.allow_from.is_empty() {
        return grant;
    }
    let networks = caller.allow_from.clone();
    grant.from(move |ip| networks.iter().any(|network| network.contains(ip)))
}

fn limits(config: &Config) -> Limits {
    let config::Concurrency {
        max,
        per_caller,
        queue,
        wait,
    } = config.layers.concurrency;
    let own = config.callers.iter();
    let own = own.filter_map(|it| Some((it.name.as_str().into(), it.concurrency?)));
    Limits {
        most: max,
        per_caller,
        callers: own.collect(),
        queue,
        wait,
    }
}
