//! The whole configuration file as data: every key that the program will ever know, its kind, and whether
//! the part behind it is built.
//!
//! A key of a part that is not built is refused with that reason, so that nobody believes in a limit that
//! nothing enforces. Building a part is one word here: `later` becomes `key`.

use super::kind::{Key, Kind, key, later, later_but, misplaced, needed};

/// The file.
pub(crate) static FILE: &[Key] = &[
    key(
        "version",
        Kind::Integer {
            least: 1,
            most: u64::MAX,
        },
    ),
    key("server", Kind::Map(SERVER)),
    key("admin", Kind::Map(ADMIN)),
    needed("providers", Kind::Table(&Kind::Map(PROVIDER))),
    key("callers", Kind::Table(&Kind::Map(CALLER))),
    key("aliases", Kind::Table(&Kind::Text)),
    key("routes", Kind::List(&Kind::Map(ROUTE))),
    key("layers", Kind::Map(LAYERS)),
    key("prices", Kind::Map(PRICES)),
    key("state", Kind::Map(STATE)),
    key("telemetry", Kind::Map(TELEMETRY)),
];

const COUNT: Kind = Kind::Integer {
    least: 1,
    most: 1 << 32,
};
const NATURAL: Kind = Kind::Integer {
    least: 0,
    most: 1 << 32,
};
const TIME: Kind = Kind::Duration {
    off: false,
    zero: false,
};
const TIME_OR_ZERO: Kind = Kind::Duration {
    off: false,
    zero: true,
};
const TIME_OR_OFF: Kind = Kind::Duration {
    off: true,
    zero: false,
};
const fn size(most: u64) -> Kind {
    Kind::Size {
        percent: false,
        most,
    }
}
const SIZE: Kind = size(LARGE);
/// Of what each connection may have for itself: what passes this is a mistake.
const SMALL: u64 = 16 << 20;
/// Of bodies and of what they are read into.
const LARGE: u64 = 1 << 40;
/// hyper keeps offsets into a target in 16 bits.
const TARGET_SIZE: u64 = 65_534;
const TEXTS: Kind = Kind::List(&Kind::Text);
const PATTERNS: Kind = Kind::OneOrMany(&Kind::Pattern);
const DIALECTS: Kind = Kind::Word(&[
    "openai",
    "anthropic",
    "gemini",
    "azure",
    "ollama",
    "cohere",
    "bedrock",
    "mock",
    "raw",
]);

const SERVER: &[Key] = &[
    key("listen", Kind::OneOrMany(&Kind::Listen)),
    key(
        "workers",
        Kind::Either(&[
            Kind::Word(&["auto"]),
            Kind::Integer {
                least: 1,
                most: 1024,
            },
        ]),
    ),
    key("runtime", Kind::Word(&["per_core", "multi_thread"])),
    key("trusted_proxies", Kind::List(&Kind::Network)),
    key("proxy_protocol", Kind::Bool),
    key(
        "tls",
        Kind::Layer(&[
            needed("cert", Kind::Text),
            needed("key", Kind::Text),
            key("client_ca", Kind::Text),
        ]),
    ),
    key("limits", Kind::Map(LIMITS)),
    key(
        "drain",
        Kind::Map(&[key("delay", TIME_OR_ZERO), key("timeout", TIME_OR_ZERO)]),
    ),
    key("cors", Kind::Layer(&[key("origins", TEXTS)])),
    key("expose", Kind::Word(&["none", "debug"])),
];

/// Of anything that a head or a document has some of.
const HEADERS: Kind = Kind::Integer {
    least: 1,
    most: 10_000,
};

const LIMITS: &[Key] = &[
    key("head", size(SMALL)),
    key("headers", HEADERS),
    key("head_timeout", TIME),
    key("body", SIZE),
    key("body_timeout", TIME),
    key("keep_alive", TIME),
    key(
        "held_bodies",
        Kind::Size {
            percent: true,
            most: LARGE,
        },
    ),
    key("connections", Kind::Either(&[Kind::Word(&["auto"]), COUNT])),
    key("slow_reader", TIME),
    key("buffer", size(SMALL)),
    key("target", size(TARGET_SIZE)),
    key("ahead", size(SMALL)),
    key("handshake", TIME),
    key("body_silence", TIME),
    key("json_depth", HEADERS),
    key("json_members", COUNT),
    key("answer_head", size(SMALL)),
    key("answer_headers", HEADERS),
    // An event may hold a picture.
    key("event", size(1 << 30)),
];

const ADMIN: &[Key] = &[key("listen", Kind::Listen), key("token", Kind::Secret)];

const PROVIDER: &[Key] = &[
    needed("dialect", DIALECTS),
    key("base_url", Kind::BaseUrl),
    key("credentials", Kind::OneOrMany(&Kind::Credential)),
    key(
        "auth",
        Kind::Word(&["bearer", "x-api-key", "api-key", "x-goog-api-key", "none"]),
    ),
    key(
        "models",
        Kind::Either(&[Kind::List(&Kind::Pattern), Kind::Table(&Kind::Text)]),
    ),
    key("headers", Kind::Table(&Kind::Secret)),
    key("extra_body", Kind::Table(&Kind::Any)),
    key("timeout", Kind::Map(TIMEOUT)),
    key(
        "concurrency",
        Kind::Layer(&[
            needed("max", COUNT),
            key("queue", NATURAL),
            key("wait", TIME),
        ]),
    ),
    later_but("http2", Kind::Bool, "false"),
    key(
        "pool",
        Kind::Map(&[
            key("idle", TIME),
            key("max_idle", NATURAL),
            key("max_age", TIME),
        ]),
    ),
    key(
        "tls",
        Kind::Layer(&[
            key("ca", Kind::Text),
            key("cert", Kind::Text),
            key("key", Kind::Text),
            key("sni", Kind::Text),
        ]),
    ),
    key("end", Kind::Word(&["marks", "transport"])),
];

/// A credential with a name.
pub(crate) static CREDENTIAL: &[Key] = &[key("name", Kind::Text), needed("key", Kind::Secret)];

const CALLER: &[Key] = &[
    key("key", Kind::Secret),
    key("hash", Kind::Secret),
    key("models", Kind::List(&Kind::Pattern)),
    key("requests", REQUESTS),
    key(
        "tokens",
        Kind::Either(&[
            Kind::Rate,
            Kind::Map(&[
                needed("rate", Kind::Rate),
                key("reserve", Kind::Word(&["worst", "typical"])),
            ]),
        ]),
    ),
    key("concurrency", COUNT),
    key("budget", Kind::Money),
    key("allow_from", TEXTS),
    key("expires", Kind::Date),
    key("priority", NATURAL),
    key("disabled", Kind::Bool),
    key("labels", Kind::Table(&Kind::Text)),
    key("surfaces", TEXTS),
    key("origins", TEXTS),
    key("credential", Kind::Text),
];

const ROUTE: &[Key] = &[
    key("name", Kind::Text),
    key("match", Kind::Map(MATCH)),
    key(
        "sticky",
        Kind::Layer(&[key("on", Kind::Word(&["caller", "session", "user"]))]),
    ),
    key("state_target", Kind::Text),
    key("strategy", Kind::Word(STRATEGIES)),
    needed(
        "targets",
        Kind::List(&Kind::Either(&[Kind::Text, Kind::Map(TARGET)])),
    ),
    key("layers", Kind::Map(ROUTE_LAYERS)),
];

const STRATEGIES: &[&str] = &[
    "fallback",
    "weighted",
    "round_robin",
    "least_inflight",
    "p2c",
    "least_latency",
    "cheapest",
    "sticky",
    "prefix",
    "adaptive",
    "bandit",
];

const MATCH: &[Key] = &[
    key("model", PATTERNS),
    key("path", PATTERNS),
    key("caller", PATTERNS),
    key("dialect", Kind::OneOrMany(&DIALECTS)),
    key("stream", Kind::Bool),
    key("tools", Kind::Bool),
    key("header", Kind::Table(&Kind::Pattern)),
    key("metadata", Kind::Table(&Kind::Pattern)),
    key(
        "prompt",
        Kind::Map(&[
            key("contains", Kind::OneOrMany(&Kind::Text)),
            key("not_contains", Kind::OneOrMany(&Kind::Text)),
            key("regex", Kind::Text),
        ]),
    ),
];

const TARGET: &[Key] = &[
    needed("provider", Kind::Text),
    key("model", Kind::Text),
    key("label", Kind::Text),
    key("weight", WEIGHT),
    key("retry", Kind::Layer(TARGET_RETRY)),
    key("breaker", Kind::Layer(BREAKER)),
    key("timeout", Kind::Layer(TARGET_TIMEOUT)),
    key("credential", Kind::Text),
];

/// Sums of weights are to stay exact.
const WEIGHT: Kind = Kind::Integer {
    least: 0,
    most: 1_000_000,
};

const LAYERS: &[Key] = &[
    // No layer that can be turned off: `open` says who is served.
    key("auth", Kind::Map(AUTH)),
    key("rate_limit", Kind::Layer(RATE_LIMIT)),
    key(
        "concurrency",
        Kind::Layer(&[
            key("max", COUNT),
            key("per_caller", COUNT),
            key("queue", NATURAL),
            key("wait", TIME),
        ]),
    ),
    key("token_cap", Kind::Layer(TOKEN_CAP)),
    key("word_filter", Kind::Layer(WORD_FILTER)),
    key("budget", Kind::Layer(BUDGET)),
    key("retry", Kind::Layer(RETRY)),
    key("breaker", Kind::Layer(BREAKER)),
    key("timeout", Kind::Layer(TIMEOUT)),
    key("meter", Kind::Layer(METER)),
    key("keepalive", Kind::Layer(KEEPALIVE)),
];

const OUTSIDE: &str = "it stands outside `route`: set it under `layers`, for all routes";

const ROUTE_LAYERS: &[Key] = &[
    misplaced("auth", OUTSIDE),
    misplaced("rate_limit", OUTSIDE),
    misplaced("concurrency", OUTSIDE),
    key("token_cap", Kind::Layer(TOKEN_CAP)),
    key("word_filter", Kind::Layer(WORD_FILTER)),
    key("budget", Kind::Layer(ROUTE_BUDGET)),
    key("retry", Kind::Layer(RETRY)),
    key("breaker", Kind::Layer(BREAKER)),
    key("timeout", Kind::Layer(ROUTE_TIMEOUT)),
    key("meter", Kind::Layer(METER)),
    misplaced("keepalive", OUTSIDE),
];

const AUTH: &[Key] = &[key("open", Kind::Bool), key("jwt", Kind::Layer(JWT))];

const JWT: &[Key] = &[
    needed("jwks", Kind::Url),
    needed("issuer", Kind::Text),
    needed("audience", Kind::Text),
    needed("algorithms", TEXTS),
    key("caller", Kind::Text),
    key("as", Kind::Text),
];

/// How often, and how many of them at once.
const REQUESTS: Kind = Kind::Either(&[
    Kind::Rate,
    Kind::Map(&[needed("rate", Kind::Rate), key("burst", COUNT)]),
]);

const RATE_LIMIT: &[Key] = &[
    key("per_ip", REQUESTS),
    key("global", REQUESTS),
    key("per_model", Kind::Table(&REQUESTS)),
    key(
        "per_user",
        Kind::Either(&[
            Kind::Rate,
            Kind::Map(&[
                needed("rate", Kind::Rate),
                key("burst", COUNT),
                key("from", TEXTS),
            ]),
        ]),
    ),
];

const TOKEN_CAP: &[Key] = &[
    key("max_tokens", COUNT),
    key("on_exceed", Kind::Word(&["clamp", "reject"])),
    key(
        "insert",
        Kind::Word(&["auto", "max_tokens", "max_completion_tokens", "off"]),
    ),
    key("max_messages", COUNT),
    key("max_input", SIZE),
    key("uninspected", Kind::Word(&["reject", "pass"])),
];

const ENTITIES: Kind = Kind::List(&Kind::Word(&[
    "credit_card",
    "email",
    "iban",
    "ipv4",
    "ipv6",
    "phone",
    "secrets",
    "ssn",
]));

const WORD_FILTER: &[Key] = &[
    key("words", TEXTS),
    key("files", TEXTS),
    key("regex", TEXTS),
    key("entities", ENTITIES),
    key("case_sensitive", Kind::Bool),
    key("whole_word", Kind::Bool),
    key(
        "apply_to",
        Kind::List(&Kind::Word(&["request", "response"])),
    ),
    key("action", Kind::Word(&["reject", "mask", "log"])),
    key("mask", Kind::Text),
    key("uninspected", Kind::Word(&["reject", "pass"])),
    key("normalize", Kind::Word(&["none", "nfkc"])),
    key("max_match", COUNT),
    key("rules", Kind::List(&Kind::Map(FILTER_RULE))),
];

const FILTER_RULE: &[Key] = &[
    key("id", Kind::Text),
    key("words", TEXTS),
    key("files", TEXTS),
    key("regex", TEXTS),
    key("entities", ENTITIES),
    key("case_sensitive", Kind::Bool),
    key("whole_word", Kind::Bool),
    key(
        "apply_to",
        Kind::List(&Kind::Word(&["request", "response"])),
    ),
    key("action", Kind::Word(&["reject", "mask", "log"])),
    key("mask", Kind::Text),
    key("uninspected", Kind::Word(&["reject", "pass"])),
    key("normalize", Kind::Word(&["none", "nfkc"])),
    key("max_match", COUNT),
];

const BUDGET: &[Key] = &[
    key("global", Kind::Money),
    key("unpriced", UNPRICED),
    key("on_short", ON_SHORT),
    key("waste", WASTE),
];

const UNPRICED: Kind = Kind::Word(&["refuse", "free"]);
const ON_SHORT: Kind = Kind::Word(&["refuse", "clamp"]);
const WASTE: Kind = Kind::Word(&["free", "charge"]);

/// Of one route.
const ROUTE_BUDGET: &[Key] = &[
    misplaced(
        "global",
        "accounts are of callers, whatever route they take: set it under `layers`",
    ),
    key("unpriced", UNPRICED),
    key("on_short", ON_SHORT),
    key("waste", WASTE),
];

/// Of one target there is a number of its own; the rest is decided for the whole route.
const TARGET_RETRY: &[Key] = &[key("attempts", ATTEMPTS)];

/// Calls of one request.
const ATTEMPTS: Kind = Kind::Integer {
    least: 1,
    most: 100,
};

const RETRY: &[Key] = &[
    key("attempts", ATTEMPTS),
    key("on", TEXTS),
    key("base", TIME),
    key("max_retry_after", TIME),
    key("ratio", Kind::Percent),
    key("replay", SIZE),
    key("commit", Kind::Word(&["head", "first_event"])),
];

const BREAKER: &[Key] = &[
    key("consecutive", COUNT),
    key("error_rate", Kind::Percent),
    key("window", TIME),
    key("min_requests", COUNT),
    key("open_for", TIME),
    key(
        "probes",
        Kind::Integer {
            least: 1,
            most: 255,
        },
    ),
    key("successes", COUNT),
];

const FIRST_BYTE: Kind = Kind::Either(&[
    TIME_OR_OFF,
    Kind::Map(&[key("stream", TIME_OR_OFF), key("document", TIME_OR_OFF)]),
]);

const TIMEOUT: &[Key] = &[
    key("connect", TIME),
    key("first_byte", FIRST_BYTE),
    key("first_token", TIME_OR_OFF),
    key("idle", TIME_OR_OFF),
    key("total", TIME_OR_OFF),
    key("min_rate", Kind::ByteRate),
];

const CONNECTIONS: &str =
    "connections belong to a provider: set it there, or under `layers` for all";

/// Of one target: its clocks run for each attempt.
const TARGET_TIMEOUT: &[Key] = &[
    misplaced("connect", CONNECTIONS),
    key("first_byte", FIRST_BYTE),
    key("first_token", TIME_OR_OFF),
    key("idle", TIME_OR_OFF),
    misplaced(
        "total",
        "it is one deadline over all attempts: set it for the route",
    ),
    key("min_rate", Kind::ByteRate),
];

/// Connections belong to a provider, whatever routes lead to it.
const ROUTE_TIMEOUT: &[Key] = &[
    misplaced("connect", CONNECTIONS),
    key("first_byte", FIRST_BYTE),
    key("first_token", TIME_OR_OFF),
    key("idle", TIME_OR_OFF),
    key("total", TIME_OR_OFF),
    key("min_rate", Kind::ByteRate),
];

const METER: &[Key] = &[
    key("inject", Kind::Bool),
    key("on_disconnect", Kind::Word(&["cancel", "drain"])),
];

const KEEPALIVE: &[Key] = &[needed("every", TIME)];

const PRICES: &[Key] = &[key(
    "overrides",
    Kind::Table(&Kind::Map(&[
        needed("input", Kind::Number),
        key("output", Kind::Number),
        key("cache_read", Kind::Number),
        key("cache_write", Kind::Number),
        key("reasoning", Kind::Number),
        key("max_output", COUNT),
    ])),
)];

const STATE: &[Key] = &[
    key("dir", Kind::Text),
    key(
        "redis",
        Kind::Layer(&[
            needed("url", Kind::Secret),
            key("timeout", TIME),
            needed("replicas", REPLICAS),
            key("on_error", Kind::Word(&["local", "refuse"])),
        ]),
    ),
];

/// A limit is divided by it.
const REPLICAS: Kind = Kind::Integer {
    least: 1,
    most: 1000,
};

/// Each costs memory for the life of the process.
const LABELS: Kind = Kind::Integer {
    least: 1,
    most: 100_000,
};

const TELEMETRY: &[Key] = &[
    key(
        "log",
        Kind::Map(&[key("format", Kind::Word(&["json"])), key("to", Kind::Text)]),
    ),
    key(
        "metrics",
        Kind::Map(&[
            key("label_callers", Kind::Bool),
            key("label_values", LABELS),
        ]),
    ),
    key(
        "webhook",
        Kind::Layer(&[needed("url", Kind::Url), key("secret", Kind::Secret)]),
    ),
    later(
        "traces",
        Kind::Layer(&[key("otlp", Kind::Text), key("sample", Kind::Percent)]),
    ),
];
