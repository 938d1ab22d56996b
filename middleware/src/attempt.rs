//! What a request has tried: the fact [`Attempt`], through which whoever tries again and whoever picks targets talk.
//!
//! Two layers need each other's knowledge and know nothing of each other. `retry` sees how an attempt ended and decides whether
//! there is to be another one; `balance` knows the targets and decides which. So `retry` puts an [`Attempt`] into the request,
//! `balance` writes into it what it picked and leaves its [`Ahead`] there, and `retry` asks that who would be next and how long
//! to wait, before it waits. Each works without the other: without an `Attempt` one target is picked and that is all; without an
//! `Ahead` the same service is asked again.

mod copied;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use bytes::Bytes;
use http::{Extensions, Method, Request, request::Parts};
use http_body::Body;

use self::copied::Copied;
use crate::{
    body::{Held, Spare},
    facts::Terms,
    health::{Health, Keys, Ratio},
};

/// Which attempt of its request this is, and what came before. Written by `retry`; clones are the same.
#[derive(Clone)]
pub struct Attempt(Arc<Mutex<Course>>);

/// What a request has tried. Targets are told apart by their places, at most [`TARGETS`] of them.
#[derive(Default)]
pub struct Course {
    /// The attempt that runs, counted from 1; 0 before the first one.
    pub number: u32,
    /// What is asked for, as far as picking a target goes.
    pub ask: Ask,
    /// The targets that were asked, a bit for each.
    pub tried: u64,
    /// Those that are never to be asked again for this request.
    pub barred: u64,
    /// The one that was picked last.
    pub chosen: Option<Chosen>,
    /// The one that is to be asked next.
    pub planned: Option<usize>,
    /// The credentials of the picked target that were used, a bit for each, and the last one.
    pub keys: u64,
    /// The credential that was used last.
    pub key: Option<usize>,
    /// The target that told this request alone when to come again, and when.
    pub told: Option<(usize, Instant)>,
    /// Where it has failed, so that its attempts at one place count as one.
    failed: Vec<usize>,
    kept: Option<Kept>,
    /// How often each target was asked.
    times: Vec<(usize, u32)>,
    ahead: Option<Arc<dyn Ahead>>,
}

/// A request that may have to be made once more.
struct Kept {
    // Without its headers.
    head: Parts,
    headers: Copied,
    body: Spare,
    /// The facts are with the attempt that runs, which has not given them back yet.
    awaits_facts: bool,
}

/// What a request asks for, as far as picking a target goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ask {
    /// The model, by the name that aliases lead to.
    pub model: Option<Arc<str>>,
    /// The targets that may be asked at all, a bit for each.
    pub eligible: u64,
    /// What the choice sticks to, hashed.
    pub key: Option<u64>,
    /// Tokens of the input and of the output, as far as they can be told beforehand.
    pub tokens: (u64, u64),
    /// What is agreed with the caller.
    pub terms: Option<Arc<Terms>>,
    /// It is about what one provider keeps: it goes there, and nowhere else.
    pub bound: bool,
}

/// A target that was picked.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// Its place.
    pub index: usize,
    /// What is known of it.
    pub health: Health,
    /// Its credentials.
    pub keys: Option<Keys>,
}

/// Why there may be another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It may go better the next time, anywhere.
    Retryable,
    /// Not there: another target may be asked, at once, and this one never again for this request.
    Elsewhere,
    /// The credential was refused: another one, or another target.
    Credential {
        /// For a while only, so that the same one may be used later.
        limited: bool,
    },
}

/// The next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// The target's place.
    pub index: usize,
    /// It was asked before, with the same credential: not at once.
    pub again: bool,
    /// It said that it is not to be asked before this moment.
    pub not_before: Option<Instant>,
}

/// Knows which target would be next. A decision, without a service behind it.
pub trait Ahead: Send + Sync {
    /// Who is next after an attempt that ended so; the leave to ask it has been taken. `None`: nobody.
    fn next(&self, course: &Course, failure: Failure, ratio: Ratio, now: Instant) -> Option<Next>;
}

/// So many targets are told apart.
pub const TARGETS: usize = 64;

impl Attempt {
    /// Of a request that has tried nothing yet.
    #[expect(clippy::new_without_default, reason = "nobody else has use for one")]
    pub fn new() -> Self {
        Self(Arc::default())
    }

    /// Another attempt begins.
    pub fn begin(&self) {
        self.lock().number += 1;
    }

    /// Which attempt runs, from 1.
    pub fn number(&self) -> u32 {
        self.lock().number
    }

    /// Reads what was tried.
    pub fn read<R>(&self, read: impl FnOnce(&Course) -> R) -> R {
        read(&self.lock())
    }

    /// Picks the target of an attempt; `pick` must not ask this value for anything.
    pub fn pick<R>(&self, pick: impl FnOnce(&mut Course) -> R) -> R {
        pick(&mut self.lock())
    }

    /// This credential of the picked target is used.
    pub fn use_key(&self, at: usize) {
        let mut course = self.lock();
        course.keys |= bit(at);
        course.key = Some(at);
    }

    /// The target at this place wants to be asked again by this request then; others it may be glad of.
    pub fn wait_for(&self, index: usize, until: Instant) {
        self.lock().told = Some((index, until));
    }

    /// Who is next after an attempt that ended so; `None` if nobody is. Whoever picks targets then picks that one.
    pub fn plan(&self, failure: Failure, ratio: Ratio, now: Instant) -> Option<Next> {
        let mut course = self.lock();
        let ahead = course.ahead.clone()?;
        if let (Failure::Elsewhere, Some(chosen)) = (failure, &course.chosen) {
            course.barred |= bit(chosen.index);
        }
        let next = ahead.next(&course, failure, ratio, now)?;
        if next.again {
            course.keys = 0;
        }
        course.planned = Some(next.index);
        Some(next)
    }

    /// The first attempt of this request begins, which is kept for another one; `None` if its body cannot be sent again, or is longer
    /// than so many bytes. Its facts are kept as they are now; or, with `given_back`, not at all until an attempt
    /// [gives them back](Self::give_back).
    pub fn first<B>(req: &Request<Held<B>>, most: u64, given_back: bool) -> Option<Self>
    where
        B: Body<Data = Bytes>,
    {
        let body = req.body();
        if body.held_len() > most {
            return None;
        }
        // What has no body was not read, and need not be.
        let empty = || body.is_end_stream().then(Spare::empty);
        let body = body.spare().or_else(empty)?;
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = req.method().clone();
        head.uri = req.uri().clone();
        head.version = req.version();
        if !given_back {
            head.extensions = req.extensions().clone();
        }
        let headers = Copied::of(req.headers());
        let course = Course {
            number: 1,
            kept: Some(Kept {
                head,
                headers,
                body,
                awaits_facts: given_back,
            }),
            ..Course::default()
        };
        Some(Self(Arc::new(Mutex::new(course))))
    }

    /// Gives the facts of a request back to whoever may make it once more, if that one waits for them: by the last one who reads
    /// them, and by whoever refuses a request that may be made elsewhere. What has no facts any more is not made once more.
    pub fn give_back(facts: &mut Extensions) {
        let Some(attempt) = facts.get::<Self>().cloned() else {
            return;
        };
        let mut course = attempt.lock();
        let Some(kept) = course.kept.as_mut().filter(|kept| kept.awaits_facts) else {
            return;
        };
        // Not the attempt itself: it would hold itself.
        facts.remove::<Self>();
        kept.head.extensions = std::mem::take(facts);
        kept.awaits_facts = false;
    }

    /// Whether the request can be made once more.
    pub fn is_repeatable(&self) -> bool {
        let course = self.lock();
        course.kept.as_ref().is_some_and(|kept| !kept.awaits_facts)
    }

    /// The request that was kept, once more.
    pub fn again<B>(&self) -> Option<Request<Held<B>>> {
        let course = self.lock();
        let kept = course.kept.as_ref()?;
        let (mut head, body) = (kept.head.clone(), kept.body.clone());
        head.headers = kept.headers.restored();
        Some(Request::from_parts(head, body.into_body()))
    }

    /// Reads the facts of the request that was kept.
    pub fn with_facts<R>(&self, read: impl FnOnce(&Extensions) -> R) -> Option<R> {
        Some(read(&self.lock().kept.as_ref()?.head.extensions))
    }

    /// Whether the request that was kept has this method.
    pub fn is_method(&self, method: &Method) -> bool {
        let course = self.lock();
        course
            .kept
            .as_ref()
            .is_some_and(|kept| kept.head.method == *method)
    }

    /// Lets go of what was kept: nothing is tried again.
    pub fn forget(&self) {
        let kept = self.lock().kept.take();
        drop(kept);
    }

    /// The request has failed at this place; false if it had done so before.
    pub fn fail(&self, place: usize) -> bool {
        let mut course = self.lock();
        let new = !course.failed.contains(&place);
        if new {
            course.failed.push(place);
        }
        new
    }

    /// Whether the request has failed at this place.
    pub fn has_failed(&self, place: usize) -> bool {
        self.lock().failed.contains(&place)
    }

    /// Whether whoever picks targets knows of this request.
    pub fn is_planned(&self) -> bool {
        self.lock().ahead.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Course> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Course {
    /// The request asks for this, and `ahead` knows its targets. For the first attempt.
    pub fn set_ask(&mut self, ask: Ask, ahead: Arc<dyn Ahead>) {
        self.ask = ask;
        self.ahead = Some(ahead);
    }

    /// A target was picked.
    pub fn choose(&mut self, chosen: Chosen) {
        let index = chosen.index;
        // A first attempt is the rule, and has no list.
        if self.number > 1 || self.tried != 0 {
            self.count(index);
        }
        let last = self.chosen.as_ref().map(|last| last.index);
        if last != Some(index) {
            (self.keys, self.key) = (0, None);
        }
        self.tried |= bit(index);
        self.planned = None;
        self.chosen = Some(chosen);
    }

    /// How often a target was asked.
    pub fn times(&self, index: usize) -> u32 {
        let listed = self.times.iter().find(|(at, _)| *at == index);
        let tried = u32::from(self.tried & bit(index) != 0);
        listed.map_or(tried, |(_, times)| *times)
    }

    fn count(&mut self, index: usize) {
        let times = self.times(index) + 1;
        match self.times.iter_mut().find(|(at, _)| *at == index) {
            Some((_, old)) => *old = times,
            None => self.times.push((index, times)),
        }
    }
}

impl fmt::Debug for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Course")
            .field("number", &self.number)
            .field("ask", &self.ask)
            .field("tried", &self.tried)
            .field("barred", &self.barred)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let course = self.lock();
        f.debug_struct("Attempt")
            .field("number", &course.number)
            .field("tried", &course.tried)
            .finish_non_exhaustive()
    }
}

/// The bit of a place; none of one that is too far behind.
pub const fn bit(index: usize) -> u64 {
    if index < TARGETS { 1 << index } else { 0 }
}
