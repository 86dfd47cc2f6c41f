//! The thread that carries lines to their place.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{Builder, JoinHandle, sleep};
use std::time::{Duration, Instant};

use super::Log;
use super::file::{LogFile, Rotated};
use crate::observe::Observer;

/// Its stack.
pub const STACK_BYTES: usize = 128 * 1024;
/// At the end it has so long for what is left, and is then left alone: whoever reads the other end may not.
const FAREWELL: Duration = Duration::from_secs(1);
/// When nothing came for so long, what is dirty is written to the disk.
const QUIET: Duration = Duration::from_secs(5);

/// Where lines go.
#[derive(Debug)]
pub enum Place {
    /// The standard error stream.
    Stderr,
    /// A file.
    File(LogFile),
}

/// The running thread. Dropping it writes what is left.
pub struct LogWriter {
    observer: Arc<Observer>,
    thread: Option<JoinHandle<()>>,
}

impl LogWriter {
    /// Starts the thread; from now on the log takes lines.
    ///
    /// # Errors
    /// When the system has no thread.
    pub fn start(observer: &Arc<Observer>, place: Place) -> io::Result<LogWriter> {
        let log = &observer.log;
        log.lock().lines = Vec::with_capacity(log.queue_bytes);
        let theirs = Arc::clone(observer);
        let builder = Builder::new().name("log".to_owned()).stack_size(STACK_BYTES);
        let thread = builder.spawn(move || run(&theirs.log, place))?;
        Ok(LogWriter {
            observer: Arc::clone(observer),
            thread: Some(thread),
        })
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        let log = &self.observer.log;
        log.lock().stop = true;
        log.work.notify_one();
        let Some(thread) = self.thread.take() else { return };
        let began = Instant::now();
        while !thread.is_finished() && began.elapsed() < FAREWELL {
            sleep(Duration::from_millis(1));
        }
        if thread.is_finished() {
            // It does not panic; if it did, it has said so.
            let _ = thread.join();
        }
    }
}

fn run(log: &Log, mut place: Place) {
    let mut lines = Vec::with_capacity(log.queue_bytes);
    loop {
        let mut queue = log.lock();
        while queue.lines.is_empty() && !queue.rotate && !queue.stop {
            let (woken, waited) = log
                .work
                .wait_timeout(queue, QUIET)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            queue = woken;
            if waited.timed_out() && queue.lines.is_empty() {
                drop(queue);
                place.sync();
                queue = log.lock();
            }
        }
        std::mem::swap(&mut queue.lines, &mut lines);
        let line_count = std::mem::take(&mut queue.line_count);
        let (rotate, stop) = (std::mem::take(&mut queue.rotate), queue.stop);
        drop(queue);
        let written = place.write(log, &lines);
        let counts = &log.counts;
        let count = if written.is_ok() {
            &counts.written
        } else {
            &counts.dropped_write
        };
        count.fetch_add(line_count, Relaxed);
        lines.clear();
        if rotate {
            place.rotate(log);
        }
        if stop {
            place.sync();
            return;
        }
    }
}

impl Place {
    fn write(&mut self, log: &Log, lines: &[u8]) -> io::Result<()> {
        match self {
            _ if lines.is_empty() => Ok(()),
            Place::Stderr => io::stderr().write_all(lines),
            Place::File(file) => {
                if file.is_full(lines.len()) {
                    self.rotate(log);
                }
                let Place::File(file) = self else { return Ok(()) };
                file.append(lines)
            }
        }
    }

    fn rotate(&mut self, log: &Log) {
        let Place::File(file) = self else { return };
        let counts = &log.counts;
        let count = match file.rotate() {
            Ok(Rotated::Aside | Rotated::Reopened) => &counts.rotations,
            // Without a file the next lines try to open it.
            Ok(Rotated::Emptied) | Err(_) => &counts.rotations_failed,
        };
        count.fetch_add(1, Relaxed);
    }

    fn sync(&mut self) {
        if let Place::File(file) = self {
            file.sync();
        }
    }
}
