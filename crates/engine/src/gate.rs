//! The door: bytes are reserved before a byte of the body is read.
//!
//! First come, first served by bytes: while anyone waits nobody overtakes, so a large request cannot starve behind a stream of small ones; only into
//! the part that is theirs alone do small requests go past a waiting large one. A request that could never fit is refused at once. One that does not
//! fit now waits its turn for a moment if, at the measured rate at which bytes come back, its turn can come by then, and nobody has waited in vain of
//! late; if not it is told at once when trying again makes sense.
//!
//! Caches may borrow from the ledger what requests leave free. Their bytes count neither for the level nor against a newcomer: what is
//! missing is taken back from them at once.
//!
//! Bytes are not all that a request waits for. One that would stand in the workers' line so long that it could not be answered in time is refused at the door,
//! by the measured rate at which jobs finish, instead of holding bytes until its deadline.
//!
//! Only the exact ledger decides on bytes, through the rules of [`govern`](crate::govern). Memory that the kernel or an allocator reports is never asked: a gate on
//! measured memory can get stuck refusing for ever.

mod backlog;
mod held;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use plimsoll_memory::{Debit, Ledger, Owner};

use crate::clock::{Clock, Nanos};
use crate::error::{Refusal, Shortage};
use crate::govern::{Change, Door, Drain, InUse, Level, Marks, Pressure, Watermarks};
use crate::governor::Reclaim;

use backlog::Backlog;
pub(crate) use held::{Held, InTurn};

/// So long after someone has waited in vain nobody is kept waiting: under a load that does not end, waiting would only make each refusal slow.
const VAIN_WAIT: Nanos = Nanos::from_ms(5000);
/// Retry-After is never longer.
const RETRY_MS_MAX: u64 = 30_000;
/// Retry-After before anything was measured.
const RETRY_MS_UNKNOWN: u64 = 1000;
/// Who large requests' bytes are debited to.
const LARGE: Owner = Owner::new(0, "requests");
/// Who small requests' bytes are debited to.
const SMALL: Owner = Owner::new(1, "small requests");

/// The door of an engine.
pub(crate) struct Gate {
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    caches: Mutex<Vec<Arc<dyn Reclaim>>>,
    marks: Marks,
    requests_max: usize,
    waiting_max: usize,
    wait: Nanos,
    line_max: Option<Nanos>,
}

/// How often caches are asked for what a request lacks.
const CACHE_TRIES: usize = 3;

struct State {
    waiting: VecDeque<Waiter>,
    /// From when on it is worth to get in line.
    waits_from: Nanos,
    next_ticket: u64,
    /// Free places in the table of requests.
    free_berths: Vec<u32>,
    /// How fast bytes come back, and how fast places.
    bytes: Drain,
    places: Drain,
    /// What waits for workers or is in their hands, and how fast its bytes are finished.
    backlog: Backlog,
    finished: Drain,
    level: Watermarks,
    /// A change that the governor has not seen yet.
    change: Option<Change>,
    /// What the smallest needed of those who were turned away for bytes since the governor looked last.
    turned_away_bytes: Option<usize>,
    draining: bool,
}

struct Waiter {
    id: u64,
    bytes: usize,
    waker: Option<Waker>,
}

/// Bytes and a place that were granted.
pub(crate) struct Grant {
    pub(crate) held: Held,
    pub(crate) berth: u32,
}

/// What came of asking to go in.
pub(crate) enum Entry {
    /// Let in.
    Inside(Grant),
    /// In line, under this number.
    InLine(u64),
}

/// What the governor sees when it looks at the door.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) level: Level,
    pub(crate) pressure: Pressure,
    pub(crate) change: Option<Change>,
    /// What the smallest needed of those who were turned away for bytes.
    pub(crate) turned_away_bytes: Option<usize>,
    pub(crate) inside: usize,
}

/// Limits of a gate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GateLimits {
    pub(crate) requests_max: usize,
    pub(crate) waiting_max: usize,
    /// How long anyone waits at the door.
    pub(crate) wait: Nanos,
    /// The longest that a newcomer may have to wait for workers.
    pub(crate) line_max: Option<Nanos>,
    pub(crate) marks: Marks,
}

impl Gate {
    /// What a place in line at the door takes.
    pub(crate) const WAITER_BYTES: usize = size_of::<Waiter>();

    pub(crate) fn new(ledger: Ledger, clock: Arc<dyn Clock>, limits: GateLimits) -> Arc<Gate> {
        Arc::new(Gate {
            ledger,
            clock,
            state: Mutex::new(State {
                waiting: VecDeque::with_capacity(limits.waiting_max),
                waits_from: Nanos(0),
                next_ticket: 0,
                free_berths: (0..limits.requests_max as u32).rev().collect(),
                bytes: Drain::default(),
                places: Drain::default(),
                backlog: Backlog::new(),
                finished: Drain::default(),
                level: Watermarks::new(limits.marks),
                change: None,
                turned_away_bytes: None,
                draining: false,
            }),
            caches: Mutex::default(),
            marks: limits.marks,
            requests_max: limits.requests_max,
            waiting_max: limits.waiting_max,
            wait: limits.wait,
            line_max: limits.line_max,
        })
    }

    /// The ledger that decides.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Where the levels lie.
    pub(crate) fn marks(&self) -> Marks {
        self.marks
    }

    /// A cache that borrows from the ledger.
    pub(crate) fn register(&self, cache: Arc<dyn Reclaim>) {
        self.caches().push(cache);
    }

    /// The caches that borrow from the ledger.
    pub(crate) fn caches(&self) -> MutexGuard<'_, Vec<Arc<dyn Reclaim>>> {
        self.caches
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Bytes debited to requests.
    pub(crate) fn requests_bytes(&self) -> usize {
        requests_bytes(&self.ledger)
    }

    /// Moves the limit; who waits first may fit now.
    pub(crate) fn set_limit_bytes(&self, bytes: usize) {
        let now = self.clock.now();
        let mut state = self.lock();
        self.ledger.set_limit_bytes(bytes);
        state.observe(&self.ledger, now);
        state.wake_front();
    }

    /// Refuses everything from now on.
    pub(crate) fn drain(&self) {
        let mut state = self.lock();
        state.draining = true;
        state
            .waiting
            .iter_mut()
            .filter_map(|waiter| waiter.waker.take())
            .for_each(Waker::wake);
    }

    /// Requests that wait at the door.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Requests inside.
    pub(crate) fn inside(&self) -> usize {
        self.requests_max - self.lock().free_berths.len()
    }

    /// The level, and how hard it presses.
    pub(crate) fn level(&self) -> (Level, Pressure) {
        self.lock().level_at(&self.ledger)
    }

    /// Changes of the level so far.
    pub(crate) fn level_changes(&self) -> u64 {
        self.lock().level.changes()
    }

    /// What the governor looks at; what happened since it looked last is told once.
    pub(crate) fn look(&self) -> Look {
        let now = self.clock.now();
        let mut state = self.lock();
        state.observe(&self.ledger, now);
        let (level, pressure) = state.level_at(&self.ledger);
        Look {
            level,
            pressure,
            change: state.change.take(),
            turned_away_bytes: state.turned_away_bytes.take(),
            inside: self.requests_max - state.free_berths.len(),
        }
    }

    /// A job that was granted `bytes` goes into the workers' line; it leaves when the value is dropped.
    ///
    /// # Errors
    /// It is small and would wait too long there. At the door nobody knows yet whether it needs workers at all.
    pub(crate) fn job(self: &Arc<Self>, bytes: usize) -> Result<InTurn, Refusal> {
        let now = self.clock.now();
        let mut state = self.lock();
        if self.door().is_small(bytes)
            && let Some(refusal) = self.late(&state, bytes)
        {
            return Err(refusal);
        }
        if state.backlog.is_empty() {
            state.finished.begin(now);
        }
        state.backlog.add(bytes);
        Ok(InTurn {
            gate: Arc::clone(self),
            bytes,
            is_done: false,
        })
    }

    /// Gives a place back.
    pub(crate) fn leave(&self, berth: u32) {
        let now = self.clock.now();
        let mut state = self.lock();
        debug_assert!(!state.free_berths.contains(&berth), "berth {berth} left twice");
        state.free_berths.push(berth);
        state.places.add(1, now);
        state.wake_front();
    }

    /// Goes in when nobody waits and the bytes are free, else gets in line (poll with [`Gate::poll_line`]) where its turn can come in time.
    pub(crate) fn enter(self: &Arc<Self>, bytes: usize) -> Result<Entry, Refusal> {
        let now = self.clock.now();
        let mut state = self.lock();
        if state.draining {
            return Err(Refusal::Draining);
        }
        state.observe(&self.ledger, now);
        // Who is small is asked when it is known whether it needs workers: its body costs little, and many are answered from the cache.
        if !self.door().is_small(bytes)
            && let Some(refusal) = self.late(&state, bytes)
        {
            return Err(refusal);
        }
        if (state.waiting.is_empty() || self.is_in_own_part(bytes))
            && let Some(grant) = self.grant(&mut state, bytes, now)
        {
            return Ok(Entry::Inside(grant));
        }
        let has_place = state.waiting.len() < self.waiting_max;
        if !has_place
            || now < state.waits_from
            || self
                .wait_ms(&state, bytes)
                .is_some_and(|ms| ms * 1_000_000 > self.wait.0)
        {
            return Err(self.refused(&mut state, bytes));
        }
        let id = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push_back(Waiter {
            id,
            bytes,
            waker: None,
        });
        Ok(Entry::InLine(id))
    }

    /// Enters when it is `id`'s turn and its bytes are free.
    pub(crate) fn poll_line(self: &Arc<Self>, id: u64, cx: &mut Context<'_>) -> Poll<Result<Grant, Refusal>> {
        let now = self.clock.now();
        let mut state = self.lock();
        if state.draining {
            return Poll::Ready(Err(Refusal::Draining));
        }
        if state.waiting.front().is_some_and(|front| front.id == id) {
            let bytes = state.waiting[0].bytes;
            if let Some(grant) = self.grant(&mut state, bytes, now) {
                state.waiting.pop_front();
                state.wake_front();
                return Poll::Ready(Ok(grant));
            }
        }
        if let Some(waiter) = state.waiting.iter_mut().find(|waiter| waiter.id == id) {
            waiter.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Grows what a request inside holds to `bytes`, if a newcomer could have as many as it lacks.
    pub(crate) fn grow(self: &Arc<Self>, held: &mut Held, bytes: usize) -> Result<(), Refusal> {
        let now = self.clock.now();
        let mut state = self.lock();
        let more = bytes - held.bytes();
        let Some(debit) = self.debit(&state, more, self.owner(bytes)) else {
            let reason = self.short_of_bytes(&mut state, more);
            return Err(self.overloaded(&state, reason, more));
        };
        state.observe(&self.ledger, now);
        held.join(debit);
        Ok(())
    }

    /// Leaves the line.
    pub(crate) fn give_up(&self, id: u64) {
        let mut state = self.lock();
        let was_first = state.waiting.front().is_some_and(|front| front.id == id);
        state.waiting.retain(|waiter| waiter.id != id);
        if was_first {
            state.wake_front();
        }
    }

    /// The refusal of a request that has waited long enough; for a while nobody is kept waiting like it.
    pub(crate) fn waited_in_vain(&self, needed_bytes: usize) -> Refusal {
        let now = self.clock.now();
        let mut state = self.lock();
        state.waits_from = now.after(VAIN_WAIT);
        self.refused(&mut state, needed_bytes)
    }

    /// When it makes sense to come again with a request that needs `bytes`.
    pub(crate) fn retry_after_ms(&self, bytes: usize) -> u64 {
        self.retry_ms(&self.lock(), bytes)
    }

    fn refused(&self, state: &mut State, needed_bytes: usize) -> Refusal {
        let reason = if state.free_berths.is_empty() {
            Shortage::Requests {
                requests_max: self.requests_max,
            }
        } else if state.waiting.len() >= self.waiting_max {
            Shortage::Waiting {
                waiting_max: self.waiting_max,
            }
        } else {
            self.short_of_bytes(state, needed_bytes)
        };
        self.overloaded(state, reason, needed_bytes)
    }

    fn short_of_bytes(&self, state: &mut State, needed_bytes: usize) -> Shortage {
        let smallest = state.turned_away_bytes.unwrap_or(needed_bytes);
        state.turned_away_bytes = Some(smallest.min(needed_bytes));
        Shortage::Bytes {
            needed_bytes,
            free_bytes: self.room(state, needed_bytes),
            level: state.level.level(),
        }
    }

    fn overloaded(&self, state: &State, reason: Shortage, needed_bytes: usize) -> Refusal {
        Refusal::Overloaded {
            reason,
            retry_after_ms: self.retry_ms(state, needed_bytes),
        }
    }

    /// The refusal of a request of `bytes` that would wait too long for workers.
    fn late(&self, state: &State, bytes: usize) -> Option<Refusal> {
        let line_ms_max = self.line_max?.0 / 1_000_000;
        let line_ms = state.finished.ms_for(state.backlog.before(bytes))?;
        (line_ms > line_ms_max).then(|| Refusal::Overloaded {
            reason: Shortage::Time { line_ms, line_ms_max },
            retry_after_ms: (line_ms - line_ms_max).min(RETRY_MS_MAX),
        })
    }

    fn door(&self) -> Door {
        Door::new(self.ledger.limit_bytes(), &self.marks)
    }

    fn in_use(&self) -> InUse {
        InUse {
            total_bytes: self.requests_bytes(),
            small_bytes: self.ledger.in_use_by(SMALL),
        }
    }

    fn room(&self, state: &State, bytes: usize) -> usize {
        let (level, pressure) = state.level_at(&self.ledger);
        self.door().room_bytes(level, pressure, self.in_use(), bytes)
    }

    /// Whether a request is small and fits what small requests alone may use.
    fn is_in_own_part(&self, bytes: usize) -> bool {
        let (door, small_bytes) = (self.door(), self.in_use().small_bytes);
        door.is_small(bytes) && small_bytes + bytes <= door.small_part_bytes()
    }

    fn grant(self: &Arc<Self>, state: &mut State, bytes: usize, now: Nanos) -> Option<Grant> {
        let berth = *state.free_berths.last()?;
        let debit = self.debit(state, bytes, self.owner(bytes))?;
        if self.requests_bytes() == bytes {
            state.bytes.begin(now);
        }
        if state.free_berths.len() == self.requests_max {
            state.places.begin(now);
        }
        state.free_berths.pop();
        state.observe(&self.ledger, now);
        Some(Grant {
            held: Held::new(debit, Arc::clone(self)),
            berth,
        })
    }

    /// Who owns the bytes of a request of so many.
    fn owner(&self, bytes: usize) -> Owner {
        if self.door().is_small(bytes) { SMALL } else { LARGE }
    }

    /// Bytes for a request, as far as the door lets them go.
    fn debit(&self, state: &State, bytes: usize, owner: Owner) -> Option<Debit> {
        if bytes > self.room(state, bytes) {
            return None;
        }
        // All debits of requests are made under this lock, so between the question and the debit their bytes only come back; but a cache that was asked for some
        // may have taken others meanwhile.
        for _ in 0..CACHE_TRIES {
            match self.ledger.try_debit(owner, bytes) {
                Ok(debit) => return Some(debit),
                Err(short) => self.take_from_caches(short.requested_bytes - short.available_bytes),
            }
        }
        self.ledger.try_debit(owner, bytes).ok()
    }

    fn take_from_caches(&self, mut bytes: usize) {
        for cache in self.caches().iter() {
            let goal = cache.live_bytes().saturating_sub(bytes);
            bytes = bytes.saturating_sub(cache.reclaim(goal, bytes));
        }
    }

    fn came_back(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let now = self.clock.now();
        let mut state = self.lock();
        state.bytes.add(bytes, now);
        state.observe(&self.ledger, now);
        state.wake_front();
    }

    /// Milliseconds until the line before a newcomer, and the newcomer, have fitted through at the measured rates; `None` before anything was measured.
    fn wait_ms(&self, state: &State, bytes: usize) -> Option<u64> {
        let ahead: usize = state.waiting.iter().map(|waiter| waiter.bytes).sum();
        let missing_bytes = (ahead + bytes).saturating_sub(self.room(state, bytes));
        let missing_places = (state.waiting.len() + 1).saturating_sub(state.free_berths.len());
        let wait = |missing, drain: &Drain| {
            if missing == 0 {
                Some(0)
            } else {
                drain.ms_for(missing)
            }
        };
        let bytes_ms = wait(missing_bytes, &state.bytes)?;
        Some(bytes_ms.max(wait(missing_places, &state.places)?))
    }

    fn retry_ms(&self, state: &State, bytes: usize) -> u64 {
        self.wait_ms(state, bytes)
            .map_or(RETRY_MS_UNKNOWN, |ms| ms.clamp(1, RETRY_MS_MAX))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn requests_bytes(ledger: &Ledger) -> usize {
    ledger.in_use_by(LARGE) + ledger.in_use_by(SMALL)
}

impl State {
    fn wake_front(&mut self) {
        if let Some(waker) = self.waiting.front_mut().and_then(|front| front.waker.take()) {
            waker.wake();
        }
    }

    fn observe(&mut self, ledger: &Ledger, now: Nanos) {
        let in_use = requests_bytes(ledger);
        if let Some(change) = self.level.observe(in_use, ledger.limit_bytes(), now) {
            self.change = Some(change);
            self.wake_front();
        }
    }

    fn level_at(&self, ledger: &Ledger) -> (Level, Pressure) {
        let pressure = self.level.pressure(requests_bytes(ledger), ledger.limit_bytes());
        (self.level.level(), pressure)
    }
}
