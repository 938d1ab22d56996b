//! Who holds a permit and who waits for one: plain bookkeeping under one lock.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::{Arc, PoisonError},
    task::{Poll, Waker},
    time::Duration,
};

use crate::sync::{Mutex, MutexGuard};

/// How much may run, and wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests that run at once.
    pub most: usize,
    /// Of each caller that has no limit of its own: those that run, and those that wait.
    pub per_caller: usize,
    /// Of the callers that have one, by the names in the list of callers.
    pub callers: HashMap<Arc<str>, usize>,
    /// Requests that wait.
    pub queue: usize,
    /// How long one waits.
    pub wait: Duration,
}

impl Default for Limits {
    /// 10,000 in all, 200 of one caller, 1,000 that wait for at most 2 seconds.
    fn default() -> Self {
        Self {
            most: 10_000,
            per_caller: 200,
            callers: HashMap::new(),
            queue: 1000,
            wait: Duration::from_secs(2),
        }
    }
}

/// Permits, and the queue for them. Clones are the same permits.
#[derive(Clone)]
pub struct Permits(Arc<Mutex<State>>);

struct State {
    limits: Arc<Limits>,
    held: usize,
    // Requests of each caller that run or wait; none has none.
    callers: HashMap<Arc<Who>, usize>,
    // Ordered as they are served: the highest class first, in it the one that came first.
    queue: BTreeMap<Place, Waker>,
    // Those who have left the queue and do not know it yet.
    granted: HashSet<Place>,
    dropped: HashSet<Place>,
    next: u64,
}

/// A place in the queue: class and number.
type Place = (Reverse<i32>, u64);

/// A caller: the name in the list of callers, and its own.
type Who = (Arc<str>, Arc<str>);

/// Whose request it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Whose {
    /// None: it counts in all only.
    pub(super) who: Option<Who>,
    pub(super) class: i32,
}

/// Why there is no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The caller runs as much as it may.
    Caller,
    /// Nobody finds room.
    Queue,
}

/// A permit, given back when it is dropped.
pub(super) struct Permit {
    permits: Permits,
    caller: Option<Arc<Who>>,
}

/// A place in the queue, given up when it is dropped.
pub(super) struct Waiting {
    permits: Permits,
    place: Place,
    // Given to the permit, if there is one.
    caller: Option<Arc<Who>>,
    over: bool,
}

/// What a request got.
#[derive(Debug)]
pub(super) enum Entry {
    Permit(Permit),
    Waiting(Waiting, Duration),
}

impl Permits {
    /// Permits with these limits.
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Mutex::new(State {
            limits: Arc::new(limits),
            held: 0,
            callers: HashMap::new(),
            queue: BTreeMap::new(),
            granted: HashSet::new(),
            dropped: HashSet::new(),
            next: 0,
        })))
    }

    /// Other limits from now on. What is held stays held; what waits is served or dropped as they say.
    pub fn set(&self, limits: Limits) {
        let mut woken = Vec::new();
        let mut state = self.lock();
        state.limits = Arc::new(limits);
        while state.held < state.limits.most
            && let Some(waker) = state.serve()
        {
            woken.push(waker);
        }
        while state.queue.len() > state.limits.queue
            && let Some(place) = state.worst()
        {
            woken.extend(state.drop_out(place));
        }
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Requests that run.
    pub fn held(&self) -> usize {
        self.lock().held
    }

    /// Requests that wait.
    pub fn queued(&self) -> usize {
        self.lock().queue.len()
    }

    pub(super) fn enter(&self, whose: &Whose) -> Result<Entry, Full> {
        let mut state = self.lock();
        let caller = whose.who.as_ref();
        let caller = caller.map(|who| state.count(who)).transpose()?;
        if state.held < state.limits.most {
            state.held += 1;
            drop(state);
            return Ok(Entry::Permit(Permit {
                permits: self.clone(),
                caller,
            }));
        }
        let place = (Reverse(whose.class), state.next);
        state.next += 1;
        state.queue.insert(place, Waker::noop().clone());
        let mut woken = None;
        if state.queue.len() > state.limits.queue
            && let Some(worst) = state.worst()
        {
            woken = state.drop_out(worst);
        }
        let wait = state.limits.wait;
        let refused = state.dropped.remove(&place);
        if refused {
            state.uncount(caller.as_ref());
        }
        drop(state);
        if let Some(woken) = woken {
            woken.wake();
        }
        if refused {
            return Err(Full::Queue);
        }
        let waiting = Waiting {
            permits: self.clone(),
            place,
            caller,
            over: false,
        };
        Ok(Entry::Waiting(waiting, wait))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock: counts stay whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a permit to the next who waits, or back.
    fn release(&self, caller: Option<&Arc<Who>>) {
        let mut state = self.lock();
        state.held -= 1;
        state.uncount(caller);
        let next = (state.held < state.limits.most).then(|| state.serve());
        drop(state);
        if let Some(waker) = next.flatten() {
            waker.wake();
        }
    }
}

impl State {
    /// One more of this caller; the name is shared by all that run.
    fn count(&mut self, who: &Who) -> Result<Arc<Who>, Full> {
        let limits = &self.limits;
        let own = limits.callers.get(&who.0);
        let most = own.copied().unwrap_or(limits.per_caller);
        let known = self.callers.get_key_value(who);
        let running = known.map_or(0, |(_, running)| *running);
        if running >= most {
            return Err(Full::Caller);
        }
        let who = known.map_or_else(|| Arc::new(who.clone()), |(who, _)| who.clone());
        self.callers.insert(who.clone(), running + 1);
        Ok(who)
    }

    fn uncount(&mut self, caller: Option<&Arc<Who>>) {
        let Some(who) = caller else { return };
        if let Some(running) = self.callers.get_mut(who) {
            *running -= 1;
            if *running == 0 {
                self.callers.remove(who);
            }
        }
    }

    /// Hands a permit to the first of the queue.
    fn serve(&mut self) -> Option<Waker> {
        let (place, waker) = self.queue.pop_first()?;
        self.held += 1;
        self.granted.insert(place);
        Some(waker)
    }

    /// The oldest of the lowest class.
    fn worst(&self) -> Option<Place> {
        let ((class, _), _) = self.queue.last_key_value()?;
        let (oldest, _) = self.queue.range((*class, 0)..).next()?;
        Some(*oldest)
    }

    fn drop_out(&mut self, place: Place) -> Option<Waker> {
        let waker = self.queue.remove(&place)?;
        self.dropped.insert(place);
        Some(waker)
    }
}

impl Waiting {
    /// Ready with a permit, or when it was dropped from the queue.
    pub(super) fn poll(&mut self, waker: &Waker) -> Poll<Result<Permit, Full>> {
        let mut state = self.permits.lock();
        if let Some(mine) = state.queue.get_mut(&self.place) {
            mine.clone_from(waker);
            return Poll::Pending;
        }
        self.over = true;
        let caller = self.caller.take();
        if state.granted.remove(&self.place) {
            drop(state);
            let permits = self.permits.clone();
            return Poll::Ready(Ok(Permit { permits, caller }));
        }
        state.dropped.remove(&self.place);
        state.uncount(caller.as_ref());
        Poll::Ready(Err(Full::Queue))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let mut state = self.permits.lock();
        if state.granted.remove(&self.place) {
            drop(state);
            self.permits.release(self.caller.as_ref());
            return;
        }
        state.queue.remove(&self.place);
        state.dropped.remove(&self.place);
        state.uncount(self.caller.as_ref());
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.permits.release(self.caller.as_ref());
    }
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Permits")
            .field("limits", &state.limits)
            .field("held", &state.held)
            .field("queued", &state.queue.len())
            .finish()
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("caller", &self.caller)
            .finish()
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}
