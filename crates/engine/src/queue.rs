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

/// The lines.
pub(crate) struct Lines {
    /// Its sizes are bytes of bodies.
    text: Line,
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
    /// as no token is shorter than a byte: long ones in front of them shall not keep them from the encoder.
    pub(crate) fn next(&self) -> Next {
        let mut lines = self.lock();
        let text = match lines.ready.size() < self.batch_tokens_max {
            true => lines.text.next(),
            false => lines.text.next_within(self.batch_tokens_max),
        };
        if let Some(job) = text {
            return Next::Text(job);
        }
        if lines.ready.is_empty() {
            Next::Nothing
        } else {
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
