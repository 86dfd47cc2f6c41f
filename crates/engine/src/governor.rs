//! The governor: feeds the rules of [`govern`](crate::govern) and does what they decide.
//!
//! It has no thread of its own: whoever owns the engine calls [`Engine::govern`] in a loop, at the times that it asks for. Each call does one short step, so
//! that it never takes more than its share of a core.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::clock::Nanos;
use crate::config::Layers;
use crate::engine::Engine;
use crate::gate::Look;
use crate::govern::{
    BUCKETS, Ballast, Buckets, Cause, Change, Cycle, Lengths, Level, Marks, PaceConfig, Pacer, Pressure,
};
use crate::plan::Plan;
use crate::returns::{Candidate, take_back};
use crate::work::Work;

/// A call of [`Engine::govern`] without work asks for the next one after this time.
const TICK: Nanos = Nanos::from_ms(100);
/// Slots that were out at once are remembered for one to two such windows: so long a burst's slots stay warm.
const WINDOW: Nanos = Nanos::from_ms(1500);
/// A step gives back at most so much, one larger slot apart.
const STEP_BYTES: usize = 2 << 20;
/// At full pressure a cache may keep this part of what it holds, as a divisor.
const CACHE_SHARE_LEAST: usize = 4;

/// Something that holds bytes which it can do without: a cache. What it holds is debited to the ledger and charged to the cap of the pools.
/// Registered with [`Engine::register`].
pub trait Reclaim: Send + Sync {
    /// Its name.
    fn name(&self) -> &'static str;
    /// The most that it may hold.
    fn capacity_bytes(&self) -> usize;
    /// Bytes that it holds.
    fn live_bytes(&self) -> usize;
    /// Of them, those that someone uses: not to be freed.
    fn marked_bytes(&self) -> usize;
    /// Frees bytes while more than `goal_bytes` are live, about `step_bytes` at most; returns how many, 0 when it is done.
    fn reclaim(&self, goal_bytes: usize, step_bytes: usize) -> usize;
}

/// What one call of [`Engine::govern`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Governed {
    /// The level changed; worth a line.
    pub change: Option<Change>,
    /// A cycle ended; worth a line.
    pub cycle: Option<Cycle>,
    /// Requests that were ended before they had started.
    pub returned_requests: usize,
    /// When to call again, at the latest.
    pub next: Nanos,
}

/// The state of the governor.
pub(crate) struct Governor(Mutex<State>);

struct State {
    pacer: Pacer,
    /// The cycle that runs takes all that is idle, not only what recent traffic has no use for.
    takes_all: bool,
    window_ends: Nanos,
    candidates: Vec<Candidate>,
    returned_requests: u64,
    ballast: Ballast,
    gives_back: bool,
}

impl Governor {
    pub(crate) fn new(pace: PaceConfig, layers: Layers, plan: &Plan) -> Governor {
        let growth_percent = pace.growth_percent.filter(|_| layers.give_back);
        Governor(Mutex::new(State {
            pacer: Pacer::new(PaceConfig {
                growth_percent,
                ..pace
            }),
            takes_all: false,
            window_ends: WINDOW,
            candidates: Vec::with_capacity(plan.limits.requests_max),
            returned_requests: 0,
            ballast: Ballast::new(plan.request_slots_bytes),
            gives_back: layers.give_back,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Counts of the governor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GovernorStats {
    /// Reclaim cycles so far.
    pub cycles: u64,
    /// Nanoseconds that they worked.
    pub worked_ns: u64,
    /// Live bytes at which growth starts the next one.
    pub goal_bytes: usize,
    /// Bytes that pools and caches hold now.
    pub live_bytes: usize,
    /// Changes of the level so far.
    pub level_changes: u64,
    /// Requests that were ended before they had started.
    pub returned_requests: u64,
}

impl Engine {
    /// One short step of governing: looks at the ledger, makes room by force where others are refused, gives idle memory back, reclaims.
    pub fn govern(&self) -> Governed {
        let began = self.now();
        let look = self.gate().look();
        let mut state = self.governor.lock();
        let state = &mut *state;
        let mut governed = Governed {
            change: look.change,
            ..Governed::default()
        };
        if look.change.is_some() {
            state.pacer.crossed();
        }
        governed.returned_requests = self.make_room(state, &look);
        if began >= state.window_ends {
            self.pools().cap().turn_window();
            state.window_ends = began.after(WINDOW);
        }
        if let Some(cause) = state.pacer.due(self.live_bytes(), began) {
            state.takes_all = cause == Cause::Request || look.level == Level::Refusing;
            state.pacer.begin(cause, self.live_bytes(), began);
        }
        let mut freed = 0;
        if !state.pacer.is_running() {
            if state.gives_back {
                freed = self.pools().cap().give_back_excess(STEP_BYTES);
            }
        } else if state.pacer.may_step(began) {
            freed = self.step(state, look.pressure);
            let now = self.now();
            state.pacer.worked(now.since(began), now);
            if freed == 0 {
                governed.cycle = Some(state.pacer.end(self.marked_bytes(), self.live_bytes(), now));
            }
        }
        let now = self.now();
        let pause = Nanos(now.since(began) * 9);
        let more = freed > 0 || state.pacer.is_running();
        governed.next = now.after(if more { pause.min(TICK) } else { TICK });
        self.tell_governed(&governed);
        governed
    }

    /// Registers a cache that borrows from the ledger. Newcomers take back from it what they miss, the governor shrinks it under pressure and counts it
    /// in its cycles.
    pub fn register(&self, cache: Arc<dyn Reclaim>) {
        self.gate().register(cache);
    }

    /// Asks for a reclaim cycle that takes all that is idle; returns the number that it will have, which [`GovernorStats::cycles`] reaches as it ends.
    pub fn request_reclaim(&self) -> u64 {
        self.governor.lock().pacer.request()
    }

    /// The level of the ledger.
    pub fn level(&self) -> Level {
        self.gate().level().0
    }

    /// How hard it presses. Work that can be left undone, as filling a cache, is left undone at any pressure.
    pub fn pressure(&self) -> Pressure {
        self.gate().level().1
    }

    /// A reading of the process's size, once a second: above the line the budget of requests shrinks slowly, below it grows back.
    pub fn weigh(&self, resident_bytes: usize) {
        let budget_bytes = self
            .governor
            .lock()
            .ballast
            .weigh(resident_bytes, self.plan().limit_bytes);
        self.gate().set_limit_bytes(budget_bytes);
    }

    /// Bytes debited to requests; what caches borrow comes on top.
    pub fn requests_bytes(&self) -> usize {
        self.gate().requests_bytes()
    }

    /// Bytes that pools have committed, leased and idle, with those that caches borrow.
    pub fn committed_bytes(&self) -> usize {
        self.pools().cap().committed_bytes()
    }

    /// Counts of the governor.
    pub fn governor_stats(&self) -> GovernorStats {
        let state = self.governor.lock();
        GovernorStats {
            cycles: state.pacer.cycles(),
            worked_ns: state.pacer.total_worked_ns(),
            goal_bytes: state.pacer.goal_bytes(),
            live_bytes: self.live_bytes(),
            level_changes: self.gate().level_changes(),
            returned_requests: state.returned_requests,
        }
    }

    /// What recent inputs looked like.
    pub fn length_stats(&self) -> LengthStats {
        self.traffic.stats()
    }

    /// While refusing, and someone was turned away, and not for the only request inside: ends what has not started, down to the resume mark.
    fn make_room(&self, state: &mut State, look: &Look) -> usize {
        let turned_away_bytes = match look.turned_away_bytes {
            Some(bytes) if look.level == Level::Refusing && look.inside > 1 => bytes,
            _ => return 0,
        };
        let ledger = self.ledger();
        let resume = Marks::bytes(self.gate().marks().resume_percent, ledger.limit_bytes());
        let excess = self.requests_bytes().saturating_sub(resume);
        let (count, _) = take_back(self, excess, turned_away_bytes, &mut state.candidates);
        state.returned_requests += count as u64;
        count
    }

    /// One step of a cycle; 0 when there is nothing left to free.
    fn step(&self, state: &State, pressure: Pressure) -> usize {
        let cap = self.pools().cap();
        let freed = match state.takes_all {
            true => cap.reclaim(STEP_BYTES),
            false => cap.give_back_excess(STEP_BYTES),
        };
        if freed > 0 {
            return freed;
        }
        let caches = self.gate().caches();
        let freed = caches.iter().map(|cache| {
            let capacity = cache.capacity_bytes();
            let goal = pressure.between(capacity, capacity / CACHE_SHARE_LEAST);
            cache.reclaim(goal, STEP_BYTES)
        });
        freed.sum()
    }

    /// What pools and caches hold: all of it is charged to their one cap.
    fn live_bytes(&self) -> usize {
        self.committed_bytes()
    }

    fn marked_bytes(&self) -> usize {
        let leased: usize = self.pool_stats().iter().map(|kind| kind.stats.leased_bytes).sum();
        let caches: usize = self
            .gate()
            .caches()
            .iter()
            .map(|cache| cache.marked_bytes())
            .sum();
        leased + caches
    }
}

/// What recent inputs looked like, and how their leases fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LengthStats {
    /// Of the last 1,024 inputs, how many fell into each bucket.
    pub buckets: Buckets,
    /// Boundaries that divide them at 50, 75, 90 and 95%, in tokens.
    pub boundaries: [u32; BUCKETS - 1],
    /// Leases that found their slot warm, by the bucket of their request's longest input, since the start.
    pub hits: [u64; BUCKETS],
    /// Those that did not.
    pub misses: [u64; BUCKETS],
}

/// Counts of what comes in.
#[derive(Default)]
pub(crate) struct Traffic {
    lengths: Mutex<Lengths>,
    hits: [AtomicU64; BUCKETS],
    misses: [AtomicU64; BUCKETS],
}

impl Traffic {
    /// Counts a request whose text was read.
    pub(crate) fn record(&self, work: &Work) {
        let mut lengths = self
            .lengths
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut longest = 0;
        for index in 0..work.inputs.len() {
            let tokens = work.inputs.get(index).token_total;
            lengths.record(tokens);
            longest = longest.max(tokens);
        }
        drop(lengths);
        let (bucket, (warm, cold)) = (Buckets::of(longest), work.warm_and_cold());
        self.hits[bucket].fetch_add(warm, Relaxed);
        self.misses[bucket].fetch_add(cold, Relaxed);
    }

    fn stats(&self) -> LengthStats {
        let lengths = self
            .lengths
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let counts = |all: &[AtomicU64; BUCKETS]| std::array::from_fn(|bucket| all[bucket].load(Relaxed));
        LengthStats {
            buckets: lengths.buckets(),
            boundaries: lengths.boundaries(),
            hits: counts(&self.hits),
            misses: counts(&self.misses),
        }
    }
}
