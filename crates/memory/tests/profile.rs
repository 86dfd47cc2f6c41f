//! What a profile says of the heap, of leases, of forbidden allocations and of threads.

use std::hint::black_box;

use plimsoll_memory::profile::{self, CpuSampling, Profile, Sample, Sampled};
use plimsoll_memory::{Clear, CommitCap, CountingAllocator, Pool, PoolConfig, Reservation, alloc};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Tests of one process share its samples.
static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn turn() -> std::sync::MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn live(profile: &Profile, pool: Option<&str>) -> (f64, f64) {
    let mut sum = (0.0, 0.0);
    profile.births(|birth| {
        if birth.pool == pool {
            sum = (sum.0 + birth.objects, sum.1 + birth.bytes);
            assert!(!birth.stack.frames().is_empty());
        }
    });
    sum
}

fn samples(profile: &Profile, from: u64, why: Sample) -> Vec<Sampled> {
    let mut all = Vec::with_capacity(1024);
    profile.samples(from, |sample| {
        if sample.why == why {
            all.push(sample);
        }
    });
    all
}

#[test]
fn live_heap_bytes_are_estimated_and_forgotten_when_freed() {
    let _turn = turn();
    let profile = profile::enable();
    let before = live(profile, None).1;
    let kept: Vec<Vec<u8>> = (0..32_000).map(|n| vec![1; 2000 + n % 5]).collect();
    let grown = live(profile, None).1 - before;
    // About 247 samples, the sum of which deviates by 6.4%: the bounds are six deviations away.
    assert!((40e6..90e6).contains(&grown), "{grown} of 64,800,000 bytes");
    drop(black_box(kept));
    let after = live(profile, None).1 - before;
    assert!(after < 4e6, "{after} bytes seem to live");
}

#[test]
fn leases_are_sampled_by_kind_and_their_ages_counted() {
    let _turn = turn();
    let profile = profile::enable();
    let config = PoolConfig {
        name: "sampled",
        len_max: 4096,
        bytes_max: 4096 * 1000,
        slots_max: usize::MAX,
        clear: Clear::Never,
    };
    let reservation = Reservation::new(Pool::<u8>::reserve_bytes(&config)).unwrap();
    let cap = CommitCap::new(4096 * 1000);
    let pool = Pool::<u8>::new(&reservation, &cap, config).unwrap();
    let counts = alloc::thread_counts();
    let leases: [_; 640] = std::array::from_fn(|_| pool.lease(100).unwrap());
    assert_eq!(
        alloc::thread_counts().since(counts).allocations,
        0,
        "sampling allocates nothing"
    );
    // At most one and a half intervals lie between two samples, at least half a one: four to ten of 640.
    let (objects, bytes) = live(profile, Some("sampled"));
    assert!((512.0..1300.0).contains(&objects), "{objects} of 640");
    assert_eq!(bytes, objects * 4096.0);
    drop(leases);
    assert_eq!(live(profile, Some("sampled")), (0.0, 0.0));
    let (_, ages) = profile.ages().find(|(kind, _)| *kind == "sampled").unwrap();
    assert!(ages.count() >= 4 && ages.quantile_ns(999).is_some());
}

#[test]
fn a_forbidden_allocation_leaves_its_stack() {
    let _turn = turn();
    let profile = profile::enable();
    let from = profile.samples_end();
    alloc::seal();
    let allocated = black_box(vec![0u8; 777]);
    alloc::unseal();
    let found = samples(profile, from, Sample::Forbidden);
    assert!(found.iter().any(|sample| sample.bytes == 777), "{found:?}");
    drop(allocated);
}

#[test]
fn cpu_time_is_sampled_and_a_thread_says_where_it_stands() {
    let _turn = turn();
    let profile = profile::enable();
    let from = profile.samples_end();
    let sampling = CpuSampling::start(1000).unwrap();
    assert!(CpuSampling::start(10).is_none(), "one at a time");
    let mut sum = 0u64;
    while samples(profile, from, Sample::Cpu).len() < 5 {
        sum = black_box((0..100_000u64).fold(sum, |a, b| a.wrapping_mul(31).wrapping_add(b)));
    }
    drop(sampling);

    let (tell, told) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let sleeper = std::thread::spawn(move || {
        let link = std::fs::read_link("/proc/thread-self").unwrap();
        let thread: u32 = link.file_name().unwrap().to_str().unwrap().parse().unwrap();
        tell.send(thread).unwrap();
        let _ = ended.recv();
    });
    let thread = told.recv().unwrap();
    let from = profile.samples_end();
    assert!(profile::ask(thread));
    while !samples(profile, from, Sample::Asked)
        .iter()
        .any(|sample| sample.thread == thread)
    {
        std::thread::yield_now();
    }
    drop(end);
    sleeper.join().unwrap();
    assert!(!profile::ask(u32::MAX));
}
