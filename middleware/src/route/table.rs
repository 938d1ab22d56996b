use std::{borrow::Cow, collections::HashMap, sync::Arc};

use http::HeaderMap;

use super::{Catalogue, Matcher};
use crate::{
    dialect::{Dialect, Operation, Recognised, Surface},
    error::{Reason, Rejection},
    facts::{Caller, Intent},
    record::Running,
};

const LAYER: &str = "route";
/// An alias of an alias of …; a circle ends here.
const ALIASES: usize = 16;

/// A route: conditions, and the targets behind it.
#[derive(Clone, Debug)]
pub struct Rule {
    name: Option<Arc<str>>,
    matcher: Matcher,
    targets: Vec<(Arc<str>, Option<Arc<str>>)>,
}

impl Rule {
    /// A rule without conditions.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: Some(name.into()),
            matcher: Matcher::default(),
            targets: Vec::new(),
        }
    }

    /// Sets the conditions.
    #[must_use]
    pub fn when(mut self, matcher: Matcher) -> Self {
        self.matcher = matcher;
        self
    }

    /// Adds a target: a provider, and the model to ask it for where that is fixed.
    #[must_use]
    pub fn to(mut self, provider: impl Into<Arc<str>>, model: Option<Arc<str>>) -> Self {
        self.targets.push((provider.into(), model));
        self
    }
}

/// What is asked, as far as routing cares.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The model that was asked for.
    pub model: Option<&'a str>,
    /// The path without its query.
    pub path: &'a str,
    /// What the head turned out to be.
    pub recognised: &'a Recognised,
    /// Whether a stream is asked for.
    pub stream: bool,
    /// Whether tools are offered.
    pub tools: bool,
    /// The texts of the user, where a JSON body was read for them.
    pub texts: Option<&'a [Box<str>]>,
    /// The body would name a model, but nobody could read it.
    pub hidden: bool,
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// Who asks; nobody may ask for any model.
    pub caller: Option<&'a Caller>,
}

impl<'a> Ask<'a> {
    /// What a request asks, of whose body `intent` was read. Where that is absent, the model that the path names, decoded, is
    /// the one asked for.
    pub fn of(
        path: &'a str,
        headers: &'a HeaderMap,
        recognised: &'a Recognised,
        intent: Option<&'a Intent>,
        named: Option<&'a str>,
    ) -> Self {
        // A body that nobody could read may still have its model, and whether it asks for a stream, in
        // the path.
        let unread = match recognised {
            Recognised::Surface(surface) if intent.is_none() => Some(surface),
            _ => None,
        };
        let streams = unread.is_some_and(|surface| surface.stream == Some(true));
        Self {
            model: intent.map_or(named, Intent::model),
            path,
            recognised,
            stream: intent.map_or(streams, Intent::stream),
            tools: intent.is_some_and(Intent::tools),
            texts: intent.and_then(Intent::user_texts),
            hidden: unread.is_some_and(Surface::body_names_model),
            headers,
            caller: None,
        }
    }

    /// The same, asked by this caller.
    #[must_use]
    pub fn by(mut self, caller: Option<&'a Caller>) -> Self {
        self.caller = caller;
        self
    }

    /// An OpenAI chat completion that is not streamed, without headers: for examples and tools.
    pub fn chat(model: &'a str) -> Self {
        static CHAT: std::sync::OnceLock<(Recognised, HeaderMap)> = std::sync::OnceLock::new();
        let (recognised, headers) = CHAT.get_or_init(|| {
            let surface = Surface {
                dialect: Dialect::OpenAi,
                operation: Operation::Chat,
                prefix: 0..3,
                model: None,
                stream: None,
            };
            (Recognised::Surface(surface), HeaderMap::new())
        });
        let path = "/v1/chat/completions";
        Self {
            model: Some(model),
            path,
            recognised,
            stream: false,
            tools: false,
            texts: None,
            hidden: false,
            headers,
            caller: None,
        }
    }
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Which of the services: the rules in their order, or without rules the providers in theirs.
    pub index: usize,
    /// The route's name; `None` for an implicit route.
    pub name: Option<Arc<str>>,
    /// The model after aliases and `provider/model` were resolved.
    pub model: Option<Arc<str>>,
    /// The provider, where the request names it.
    pub pin: Option<Arc<str>>,
}

/// Routes, aliases and what the providers serve.
#[derive(Clone, Debug)]
pub struct Table {
    providers: Vec<Catalogue>,
    aliases: HashMap<String, String>,
    rules: Vec<Rule>,
    /// By rule, or of all without rules.
    running: Box<[Option<Arc<Running>>]>,
}

impl Table {
    /// A table of providers, aliases and rules, each in the order of their precedence.
    pub fn new(
        providers: impl IntoIterator<Item = Catalogue>,
        aliases: impl IntoIterator<Item = (String, String)>,
        rules: impl IntoIterator<Item = Rule>,
    ) -> Self {
        Self {
            providers: providers.into_iter().collect(),
            aliases: aliases.into_iter().collect(),
            rules: rules.into_iter().collect(),
            running: Box::default(),
        }
    }

    /// Counts what runs on each rule, by its place, or on all implicit routes, where `of` says: requests that have a
    /// [`Record`](crate::record::Record), while they run.
    #[must_use]
    pub fn counted_in(mut self, of: impl Fn(Option<usize>) -> Option<Arc<Running>>) -> Self {
        self.running = match self.rules.len() {
            0 => [of(None)].into(),
            rules => (0..rules).map(|place| of(Some(place))).collect(),
        };
        self
    }

    /// How many services the table leads to.
    pub fn len(&self) -> usize {
        if self.rules.is_empty() {
            self.providers.len()
        } else {
            self.rules.len()
        }
    }

    /// Where those requests are counted that this service gets.
    pub(super) fn running(&self, index: usize) -> Option<&Arc<Running>> {
        let place = if self.rules.is_empty() { 0 } else { index };
        self.running.get(place)?.as_ref()
    }

    /// Whether the table leads nowhere.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The route of a request.
    ///
    /// # Errors
    ///
    /// `NotFound` if no rule takes the path, `ModelNotFound` if none serves the model or the caller may not use it, `UnsupportedCoding` if
    /// the model is hidden where not every model may be asked for.
    pub fn choose(&self, ask: &Ask<'_>) -> Result<Choice, Rejection> {
        let asked = ask.model.map(|model| self.resolve(model));
        let (model, pin) = match &asked {
            Some(asked) => (Some(&*asked.model), asked.pin),
            None => (None, None),
        };
        let index = if self.rules.is_empty() {
            self.implicit(ask, model, pin)?
        } else {
            self.explicit(ask, model, pin)?
        };
        if ask.hidden && model.is_none() && self.is_restricted(index) {
            return Err(hidden_model());
        }
        // By the name that aliases lead to; what names no model is for those who may use any.
        if ask
            .caller
            .is_some_and(|it| !it.may_use(model.unwrap_or_default()))
        {
            return Err(unknown_model());
        }
        let name = self.rules.get(index).and_then(|rule| rule.name.clone());
        Ok(Choice {
            index,
            name,
            model: model.map(Into::into),
            pin: pin.map(|at| self.providers[at].provider.clone()),
        })
    }

    fn explicit(
        &self,
        ask: &Ask<'_>,
        model: Option<&str>,
        pin: Option<usize>,
    ) -> Result<usize, Rejection> {
        let found = self
            .rules
            .iter()
            .position(|rule| self.fails(rule, ask, model, pin).is_none());
        let Some(index) = found else {
            return Err(unrouted(ask));
        };
        let serves = |(provider, fixed): &(Arc<str>, Option<Arc<str>>)| {
            let named = self.providers.iter().find(|it| it.provider == *provider);
            fixed.is_some() || named.is_none_or(|it| model.is_none_or(|m| it.models.serves(m)))
        };
        let pinned = pin.map(|at| &self.providers[at].provider);
        let mut targets = self.rules[index].targets.iter();
        if targets.any(|target| pinned.is_none_or(|pin| target.0 == *pin) && serves(target)) {
            Ok(index)
        } else {
            Err(unknown_model())
        }
    }

    /// Why each rule before the one that takes the request, in their order, does not: its name, and the condition that fails. All
    /// of them, if none takes it.
    pub fn passed_over(&self, ask: &Ask<'_>) -> Vec<(Option<Arc<str>>, &'static str)> {
        let asked = ask.model.map(|model| self.resolve(model));
        let (model, pin) = match &asked {
            Some(asked) => (Some(&*asked.model), asked.pin),
            None => (None, None),
        };
        let judged = self.rules.iter().map_while(|rule| {
            let why = self.fails(rule, ask, model, pin)?;
            Some((rule.name.clone(), why))
        });
        judged.collect()
    }

    /// The condition of a rule that does not hold, if one does not.
    fn fails(
        &self,
        rule: &Rule,
        ask: &Ask<'_>,
        model: Option<&str>,
        pin: Option<usize>,
    ) -> Option<&'static str> {
        let matcher = &rule.matcher;
        let why = matcher.fails(ask, model, self.is_unread(rule));
        why.or_else(|| (!self.pinned(rule, pin)).then_some("targets"))
    }

    fn implicit(
        &self,
        ask: &Ask<'_>,
        model: Option<&str>,
        pin: Option<usize>,
    ) -> Result<usize, Rejection> {
        let sole = self.providers.len() == 1;
        let path = match ask.recognised {
            Recognised::Surface(_) => true,
            Recognised::Prefixed(_) => sole,
            Recognised::Wrong(_) | Recognised::Unknown => false,
        };
        // Who is not read takes any path, if there is nobody else that could be meant.
        let path = path || sole && self.providers[0].unread;
        match model {
            _ if !path => Err(unrouted(ask)),
            // What names no model has but one place to go to.
            None if sole => Ok(0),
            None => Err(unrouted(ask)),
            Some(model) => {
                let lists = |at: usize, it: &Catalogue| match &it.models {
                    super::Models::Any => sole || pin == Some(at),
                    listed => pin.is_none_or(|pin| pin == at) && listed.serves(model),
                };
                let mut providers = self.providers.iter().enumerate();
                let found = providers.position(|(at, it)| lists(at, it));
                found.ok_or_else(unknown_model)
            }
        }
    }

    /// Whether it matters which model is asked for behind a route.
    fn is_restricted(&self, index: usize) -> bool {
        let lists = |provider: &str| {
            let named = self.providers.iter().find(|it| *it.provider == *provider);
            named.is_some_and(|it| !it.models.takes_all())
        };
        match self.rules.get(index) {
            Some(rule) => {
                let mut targets = rule.targets.iter();
                targets.any(|(provider, fixed)| fixed.is_some() || lists(provider))
            }
            None => !self.providers[index].models.takes_all(),
        }
    }

    fn is_unread(&self, rule: &Rule) -> bool {
        !rule.targets.is_empty()
            && rule.targets.iter().all(|(provider, _)| {
                self.providers
                    .iter()
                    .any(|it| it.provider == *provider && it.unread)
            })
    }

    fn pinned(&self, rule: &Rule, pin: Option<usize>) -> bool {
        let Some(pin) = pin.map(|at| &self.providers[at].provider) else {
            return true;
        };
        rule.targets.iter().any(|(provider, _)| provider == pin)
    }

    /// The name that a model goes by, and the provider that it was asked of by name.
    fn resolve<'a>(&'a self, asked: &'a str) -> Resolved<'a> {
        let mut model = asked;
        for _ in 0..ALIASES {
            if self.providers.iter().any(|it| it.models.names(model)) {
                return Resolved {
                    model: Cow::Borrowed(model),
                    pin: None,
                };
            }
            match self.aliases.get(model) {
                Some(other) => model = other,
                None => break,
            }
        }
        if let Some((provider, rest)) = model.split_once('/')
            && let Some(pin) = self
                .providers
                .iter()
                .position(|it| *it.provider == *provider)
        {
            return Resolved {
                model: Cow::Borrowed(rest),
                pin: Some(pin),
            };
        }
        Resolved {
            model: Cow::Borrowed(model),
            pin: None,
        }
    }
}

struct Resolved<'a> {
    model: Cow<'a, str>,
    pin: Option<usize>,
}

fn unknown_model() -> Rejection {
    let told =
        "no provider here serves this model, or it is not granted to you; see GET /v1/models";
    Rejection::new(Reason::ModelNotFound, LAYER, told)
}

fn hidden_model() -> Rejection {
    let told = "the body is compressed, or not labelled as what is taken here, so that its model cannot be read; \
                send it as plain JSON, or as a form where the API takes forms";
    Rejection::new(Reason::UnsupportedCoding, LAYER, told)
}

fn unrouted(ask: &Ask<'_>) -> Rejection {
    match ask.recognised {
        Recognised::Wrong(remedy) => Rejection::new(Reason::NotFound, LAYER, *remedy),
        Recognised::Surface(_) if ask.model.is_some() => unknown_model(),
        _ => {
            let told =
                "nothing is served at this path; is the base URL right? It usually ends in /v1";
            Rejection::new(Reason::NotFound, LAYER, told)
        }
    }
}
