//! The places of requests in flight.
//!
//! A place is taken when a request is let in and given up when the last chunk of its answer was written. Workers and the request's
//! own task meet here, under one short lock a place. A worker announces itself (`busy`) before it works on a job; whoever
//! comes last, the task that goes away or the worker that finishes, gives everything back. So a job that is cancelled while it
//! waits is gone at once, and one that is cancelled in a pass is gone when the pass ends.

use std::sync::{Mutex, MutexGuard};
use std::task::Waker;

use plimsoll_memory::Lease;

use crate::error::JobError;
use crate::gate::Held;
use crate::need::CHUNKS;
use crate::request::Tasks;
use crate::trace::{Inside, Phase, Stay};
use crate::work::Work;

/// A chunk that lies ready, with its part of the debit.
pub(crate) type FreeChunk = (Lease<u8>, Held);

/// One place.
#[derive(Default)]
pub(crate) struct Cell {
    /// Raised each time the place is given up, so that a chunk that comes back late finds nobody.
    pub(crate) generation: u32,
    /// The job, while no worker has taken it out.
    pub(crate) work: Option<Work>,
    /// Workers that work on the job.
    pub(crate) busy: u32,
    /// The task that waited has gone.
    pub(crate) cancelled: bool,
    /// How the job ended.
    pub(crate) outcome: Option<Result<(), JobError>>,
    /// The task that waits for the outcome, or for a chunk.
    pub(crate) waker: Option<Waker>,
    /// Chunks that lie ready.
    pub(crate) chunks: [Option<FreeChunk>; CHUNKS],
    /// An answer is being written.
    pub(crate) writing: bool,
    /// What the request holds while its body comes in, else 0.
    pub(crate) receiving_bytes: usize,
    /// Whose place it is: what a diagnosis sees of the request.
    pub(crate) owner: Owner,
    /// Its bytes are wanted back: it ends with this error before it starts.
    pub(crate) returned: Option<JobError>,
}

/// What is known of a request that has a place.
#[derive(Clone, Copy, Default)]
pub(crate) struct Owner {
    /// Its number; 0 in an empty place.
    pub(crate) number: u64,
    pub(crate) stay: Stay,
    /// Bytes of its answer that the connection has taken.
    pub(crate) flushed_bytes: u64,
    pub(crate) tasks: Tasks,
}

impl Cell {
    /// The request that has this place, if one has.
    pub(crate) fn inside(&self) -> Option<Inside> {
        let owner = self.owner;
        (owner.number > 0).then_some(Inside {
            number: owner.number,
            phase: match () {
                () if self.writing => Phase::Answer,
                () if self.receiving_bytes > 0 => Phase::Body,
                () if self.busy > 0 => Phase::Work,
                () => Phase::Line,
            },
            stay: owner.stay,
            flushed_bytes: owner.flushed_bytes,
            tasks: owner.tasks,
        })
    }

    /// Wakes the task that waits.
    pub(crate) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Ends the job: its task learns how.
    pub(crate) fn finish(&mut self, outcome: Result<(), JobError>) {
        if self.outcome.is_none() {
            let turn = self.work.as_mut().and_then(|work| work.in_turn.take());
            if let Some(mut turn) = turn {
                turn.is_done = outcome.is_ok();
            }
            self.outcome = Some(outcome);
            self.wake();
        }
    }

    /// Empties the place for the next request and hands out what is left in it, to be dropped without the lock.
    pub(crate) fn reset(&mut self) -> (Option<Work>, [Option<FreeChunk>; CHUNKS]) {
        self.generation = self.generation.wrapping_add(1);
        self.busy = 0;
        self.cancelled = false;
        self.outcome = None;
        self.waker = None;
        self.writing = false;
        self.receiving_bytes = 0;
        self.owner = Owner::default();
        self.returned = None;
        (self.work.take(), std::mem::take(&mut self.chunks))
    }
}

/// All places.
pub(crate) struct Berths(Vec<Mutex<Cell>>);

impl Berths {
    pub(crate) fn new(count: usize) -> Berths {
        Berths((0..count).map(|_| Mutex::default()).collect())
    }

    /// Locks place `id`. A panic under the lock cannot leave a cell half changed: no code of ours that can panic runs there
    /// except a head writing into features, and such a job is discarded.
    pub(crate) fn lock(&self, id: u32) -> MutexGuard<'_, Cell> {
        self.0[id as usize]
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
