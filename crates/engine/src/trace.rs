//! What happened lately, for whoever asks: the steps of requests in a ring, the governor's deeds in a list, what each worker does now.
//!
//! Kept only where [`EngineConfig::trace`](crate::EngineConfig::trace) says so; its bytes are then a line of the bill. A step costs one reading of the clock and one record
//! in the ring. What a request did from the door on is told once, as it leaves: a request that is answered from the cache takes tens of microseconds, and a record for
//! each of its phases would be felt. Until then it is seen where it stands ([`Engine::inside`]). All times are the engine's clock's, so that one axis holds it all.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard};

use plimsoll_memory::{CacheStats, Ring};

use crate::clock::Nanos;
use crate::config::Stage;
use crate::engine::Engine;
use crate::error::{Refusal, Shortage};
use crate::govern::{Change, Cycle};
use crate::governor::Governed;
use crate::request::Tasks;

/// Steps of requests that are kept: those of a quarter of a second at 16,000 requests a second that are answered from the cache, with one step each.
pub const STEPS: usize = 4096;
/// Deeds of the governor that are kept: hours of quiet, minutes of trouble.
const DEEDS: usize = 512;
/// Words of a step in the ring.
const WORDS: usize = 10;

/// What happened to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It was not let in. Such a request has the number 0.
    Refused {
        /// An index into [`REFUSALS`].
        why: u8,
        /// What it would have needed.
        bytes: u64,
    },
    /// A worker read its text.
    Text {
        /// The worker.
        worker: u32,
        /// Since when.
        began: Nanos,
        /// Tokens that wait for the encoder now.
        tokens: u32,
    },
    /// A worker ran a pass. The number of such a step is the pass's own.
    Pass {
        /// The worker.
        worker: u32,
        /// Since when.
        began: Nanos,
        /// When the encoder was done and the heads began.
        heads_began: Nanos,
        /// Sequences in the pass.
        sequences: u32,
        /// Tokens in the pass.
        tokens: u32,
    },
    /// It had sequences in a pass.
    InPass {
        /// The pass's number.
        pass: u64,
    },
    /// It gave its place up, and all it held.
    Left {
        /// Where it stood.
        phase: Phase,
        /// Bytes of its answer that the client's connection had taken.
        flushed_bytes: u64,
        /// What it did before.
        stay: Stay,
    },
}

/// When a request came to a phase, and what was debited for it then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// When.
    pub at: Nanos,
    /// The debit.
    pub bytes: u64,
}

/// A request's way through the house.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stay {
    /// It was let in, and its worst case debited.
    pub admitted: Moment,
    /// Its body was read; it waited for a worker from then on, or was answered at once.
    pub submitted: Option<Moment>,
    /// Its answer began to be written.
    pub writing: Option<Moment>,
    /// Its texts.
    pub inputs: u32,
}

/// Where a request stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Its body comes in.
    #[default]
    Body,
    /// It waits for a worker.
    Line,
    /// A worker works on it.
    Work,
    /// Its answer goes out.
    Answer,
}

impl Phase {
    const ALL: [Phase; 4] = [Phase::Body, Phase::Line, Phase::Work, Phase::Answer];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Body => "body",
            Phase::Line => "line",
            Phase::Work => "work",
            Phase::Answer => "answer",
        }
    }
}

/// What refusals are called.
pub const REFUSALS: [&str; 8] = [
    "too large",
    "draining",
    "bytes",
    "requests",
    "waiting",
    "time",
    "returned",
    "body too large",
];

fn why(refusal: &Refusal) -> u8 {
    match refusal {
        Refusal::TooLarge { .. } => 0,
        Refusal::Draining => 1,
        Refusal::Overloaded { reason, .. } => match reason {
            Shortage::Bytes { .. } => 2,
            Shortage::Requests { .. } => 3,
            Shortage::Waiting { .. } => 4,
            Shortage::Time { .. } => 5,
            Shortage::Returned { .. } => 6,
        },
        Refusal::BodyTooLarge { .. } => 7,
    }
}

/// A step with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// When, or when it ended.
    pub at: Nanos,
    /// Whose: requests are numbered from 1, passes by their own numbers.
    pub number: u64,
    /// What.
    pub step: Step,
}

impl Told {
    fn words(&self) -> [u64; WORDS] {
        let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        let mut words = [0; WORDS];
        let (code, rest) = match self.step {
            Step::Refused { why, bytes } => (0, [bytes, u64::from(why), 0]),
            Step::Text {
                worker,
                began,
                tokens,
            } => (1, [began.0, pair(worker, tokens), 0]),
            Step::Pass {
                worker,
                began,
                heads_began,
                sequences,
                tokens,
            } => (
                2 | u64::from(worker) << 8,
                [began.0, pair(sequences, tokens), heads_began.0],
            ),
            Step::InPass { pass } => (3, [pass, 0, 0]),
            Step::Left {
                phase,
                flushed_bytes,
                stay,
            } => {
                words[5] = stay.admitted.bytes;
                [words[6], words[7]] = moment_words(stay.submitted);
                [words[8], words[9]] = moment_words(stay.writing);
                let head = pair(phase as u32, stay.inputs);
                (4, [flushed_bytes, head, stay.admitted.at.0])
            }
        };
        // A worker's number and a kind take 24 bits; 2 to the 40 requests last for years.
        words[..2].copy_from_slice(&[self.at.0, code | self.number << 24]);
        words[2..5].copy_from_slice(&rest);
        words
    }

    fn of(words: &[u64; WORDS]) -> Told {
        let &[at, head, a, b, c, rest @ ..] = words;
        let (high, low) = ((b >> 32) as u32, b as u32);
        let step = match head & 0xff {
            0 => Step::Refused {
                why: b as u8,
                bytes: a,
            },
            1 => Step::Text {
                worker: high,
                began: Nanos(a),
                tokens: low,
            },
            2 => Step::Pass {
                worker: (head >> 8) as u32 & 0xffff,
                began: Nanos(a),
                heads_began: Nanos(c),
                sequences: high,
                tokens: low,
            },
            3 => Step::InPass { pass: a },
            _ => Step::Left {
                phase: Phase::ALL[high as usize % Phase::ALL.len()],
                flushed_bytes: a,
                stay: Stay {
                    admitted: Moment {
                        at: Nanos(c),
                        bytes: rest[0],
                    },
                    submitted: moment_of(rest[1], rest[2]),
                    writing: moment_of(rest[3], rest[4]),
                    inputs: low,
                },
            },
        };
        Told {
            at: Nanos(at),
            number: head >> 24,
            step,
        }
    }
}

/// A time that no clock tells.
const NEVER: u64 = u64::MAX;

fn moment_words(moment: Option<Moment>) -> [u64; 2] {
    moment.map_or([NEVER, 0], |Moment { at, bytes }| [at.0, bytes])
}

fn moment_of(at: u64, bytes: u64) -> Option<Moment> {
    (at != NEVER).then_some(Moment { at: Nanos(at), bytes })
}

/// What the governor did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// The level changed.
    Level(Change),
    /// A reclaim cycle ended.
    Cycle(Cycle),
    /// Requests that had not started were ended.
    Returned(usize),
    /// Entries left the cache of vectors since it looked last.
    Evicted {
        /// Given up for newcomers, by the policy or by their session.
        for_room: u64,
        /// Given up so that bytes could go back.
        to_shrink: u64,
        /// Too old.
        aged: u64,
    },
}

/// What a worker does at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doing {
    /// The worker.
    pub worker: usize,
    /// The stage.
    pub stage: Stage,
    /// Since when.
    pub since: Nanos,
    /// The request whose text it reads; the number of the pass it runs.
    pub number: u64,
}

/// A request that is inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inside {
    /// Its number.
    pub number: u64,
    /// Where it stands.
    pub phase: Phase,
    /// How it came there.
    pub stay: Stay,
    /// Bytes of its answer that the client's connection has taken.
    pub flushed_bytes: u64,
    /// What it asked for, once that is known.
    pub tasks: Tasks,
}

impl Inside {
    /// What it held when it came to where it stands.
    pub fn held_bytes(&self) -> u64 {
        let Stay {
            admitted,
            submitted,
            writing,
            ..
        } = self.stay;
        writing.or(submitted).unwrap_or(admitted).bytes
    }
}

/// What is kept.
pub(crate) struct Trace {
    steps: Ring<WORDS>,
    passes: AtomicU64,
    deeds: Mutex<Deeds>,
    workers: Box<[Busy]>,
}

struct Deeds {
    last: VecDeque<(Nanos, Deed)>,
    /// Deeds before the first of `last`.
    forgotten: u64,
    cache: CacheStats,
}

/// What a worker does: the stage plus one with the number, or 0.
#[derive(Default)]
struct Busy {
    what: AtomicU64,
    since: AtomicU64,
}

impl Trace {
    pub(crate) fn new(workers: usize) -> Trace {
        Trace {
            steps: Ring::new(STEPS),
            passes: AtomicU64::new(0),
            deeds: Mutex::new(Deeds {
                last: VecDeque::with_capacity(DEEDS),
                forgotten: 0,
                cache: CacheStats::default(),
            }),
            workers: (0..workers).map(|_| Busy::default()).collect(),
        }
    }

    /// Heap bytes of it.
    pub(crate) fn bytes(workers: usize) -> usize {
        Ring::<WORDS>::bytes(STEPS) + DEEDS * size_of::<(Nanos, Deed)>() + workers * size_of::<Busy>()
    }

    fn deeds(&self) -> MutexGuard<'_, Deeds> {
        self.deeds.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Deeds {
    fn add(&mut self, at: Nanos, deed: Deed) {
        if self.last.len() == DEEDS {
            self.last.pop_front();
            self.forgotten += 1;
        }
        self.last.push_back((at, deed));
    }
}

const STAGES: [Stage; 5] = [
    Stage::Text,
    Stage::Batch,
    Stage::Forward,
    Stage::Heads,
    Stage::Finish,
];

impl Engine {
    /// Keeps a step, if steps are kept; `step` gets the time.
    pub(crate) fn tell(&self, number: u64, step: impl FnOnce(Nanos) -> Step) {
        if let Some(trace) = self.trace() {
            let at = self.now();
            let step = step(at);
            trace.steps.push(&Told { at, number, step }.words());
        }
    }

    /// A request was not let in.
    pub(crate) fn tell_refused(&self, refusal: &Refusal, bytes: usize) {
        self.tell(0, |_| Step::Refused {
            why: why(refusal),
            bytes: bytes as u64,
        });
    }

    /// The number of a new pass; 0 where nothing is kept.
    pub(crate) fn number_pass(&self) -> u64 {
        self.trace()
            .map_or(0, |trace| trace.passes.fetch_add(1, Relaxed) + 1)
    }

    /// A worker begins a stage.
    pub(crate) fn begins(&self, worker: usize, stage: Stage, number: u64) {
        let busy = self.trace().and_then(|trace| trace.workers.get(worker));
        if let Some(busy) = busy {
            busy.since.store(self.now().0, Relaxed);
            busy.what.store((stage as u64 + 1) | number << 8, Relaxed);
        }
    }

    /// A worker has nothing in its hands.
    pub(crate) fn ends(&self, worker: usize) {
        let busy = self.trace().and_then(|trace| trace.workers.get(worker));
        busy.into_iter().for_each(|busy| busy.what.store(0, Relaxed));
    }

    /// Keeps what the governor did.
    pub(crate) fn tell_governed(&self, governed: &Governed) {
        let Some(trace) = self.trace() else { return };
        let (at, mut deeds) = (self.now(), trace.deeds());
        if let Some(change) = governed.change {
            deeds.add(change.at, Deed::Level(change));
        }
        if let Some(cycle) = governed.cycle {
            deeds.add(at, Deed::Cycle(cycle));
        }
        if governed.returned_requests > 0 {
            deeds.add(at, Deed::Returned(governed.returned_requests));
        }
        let Some(cache) = self.cache().map(|cache| cache.stats()) else {
            return;
        };
        let before = std::mem::replace(&mut deeds.cache, cache);
        let for_room = |stats: &CacheStats| stats.evictions + stats.evictions_session;
        let evicted = Deed::Evicted {
            for_room: for_room(&cache) - for_room(&before),
            to_shrink: cache.evictions_shrink - before.evictions_shrink,
            aged: cache.expirations - before.expirations,
        };
        let nothing = Deed::Evicted {
            for_room: 0,
            to_shrink: 0,
            aged: 0,
        };
        if evicted != nothing {
            deeds.add(at, evicted);
        }
    }

    /// Whether steps and deeds are kept.
    pub fn is_traced(&self) -> bool {
        self.trace().is_some()
    }

    /// Where a reader of steps begins that wants none of the past.
    pub fn steps_end(&self) -> u64 {
        self.trace().map_or(0, |trace| trace.steps.end())
    }

    /// `most` steps from number `from` on; returns where to go on, and how many were lost. See [`Ring::read`].
    pub fn steps(&self, from: u64, most: usize, mut each: impl FnMut(Told)) -> (u64, u64) {
        match self.trace() {
            Some(trace) => trace.steps.read(from, most, |words| each(Told::of(words))),
            None => (from, 0),
        }
    }

    /// Deeds from number `from` on, with their times; returns where to go on. The first that are still known are those of the last hours or minutes.
    pub fn deeds(&self, from: u64, mut each: impl FnMut(Nanos, Deed)) -> u64 {
        let Some(trace) = self.trace() else { return from };
        let deeds = trace.deeds();
        let skip = usize::try_from(from.saturating_sub(deeds.forgotten)).unwrap_or(usize::MAX);
        deeds
            .last
            .iter()
            .skip(skip)
            .for_each(|&(at, deed)| each(at, deed));
        deeds.forgotten + deeds.last.len() as u64
    }

    /// What each busy worker does.
    pub fn doing(&self) -> impl Iterator<Item = Doing> {
        let workers = self.trace().map_or(&[][..], |trace| &trace.workers[..]);
        workers.iter().enumerate().filter_map(|(worker, busy)| {
            let what = busy.what.load(Relaxed);
            let stage = *STAGES.get((what & 0xff).checked_sub(1)? as usize)?;
            let (since, number) = (Nanos(busy.since.load(Relaxed)), what >> 8);
            Some(Doing {
                worker,
                stage,
                since,
                number,
            })
        })
    }

    /// Marks all leases that are out ([`plimsoll_memory::Pool::mark`]). Who leased what is still counted later was admitted before [`leases_marked`](Self::leases_marked).
    pub fn mark_leases(&self) {
        // No time until it is over: what is counted in between is of either mark.
        self.marked_at.store(u64::MAX, SeqCst);
        self.pools().mark();
        self.marked_at.store(self.now().0, SeqCst);
    }

    /// When leases were last marked: 0 where they never were, `None` while they are. Asked after the counts, it holds for them.
    pub fn leases_marked(&self) -> Option<Nanos> {
        match self.marked_at.load(SeqCst) {
            u64::MAX => None,
            at => Some(Nanos(at)),
        }
    }

    /// Every request that is inside.
    pub fn inside(&self) -> impl Iterator<Item = Inside> {
        let berths = 0..self.limits().requests_max as u32;
        berths.filter_map(|berth| self.berths().lock(berth).inside())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_survive_the_ring() {
        let moment = |at, bytes| Moment { at: Nanos(at), bytes };
        let steps = [
            Step::Refused {
                why: 5,
                bytes: u64::MAX,
            },
            Step::Text {
                worker: 300,
                began: Nanos(9),
                tokens: 12,
            },
            Step::Pass {
                worker: 65_535,
                began: Nanos(1),
                heads_began: Nanos(3),
                sequences: 512,
                tokens: 2048,
            },
            Step::InPass { pass: 77 },
            Step::Left {
                phase: Phase::Body,
                flushed_bytes: 0,
                stay: Stay::default(),
            },
            Step::Left {
                phase: Phase::Answer,
                flushed_bytes: 16_384,
                stay: Stay {
                    admitted: moment(4, 1 << 40),
                    submitted: Some(moment(5, 1 << 39)),
                    writing: Some(moment(6, 3)),
                    inputs: u32::MAX,
                },
            },
        ];
        for step in steps {
            let told = Told {
                at: Nanos(123),
                number: (1 << 40) - 1,
                step,
            };
            assert_eq!(Told::of(&told.words()), told);
        }
    }

    #[test]
    fn the_oldest_deeds_are_forgotten_and_numbers_go_on() {
        let trace = Trace::new(1);
        let mut deeds = trace.deeds();
        (0..DEEDS + 5).for_each(|n| deeds.add(Nanos(n as u64), Deed::Returned(n)));
        assert_eq!((deeds.last.len(), deeds.forgotten), (DEEDS, 5));
        assert_eq!(deeds.last[0], (Nanos(5), Deed::Returned(5)));
    }
}
