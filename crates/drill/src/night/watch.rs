//! The night as it passes: memory by the kernel, level and ledger by the server, several times a second.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::line::cgroup::{Group, Reading};
use crate::line::scrape::Metrics;

const EVERY: Duration = Duration::from_millis(100);
/// The server is asked once in so many readings.
const READINGS_A_SCRAPE: usize = 3;

/// One moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    /// Since the watch began.
    pub at: Duration,
    /// By the kernel.
    pub reading: Reading,
    /// 0 normal, 1 strained, 2 refusing; by the server, where it has levels.
    pub level: Option<u8>,
    /// Bytes debited to requests.
    pub ledger_bytes: Option<u64>,
    /// Bytes of cached vectors.
    pub cache_bytes: Option<u64>,
    /// Requests refused so far.
    pub refusals: Option<u64>,
    /// Jobs that wait.
    pub queue: Option<u64>,
}

/// A thread that watches until it is told to end.
pub struct Watch {
    moments: Arc<Mutex<Vec<Moment>>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watch {
    /// Begins.
    pub fn start(group: &Arc<Group>, address: SocketAddr) -> Watch {
        let (moments, stop): (Arc<Mutex<Vec<Moment>>>, Arc<AtomicBool>) = Default::default();
        let (seen, stopped, group) = (Arc::clone(&moments), Arc::clone(&stop), Arc::clone(group));
        let thread = std::thread::spawn(move || {
            let began = Instant::now();
            let mut moment = Moment::default();
            for number in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                // A file that cannot be read now can be the next time; a server that does not answer says nothing new.
                group
                    .reading()
                    .into_iter()
                    .for_each(|reading| moment.reading = reading);
                if number % READINGS_A_SCRAPE == 0
                    && let Ok(metrics) = Metrics::of(address)
                {
                    ask(&mut moment, &metrics);
                }
                moment.at = began.elapsed();
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(moment);
                std::thread::sleep(EVERY);
            }
        });
        Watch {
            moments,
            stop,
            thread,
        }
    }

    /// The last moment so far.
    pub fn last(&self) -> Moment {
        let moments = self.moments.lock().unwrap_or_else(PoisonError::into_inner);
        moments.last().copied().unwrap_or_default()
    }

    /// Ends, with all moments.
    pub fn finish(self) -> Vec<Moment> {
        self.stop.store(true, Ordering::Relaxed);
        // A thread that panicked has said so; what it saw until then is there.
        let _ = self.thread.join();
        std::mem::take(&mut *self.moments.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn ask(moment: &mut Moment, metrics: &Metrics) {
    let value = |series: &str| metrics.value(series).map(|value| value as u64);
    moment.level = value("plimsoll_level").map(|level| level as u8);
    moment.ledger_bytes = value("plimsoll_ledger_in_use_bytes");
    moment.cache_bytes = value("plimsoll_cache_bytes");
    moment.queue = value("te_queue_size");
    moment.refusals = metrics.sum("plimsoll_refusals_total").map(|sum| sum as u64);
}
