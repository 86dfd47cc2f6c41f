//! After a burst, idle memory goes back: the process is within 5% of where it was, by the kernel's count.
//! A binary of its own, so that nothing else moves the count.
#![forbid(unsafe_code)]

use plimsoll_memory::process::resident_bytes;
use plimsoll_memory::{Clear, CommitCap, Lease, Pool, PoolConfig, Reservation};

#[test]
fn idle_memory_is_back_within_five_percent_after_a_burst() {
    // A sanitizer keeps 2 MiB of its own about the burst.
    let (idle_bytes, burst_bytes) = (64 << 20, 512 << 20);
    let config = PoolConfig {
        name: "burst",
        len_max: 1 << 20,
        bytes_max: burst_bytes,
        slots_max: usize::MAX,
        clear: Clear::Never,
    };
    let reservation = Reservation::new(Pool::<u8>::reserve_bytes(&config)).unwrap();
    let cap = CommitCap::new(burst_bytes);
    let pool = Pool::<u8>::new(&reservation, &cap, config).unwrap();
    pool.warm(1 << 20, idle_bytes >> 20).unwrap();
    // The table of what is out is no part of what is judged: its pages are there from the start.
    let mut leases: Vec<Option<Lease<u8>>> = std::iter::repeat_with(|| None).take(8192).collect();
    let baseline = resident_bytes().unwrap();

    let lens = [4096, 16_384, 262_144, 1 << 20].into_iter().cycle();
    for (place, len) in leases.iter_mut().zip(lens) {
        let Ok(mut lease) = pool.lease(len) else { break };
        lease.fill(1);
        *place = Some(lease);
    }
    let peak = resident_bytes().unwrap();
    assert!(peak - baseline > burst_bytes / 2, "{baseline} then {peak}");
    assert!(leases.last().is_some_and(Option::is_none));
    leases.fill_with(|| None);
    pool.trim(idle_bytes);

    let after = resident_bytes().unwrap();
    assert!(pool.stats().committed_bytes <= idle_bytes);
    assert!(
        after <= baseline + baseline / 20,
        "{baseline} before, {after} after"
    );
}
