//! A whole gateway in this process: data listeners, admin listener, request log.

mod error;
mod settings;

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest;
use tollgate_middleware::{
    attempt::TARGETS,
    body::Room,
    clock::{Clock, SystemClock},
    health::Change,
    prices::Prices,
};

pub use self::error::StartError;
use self::settings::held_bodies;
pub(crate) use self::settings::{address, room, settings, tls, token};
use crate::{
    accounts::Keeper,
    admin::{self, Admin, Pages, Token},
    config::{self, Config, LogTo, Model, Models, Provider},
    guards::Counts,
    listen::Address,
    reload::{self, Live, ReloadError, Reloads, Source},
    server::{self, Control, Handle, Outcome, Readiness, Refuse, Signals, Stacks, Tally},
    spool::{self, Spool},
    stack::{Body, Connectors, Stack},
    telemetry::{
        accounts::Accounts,
        circuits::{self, Circuits},
        exposition::Format,
        line,
        log::{LogWriter, Sink},
        metrics::{LedgerFigures, Metrics, Others},
        series::{Place, View},
        sink::Told,
        webhook::{Hook, Poster},
    },
};

/// A running gateway. Dropping it leaves it running until the process ends.
#[derive(Debug)]
pub struct Gateway {
    handle: Handle,
    live: Arc<Live>,
    reloads: Reloads,
    // Ends when it is dropped; the log then writes what is left.
    admin: Admin,
    log: Arc<LogWriter>,
    // Dropped when nothing runs any more.
    _keeper: Option<Keeper>,
    // Dropped last: it tells what is left.
    _poster: Option<Poster>,
}

impl Gateway {
    /// Starts what a configuration says; the request log goes where it says.
    ///
    /// # Errors
    ///
    /// What cannot be bound, opened or read. Nothing runs then.
    pub fn start(config: &Config) -> Result<Self, StartError> {
        Self::start_all(config, sink(config)?, None)
    }

    /// As [`start`](Self::start), with what reads the configuration again: SIGHUP, where
    /// [`run`](Self::run) catches it, and `POST /reload` ask for that.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_from(config: &Config, source: Source) -> Result<Self, StartError> {
        Self::start_all(config, sink(config)?, Some(source))
    }

    /// Starts what a configuration says, with another place for the request log.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_with(config: &Config, sink: Sink) -> Result<Self, StartError> {
        Self::start_all(config, sink, None)
    }

    fn start_all(config: &Config, sink: Sink, source: Option<Source>) -> Result<Self, StartError> {
        let connectors = Connectors::new(config).map_err(StartError::Tls)?;
        let tls = tls(config).map_err(StartError::Tls)?;
        let mut settings = settings(config);
        settings.greeting.tls.clone_from(&tls);
        let workers = settings.workers;
        let log = Arc::new(LogWriter::new(sink, workers).map_err(StartError::Log)?);
        let webhook = config.telemetry.webhook.as_ref();
        let poster = webhook.map(Poster::start).transpose();
        let poster = poster.map_err(StartError::Webhook)?;
        let metrics = Metrics::new(workers);
        let tell = || {
            poster.as_ref().map(|poster| {
                let hook = poster.hook().clone();
                let tell: spool::Tell = Box::new(move |threshold| hook.threshold(threshold));
                tell
            })
        };
        let spool = config.state.dir.as_deref();
        let opened = spool.map(|dir| Spool::open(dir, tell())).transpose();
        let (spool, lost) = opened.map_err(StartError::Spool)?.unzip();
        let lines = log.lines(0);
        for one in lost.unwrap_or_default() {
            lines.line(|out| line::lost(out, &one, GENERATION));
        }
        let hook = poster.as_ref().map(|poster| poster.hook().clone());
        let counts = Counts::telling(config, spool, workers, tell(), move |change| {
            told(change, hook.as_ref());
        });
        counts.prepare(config).map_err(StartError::Keys)?;
        let keeper = counts.keep_accounts(workers).map_err(StartError::Budgets)?;
        let first = Arc::new(Mutex::new(Some(First {
            config: config.clone(),
            connectors,
            log: log.clone(),
            view: view(&metrics, config),
            metrics: metrics.clone(),
            rooms: Room::divided(held_bodies(config), workers),
            hook: poster.as_ref().map(|poster| poster.hook().clone()),
            counts: counts.clone(),
        })));
        let workers = Workers(first.clone());
        let (handle, renewer) = server::start_renewable(settings, workers, Readiness::new())
            .map_err(StartError::Server)?;
        // Each worker has made its stack. With a reload nothing of the first generation is to stay.
        first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let live = Arc::new(Live {
            log: log.clone(),
            metrics,
            renewer,
            tls,
            token: Token::new(token(config)),
            config: Mutex::new(Arc::new(config.clone())),
            counts,
            failures: reload::Failures::default(),
            hook: poster.as_ref().map(|poster| poster.hook().clone()),
        });
        let started = source
            .map_or_else(
                || Ok(Reloads::none()),
                |source| reload::start(live.clone(), source),
            )
            .map_err(|error| StartError::Server(server::StartError::Runtime(error)))
            .and_then(|reloads| {
                let pages = pages(&live, &reloads, &handle);
                let settings = admin::Settings {
                    listen: address(&config.admin.listen),
                    token: live.token.clone(),
                };
                let admin = admin::start(settings, pages).map_err(StartError::Admin)?;
                Ok((reloads, admin))
            });
        match started {
            Ok((reloads, admin)) => Ok(Self {
                handle,
                live,
                reloads,
                admin,
                log,
                _keeper: keeper,
                _poster: poster,
            }),
            Err(error) => {
                handle.control().hurry();
                handle.join();
                Err(error)
            }
        }
    }

    /// Puts another configuration into force: a request that runs goes on with the one that it began
    /// with, the next one has this. Returns its number; the first one is 1.
    ///
    /// # Errors
    ///
    /// What cannot be put into force; nothing changes then.
    pub fn reload(&self, config: Config) -> Result<u64, ReloadError> {
        let outcome = self.live.reload(config);
        self.live.failures.note(&outcome);
        outcome
    }

    /// The data addresses, with the ports that the system chose.
    pub fn addresses(&self) -> &[Address] {
        self.handle.addresses()
    }

    /// The admin address.
    pub fn admin_address(&self) -> &Address {
        self.admin.address()
    }

    /// Begins the drain from elsewhere.
    pub fn control(&self) -> Control {
        self.handle.control()
    }

    /// Waits until every request line so far is written.
    pub fn flush_log(&self) {
        self.log.flush();
    }

    /// Serves until SIGTERM, SIGINT or `POST /drain`; returns when the drain is over. SIGHUP asks for a
    /// reload. Blocks.
    pub fn run(self, signals: Signals) -> Outcome {
        let reloads = self.reloads.clone();
        let outcome = self.handle.run(signals, || reloads.ask());
        self.log.flush();
        self.live.flush_spool();
        outcome
    }

    /// Begins the drain and waits until it is over. Blocks.
    pub fn stop(self) -> Outcome {
        self.handle.drain();
        let outcome = self.handle.join();
        self.log.flush();
        self.live.flush_spool();
        outcome
    }
}

/// Makes the first stack of each worker.
struct Workers(Arc<Mutex<Option<First>>>);

/// What the first generation is made of.
struct First {
    config: Config,
    connectors: Connectors,
    log: Arc<LogWriter>,
    metrics: Metrics,
    view: View,
    rooms: Vec<Room>,
    hook: Option<Hook>,
    counts: Counts,
}

/// The built-in prices, with those of the file over them.
pub(crate) fn prices(config: &Config) -> Prices {
    let own = config.prices.iter();
    own.fold(Prices::built_in(), |prices, (model, price)| {
        prices.with(model, *price)
    })
}

/// The targets of a configuration, with the models that the metrics tell apart: those that the file names, and those of the
/// price table that may be asked for there.
pub(crate) fn places(config: &Config) -> impl Iterator<Item = Place> {
    let prices = prices(config);
    let models = |provider: &Provider, fixed: Option<&String>| match (fixed, &provider.models) {
        (Some(model), _) => vec![model.clone()],
        (None, Models::Any) => prices.models().map(str::to_owned).collect(),
        (None, Models::Listed(listed)) => {
            let exact = |model: &Model| {
                let upstream = model.upstream.clone();
                upstream.or_else(|| (!model.public.star).then(|| model.public.text.clone()))
            };
            let priced = prices.models().filter(|name| {
                let mut stars = listed.iter().filter(|model| model.public.star);
                stars.any(|model| model.public.matches(name))
            });
            let priced = priced.map(str::to_owned);
            listed.iter().filter_map(exact).chain(priced).collect()
        }
    };
    let mut all: Vec<Place> = Vec::new();
    let mut add = |route: Option<&str>, provider: &Provider, label, models: Vec<String>| {
        let same = |place: &&mut Place| {
            place.route.as_deref() == route
                && place.provider == provider.name
                && place.label == label
        };
        // Several targets of a route may be of one provider.
        match all.iter_mut().rev().take(TARGETS).find(same) {
            Some(place) => place.models.extend(models),
            None => all.push(Place {
                route: route.map(str::to_owned),
                provider: provider.name.clone(),
                label,
                models,
            }),
        }
    };
    for provider in config.providers.iter().filter(|_| config.routes.is_empty()) {
        add(None, provider, None, models(provider, None));
    }
    for route in &config.routes {
        for target in &route.targets {
            let mut providers = config.providers.iter();
            if let Some(provider) = providers.find(|it| it.name == target.provider) {
                add(
                    Some(&route.name),
                    provider,
                    target.label.clone(),
                    models(provider, target.model.as_ref()),
                );
            }
        }
    }
    all.into_iter()
}

/// The number of the first configuration.
const GENERATION: u64 = 1;

impl First {
    fn told(&self, worker: usize) -> Told {
        let lines = self.log.lines(worker);
        let counters = self.metrics.counters(worker, &self.view);
        Told::new(lines, counters, GENERATION)
            .at(prices(&self.config))
            .telling(self.hook.clone())
    }
}

impl Workers {
    fn first<R>(&self, make: impl FnOnce(&First) -> R) -> R {
        let first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        make(
            first
                .as_ref()
                .expect("it is taken away when each worker has made its stack"),
        )
    }
}

impl Stacks for Workers {
    type Body = Body<Told>;
    type Stack = Stack<Told>;

    fn stack(&self, worker: usize) -> Self::Stack {
        self.first(|first| {
            let (told, room) = (first.told(worker), first.rooms[worker].clone());
            first.counts.keep(worker);
            let counts = first.counts.of_worker(worker);
            Stack::new(&first.config, &first.connectors, told, room, counts)
        })
    }

    fn refuse(&self, worker: usize) -> Refuse {
        let told = self.first(|first| first.told(worker));
        Refuse::new(move |generation, refusal| told.refused(refusal, generation, &SystemClock))
    }

    fn sweep(&self, stack: &Self::Stack) {
        stack.sweep();
    }
}

fn sink(config: &Config) -> Result<Sink, StartError> {
    Ok(match &config.telemetry.log.to {
        LogTo::Stdout => Sink::stdout(),
        LogTo::Stderr => Sink::stderr(),
        LogTo::File(path) => Sink::file(path).map_err(StartError::Log)?,
    })
}

fn pages(live: &Arc<Live>, reloads: &Reloads, handle: &Handle) -> Pages {
    let (control, tally) = (handle.control(), handle.tally());
    let readiness = control.readiness().clone();
    let (shown, figures, reloads) = (live.clone(), live.clone(), reloads.clone());
    Pages {
        readiness,
        metrics: Box::new(move |format| scrape(&figures, &tally, format)),
        config: Box::new(move || {
            let config = shown.config().clone();
            format!("# {}\n{}", crate::built(), config::redacted(&config))
        }),
        reload: Box::new(move || reloads.asked()),
        drain: Box::new(move || control.begin()),
    }
}

fn scrape(live: &Live, tally: &Tally, format: Format) -> String {
    let config = live.config().clone();
    let others = Others {
        log_lines_dropped: live.log.dropped(),
        webhook_events_dropped: live.hook.as_ref().map_or(0, Hook::dropped),
        connections_accepted: tally.accepted(),
        connections_open: tally.open(),
        tasks: tally.tasks() as u64,
        accept_failures: tally.failed(),
        upstream_connections: live.counts.upstream().count(),
        generation: live.renewer.generation(),
        config_hash: hash(&config),
        reload_failed: live.failures.count(),
        last_reload_failed: live.failures.last(),
        reloaded: Some(live.failures.changed()),
        left: live.counts.left(&config),
        ledger: live.counts.spool().map(|spool| LedgerFigures {
            degraded: spool.is_failing(),
            dropped: spool.dropped(),
            queue: spool.queued() as u64,
        }),
        permits_held: live.counts.permits().held() as u64,
        permits_awaited: live.counts.permits().queued() as u64,
        circuits: {
            let board = live.counts.targets().board();
            Circuits::of(board, places(&config), SystemClock.now())
        },
        store: live.counts.store(),
        accounts: live.counts.accounts().map(Accounts::of),
    };
    live.metrics.told(others, format)
}

/// What tells a configuration from others: the beginning of the SHA-256 of what `/config` shows.
fn hash(config: &Config) -> String {
    let text = config::redacted(config);
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    let begin = digest.as_ref().iter().take(8);
    begin.map(|byte| format!("{byte:02x}")).collect()
}

/// A circuit has changed: for whoever watches standard error, and for the webhook.
fn told(change: &Change, hook: Option<&Hook>) {
    let (provider, model) = (change.health.provider(), change.health.model());
    tracing::info!(
        provider = &**provider,
        model = model.map(|model| &**model),
        from = circuits::word(change.from),
        to = circuits::word(change.to),
        "a circuit has changed"
    );
    if let Some(hook) = hook {
        hook.put(circuits::event(change, SystemClock.wall()));
    }
}

/// The series of a configuration.
pub(crate) fn view(metrics: &Metrics, config: &Config) -> View {
    let names = config.routes.iter().map(|route| route.name.clone());
    let (names, most): (Vec<_>, _) = (names.collect(), config.telemetry.metrics.label_values);
    let view = metrics.view(&names, most, places(config));
    if !config.telemetry.metrics.label_callers {
        return view;
    }
    let callers = config.callers.iter().map(|caller| &*caller.name);
    metrics.with_callers(&view, callers, most)
}
