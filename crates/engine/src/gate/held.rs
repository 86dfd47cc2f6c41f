//! A debit that wakes the door when it shrinks or ends.

use std::sync::Arc;

use plimsoll_memory::Debit;

use super::Gate;

/// Bytes that were granted.
pub(crate) struct Held {
    debit: Option<Debit>,
    gate: Arc<Gate>,
}

impl Held {
    pub(super) fn new(debit: Debit, gate: Arc<Gate>) -> Held {
        Held {
            debit: Some(debit),
            gate,
        }
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.debit.as_ref().map_or(0, Debit::bytes)
    }

    /// Gives back all above `bytes`. Never grows.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let before = self.bytes();
        if bytes < before {
            if let Some(debit) = &mut self.debit {
                debit.shrink_to(bytes);
            }
            self.gate.came_back(before - bytes);
        }
    }

    /// Takes another debit in.
    pub(super) fn join(&mut self, more: Debit) {
        match &mut self.debit {
            Some(debit) => debit.join(more),
            None => self.debit = Some(more),
        }
    }

    /// Takes `bytes` of it out as a debit of their own; `None` when it holds less.
    pub(crate) fn split(&mut self, bytes: usize) -> Option<Held> {
        let part = self.debit.as_mut()?.split(bytes)?;
        Some(Held::new(part, Arc::clone(&self.gate)))
    }
}

/// A job's turn in the workers' line: it counts until this is dropped.
pub(crate) struct InTurn {
    pub(super) gate: Arc<Gate>,
    /// What the door granted it.
    pub(super) bytes: usize,
    /// It was done: who went away, or was sent away, says nothing of how fast workers are.
    pub(crate) is_done: bool,
}

impl Drop for InTurn {
    fn drop(&mut self) {
        let now = self.gate.clock.now();
        let mut state = self.gate.lock();
        state.backlog.take(self.bytes);
        if self.is_done {
            state.finished.add(self.bytes, now);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let bytes = self.bytes();
        self.debit = None;
        self.gate.came_back(bytes);
    }
}
