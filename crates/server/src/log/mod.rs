//! Lines for operators: bounded in memory, in dirty pages and on disk.
//!
//! A line is written into a queue of fixed size and carried to its place by a thread of its own. Whoever has something to say never waits: not for a terminal that nobody reads, not for a
//! slow disk, not for a full one. What finds no room is dropped and counted. `tracing` was not chosen: its registry and writers allocate for every event
//! and bound lines, not bytes.

mod fields;
mod file;
mod lines;
mod writer;

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard};

pub use file::{DIRTY_BYTES_MAX, LogFile};
pub use writer::{LogWriter, Place, STACK_BYTES};

use crate::observe::Record;
use fields::Fields;
pub use fields::Format;

/// No line is longer; one that would be is dropped.
pub const LINE_BYTES_MAX: usize = 8 * 1024;
/// The queue where nobody says, and where every request has a line.
pub const QUEUE_BYTES: (usize, usize) = (16 * 1024, 256 * 1024);

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// All is as it should be.
    Info,
    /// Somebody may want to look.
    Warn,
    /// Something failed.
    Error,
}

/// Where lines are said. Without a [`LogWriter`] nobody carries them away, and they are dropped.
pub struct Log {
    format: Format,
    queue_bytes: usize,
    queue: Mutex<Queue>,
    work: Condvar,
    counts: Counts,
}

#[derive(Default)]
struct Queue {
    /// Whole lines; its capacity is all that it may hold, and is there once a writer is.
    lines: Vec<u8>,
    /// How many.
    line_count: u64,
    /// A file is to be rotated or opened again.
    rotate: bool,
    stop: bool,
}

/// What became of lines.
#[derive(Default)]
struct Counts {
    written: AtomicU64,
    dropped_queue: AtomicU64,
    dropped_long: AtomicU64,
    dropped_write: AtomicU64,
    rotations: AtomicU64,
    rotations_failed: AtomicU64,
}

/// What became of lines, as figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Handed to the system.
    pub written: u64,
    /// Dropped because the queue was full.
    pub dropped_queue: u64,
    /// Dropped because they were too long.
    pub dropped_long: u64,
    /// Dropped because the system did not take them, as on a full disk.
    pub dropped_write: u64,
    /// Files that were put aside.
    pub rotations: u64,
    /// Files that could not be, and were emptied instead.
    pub rotations_failed: u64,
}

impl Default for Log {
    fn default() -> Self {
        Log::new(Format::Plain, QUEUE_BYTES.0)
    }
}

impl Log {
    /// A log whose queue takes so many bytes.
    pub fn new(format: Format, queue_bytes: usize) -> Log {
        Log {
            format,
            queue_bytes: queue_bytes.max(LINE_BYTES_MAX),
            queue: Mutex::default(),
            work: Condvar::new(),
            counts: Counts::default(),
        }
    }

    /// The most that a queue of so many bytes takes, its writer's half and stack included.
    pub const fn bytes(queue_bytes: usize) -> usize {
        2 * queue_bytes + STACK_BYTES
    }

    /// How lines look.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Says something about the server.
    pub fn say(&self, severity: Severity, message: impl Display) {
        self.line(|line| lines::event(line, severity, &message));
    }

    /// Says something with one JSON value beside it.
    pub fn say_with(&self, severity: Severity, message: impl Display, name: &str, json: impl Display) {
        self.line(|line| {
            lines::event(line, severity, &message);
            line.raw(name, &json);
        });
    }

    /// Tells of a request.
    pub(crate) fn request(&self, record: &Record, request_id: &[u8]) {
        self.line(|line| lines::request(line, record, request_id));
    }

    /// Asks for the file to be put aside, or opened again if somebody else has.
    pub fn rotate(&self) {
        self.lock().rotate = true;
        self.work.notify_one();
    }

    /// What became of lines so far.
    pub fn stats(&self) -> LogStats {
        let counts = &self.counts;
        LogStats {
            written: counts.written.load(Relaxed),
            dropped_queue: counts.dropped_queue.load(Relaxed),
            dropped_long: counts.dropped_long.load(Relaxed),
            dropped_write: counts.dropped_write.load(Relaxed),
            rotations: counts.rotations.load(Relaxed),
            rotations_failed: counts.rotations_failed.load(Relaxed),
        }
    }

    fn line(&self, write: impl FnOnce(&mut Fields)) {
        let mut queue = self.lock();
        let free_bytes = queue.lines.capacity() - queue.lines.len();
        if free_bytes < LINE_BYTES_MAX {
            self.counts.dropped_queue.fetch_add(1, Relaxed);
            return;
        }
        let was_empty = queue.lines.is_empty();
        let mut fields = Fields::new(self.format, &mut queue.lines);
        write(&mut fields);
        if fields.end() {
            queue.line_count += 1;
        } else {
            self.counts.dropped_long.fetch_add(1, Relaxed);
        }
        drop(queue);
        if was_empty {
            self.work.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
