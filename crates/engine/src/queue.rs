//! The two lines inside: jobs whose text is to be read, and jobs with sequences for the encoder.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::line::Line;

/// What a worker should do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Read the text of this job.
    Text(u32),
    /// Gather a pass.
    Pass,
    /// Nothing to do.
    Nothing,
}

/// So many passes may go before the oldest text while passes are full without it.
const PASSES_BEFORE_TEXT: u32 = 8;

/// The lines.
pub(crate) struct Lines {
    /// Its sizes are bytes of bodies.
    text: Line,
    /// Passes since the oldest text last had its turn.
    passes_before_text: u32,
    /// Its sizes are tokens of sequences that wait.
    pub(crate) ready: Line,
}

impl Lines {
    /// Takes a job out of both lines.
    pub(crate) fn remove(&mut self, job: u32) {
        self.text.remove(job);
        self.ready.remove(job);
    }
}

/// The lines and the bell that wakes workers.
pub(crate) struct Queue {
    lines: Mutex<Lines>,
    bell: Condvar,
    /// How often something came into a line.
    arrivals: AtomicU32,
    /// Workers that sleep.
    asleep: AtomicUsize,
    batch_tokens_max: usize,
}

impl Queue {
    pub(crate) fn new(jobs_max: usize, batch_tokens_max: usize) -> Queue {
        let lines = Lines {
            text: Line::new(jobs_max),
            passes_before_text: 0,
            ready: Line::new(jobs_max),
        };
        Queue {
            lines: Mutex::new(lines),
            bell: Condvar::new(),
            arrivals: AtomicU32::new(0),
            asleep: AtomicUsize::new(0),
            batch_tokens_max,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A job's text waits; its body has so many bytes.
    pub(crate) fn push_text(&self, job: u32, body_bytes: usize) {
        self.lock().text.push(job, body_bytes);
        self.arrived();
    }

    /// A job's sequences wait. The caller holds the lines, and with them the job's place, so that a job that was given up is not lined up.
    pub(crate) fn push_ready(&self, lines: &mut Lines, job: u32, tokens: usize) {
        lines.ready.push(job, tokens);
        self.arrived();
    }

    fn arrived(&self) {
        self.arrivals.fetch_add(1, Ordering::Relaxed);
        self.bell.notify_one();
    }

    /// How often something came into a line: another number than before says that there may be work.
    pub(crate) fn arrivals(&self) -> u32 {
        self.arrivals.load(Ordering::Relaxed)
    }

    /// Wakes a worker that sleeps, if one does, to help with a pass.
    pub(crate) fn call_helper(&self) {
        if self.asleep.load(Ordering::Relaxed) > 0 {
            self.bell.notify_all();
        }
    }

    /// Takes a job out of both lines.
    pub(crate) fn remove(&self, job: u32) {
        self.lock().remove(job);
    }

    /// Takes a job out of the line of texts; false when it does not stand there.
    pub(crate) fn remove_text(&self, job: u32) -> bool {
        self.lock().text.remove(job)
    }

    /// Text first while a pass would not be full: reading is quick and lets more texts share the pass. When it would, only texts that one pass can take,
    /// as no token is shorter than a byte: long ones in front of them shall not keep them from the encoder. But short ones without end shall not keep the oldest
    /// from being read, either: after some passes it has its turn.
    pub(crate) fn next(&self) -> Next {
        let mut lines = self.lock();
        let is_full = lines.ready.size() >= self.batch_tokens_max;
        let oldest_is_due = lines.passes_before_text >= PASSES_BEFORE_TEXT;
        let text = match is_full {
            false => lines.text.next(),
            true if oldest_is_due => lines.text.next_oldest(),
            true => lines.text.next_within(self.batch_tokens_max),
        };
        if let Some(job) = text {
            if !is_full || oldest_is_due {
                lines.passes_before_text = 0;
            }
            return Next::Text(job);
        }
        if lines.ready.is_empty() {
            Next::Nothing
        } else {
            lines.passes_before_text = lines.passes_before_text.saturating_add(1);
            Next::Pass
        }
    }

    /// Jobs that wait for a worker.
    pub(crate) fn len(&self) -> usize {
        let lines = self.lock();
        lines.text.len() + lines.ready.len()
    }

    /// Sleeps until there may be work, at most `timeout`.
    pub(crate) fn wait(&self, timeout: Duration) {
        let lines = self.lock();
        if lines.text.is_empty() && lines.ready.is_empty() {
            self.asleep.fetch_add(1, Ordering::Relaxed);
            drop(self.bell.wait_timeout(lines, timeout));
            self.asleep.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Wakes every worker.
    pub(crate) fn ring(&self) {
        self.bell.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::{Next, PASSES_BEFORE_TEXT, Queue};

    #[test]
    fn a_text_that_no_pass_can_take_has_its_turn_among_short_ones() {
        let queue = Queue::new(8, 512);
        queue.push_ready(&mut queue.lock(), 0, 512);
        queue.push_text(1, 600);
        queue.push_text(2, 700);
        for job in [1, 2] {
            // Short ones come without end.
            queue.push_text(3, 20);
            assert_eq!(queue.next(), Next::Text(3));
            for _ in 0..PASSES_BEFORE_TEXT {
                assert_eq!(queue.next(), Next::Pass);
            }
            queue.push_text(3, 20);
            assert_eq!(queue.next(), Next::Text(job));
            assert!(queue.remove_text(3));
        }
    }
}
