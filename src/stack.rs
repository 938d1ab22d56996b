//! The stack, on one page: what a request meets, outermost first, and why it meets it there.
//!
//! Values, not types: the part inside the router exists once per route, the part inside a route once
//! per target; all routes are of one type and differ in their policies. A worker has its own stack,
//! and with it its own connections to the providers.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, Uri, uri::PathAndQuery};
use hyper::body::Incoming;
use tollgate_middleware::{
    auth::Auth,
    balance::{self, Balance},
    body::{Guarded, Held, Reply, Room},
    breaker::{self, Breaker, BreakerLayer},
    budget::{self, BudgetLayer, Budgeted},
    client::{Client, Heads, Pool},
    clock::SystemClock,
    concurrency::{Concurrency, ConcurrencyLayer, Hold},
    cors::{Cors, CorsLayer},
    estimate::Estimator,
    executor::TokioExecutor,
    hygiene::{self, Hygiene, HygieneLayer},
    meter::{self, Inject, InjectLayer, Meter, MeterLayer},
    models::{self, ModelsLayer},
    peek::{Limited, Peek, PeekLayer},
    rate_limit::{RateLimit, RateLimitLayer},
    record::{self, Drain, DrainLayer, RecordLayer, Recorded, RequestBody, Sink},
    respond::{Respond, RespondLayer},
    retry::{self, Retry, RetryLayer},
    route::Router,
    seal::{self, Seal, SealLayer},
    timeout::{self, TimeoutLayer, Timeouts},
    token_cap::{Caps, TokenCap, TokenCapLayer},
    truncation::{self, Truncation, TruncationLayer},
    upstream::{self, Target, Upstream, UpstreamLayer},
    word_filter::{self, WordFilter, WordFilterLayer},
};
use tower::ServiceBuilder;
use tower_service::Service;

use crate::{
    config::{self, Config, End, Expose, OnDisconnect, Provider},
    connect::{Connector, Io, TlsError},
    gateway,
    guards::Counts,
    leaf::{HttpClient, Leaf, LeafBody},
    mock::Mock,
    routing::{self, Place, Way},
    server::looks,
};

/// A request body on its way through the stack.
pub type RequestStream = Held<Limited<hygiene::RequestBody<RequestBody<Incoming, SystemClock>>>>;

/// What stands behind a target: clocks, the judge of endings, the meter, the rewriting, the client.
pub type TargetStack = Concurrency<Breaker<timeout::Timeout<AnswerStack>>>;
/// Inside the clocks of a target.
type AnswerStack = Truncation<Inject<Meter<Upstream<Leaf<RequestStream>>>>>;
/// What chooses between the targets of a route and tries again.
type Choice = timeout::Timeout<Retry<Balance<TargetStack>>>;
/// One route: its targets, and what is asked before one of them is chosen.
pub type RouteStack = RateLimit<TokenCap<WordFilter<Budgeted<Choice>>>>;
/// Who may come in, how often, and how much at once.
type Guards<S> = RateLimit<Auth<RateLimit<Concurrency<models::Models<S>>>>>;
/// All of it.
pub type Edge<K> =
    Drain<Recorded<Seal<Cors<Respond<Hygiene<Guards<Peek<Router<RouteStack>>>>>>>, K>>;

/// Everything between the server and the routes.
fn edge<K: Sink>(
    config: &Config,
    sink: K,
    room: Room,
    counts: &Counts,
    routes: Router<RouteStack>,
) -> Edge<K> {
    let server = &config.server;
    ServiceBuilder::new()
        // Keeps an answer whose client has left: whole, so that all inside is given back when it ends.
        .layer(DrainLayer::new())
        // Names the request and tells its end: what it does not enclose is not recorded.
        .layer(RecordLayer::new(sink).expose(server.expose == Expose::Debug))
        // Owns the ending towards the client: outside all that can break an answer off.
        .layer(SealLayer::new().keepalive(config.layers.keepalive))
        // A browser brings no key when it asks whether its page may ask, and a page may read why it was refused.
        .layer(cors(config))
        // Everything inside may refuse; nothing outside can.
        .layer(RespondLayer::new().root(true))
        // Before anybody decides by path, names or addresses: what passes means the same to all.
        .layer(hygiene(config))
        // A stranger is bounded before anybody looks for its key: it can exhaust nothing that others share.
        .layer(counts.strangers(config))
        // Everything inside asks who is calling.
        .layer(counts.auth(config))
        // The head alone is asked, so that a flood costs nothing; the caller before what all share.
        .layer(counts.known(config))
        // A place in the queue costs no body: what waits has not been read.
        .layer(ConcurrencyLayer::new(counts.permits()))
        // Needs no provider, and no body.
        .layer(ModelsLayer::new(routing::listed(config)).everybody(!routing::sole_knows(config)))
        // The head has been judged. The body is read once: inside, all may ask what is wanted.
        .layer(
            PeekLayer::new(server.limits.body)
                .timeout(server.limits.body_timeout)
                .silence(server.limits.body_silence)
                .json(json(&server.limits))
                .user_texts(routing::asks_for_texts(config))
                .room(room),
        )
        // Everything inside differs from route to route.
        .service(routes)
}

/// How much nesting, and how many members, a JSON body may have.
pub(crate) fn json(limits: &config::Limits) -> tollgate_middleware::json::Limits {
    tollgate_middleware::json::Limits {
        depth: u32::try_from(limits.json_depth).unwrap_or(u32::MAX),
        members: u32::try_from(limits.json_members).unwrap_or(u32::MAX),
    }
}

/// The pages that may ask.
fn cors(config: &Config) -> CorsLayer {
    let cors = &config.server.cors;
    if cors.any {
        return CorsLayer::any();
    }
    CorsLayer::new(cors.origins.iter().cloned())
}

/// What a head must be; without callers, only this machine is served unless the file says otherwise.
fn hygiene(config: &Config) -> HygieneLayer {
    let proxies = config.server.trusted_proxies.clone();
    HygieneLayer::new()
        .local_only(!config.layers.auth.open && config.callers.is_empty())
        .trusted_hops(move |ip| proxies.iter().any(|network| network.contains(ip)))
}

/// One route.
fn route(
    total: config::Clock,
    asked: RateLimitLayer,
    (caps, filter): (Caps, WordFilterLayer),
    budget: BudgetLayer,
    retry: retry::Policy,
    targets: Balance<TargetStack>,
) -> RouteStack {
    ServiceBuilder::new()
        // The end user and the model are known here, and nothing has been spent yet.
        .layer(asked)
        // Edits or refuses what is asked for, before anybody reckons with it.
        .layer(TokenCapLayer::new(caps))
        // What is asked is judged before it is paid for; what is answered, whichever target it comes from.
        .layer(filter)
        // Reserved last, when all is known that may be asked for: once, whatever is tried inside.
        .layer(budget)
        // One deadline for all that a route does for a request, whatever it tries.
        .layer(TimeoutLayer::new(Timeouts {
            total: total.limit(),
            ..Timeouts::off()
        }))
        // Before the first byte has gone out: what failed is made once more, here or elsewhere.
        // All that is inside gives the facts of a request back.
        .layer(RetryLayer::new(retry).facts_come_back())
        // Everything inside exists once per target.
        .service(targets)
}

/// One target of a route; `event` is how many bytes of one event are kept.
fn target(
    (share, breaker): (ConcurrencyLayer, BreakerLayer),
    limits: Timeouts,
    event: usize,
    transport_marks: bool,
    (inject, meter): (InjectLayer, MeterLayer),
    target: Target,
    leaf: Leaf<RequestStream>,
) -> TargetStack {
    ServiceBuilder::new()
        // A place at the provider, before its clocks run: a wait for one is no failure of its own.
        .layer(share)
        // Judges what the clocks end, too.
        .layer(breaker.event(event))
        // The clocks of one answer: outside what reads its bytes, so that a stall is a stall.
        .layer(TimeoutLayer::new(limits).event(event))
        // Next to the provider: whether its answer is whole is known before anybody judges it.
        .layer(
            TruncationLayer::new()
                .transport_marks(transport_marks)
                .event(event),
        )
        // Asks for the usage of a stream in the caller's stead; the meter takes out again what comes of it.
        .layer(inject)
        // Reads the provider's own bytes, and each attempt's by itself.
        .layer(meter.transport_marks(transport_marks).event(event))
        // Credentials innermost: no other layer, log or provider sees them.
        .layer(UpstreamLayer::new(target))
        .service(leaf)
}

/// The bound and the circuit of a target, over what is known for the whole process.
fn guards(counts: &Counts, provider: &Provider, place: &Place) -> (ConcurrencyLayer, BreakerLayer) {
    let (targets, target) = (counts.targets(), &place.target);
    let source = routing::source(targets.board(), provider, place.model.as_deref());
    (
        targets.share(provider, target),
        targets.breaker(&place.breaker, source, target, &place.timeout),
    )
}

/// The meter of a target, and what asks for what it reads.
fn meter(
    policy: &config::Meter,
    provider: &Provider,
    estimator: &Estimator,
) -> (InjectLayer, MeterLayer) {
    // Who has an opinion on the member in `extra_body` gets that.
    let own = provider
        .extra_body
        .iter()
        .any(|member| member.name == "stream_options");
    let inject = InjectLayer::new(policy.on && policy.inject && !own);
    if !policy.on {
        return (inject, MeterLayer::off());
    }
    let drains = policy.on_disconnect == OnDisconnect::Drain;
    let meter = MeterLayer::new().drain(drains).estimator(estimator.clone());
    #[cfg(feature = "tokenizer")]
    let (inject, meter) = (
        inject.keep_prompts(true),
        meter.tokenizer(crate::tokens::tokenizer()),
    );
    (inject, meter)
}

/// The stack of one worker, and its clients.
#[derive(Debug)]
pub struct Stack<K> {
    edge: Edge<K>,
    clients: Arc<[Kept]>,
    room: Room,
    counts: Counts,
}

/// A client, and what it was made for.
#[derive(Debug)]
struct Kept {
    reach: Option<Reach>,
    client: HttpClient<RequestStream>,
}

/// What the connections of a provider depend on. A credential is not part of it: each request brings its own.
#[derive(Debug, PartialEq)]
struct Reach {
    provider: String,
    scheme: config::Scheme,
    authority: http::uri::Authority,
    pool: config::Pool,
}

impl Reach {
    /// None for the built-in provider, and where files of certificates are read again: they may hold others.
    fn of(provider: &Provider) -> Option<Self> {
        let url = provider.base_url.as_ref()?;
        provider.tls.is_none().then(|| Self {
            provider: provider.name.clone(),
            scheme: url.scheme,
            authority: url.authority.clone(),
            pool: provider.pool,
        })
    }
}

impl<K: Sink> Stack<K> {
    /// Builds the stack of a configuration; `room` is for the request bodies of this worker, `counts` are those of all.
    pub fn new(
        config: &Config,
        connectors: &Connectors,
        sink: K,
        room: Room,
        counts: Counts,
    ) -> Self {
        Self::build(config, connectors, sink, (room, counts), &[])
    }

    /// Builds the stack of a configuration that takes the place of this one: a provider that is
    /// reached as before keeps its idle connections.
    #[must_use]
    pub fn successor(&self, config: &Config, connectors: &Connectors, sink: K) -> Self {
        let kept = (self.room.clone(), self.counts.clone());
        Self::build(config, connectors, sink, kept, &self.clients)
    }

    /// Closes the idle connections that this successor did not take over. Those of requests that
    /// still run are closed when these end.
    pub fn retire(&self, successor: &Self) {
        for kept in &*self.clients {
            let taken = |it: &Kept| it.reach.is_some() && it.reach == kept.reach;
            if !successor.clients.iter().any(taken) {
                kept.client.retire();
            }
        }
    }

    fn build(
        config: &Config,
        connectors: &Connectors,
        sink: K,
        (room, counts): (Room, Counts),
        before: &[Kept],
    ) -> Self {
        let clocks = config.layers.timeout;
        let heads = Heads {
            bytes: usize::try_from(config.server.limits.answer_head).unwrap_or(usize::MAX),
            headers: config.server.limits.answer_headers,
        };
        let event = usize::try_from(config.server.limits.event).unwrap_or(usize::MAX);
        let providers = config.providers.iter().zip(&connectors.0);
        let leaves: Vec<_> = providers
            .map(|(provider, connector)| {
                let counted = |connector: &Connector| {
                    let open = counts.upstream().clone();
                    connector.clone().counted_in(open)
                };
                let connector = connector.as_ref().map(counted);
                leaf(provider, connector, clocks, heads, before)
            })
            .collect();
        let clients = config.providers.iter().zip(&leaves);
        let clients = clients.filter_map(|(provider, leaf)| match leaf {
            Leaf::Http(client) => Some(Kept {
                reach: Reach::of(provider),
                client: client.clone(),
            }),
            Leaf::Mock(_) => None,
        });
        let clients = clients.collect();
        let prices = gateway::prices(config);
        let stack = |way: &Way| {
            let seats = way.places.iter().map(|place| {
                let provider = &config.providers[place.provider];
                let limits = timeouts(&place.timeout);
                let marks = provider.end == End::Transport;
                let leaf = leaves[place.provider].clone();
                let policy = way.meter.over(config.layers.meter);
                let meter = meter(&policy, provider, counts.estimator());
                let guards = guards(&counts, provider, place);
                let own = place.target.clone();
                let inside = target(guards, limits, event, marks, meter, own, leaf);
                let board = counts.targets().board();
                routing::seat(config, place, board, &prices, inside)
            });
            let targets = routing::balanced(way, seats);
            let filter = WordFilterLayer::new(way.filter.clone())
                .event(event)
                .document(usize::try_from(config.server.limits.body).unwrap_or(usize::MAX))
                .room(room.clone());
            let budget = counts.budget(config, way);
            route(
                way.total,
                counts.asked(config),
                (way.caps.clone(), filter),
                budget,
                way.retry.clone(),
                targets,
            )
        };
        let table = routing::table(config).counted_in(|place| sink.running(place));
        let ways = routing::ways(config, counts.wallet());
        let mut stacks: Vec<_> = ways.iter().map(stack).collect();
        // The implicit routes lead to one way.
        if let [shared] = &*stacks {
            stacks = vec![shared.clone(); table.len()];
        }
        let routes = Router::new(table, stacks);
        Self {
            edge: edge(config, sink, room.clone(), &counts, routes),
            clients,
            room,
            counts,
        }
    }

    /// Closes the idle connections that are past their time.
    pub fn sweep(&self) {
        for kept in &*self.clients {
            kept.client.sweep();
        }
    }
}

impl<K: Clone> Clone for Stack<K> {
    fn clone(&self) -> Self {
        Self {
            edge: self.edge.clone(),
            clients: self.clients.clone(),
            room: self.room.clone(),
            counts: self.counts.clone(),
        }
    }
}

type TimedBody<B> = timeout::ResponseBody<B, SystemClock>;
type MeteredBody =
    meter::ResponseBody<upstream::ResponseBody<LeafBody<RequestStream>>, SystemClock>;
type JudgedBody =
    Guarded<TimedBody<truncation::ResponseBody<MeteredBody>>, breaker::Attempt<SystemClock>>;
type TargetBody = Guarded<JudgedBody, Hold>;
type ChosenBody = retry::ResponseBody<balance::ResponseBody<TargetBody, SystemClock>>;
type SettledBody = budget::ResponseBody<TimedBody<ChosenBody>>;
/// The body of an answer as the server sends it.
pub type Body<K> = record::DrainBody<
    record::ResponseBody<
        seal::ResponseBody<
            Reply<Reply<Guarded<Reply<word_filter::ResponseBody<SettledBody>>, Hold>>>,
            SystemClock,
        >,
        K,
        SystemClock,
    >,
    TokioExecutor,
    SystemClock,
>;

impl<K: Sink> Service<Request<Incoming>> for Stack<K> {
    type Response = Response<Body<K>>;
    type Error = Infallible;
    type Future = <Edge<K> as Service<Request<Incoming>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.edge.poll_ready(cx)
    }

    fn call(&mut self, req: Request<Incoming>) -> Self::Future {
        self.edge.call(req)
    }
}

/// The connectors of a configuration's providers; made once, shared by the workers.
#[derive(Clone, Debug)]
pub struct Connectors(Vec<Option<Connector>>);

impl Connectors {
    /// Reads the certificates that the providers name.
    ///
    /// # Errors
    ///
    /// If one cannot be read.
    pub fn new(config: &Config) -> Result<Self, TlsError> {
        let connector = |provider: &Provider| {
            let Some(url) = &provider.base_url else {
                return Ok(None);
            };
            Connector::new(url.scheme, provider.tls.as_ref()).map(Some)
        };
        config
            .providers
            .iter()
            .map(connector)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn leaf(
    provider: &Provider,
    connector: Option<Connector>,
    limits: config::Timeout,
    heads: Heads,
    before: &[Kept],
) -> Leaf<RequestStream> {
    let (Some(url), Some(connector)) = (&provider.base_url, connector) else {
        return Leaf::Mock(Mock);
    };
    let connect = provider.timeout.over(limits).connect;
    let reach = Reach::of(provider);
    let same = |kept: &&Kept| reach.is_some() && kept.reach == reach;
    if let Some(kept) = before.iter().find(same) {
        let client = kept.client.clone();
        return Leaf::Http(client.connect_timeout(connect).heads(heads));
    }
    let config::Pool {
        idle,
        max_idle,
        max_age,
    } = provider.pool;
    let scheme = match url.scheme {
        config::Scheme::Http => http::uri::Scheme::HTTP,
        config::Scheme::Https => http::uri::Scheme::HTTPS,
    };
    let mut origin = http::uri::Parts::default();
    origin.scheme = Some(scheme);
    origin.authority = Some(url.authority.clone());
    origin.path_and_query = Some(PathAndQuery::from_static("/"));
    let origin = Uri::from_parts(origin).expect("a scheme, an authority and a path are a URI");
    let client = Client::new(
        connector,
        origin,
        Pool {
            idle,
            max_idle,
            max_age,
        },
    );
    Leaf::Http(
        client
            .connect_timeout(connect)
            .heads(heads)
            .quiet(Io::is_quiet)
            .looks(looks),
    )
}

fn timeouts(limits: &config::Timeout) -> Timeouts {
    Timeouts {
        first_byte_stream: limits.first_byte_stream.limit(),
        first_byte_document: limits.first_byte_document.limit(),
        first_token: limits.first_token.limit(),
        idle: limits.idle.limit(),
        min_rate: limits.min_rate.least(),
        total: limits.total.limit(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::sink::Told;

    /// A held stream keeps one body, and hyper room for one future and for 32 requests on each
    /// connection to a provider: what grows here is multiplied by the number of streams.
    #[test]
    fn what_a_held_stream_keeps_of_ours_stays_small() {
        type Whole = <Stack<Told> as Service<Request<Incoming>>>::Future;
        assert!(
            size_of::<Body<Told>>() <= 570,
            "{}",
            size_of::<Body<Told>>()
        );
        assert!(size_of::<Whole>() <= 720, "{}", size_of::<Whole>());
        // A word of it is the count of those that are open.
        assert!(size_of::<Io>() <= 48, "{}", size_of::<Io>());
        assert_eq!(size_of::<RequestStream>(), size_of::<usize>());
    }
}
