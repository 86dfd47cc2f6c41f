//! Threads that share one kernel call: whoever comes next takes the next chunk.
//!
//! Forking and joining through the operating system costs more than a product of sixteen rows. Here a leader announces a
//! call by one store, and it and every helper that happens to be there claim its chunks by one atomic addition each. A helper that
//! is late, or that the system has taken off its core, costs nothing but its help: the leader waits only for chunks that were
//! begun. Helpers spin while they serve, so they serve only as long as a pass takes, and sleep elsewhere between passes. Who has spun for
//! longer than a hand-over takes lets others run: where two of a crew share a core for a moment, each would otherwise spin away the time
//! slice in which the other would have done the work.
//! A crew outlives its passes: [`Crew::muster`] opens it and [`Crew::dismiss`] sends its helpers away.

use core::cell::UnsafeCell;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// A call in progress: a function of (chunk, lane). The lifetime is erased; see [`Crew::run`].
type Task = *const (dyn Fn(usize, usize) + Sync);

/// What a word has bits for.
const LANES_MAX: usize = 64;
/// Low half of [`Crew::claims`]: the next chunk. High half: how many there are.
const COUNT_SHIFT: u32 = 32;
const NEXT_MASK: u64 = (1 << COUNT_SHIFT) - 1;
/// Rows that are worth reading all weights for.
const ROWS_APART: usize = 32;
/// Looks for work before the core is offered to others: some ten microseconds.
const SPINS: u32 = 256;

/// How long a thread has spun.
#[derive(Default)]
struct Spin(u32);

impl Spin {
    fn again(&mut self) {
        if self.0 < SPINS {
            self.0 += 1;
            spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

/// A leader and the helpers that serve it at the moment.
///
/// ```
/// use plimsoll_kernel::Crew;
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// let crew = Crew::new(2);
/// std::thread::scope(|threads| {
///     threads.spawn(|| crew.serve());
///     let sum = AtomicUsize::new(0);
///     crew.run(100, &|chunk, _lane| {
///         sum.fetch_add(chunk, Ordering::Relaxed);
///     });
///     assert_eq!(sum.into_inner(), 4950);
///     crew.dismiss();
/// });
/// ```
#[derive(Debug)]
pub struct Crew {
    lanes: usize,
    task: UnsafeCell<Option<Task>>,
    claims: AtomicU64,
    finished: AtomicUsize,
    /// A bit for each helper's lane that is taken; lane 0 is the leader's.
    taken: AtomicU64,
    /// Whether a leader is in [`Crew::run`].
    leading: AtomicBool,
    panicked: AtomicBool,
    dismissed: AtomicBool,
}

// SAFETY: the one field that is not Sync, `task`, is written only by the leader while no chunk is claimed or claimable, and read by
// helpers only between claiming a chunk and finishing it; `claims` and `finished` order the two.
unsafe impl Sync for Crew {}
// SAFETY: the pointer in `task` is only followed within `run`, which borrows the crew.
unsafe impl Send for Crew {}

impl Crew {
    /// A crew of `lanes` threads at most, its leader included, mustered.
    ///
    /// # Panics
    /// When `lanes` is not in 1..=64.
    pub const fn new(lanes: usize) -> Crew {
        assert!(lanes > 0 && lanes <= LANES_MAX, "a crew has 1 to 64 lanes");
        Crew {
            lanes,
            task: UnsafeCell::new(None),
            claims: AtomicU64::new(0),
            finished: AtomicUsize::new(0),
            taken: AtomicU64::new(1),
            leading: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            dismissed: AtomicBool::new(false),
        }
    }

    /// A leader that works alone.
    pub const fn alone() -> Crew {
        Crew::new(1)
    }

    /// Threads at most, the leader included: what per-thread scratch is sized by.
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// Threads that share calls at the moment, the leader included.
    pub(crate) fn serving(&self) -> usize {
        self.taken.load(Ordering::Relaxed).count_ones() as usize
    }

    /// How many rows each thread takes of so many, where there are enough to share them out: what a thread writes is then what it reads next, and need not come from another core's cache.
    /// With fewer, threads share the weights.
    pub(crate) fn rows_each(&self, rows: usize) -> Option<usize> {
        let serving = self.serving();
        (serving > 1 && rows >= ROWS_APART * serving).then(|| rows.div_ceil(serving))
    }

    /// Has threads do rows of `width` numbers in parts of [their share](Crew::rows_each) each, or of `few` where there are not enough for that: `task(first, rows)` with the first one's
    /// number.
    pub(crate) fn run_rows<T: Send>(
        &self,
        rows: &mut [T],
        width: usize,
        few: usize,
        task: &(dyn Fn(usize, &mut [T]) + Sync),
    ) {
        let count = rows.len() / width;
        let each = self.rows_each(count).unwrap_or(few);
        let start = &Shared(rows.as_mut_ptr());
        self.run(count.div_ceil(each), &|chunk, _lane| {
            let first = chunk * each;
            let part = each.min(count - first);
            // SAFETY: these rows lie within `rows`, which is borrowed until all are done, and each chunk is run once.
            let part = unsafe { core::slice::from_raw_parts_mut(start.0.add(first * width), part * width) };
            task(first, part);
        });
    }

    /// Calls `task(chunk, lane)` once for each chunk below `chunks`, on the leader and on whoever serves; returns when all
    /// are done. Two calls at the same time have different lanes. One call at a time.
    ///
    /// # Panics
    /// When a helper's part panicked, or another thread leads at the moment.
    pub fn run(&self, chunks: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        if self.lanes == 1 || chunks == 1 {
            (0..chunks).for_each(|chunk| task(chunk, 0));
            return;
        }
        assert!(chunks < 1 << 31, "{chunks} chunks");
        assert!(
            !self.leading.swap(true, Ordering::Acquire),
            "two leaders of one crew"
        );
        // SAFETY: only the lifetime changes. Whoever follows the pointer has claimed a chunk, and this function does not return, by
        // panic neither, before every claimed chunk has been counted as finished (`Join` below).
        let erased = unsafe {
            core::mem::transmute::<
                *const (dyn Fn(usize, usize) + Sync + '_),
                *const (dyn Fn(usize, usize) + Sync + 'static),
            >(task)
        };
        // SAFETY: no chunk is claimable: either none was ever announced, or the last call claimed all and waited for them.
        unsafe { *self.task.get() = Some(erased) };
        self.finished.store(0, Ordering::Relaxed);
        // What went wrong before is another's.
        self.panicked.store(false, Ordering::Relaxed);
        let announced = (chunks as u64) << COUNT_SHIFT;
        self.claims.store(announced, Ordering::Release);
        let mut join = Join {
            crew: self,
            chunks,
            own: 0,
        };
        while let Some(chunk) = self.claim() {
            join.own += 1;
            task(chunk, 0);
        }
        drop(join);
        assert!(
            !self.panicked.load(Ordering::Relaxed),
            "a helper's part of a kernel panicked"
        );
    }

    /// Helps until the leader [dismisses](Crew::dismiss) the crew. Returns at once when all lanes are taken.
    pub fn serve(&self) {
        self.serve_while(|| true);
    }

    /// As [`Crew::serve`], or until `stay` says no.
    pub fn serve_while(&self, stay: impl Fn() -> bool) {
        let Some(lane) = self.take_lane() else { return };
        let mut spin = Spin::default();
        while !self.dismissed.load(Ordering::Relaxed) && stay() {
            match self.claim() {
                Some(chunk) => {
                    self.help(chunk, lane.index);
                    spin = Spin::default();
                }
                None => spin.again(),
            }
        }
    }

    fn take_lane(&self) -> Option<Lane<'_>> {
        (1..self.lanes).find_map(|index| {
            let bit = 1 << index;
            let free = self.taken.fetch_or(bit, Ordering::Acquire) & bit == 0;
            // Not `then_some`, whose argument exists, and is dropped, where the lane is another's: it would be free again.
            free.then(|| Lane { crew: self, index })
        })
    }

    fn help(&self, chunk: usize, lane: usize) {
        /// Counts the chunk also when it panics: the leader waits for it.
        struct Finish<'a>(&'a Crew);
        impl Drop for Finish<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.panicked.store(true, Ordering::Relaxed);
                }
                self.0.finished.fetch_add(1, Ordering::Release);
            }
        }
        let _finish = Finish(self);
        // SAFETY: this thread has claimed a chunk and not finished it, so the leader is inside `run`: it does not write `task`, and what
        // the pointer leads to lives. The claim's acquire orders this read after the leader's write.
        let task = unsafe { (*self.task.get()).map(|task| &*task) };
        task.expect("announced with a task")(chunk, lane);
    }

    fn claim(&self) -> Option<usize> {
        let open = |claims: u64| claims & NEXT_MASK < claims >> COUNT_SHIFT;
        // Looking first keeps the counter from running away under spinning helpers.
        if !open(self.claims.load(Ordering::Relaxed)) {
            return None;
        }
        let claimed = self.claims.fetch_add(1, Ordering::Acquire);
        open(claimed).then_some((claimed & NEXT_MASK) as usize)
    }

    /// Lets helpers serve again.
    pub fn muster(&self) {
        self.dismissed.store(false, Ordering::Relaxed);
    }

    /// Sends all helpers away.
    pub fn dismiss(&self) {
        self.dismissed.store(true, Ordering::Relaxed);
    }

    /// Whether helpers are wanted.
    pub fn is_mustered(&self) -> bool {
        !self.dismissed.load(Ordering::Relaxed)
    }
}

/// Numbers of which threads use disjoint parts at the same time.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(pub(crate) *mut T);

// SAFETY: whoever follows the pointer says which part is its own; numbers may go to another thread.
unsafe impl<T: Send> Sync for Shared<T> {}

/// A helper's lane, free again when it is dropped.
struct Lane<'a> {
    crew: &'a Crew,
    index: usize,
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        self.crew.taken.fetch_and(!(1 << self.index), Ordering::Release);
    }
}

/// Waits, on every way out of [`Crew::run`], for the chunks that helpers have begun.
struct Join<'a> {
    crew: &'a Crew,
    chunks: usize,
    own: usize,
}

impl Drop for Join<'_> {
    fn drop(&mut self) {
        // When the leader's own part panicked, the rest must not be begun: it is claimed here and not done.
        while self.crew.claim().is_some() {
            self.own += 1;
        }
        let mut spin = Spin::default();
        while self.crew.finished.load(Ordering::Acquire) + self.own < self.chunks {
            spin.again();
        }
        self.crew.leading.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Sends the helpers away also when an assertion fails: a scope waits for its threads.
    struct Dismiss<'a>(&'a Crew);

    impl Drop for Dismiss<'_> {
        fn drop(&mut self) {
            self.0.dismiss();
        }
    }

    #[test]
    fn every_chunk_is_done_once_and_lanes_are_exclusive() {
        let crew = Crew::new(3);
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| crew.serve());
            }
            let _dismiss = Dismiss(&crew);
            for chunks in [0, 1, 2, 7, 200] {
                for _ in 0..200 {
                    let done: Vec<AtomicUsize> = (0..chunks).map(|_| AtomicUsize::new(0)).collect();
                    let lanes: [Mutex<()>; 3] = Default::default();
                    crew.run(chunks, &|chunk, lane| {
                        let _alone = lanes[lane].try_lock().expect("one call a lane at a time");
                        done[chunk].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(done.iter().all(|done| done.load(Ordering::Relaxed) == 1));
                }
            }
        });
    }

    #[test]
    fn a_crew_serves_again_after_it_was_dismissed_and_lanes_come_back() {
        let crew = Crew::new(2);
        crew.dismiss();
        crew.serve();
        assert!(!crew.is_mustered());
        crew.muster();
        for _ in 0..3 {
            crew.serve_while(|| false);
        }
        let lane = crew.take_lane();
        assert!(lane.is_some() && crew.take_lane().is_none());
        drop(lane);
        assert!(crew.take_lane().is_some());
    }

    /// Whoever asks in vain must not free a lane that is another's.
    #[test]
    fn a_lane_stays_taken_while_others_ask_for_it() {
        let crew = Crew::new(3);
        let lanes = [crew.take_lane(), crew.take_lane()].map(|lane| lane.expect("two helpers' lanes"));
        assert_eq!(lanes.each_ref().map(|lane| lane.index), [1, 2]);
        for _ in 0..3 {
            assert!(crew.take_lane().is_none());
            assert_eq!(crew.serving(), 3);
        }
        drop(lanes);
        assert_eq!(crew.serving(), 1);
    }

    #[test]
    fn a_panic_of_the_leader_leaves_nothing_behind() {
        let crew = Crew::new(2);
        std::thread::scope(|threads| {
            threads.spawn(|| crew.serve());
            let _dismiss = Dismiss(&crew);
            for _ in 0..50 {
                let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    crew.run(64, &|_, lane| assert_ne!(lane, 0, "the leader's part"));
                }));
                // Helpers may have done all of it.
                drop(ran);
                let sum = AtomicUsize::new(0);
                crew.run(10, &|chunk, _| {
                    sum.fetch_add(chunk, Ordering::Relaxed);
                });
                assert_eq!(sum.into_inner(), 45);
            }
        });
    }

    #[test]
    fn a_panic_of_a_helper_reaches_the_leader() {
        let crew = Crew::new(2);
        std::thread::scope(|threads| {
            let helper = threads.spawn(|| crew.serve());
            let helped = AtomicBool::new(false);
            let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                crew.run(2, &|_, lane| {
                    if lane == 1 {
                        helped.store(true, Ordering::Relaxed);
                        panic!("the helper's part");
                    }
                    while !helped.load(Ordering::Relaxed) {
                        std::thread::yield_now();
                    }
                });
            }));
            assert!(ran.is_err());
            assert!(helper.join().is_err());
            let sum = AtomicUsize::new(0);
            crew.run(10, &|chunk, _| {
                sum.fetch_add(chunk, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 45, "the next pass is another's");
        });
    }
}
