use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri};

use super::{
    Attempt, Digest, Discarded, Ended, Found, Mark, Metered, Refused, Running, Standing, TraceId,
    Waste, running::Runs,
};
use crate::{
    dialect::{self, Recognised, Surface},
    error::{Reason, Rejection},
    facts::{Caller, Intent},
};

/// What is known of one request, written by the layers that find it out and read when it has ended.
///
/// One writer per slot, once; a second write is ignored. A layer writes if a `Record` is in the
/// request's extensions and works the same without. Clones are the same record.
#[derive(Clone, Debug)]
pub struct Record(Arc<Cell>);

#[derive(Debug)]
struct Cell {
    started: Instant,
    arrived: SystemTime,
    request_id: HeaderValue,
    trace: Option<TraceId>,
    method: Method,
    // Copied: a slice of the head would keep the server's whole read buffer.
    path: Box<str>,
    recognised: Recognised,
    intent: OnceLock<Intent>,
    caller: OnceLock<Caller>,
    route: OnceLock<(Arc<str>, usize)>,
    running: OnceLock<Runs>,
    attempts: Mutex<Vec<Attempt>>,
    // Zero is none.
    status: AtomicU16,
    refused: OnceLock<Refused>,
    broke: OnceLock<Reason>,
    // One more than the place in `Ended::ALL`; zero is none.
    ended: AtomicU8,
    edited: AtomicBool,
    // Few requests have any of it, and who asks for it takes no lock then.
    noted: AtomicBool,
    notes: Mutex<Option<Box<Notes>>>,
    marks: [AtomicU64; Mark::COUNT],
    // Nanoseconds.
    waited: AtomicU64,
    queued: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    digest: OnceLock<Digest>,
    metering: Mutex<Metering>,
    // Something was thrown away: who asks for it takes no lock otherwise.
    wasted: AtomicBool,
    // The client has left, and the answer is read on without it.
    gone: AtomicBool,
    // What is left of the answer is worth reading without a client.
    drains: AtomicBool,
    settled: AtomicBool,
}

/// What is said of few requests.
#[derive(Debug, Default)]
struct Notes {
    standings: Vec<Standing>,
    found: Vec<Found>,
    edited_by: Vec<&'static str>,
    original: Option<Bytes>,
    upstream_digest: Option<u128>,
}

/// What the meters of a request have found.
#[derive(Debug, Default)]
struct Metering {
    current: Option<Metered>,
    discarded: Vec<Discarded>,
}

/// Fills an atomic slot, if it is still empty.
macro_rules! set_once {
    ($slot:expr, $value:expr) => {
        let _ = $slot.compare_exchange(0, $value, Ordering::AcqRel, Ordering::Acquire);
    };
}

impl Record {
    /// A record for a request that arrived now.
    pub fn new(
        request_id: HeaderValue,
        head: (&Method, &Uri, &HeaderMap),
        started: Instant,
        arrived: SystemTime,
    ) -> Self {
        let (method, uri, headers) = head;
        Self(Arc::new(Cell {
            started,
            arrived,
            request_id,
            trace: TraceId::of(headers),
            method: method.clone(),
            path: uri.path().into(),
            recognised: dialect::recognise(method, uri.path(), uri.query(), headers),
            intent: OnceLock::new(),
            caller: OnceLock::new(),
            route: OnceLock::new(),
            running: OnceLock::new(),
            attempts: Mutex::default(),
            status: AtomicU16::new(0),
            refused: OnceLock::new(),
            broke: OnceLock::new(),
            ended: AtomicU8::new(0),
            edited: AtomicBool::new(false),
            noted: AtomicBool::new(false),
            notes: Mutex::default(),
            marks: Default::default(),
            waited: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            digest: OnceLock::new(),
            metering: Mutex::default(),
            wasted: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            drains: AtomicBool::new(false),
            settled: AtomicBool::new(false),
        }))
    }

    /// The name of this request.
    pub fn request_id(&self) -> &str {
        // Whoever makes a record gives it a name in visible ASCII.
        self.0.request_id.to_str().unwrap_or_default()
    }

    /// The name of this request as a header; a clone costs no copy.
    pub fn request_id_header(&self) -> &HeaderValue {
        &self.0.request_id
    }

    /// The trace that it belongs to, if its caller says so.
    pub fn trace(&self) -> Option<TraceId> {
        self.0.trace
    }

    /// When it arrived, by the wall clock.
    pub fn arrived(&self) -> SystemTime {
        self.0.arrived
    }

    /// When it arrived, by the monotonic clock.
    pub fn started(&self) -> Instant {
        self.0.started
    }

    /// Its method.
    pub fn method(&self) -> &Method {
        &self.0.method
    }

    /// Its path, without the query.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// What its head turned out to ask for.
    pub fn recognised(&self) -> &Recognised {
        &self.0.recognised
    }

    /// The surface, if it is a known one.
    pub fn surface(&self) -> Option<&Surface> {
        match &self.0.recognised {
            Recognised::Surface(surface) => Some(surface),
            _ => None,
        }
    }

    /// What its body asks for; written by `peek`.
    pub fn intent(&self) -> Option<&Intent> {
        self.0.intent.get()
    }

    /// Writes what the body asks for.
    pub fn set_intent(&self, intent: Intent) {
        let _ = self.0.intent.set(intent);
    }

    /// Who called; written by `auth`.
    pub fn caller(&self) -> Option<&Arc<str>> {
        self.0.caller.get().map(Caller::name)
    }

    /// The labels that the caller has for whoever accounts for it.
    pub fn caller_labels(&self) -> &[(Box<str>, Box<str>)] {
        let caller = self.0.caller.get();
        caller.map_or(&[], |caller| &caller.terms().labels)
    }

    /// Writes who called.
    pub fn set_caller(&self, caller: Caller) {
        let _ = self.0.caller.set(caller);
    }

    /// The name of the route that took it; written by `route`.
    pub fn route(&self) -> Option<&Arc<str>> {
        self.0.route.get().map(|(name, _)| name)
    }

    /// The place of that route in the order of all.
    pub fn route_place(&self) -> Option<usize> {
        self.0.route.get().map(|(_, place)| *place)
    }

    /// Writes the name of the route, and its place.
    pub fn set_route(&self, name: Arc<str>, place: usize) {
        let _ = self.0.route.set((name, place));
    }

    /// Counts the request among those that run there, until it is [settled](Self::settle), or nobody knows of it any more.
    pub fn set_running(&self, at: &Arc<Running>) {
        let asked = || self.surface().and_then(|surface| surface.stream);
        let stream = match self.intent() {
            Some(intent) => intent.stream(),
            None => asked().unwrap_or(false),
        };
        let _ = self.0.running.set(Runs::begin(at.clone(), stream));
    }

    /// Says how one of the caller's limits stands; written by the limits.
    pub fn add_standing(&self, standing: Standing) {
        self.note(|notes| notes.standings.push(standing));
    }

    /// The same, said anew: it takes the place of what was said of the limit in this unit.
    pub fn set_standing(&self, standing: Standing) {
        self.note(|notes| {
            let same = |it: &Standing| it.limit == standing.limit && it.unit == standing.unit;
            notes.standings.retain(|it| !same(it));
            notes.standings.push(standing);
        });
    }

    /// Reads how the caller's limits stand, those furthest inside first.
    pub fn with_standings<R>(&self, read: impl FnOnce(&[Standing]) -> R) -> R {
        self.noted(|notes| read(notes.map_or(&[], |it| &it.standings)))
    }

    /// The calls to providers, in order.
    pub fn attempts(&self) -> Vec<Attempt> {
        self.locked_attempts().clone()
    }

    /// Reads the calls to providers without copying them.
    pub fn with_attempts<R>(&self, read: impl FnOnce(&[Attempt]) -> R) -> R {
        read(&self.locked_attempts())
    }

    /// Reads the call that the answer is of: where an answer was passed on, the last one that was answered; else the last one.
    pub fn with_answered<R>(&self, read: impl FnOnce(Option<&Attempt>) -> R) -> R {
        self.with_calls(|attempts, answered| read(answered.map(|at| &attempts[at])))
    }

    /// Reads the calls to providers, and the place of the one that the answer is of, as [`with_answered`](Self::with_answered).
    pub fn with_calls<R>(&self, read: impl FnOnce(&[Attempt], Option<usize>) -> R) -> R {
        let passed_on = self.status().is_some() && self.refused().is_none();
        let attempts = self.locked_attempts();
        let last = attempts.len().checked_sub(1);
        let answered = attempts.iter().rposition(|it| it.status.is_some());
        let answered = answered.filter(|_| passed_on).or(last);
        read(&attempts, answered)
    }

    /// A call to a provider begins.
    pub fn begin_attempt(&self, attempt: Attempt) {
        let mut attempts = self.locked_attempts();
        // Most requests make one.
        attempts.reserve_exact(1);
        attempts.push(attempt);
    }

    /// Changes the call that began last.
    pub fn update_attempt(&self, change: impl FnOnce(&mut Attempt)) {
        if let Some(last) = self.locked_attempts().last_mut() {
            change(last);
        }
    }

    /// The call that began last has failed with this fixed word, at this moment, if it has not
    /// failed already. What had an answer keeps the time to its head.
    pub fn fail_attempt(&self, word: &'static str, now: Instant) {
        let sent = self.at(Mark::Sent).unwrap_or_default();
        let took = now
            .saturating_duration_since(self.0.started)
            .saturating_sub(sent);
        self.update_attempt(|attempt| {
            attempt.error.get_or_insert(word);
            if attempt.status.is_none() {
                attempt.took = took;
            }
        });
    }

    fn locked_attempts(&self) -> MutexGuard<'_, Vec<Attempt>> {
        self.0
            .attempts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The status of the answer; written by the layer `record`.
    pub fn status(&self) -> Option<u16> {
        match self.0.status.load(Ordering::Acquire) {
            0 => None,
            status => Some(status),
        }
    }

    /// Writes the status of the answer.
    pub fn set_status(&self, status: u16) {
        set_once!(self.0.status, status);
    }

    /// The refusal or failure that became the answer; written by `respond`.
    pub fn refused(&self) -> Option<Refused> {
        self.0.refused.get().copied()
    }

    /// Writes why the request was not served, and so how it ended.
    pub fn set_refused(&self, why: &Rejection) {
        let _ = self.0.refused.set(Refused {
            layer: why.layer(),
            reason: why.reason(),
        });
        self.set_ended(why.reason().into());
    }

    /// Writes that a layer stops an answer that is on its way. This is how the request ended, also where the provider's
    /// answer has been seen to its end: what stood behind the place does not go out.
    pub fn set_stopped(&self, why: &Rejection) {
        let ended = Ended::from(why.reason());
        self.0.ended.store(ended as u8 + 1, Ordering::Release);
        self.set_refused(why);
    }

    /// Why the answer broke off after its head.
    pub fn broke(&self) -> Option<Reason> {
        self.0.broke.get().copied()
    }

    /// Writes why the answer broke off, and so how the request ended.
    pub fn set_broke(&self, reason: Reason) {
        let _ = self.0.broke.set(reason);
        self.set_ended(reason.into());
    }

    /// How it ended, as far as that has been settled.
    pub fn ended(&self) -> Option<Ended> {
        let place = self.0.ended.load(Ordering::Acquire).checked_sub(1)?;
        Ended::ALL.get(usize::from(place)).copied()
    }

    /// Settles how it ended. The first one to know is right.
    pub fn set_ended(&self, ended: Ended) {
        set_once!(self.0.ended, ended as u8 + 1);
    }

    /// The rules that found something in a text, and how often each did.
    pub fn found(&self) -> Vec<Found> {
        self.with_found(<[Found]>::to_vec)
    }

    /// Reads the rules that found something without copying them.
    pub fn with_found<R>(&self, read: impl FnOnce(&[Found]) -> R) -> R {
        self.noted(|notes| read(notes.map_or(&[], |it| &it.found)))
    }

    /// Says that a rule has found something so many times, and what it does about it; written by `word_filter`.
    pub fn add_found(&self, rule: &Arc<str>, action: &'static str, times: u64) {
        self.note(
            |Notes { found, .. }| match found.iter_mut().find(|it| it.rule == *rule) {
                Some(it) => it.times += times,
                None => found.push(Found {
                    rule: rule.clone(),
                    action,
                    times,
                }),
            },
        );
    }

    /// The layers that changed the answer's bytes.
    pub fn edited_by(&self) -> Vec<&'static str> {
        self.noted(|notes| notes.map(|it| it.edited_by.clone()).unwrap_or_default())
    }

    /// Says that `layer` changes the answer's bytes, before the first changed byte is handed over.
    pub fn set_edited_by(&self, layer: &'static str) {
        self.note(|Notes { edited_by, .. }| {
            if !edited_by.contains(&layer) {
                edited_by.push(layer);
            }
        });
        self.0.edited.store(true, Ordering::Release);
    }

    /// Whether a layer has said that it changes the answer's bytes.
    pub fn is_edited(&self) -> bool {
        self.0.edited.load(Ordering::Acquire)
    }

    /// Takes a moment, if it was not taken before. [`Mark::UpstreamHead`] and [`Mark::Sent`] move
    /// with each attempt.
    pub fn mark(&self, mark: Mark, now: Instant) {
        let since = now.saturating_duration_since(self.0.started);
        // Zero means that it was not reached.
        let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX).max(1);
        let slot = &self.0.marks[mark as usize];
        if matches!(mark, Mark::UpstreamHead | Mark::Sent) || slot.load(Ordering::Relaxed) == 0 {
            slot.store(nanos, Ordering::Relaxed);
        }
    }

    /// The time from the arrival to this moment, if it was reached.
    pub fn at(&self, mark: Mark) -> Option<Duration> {
        match self.0.marks[mark as usize].load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    /// The parts of [`gateway_time`](Self::gateway_time): of the request, and of the answer where a provider's head had come.
    pub fn gateway_times(&self) -> Option<(Duration, Option<Duration>)> {
        let head = self.at(Mark::Head)?;
        let read = self.at(Mark::BodyRead).unwrap_or_default().min(head);
        let read = read + Duration::from_nanos(self.0.waited.load(Ordering::Relaxed));
        let Some(sent) = self.at(Mark::Sent) else {
            return Some((head.saturating_sub(read), None));
        };
        let answered = self.at(Mark::UpstreamHead);
        let answered = answered.map(|answered| head.saturating_sub(answered));
        Some((sent.saturating_sub(read), answered))
    }

    /// Our own share of the time: from the last byte of the request to our last pass over it, and
    /// from the upstream's head to ours. What was answered by us is ours whole.
    ///
    /// Known once there is a head. Waits for permits, connections, the provider and the client are
    /// not in it.
    pub fn gateway_time(&self) -> Option<Duration> {
        let (request, answer) = self.gateway_times()?;
        Some(request + answer.unwrap_or_default())
    }

    /// Adds time in which a request whose body had been read waited for somebody else before it went to the client: it is no
    /// [`gateway_time`](Self::gateway_time).
    pub fn add_waited(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.waited.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Adds time in which a request stood in a queue for a place.
    pub fn add_queued(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.queued.fetch_add(nanos.max(1), Ordering::Relaxed);
    }

    /// How long it stood in queues for a place, if it had to.
    pub fn queued(&self) -> Option<Duration> {
        match self.0.queued.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    /// Body bytes received from the client.
    pub fn bytes_in(&self) -> u64 {
        self.0.bytes_in.load(Ordering::Relaxed)
    }

    /// Counts body bytes received from the client.
    pub fn add_bytes_in(&self, bytes: usize) {
        self.0.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Body bytes handed to the transport.
    pub fn bytes_out(&self) -> u64 {
        self.0.bytes_out.load(Ordering::Relaxed)
    }

    /// Writes how many body bytes were handed to the transport.
    pub fn set_bytes_out(&self, bytes: u64) {
        self.0.bytes_out.store(bytes, Ordering::Relaxed);
    }

    /// The digests of the answer's body.
    pub fn digest(&self) -> Option<Digest> {
        self.0.digest.get().copied()
    }

    /// Writes the digests of the answer's body.
    pub fn set_digest(&self, digest: Digest) {
        let _ = self.0.digest.set(digest);
    }

    /// Says what the provider had sent in the place of the next data that are handed over. Only for a layer that changes
    /// bytes in the middle, which says so of each frame from the first changed one on; a frame of which it is not said has
    /// been added.
    pub fn set_original(&self, data: Bytes) {
        self.note(|notes| notes.original = Some(data));
    }

    /// Says of the next data that they are the provider's own, unless a layer further inside has said what they were, or that it
    /// adds some: for `layer`, which puts frames of its own between others, and leaves these as they are.
    pub fn set_unchanged(&self, data: &Bytes, layer: &'static str) {
        self.note(|notes| {
            if notes.edited_by.iter().all(|other| *other == layer) {
                notes.original = Some(data.clone());
            }
        });
    }

    /// The digest of the body as the provider sent it, from a layer that takes whole pieces out of it.
    pub fn upstream_digest(&self) -> Option<u128> {
        self.noted(|notes| notes?.upstream_digest)
    }

    /// Writes the digest of the body as the provider sent it. Only for a layer that takes whole pieces out of it, and so
    /// cannot say of each frame [what it was](Self::set_original). What was said so inside of that layer is for it to take.
    pub fn set_upstream_digest(&self, digest: u128) {
        self.note(|notes| {
            notes.upstream_digest.get_or_insert(digest);
        });
    }

    /// Takes what the provider had sent in the place of these data.
    pub fn take_original(&self) -> Option<Bytes> {
        let noted = self.0.noted.load(Ordering::Acquire);
        noted.then(|| self.locked_notes().as_mut()?.original.take())?
    }

    /// Reads what is said of few requests.
    fn noted<R>(&self, read: impl FnOnce(Option<&Notes>) -> R) -> R {
        if self.0.noted.load(Ordering::Acquire) {
            read(self.locked_notes().as_deref())
        } else {
            read(None)
        }
    }

    fn note<R>(&self, write: impl FnOnce(&mut Notes) -> R) -> R {
        let mut notes = self.locked_notes();
        let wrote = write(notes.get_or_insert_default());
        self.0.noted.store(true, Ordering::Release);
        wrote
    }

    fn locked_notes(&self) -> MutexGuard<'_, Option<Box<Notes>>> {
        self.0.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A meter begins to read an answer. What was found in an earlier attempt's is waste from now on.
    pub fn begin_metering(&self) {
        // The attempt at hand has begun, too.
        self.renew(Some(Metered::default()), 2);
    }

    /// The answer at hand is thrown away, and another one is to come in its stead: what was found in it is waste, and neither how it
    /// ended nor what was edited in it says anything of the request. To be called once its body is gone, or nobody meters it any more.
    ///
    /// Returns its number among the [metered](Self::with_metered) ones that were thrown away, by which it can be
    /// [taken back](Self::take_back_answer).
    pub fn discard_answer(&self) -> Option<usize> {
        let number = self.renew(None, 1);
        self.0.ended.store(0, Ordering::Release);
        self.0.marks[Mark::FirstToken as usize].store(0, Ordering::Relaxed);
        self.0.drains.store(false, Ordering::Relaxed);
        self.0.edited.store(false, Ordering::Release);
        if let Some(notes) = &mut *self.locked_notes() {
            notes.edited_by.clear();
            notes.upstream_digest = None;
            notes.original = None;
        }
        number
    }

    /// The answer that was thrown away with this number is the answer after all: what was found in it is no waste.
    pub fn take_back_answer(&self, number: usize) {
        let mut metering = self.metering();
        if number < metering.discarded.len() {
            metering.current = Some(metering.discarded.remove(number).metered);
        }
    }

    /// Another answer is metered, or none: the one before was thrown away. It was that of the attempt so many from the end.
    fn renew(&self, current: Option<Metered>, back: usize) -> Option<usize> {
        let mut metering = self.metering();
        let metered = std::mem::replace(&mut metering.current, current)?;
        let attempts = self.locked_attempts().len();
        let attempt = attempts.checked_sub(back);
        metering.discarded.push(Discarded { attempt, metered });
        self.0.wasted.store(true, Ordering::Release);
        Some(metering.discarded.len() - 1)
    }

    /// Changes what is found in the answer at hand; does nothing before [`begin_metering`](Self::begin_metering).
    pub fn update_metered(&self, change: impl FnOnce(&mut Metered)) {
        if let Some(current) = &mut self.metering().current {
            change(current);
        }
    }

    /// Reads what a meter has found so far in the answer at hand; none if nobody meters. `read` must not ask this record
    /// for anything metered.
    pub fn with_metered<R>(&self, read: impl FnOnce(Option<&Metered>) -> R) -> R {
        read(self.metering().current.as_ref())
    }

    /// Reads what was found in answers that were thrown away, in their order. `read` must not ask this record for anything
    /// metered.
    pub fn with_discarded<R>(&self, read: impl FnOnce(&[Discarded]) -> R) -> R {
        if !self.0.wasted.load(Ordering::Acquire) {
            return read(&[]);
        }
        read(&self.metering().discarded)
    }

    /// The tokens of attempts that were thrown away; none if none was.
    pub fn waste(&self) -> Option<Waste> {
        self.with_discarded(|all| {
            let charges = all.iter().map(|it| it.metered.charge);
            charges.fold(None, |sum: Option<Waste>, charge| {
                let sum = sum.unwrap_or_default();
                Some(Waste {
                    prompt: sum.prompt.saturating_add(charge.prompt),
                    completion: sum.completion.saturating_add(charge.completion),
                })
            })
        })
    }

    fn metering(&self) -> MutexGuard<'_, Metering> {
        self.0
            .metering
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the rest of the answer is to be read even if the client leaves; written by `meter`.
    pub fn drains(&self) -> bool {
        self.0.drains.load(Ordering::Relaxed)
    }

    /// Says that the rest of the answer is to be read even if the client leaves.
    pub fn set_drains(&self) {
        self.0.drains.store(true, Ordering::Relaxed);
    }

    /// Whether the client has left, and the answer is read on without it; written by the layer `record`.
    pub fn is_gone(&self) -> bool {
        self.0.gone.load(Ordering::Relaxed)
    }

    /// Says that the client has left while the answer is read on, and so how the request ended.
    pub fn set_gone(&self) {
        self.0.gone.store(true, Ordering::Relaxed);
        self.set_ended(Ended::ClientGone);
    }

    /// True for the first one who asks: whoever gets it tells the world that the request has ended.
    pub fn settle(&self) -> bool {
        let first = !self.0.settled.swap(true, Ordering::AcqRel);
        if first && let Some(running) = self.0.running.get() {
            running.end();
        }
        first
    }
}
