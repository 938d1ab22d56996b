//! Who may call, how often, and how much at once: the layers of a configuration, over what is counted for the whole process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tollgate_middleware::{
    auth::{
        AuthLayer, Digest, Grant, Keys,
        jwt::{Issuer, KeysOrTokens},
    },
    budget::{self, BudgetLayer, Journal, Ledger, Policy},
    concurrency::{Limits, Permits},
    estimate::Estimator,
    facts::{Caller, Terms},
    health::{Change, Wallet},
    rate_limit::{
        ByAddress, ByCaller, ByModel, ByUser, Cells, Everyone, Limit, Quotas, RateLimitLayer,
        UserSource,
    },
};

use crate::{
    config::{self, CallerKey, Config, Jwt},
    jwks::{KeySets, StartError},
    routing::{self, Way},
    spool::Spool,
    targets::Targets,
};

/// So many addresses, and so many end users, have a cell of their own.
const STRANGERS: usize = 65_536;

/// What is counted: one for the process, shared by its workers, kept by a reload.
#[derive(Clone, Debug)]
pub struct Counts(Arc<Inner>);

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
    // Taught by the meters, asked by the budgets.
    estimator: Estimator,
}

impl Counts {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self::telling(config, None, |_| {})
    }

    /// Nothing counted yet, but for what the spool knows; `told` hears of each change of a circuit.
    #[must_use]
    pub fn telling(
        config: &Config,
        spool: Option<Spool>,
        told: impl Fn(&Change) + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner {
            addresses: Cells::new(STRANGERS),
            callers: Cells::new(STRANGERS),
            everyone: Cells::new(0),
            users: Cells::new(STRANGERS),
            models: Mutex::default(),
            permits: Permits::new(limits(config)),
            key_sets: KeySets::default(),
            wallet: Wallet::new(),
            targets: Targets::new(told),
            ledger: match &spool {
                Some(spool) => spool.ledger().clone(),
                None => Ledger::new(STRANGERS),
            },
            spool,
            estimator: Estimator::default(),
        }))
    }

    /// Fetches the keys that this configuration's tokens are signed with, if nobody does so yet.
    ///
    /// # Errors
    ///
    /// What has to be there for that is not.
    pub fn prepare(&self, config: &Config) -> Result<(), StartError> {
        self.0.key_sets.prepare(config.layers.jwt.as_ref())
    }

    /// Bounds from now on what runs as this configuration says.
    pub fn adopt(&self, config: &Config) {
        self.0.permits.set(limits(config));
        self.0.key_sets.keep(config.layers.jwt.as_ref());
        self.0.targets.adopt(config);
    }

    pub(crate) fn targets(&self) -> &Targets {
        &self.0.targets
    }

    /// What is known of the credentials.
    pub(crate) fn wallet(&self) -> &Wallet {
        &self.0.wallet
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
        let keys = self.0.key_sets.of(&jwt.jwks);
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
        self.0.spool.as_ref()
    }

    /// What may be spent, at these prices.
    pub(crate) fn budget(&self, config: &Config, way: &Way) -> BudgetLayer {
        let ledger = self.0.ledger.clone();
        if way.budget.off {
            return BudgetLayer::new(Policy::off(), ledger);
        }
        let layer = BudgetLayer::new(self.reckons(config, way), ledger);
        match &self.0.spool {
            Some(spool) => layer.journal(Arc::new(spool.clone()) as Arc<dyn Journal>),
            None => layer,
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
            offers: Some(routing::offers(config, way, self.0.targets.board())),
            estimator: self.0.estimator.clone(),
        }
    }

    /// What is known of how long tokens are.
    pub(crate) fn estimator(&self) -> &Estimator {
        &self.0.estimator
    }

    pub(crate) fn permits(&self) -> Permits {
        self.0.permits.clone()
    }

    /// By address: what strangers may.
    pub(crate) fn strangers(&self, config: &Config) -> RateLimitLayer {
        let quota = config.layers.rate_limit.per_ip;
        let limit = |quota: tollgate_middleware::rate_limit::Quota| {
            let key = ByAddress(quota.into());
            Limit::new("address", key, self.0.addresses.clone()).gives_back(false)
        };
        RateLimitLayer::new(quota.map(limit))
    }

    /// By caller, then in all.
    pub(crate) fn known(&self, config: &Config) -> RateLimitLayer {
        let callers = config.callers.iter();
        let quotas = callers.filter_map(|it| Some((it.name.as_str().into(), it.requests?.into())));
        let quotas: Vec<(Arc<str>, Quotas)> = quotas.collect();
        let callers = (!quotas.is_empty()).then(|| {
            let cells = self.0.callers.clone();
            Limit::new("requests", ByCaller::new(quotas), cells).told(true)
        });
        let global = config.layers.rate_limit.global.map(|quota| {
            let cells = self.0.everyone.clone();
            Limit::new("global", Everyone(quota.into()), cells)
        });
        RateLimitLayer::new(callers.into_iter().chain(global))
    }

    /// By end user, then by model.
    pub(crate) fn asked(&self, config: &Config) -> RateLimitLayer {
        let limits = &config.layers.rate_limit;
        let user = limits.per_user.as_ref().map(|it| {
            let headers = it.headers.iter().cloned().map(UserSource::Header);
            let body = it.body.then_some(UserSource::Body);
            let key = ByUser::new(headers.chain(body), it.quota.into());
            Limit::new("user", key, self.0.users.clone())
        });
        let models = self.0.models.lock();
        let mut models = models.unwrap_or_else(PoisonError::into_inner);
        let models = limits.per_model.iter().map(|(pattern, quota)| {
            let cells = models.entry(pattern.to_string());
            let cells = cells.or_insert_with(|| Cells::new(0)).clone();
            let pattern = pattern.clone();
            let key = ByModel::new(move |model| pattern.matches(model), (*quota).into());
            Limit::new("model", key, cells)
        });
        let all: Vec<_> = user.into_iter().chain(models).collect();
        RateLimitLayer::new(all)
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
