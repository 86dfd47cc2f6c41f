//! What the kernel says of a process's memory.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const EVERY: Duration = Duration::from_millis(10);

/// Resident bytes of a process that no file backs; `None` when it is gone.
pub fn anonymous_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

/// A thread that looks for the most anonymous bytes of a process.
pub struct Peak {
    most: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Peak {
    /// Begins.
    pub fn start(pid: u32) -> Peak {
        let (most, stop): (Arc<AtomicU64>, Arc<AtomicBool>) = Default::default();
        let (seen, stopped) = (Arc::clone(&most), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                seen.fetch_max(anonymous_bytes(pid).unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(EVERY);
            }
        });
        Peak { most, stop, thread }
    }

    /// Ends, with the most that was seen.
    pub fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        // A thread that panicked has said so; what it saw until then is there.
        let _ = self.thread.join();
        self.most.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_memory_is_seen_and_nobodys_is_not() {
        let pid = std::process::id();
        assert!(anonymous_bytes(pid).unwrap() > 4096);
        assert_eq!(anonymous_bytes(u32::MAX), None);
        let peak = Peak::start(pid);
        let block = vec![1u8; 64 << 20];
        // Ends at once, unless the thread sees nothing.
        while peak.most.load(Ordering::Relaxed) < block.len() as u64 {
            std::thread::sleep(EVERY);
        }
        assert!(peak.finish() >= block.len() as u64);
    }
}
