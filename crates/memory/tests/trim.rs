//! What a crowd leaves on the heaps goes back, on whichever of them it lay. A program of its own: settings of the allocator are the process's.
#![cfg(target_env = "gnu")]
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::thread;

use plimsoll_memory::alloc;
use plimsoll_memory::process::resident_bytes;

/// Too large for the caches that glibc keeps for each thread, which a program that is not started anew has.
const BLOCK_BYTES: usize = 2000;
const BLOCKS: usize = 4000;
/// Small enough for the lists of small blocks.
const SMALL_BYTES: usize = 40;
/// What such a cache takes of one size.
const CACHED: usize = 7;
/// Top pad, the crowd's own list, and how exact the kernel counts.
const KEPT_BYTES_MAX: usize = 2 << 20;

/// A heap full of free blocks that ends in a small one, which is freed last: so a crowd of connections leaves at times.
fn crowd() {
    let small = || black_box(Box::new([1u8; SMALL_BYTES]));
    let before = resident_bytes().unwrap();
    let for_the_cache: [_; CACHED] = std::array::from_fn(|_| small());
    let blocks: Vec<_> = (0..BLOCKS).map(|_| black_box(vec![1u8; BLOCK_BYTES])).collect();
    let last = small();
    let during = resident_bytes().unwrap();
    assert!(
        during >= before + BLOCKS * BLOCK_BYTES / 2,
        "{before}, then {during}"
    );
    drop(for_the_cache);
    drop(blocks);
    drop(last);
    alloc::give_back();
    let after = resident_bytes().unwrap();
    assert!(
        after <= before + KEPT_BYTES_MAX,
        "{before}, then {during}, then {after}"
    );
}

/// Threads that live at once lie on the heaps by turns.
fn crowds(threads: usize) {
    crowd();
    if threads > 1 {
        thread::spawn(move || crowds(threads - 1)).join().unwrap();
    }
}

#[test]
fn a_crowd_leaves_nothing_on_either_heap() {
    // A sanitizer's allocator keeps what was freed, to catch who comes back to it.
    if option_env!("RUSTFLAGS").is_some_and(|flags| flags.contains("sanitizer")) {
        return;
    }
    alloc::keep_little();
    crowds(4);
}
