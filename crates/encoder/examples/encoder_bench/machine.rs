//! What the machine can do at most, and what this process takes of it.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use plimsoll_kernel::{Format, Kernel};

use crate::Fault;

/// Far more than any cache.
const READ_WORDS: usize = 32 << 20;

/// The most operations and the most bytes read a second, all threads at once.
pub(crate) fn peaks(format: Format, threads: usize, time: Duration) -> (Option<f64>, f64) {
    let operations = together(threads, || Kernel::detect().peak(format, time));
    let words = vec![1_u64; READ_WORDS];
    let bytes = together(threads, || read(&words, time));
    (operations.into_iter().sum(), bytes.into_iter().sum())
}

/// Runs `work` on so many threads at the same time.
fn together<R: Send>(threads: usize, work: impl Fn() -> R + Sync) -> Vec<R> {
    let barrier = Barrier::new(threads);
    let run = || {
        barrier.wait();
        work()
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        running
            .into_iter()
            .map(|thread| thread.join().expect("nothing panics here"))
            .collect()
    })
}

/// Bytes a second, the best of the sweeps that fit into `time`, at least one.
fn read(words: &[u64], time: Duration) -> f64 {
    let (start, mut best) = (Instant::now(), 0.0_f64);
    loop {
        let before = Instant::now();
        let mut sums = [0_u64; 32];
        for words in black_box(words).as_chunks::<32>().0 {
            for (sum, word) in sums.iter_mut().zip(words) {
                *sum = sum.wrapping_add(*word);
            }
        }
        black_box(sums);
        best = best.max(size_of_val(words) as f64 / before.elapsed().as_secs_f64());
        if start.elapsed() >= time {
            return best;
        }
    }
}

/// Time that the threads of this process have spent on CPUs.
pub(crate) fn cpu_time() -> Result<Duration, Fault> {
    let mut total = Duration::ZERO;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let line = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        total += Duration::from_nanos(line.split(' ').next().unwrap_or_default().parse()?);
    }
    Ok(total)
}

/// Bytes of this process in memory, and those of them that are not pages of a weight file.
pub(crate) fn resident_bytes() -> Result<(usize, usize), Fault> {
    let (mut all, mut others, mut weights) = (0, 0, false);
    for line in std::fs::read_to_string("/proc/self/smaps")?.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("Rss:"), Some(kibibytes)) => {
                let bytes = kibibytes.parse::<usize>()? << 10;
                all += bytes;
                others += if weights { 0 } else { bytes };
            }
            // A mapping begins with its addresses.
            (Some(first), _) if !first.ends_with(':') => weights = line.ends_with(".safetensors"),
            _ => {}
        }
    }
    Ok((all, others))
}
