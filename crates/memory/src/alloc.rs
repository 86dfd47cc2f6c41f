//! The allocator that counts.
//!
//! "Nothing is allocated on the road" is a claim to be checked, not a habit to be trusted. A program that installs [`CountingAllocator`] can ask for the counts of a
//! thread or of the process, mark the pipeline's spans ([`PipelineScope`]) whose count must stay 0, and [`seal`] worker threads after start: whatever a sealed thread
//! allocates counts as a violation, which fails tests and shows in the metrics of a running server.
//!
//! Thread counts are plain cells without destructors. Process counts are spread over cache lines by thread, so that threads do not pass one line around.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::profile;

/// The system's allocator, counted.
///
/// ```
/// use plimsoll_memory::{CountingAllocator, PipelineScope, alloc};
///
/// #[global_allocator]
/// static ALLOCATOR: CountingAllocator = CountingAllocator;
///
/// let before = alloc::thread_counts();
/// drop(std::hint::black_box(vec![0u8; 100]));
/// let during = alloc::thread_counts().since(before);
/// assert_eq!((during.allocations, during.allocated_bytes, during.frees), (1, 100, 1));
///
/// let scope = PipelineScope::enter();
/// let road: u64 = (0..100).sum(); // no heap
/// drop(scope);
/// assert_eq!((road, alloc::pipeline_allocations()), (4950, 0));
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct CountingAllocator;

/// Counts of allocations and frees. A reallocation is one of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// How often memory was allocated.
    pub allocations: u64,
    /// Bytes asked for.
    pub allocated_bytes: u64,
    /// How often memory was freed.
    pub frees: u64,
    /// Bytes freed.
    pub freed_bytes: u64,
}

impl Counts {
    /// What was added after `earlier`.
    pub fn since(self, earlier: Counts) -> Counts {
        Counts {
            allocations: self.allocations.wrapping_sub(earlier.allocations),
            allocated_bytes: self.allocated_bytes.wrapping_sub(earlier.allocated_bytes),
            frees: self.frees.wrapping_sub(earlier.frees),
            freed_bytes: self.freed_bytes.wrapping_sub(earlier.freed_bytes),
        }
    }

    /// Bytes allocated and not freed.
    pub fn live_bytes(self) -> u64 {
        self.allocated_bytes.wrapping_sub(self.freed_bytes)
    }
}

/// Cache lines that the process counts are spread over.
const SHARDS: usize = 16;

#[repr(align(64))]
struct Shard {
    allocations: AtomicU64,
    allocated_bytes: AtomicU64,
    frees: AtomicU64,
    freed_bytes: AtomicU64,
}

static TOTALS: [Shard; SHARDS] = [const {
    Shard {
        allocations: AtomicU64::new(0),
        allocated_bytes: AtomicU64::new(0),
        frees: AtomicU64::new(0),
        freed_bytes: AtomicU64::new(0),
    }
}; SHARDS];
static THREADS: AtomicUsize = AtomicUsize::new(0);
static PIPELINE_ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static PIPELINE_BYTES: AtomicU64 = AtomicU64::new(0);
static VIOLATIONS: AtomicU64 = AtomicU64::new(0);

struct ThreadState {
    counts: Cell<Counts>,
    violations: Cell<u64>,
    sealed: Cell<bool>,
    pipeline_depth: Cell<u32>,
    /// One more than the index of the thread's shard; 0 before its first allocation.
    shard: Cell<usize>,
}

thread_local! {
    // Constant and without drop: reaching it allocates nothing, and works until the thread's last instruction.
    static THREAD: ThreadState = const {
        ThreadState {
            counts: Cell::new(Counts { allocations: 0, allocated_bytes: 0, frees: 0, freed_bytes: 0 }),
            violations: Cell::new(0),
            sealed: Cell::new(false),
            pipeline_depth: Cell::new(0),
            shard: Cell::new(0),
        }
    };
}

impl ThreadState {
    fn shard(&self) -> &'static Shard {
        if self.shard.get() == 0 {
            self.shard.set(THREADS.fetch_add(1, Relaxed) % SHARDS + 1);
        }
        &TOTALS[self.shard.get() - 1]
    }

    fn allocated(&self, bytes: usize) {
        let mut counts = self.counts.get();
        counts.allocations += 1;
        counts.allocated_bytes += bytes as u64;
        self.counts.set(counts);
        let shard = self.shard();
        shard.allocations.fetch_add(1, Relaxed);
        shard.allocated_bytes.fetch_add(bytes as u64, Relaxed);
        let (sealed, in_pipeline) = (self.sealed.get(), self.pipeline_depth.get() > 0);
        if sealed {
            self.violations.set(self.violations.get() + 1);
            VIOLATIONS.fetch_add(1, Relaxed);
        }
        if in_pipeline {
            PIPELINE_ALLOCATIONS.fetch_add(1, Relaxed);
            PIPELINE_BYTES.fetch_add(bytes as u64, Relaxed);
        }
        if sealed || in_pipeline {
            profile::forbidden(bytes);
        }
    }

    fn freed(&self, bytes: usize) {
        let mut counts = self.counts.get();
        counts.frees += 1;
        counts.freed_bytes += bytes as u64;
        self.counts.set(counts);
        let shard = self.shard();
        shard.frees.fetch_add(1, Relaxed);
        shard.freed_bytes.fetch_add(bytes as u64, Relaxed);
    }
}

/// Counts a success, passes a failure on.
fn counted(address: *mut u8, bytes: usize) -> *mut u8 {
    if !address.is_null() {
        THREAD.with(|thread| thread.allocated(bytes));
        profile::heap_born(address, bytes);
    }
    address
}

// SAFETY: every call goes to `System` unchanged, which keeps the contract; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract is that of `System`.
        counted(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        counted(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        profile::heap_died(address);
        // SAFETY: as above; `address` came from `System`.
        unsafe { System.dealloc(address, layout) };
        THREAD.with(|thread| thread.freed(layout.size()));
    }

    unsafe fn realloc(&self, address: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        profile::heap_died(address);
        // SAFETY: as above; `address` came from `System` with `layout`.
        let moved = counted(unsafe { System.realloc(address, layout, size) }, size);
        if !moved.is_null() {
            THREAD.with(|thread| thread.freed(layout.size()));
        }
        moved
    }
}

/// Tells the system's allocator to keep little of what was freed, and to take blocks of 128 KiB and more from the kernel one by one, so that they go back whole and
/// zeroed ones cost nothing until they are used. Call it first thing: two heaps serve all threads from then on. Elsewhere than under glibc it changes nothing.
pub fn keep_little() {
    #[cfg(target_env = "gnu")]
    for (option, value) in [
        (libc::M_ARENA_MAX, 2),
        // No lists of small free blocks that are not merged with free neighbours yet. `malloc_trim` merges them, and by that may make all that is free before the last
        // of them part of its heap's top; the top of the second heap goes back by no call, only in a free that makes a large piece, and in a pause none may come for long.
        // Merged as they are freed, the free that makes a top large is also the one that gives it back.
        (libc::M_MXFAST, 0),
        (libc::M_MMAP_THRESHOLD, 128 * 1024),
        (libc::M_TRIM_THRESHOLD, 128 * 1024),
        (libc::M_TOP_PAD, 64 * 1024),
    ] {
        // SAFETY: a setting of the allocator; it frees and moves nothing.
        unsafe { libc::mallopt(option, value) };
    }
}

/// Starts the program once more, in the same process, without the caches of free blocks that glibc keeps for each thread: no call gives them back, a page stays for
/// each block in them, and glibc takes their size from the environment as it starts, only. Does nothing the second time, where the environment says a size already, or
/// elsewhere than under glibc. To be called first of all.
pub fn without_thread_caches() {
    #[cfg(target_env = "gnu")]
    {
        use std::os::unix::process::CommandExt;
        // Of a program with capabilities glibc takes its variable away, so it cannot tell whether this was done.
        const DONE: &str = "PLIMSOLL_WITHOUT_THREAD_CACHES";
        let (tunables, count) = ("GLIBC_TUNABLES", "glibc.malloc.tcache_count");
        let said = std::env::var(tunables).unwrap_or_default();
        if std::env::var_os(DONE).is_some() || said.contains(count) {
            return;
        }
        let Ok(program) = std::env::current_exe() else {
            return;
        };
        let mut arguments = std::env::args_os();
        let mut command = std::process::Command::new(program);
        command.arg0(arguments.next().unwrap_or_default()).args(arguments);
        command.env(DONE, "1");
        command.env(tunables, format!("{count}=0:{said}").trim_end_matches(':'));
        // Where a system forbids it, those caches stay what they are: some hundred KiB within the allocator's line of the bill.
        let _ = command.exec();
    }
}

/// Has the system's allocator give back the pages of its heaps on which nothing lies any more: after many small blocks it keeps them all if one is left at
/// the end. It walks its free blocks, so not more often than once a second. Elsewhere than under glibc it does nothing.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it gives free pages back; what is live stays where it is.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Counts of this thread.
pub fn thread_counts() -> Counts {
    THREAD.with(|thread| thread.counts.get())
}

/// Counts of the process: exact whenever no thread is allocating.
pub fn total_counts() -> Counts {
    let mut sum = Counts::default();
    for shard in &TOTALS {
        sum.allocations += shard.allocations.load(Relaxed);
        sum.allocated_bytes += shard.allocated_bytes.load(Relaxed);
        sum.frees += shard.frees.load(Relaxed);
        sum.freed_bytes += shard.freed_bytes.load(Relaxed);
    }
    sum
}

/// Seals this thread: from now on its allocations are violations. Freeing stays allowed.
pub fn seal() {
    THREAD.with(|thread| thread.sealed.set(true));
}

/// Ends the seal of this thread.
pub fn unseal() {
    THREAD.with(|thread| thread.sealed.set(false));
}

/// Whether this thread is sealed.
pub fn is_sealed() -> bool {
    THREAD.with(|thread| thread.sealed.get())
}

/// Allocations of all threads while they were sealed.
pub fn violations() -> u64 {
    VIOLATIONS.load(Relaxed)
}

/// Allocations of this thread while it was sealed.
pub fn thread_violations() -> u64 {
    THREAD.with(|thread| thread.violations.get())
}

/// Allocations of all threads inside a [`PipelineScope`].
pub fn pipeline_allocations() -> u64 {
    PIPELINE_ALLOCATIONS.load(Relaxed)
}

/// Bytes of [`pipeline_allocations`].
pub fn pipeline_allocated_bytes() -> u64 {
    PIPELINE_BYTES.load(Relaxed)
}

/// Marks a span of a thread's work as the pipeline's. May be nested. In a future, enter it in each poll: it stays on its thread.
#[derive(Debug)]
#[must_use = "the scope ends when this is dropped"]
pub struct PipelineScope {
    on_this_thread: PhantomData<*const ()>,
}

impl PipelineScope {
    /// Begins the span, which ends with the value.
    pub fn enter() -> Self {
        THREAD.with(|thread| thread.pipeline_depth.set(thread.pipeline_depth.get() + 1));
        PipelineScope {
            on_this_thread: PhantomData,
        }
    }
}

impl Drop for PipelineScope {
    fn drop(&mut self) {
        THREAD.with(|thread| thread.pipeline_depth.set(thread.pipeline_depth.get() - 1));
    }
}
