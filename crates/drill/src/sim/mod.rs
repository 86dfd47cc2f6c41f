//! The simulator: the engine that serves, under a schedule, a clock and faults that come from a seed.
//!
//! Nothing here is a copy: the gate, the ledger, the watermarks, the governor, the pools, the queue, the workers and the cache of vectors are the ones of
//! the server, as they are free of I/O, threads and a clock of their own. What is simulated is everything around them: clients that declare lengths
//! and lie, that send slowly, hang up, read late or never; workers that get the processor when the schedule says so; stages that panic or take
//! seconds; readings of a process that has outgrown its plan; and readers that hold on to cached vectors while their bytes are wanted back.
//!
//! A run has two parts. In the first faults are on, and after every single step what must always hold is checked (`check.rs`): that is
//! safety. Then the faults stop, and everything that was begun must end, the ledger must be back at its baseline, and the longest request must be
//! let in: that is liveness. A task is polled only after its waker was called, so a wake-up that gets lost is found as a run that does not end.
//!
//! A seed is a run: [`run`] of the same seed takes the same steps.

mod cache;
mod check;
mod client;
mod faults;
mod world;

use plimsoll_encoder::Model;
use plimsoll_text::Tokenizer;

use crate::rng::Rng;
use world::World;

/// Steps with faults.
const STEPS: usize = 300;

/// What did not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed}, step {step}: {what}")]
pub struct Violation {
    /// The run.
    pub seed: u64,
    /// After which step.
    pub step: usize,
    /// What.
    pub what: String,
}

/// What happened in a run, to show that it was no idle one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Requests that were let in.
    pub admitted: u64,
    /// Of them, after waiting in line.
    pub admitted_from_line: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Answers that were read to their end.
    pub answered: u64,
    /// Jobs that failed: late, or in a stage that panicked.
    pub failed: u64,
    /// Clients that hung up.
    pub hung_up: u64,
    /// Jobs that were cancelled while a worker was in one of its stages.
    pub cancelled_inside: u64,
    /// Stages that panicked.
    pub panics: u64,
    /// Requests that were sent away from inside, before they had started.
    pub returned: u64,
    /// Changes of the level.
    pub level_changes: u64,
    /// Vectors that were found in the cache.
    pub cache_hits: u64,
    /// Vectors that were put in.
    pub cache_insertions: u64,
}

impl std::ops::AddAssign for Events {
    fn add_assign(&mut self, more: Events) {
        let Events {
            admitted,
            admitted_from_line,
            refused,
            answered,
            failed,
            hung_up,
            cancelled_inside,
            panics,
            returned,
            level_changes,
            cache_hits,
            cache_insertions,
        } = more;
        self.admitted += admitted;
        self.admitted_from_line += admitted_from_line;
        self.refused += refused;
        self.answered += answered;
        self.failed += failed;
        self.hung_up += hung_up;
        self.cancelled_inside += cancelled_inside;
        self.panics += panics;
        self.returned += returned;
        self.level_changes += level_changes;
        self.cache_hits += cache_hits;
        self.cache_insertions += cache_insertions;
    }
}

/// Runs `seed`, with a small model and its tokenizer.
///
/// # Errors
/// The first thing that did not hold.
pub fn run(seed: u64, load: &dyn Fn() -> (Model, Tokenizer)) -> Result<Events, Violation> {
    let violation = |step| move |what| Violation { seed, step, what };
    let mut world = World::new(Rng::new(seed), load).map_err(violation(0))?;
    for step in 1..=STEPS {
        world
            .step()
            .and_then(|()| world.check())
            .map_err(violation(step))?;
    }
    world.settle().map_err(violation(STEPS + 1))?;
    Ok(world.events())
}
