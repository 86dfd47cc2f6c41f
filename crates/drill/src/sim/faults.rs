//! What goes wrong inside a worker, at a stage of its turn.

use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use plimsoll_engine::{Job, ManualClock, Nanos, Probe, Stage};

use crate::rng::Rng;

/// Of a hundred stages, so many panic.
const PANIC_PERCENT: usize = 2;
/// Of a hundred stages, so many take long.
const SLOW_PERCENT: usize = 4;
/// How long, at most.
const SLOW_MS: usize = 3000;

/// Shared with the engine's probe.
pub(super) struct Faults {
    state: Mutex<State>,
}

struct State {
    rng: Rng,
    on: bool,
    panics: u64,
    cancelled: u64,
    /// A job whose client hangs up when a worker reaches this stage.
    victim: Option<(Stage, Job)>,
}

impl Faults {
    pub(super) fn new(rng: Rng) -> Arc<Faults> {
        let state = State {
            rng,
            on: true,
            panics: 0,
            cancelled: 0,
            victim: None,
        };
        Arc::new(Faults {
            state: Mutex::new(state),
        })
    }

    /// The probe that injects them; slow stages move `clock`.
    pub(super) fn probe(self: &Arc<Self>, clock: &Arc<ManualClock>) -> Probe {
        let (faults, clock) = (Arc::clone(self), Arc::clone(clock));
        Arc::new(move |stage| faults.at(stage, &clock))
    }

    fn at(&self, stage: Stage, clock: &ManualClock) {
        let mut state = self.lock();
        if !state.on {
            return;
        }
        if state.rng.percent(SLOW_PERCENT) {
            clock.advance(Nanos::from_ms(state.rng.below(SLOW_MS) as u64));
        }
        let due = state.victim.as_ref().is_some_and(|(at, _)| *at == stage);
        let cancelled = if due { state.victim.take() } else { None };
        state.cancelled += u64::from(due);
        let panics = state.rng.percent(PANIC_PERCENT);
        state.panics += u64::from(panics);
        drop(state);
        drop(cancelled);
        if panics {
            // As a panic, without a message for each.
            resume_unwind(Box::new("injected"));
        }
    }

    /// Lets `job` be cancelled at a stage of the next turn.
    pub(super) fn arm(&self, job: Job) {
        // The gathering of a pass holds the line: a cancel there waits for it, so there is nothing to interleave.
        const STAGES: [Stage; 4] = [Stage::Text, Stage::Forward, Stage::Heads, Stage::Finish];
        let mut state = self.lock();
        let stage = *state.rng.pick(&STAGES);
        state.victim = Some((stage, job));
    }

    /// The job, if its stage did not come.
    pub(super) fn disarm(&self) -> Option<Job> {
        self.lock().victim.take().map(|(_, job)| job)
    }

    /// No more of them.
    pub(super) fn stop(&self) {
        self.lock().on = false;
    }

    /// Stages that panicked, and jobs that were cancelled inside.
    pub(super) fn counts(&self) -> (u64, u64) {
        let state = self.lock();
        (state.panics, state.cancelled)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
