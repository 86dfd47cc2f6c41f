//! The highest readings of the group, taken every few milliseconds.
//!
//! The kernel keeps the peak of the whole charge, which counts page cache that it would have given back. What cannot be given back has no counter
//! of its own, so it is sampled, on a thread that does nothing else. A spike between two samples can escape; the report says how many were taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::cgroup::{Group, Reading};

const EVERY: Duration = Duration::from_millis(5);

/// What was seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peaks {
    /// The reading with the most that cannot be reclaimed.
    pub at_peak: Reading,
    /// The most in socket buffers at any time.
    pub sock_bytes: u64,
    /// The most in huge pages at any time.
    pub huge_bytes: u64,
    /// Readings taken.
    pub samples: u64,
}

impl Peaks {
    fn see(&mut self, reading: Reading) {
        if reading.held_bytes() > self.at_peak.held_bytes() {
            self.at_peak = reading;
        }
        self.sock_bytes = self.sock_bytes.max(reading.sock_bytes);
        self.huge_bytes = self.huge_bytes.max(reading.huge_bytes);
        self.samples += 1;
    }
}

/// A thread that samples until it is asked for what it saw.
pub struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Peaks>,
}

impl Sampler {
    /// Begins.
    pub fn start(group: &Arc<Group>) -> Sampler {
        Sampler::every(EVERY, group)
    }

    /// Begins, with a reading in every `pause`.
    pub fn every(pause: Duration, group: &Arc<Group>) -> Sampler {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, group) = (Arc::clone(&stop), Arc::clone(group));
        let thread = std::thread::spawn(move || {
            let mut peaks = Peaks::default();
            while !stopped.load(Ordering::Relaxed) {
                // The group outlives the sampler; a file that cannot be read now can be the next time.
                group.reading().into_iter().for_each(|reading| peaks.see(reading));
                std::thread::sleep(pause);
            }
            peaks
        });
        Sampler { stop, thread }
    }

    /// Ends, with what was seen.
    pub fn finish(self) -> Peaks {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_one_moment_and_not_a_sum_of_moments() {
        let mut peaks = Peaks::default();
        let reading = |anon_bytes, sock_bytes| Reading {
            anon_bytes,
            sock_bytes,
            ..Reading::default()
        };
        [reading(100, 0), reading(80, 30), reading(10, 50)]
            .into_iter()
            .for_each(|r| peaks.see(r));
        assert_eq!(
            (peaks.at_peak.held_bytes(), peaks.sock_bytes, peaks.samples),
            (110, 50, 3)
        );
    }
}
