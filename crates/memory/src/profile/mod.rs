//! Who made what is alive, and who uses the CPU: samples with stacks, for whoever diagnoses a running process.
//!
//! Off, it costs one relaxed load an allocation and one a lease. [`enable`] switches it on for the life of the process and allocates all that it will ever use
//! ([`BYTES`]); from then on
//!
//! - one heap allocation in about [`HEAP_INTERVAL_BYTES`] is remembered with its stack until it is freed, chosen by chance in proportion to its size, so that what is
//!   known of the samples holds for all ([`Birth::objects`], [`Birth::bytes`]);
//! - so is one lease in [`LEASE_INTERVAL`], whose age is counted when it dies;
//! - a thread that would sample more than twenty times a second has intervals up to 32 times as long;
//! - an allocation where there must be none (a sealed thread, the pipeline) leaves its stack;
//! - while [`CpuSampling`] lives, CPU time is sampled, and any thread can be [asked](ask) where it stands.
//!
//! A stack is raw addresses; the names are found by who reads them. Sampling itself allocates nothing and takes no lock.

mod ages;
mod births;
mod pace;
mod signal;
mod stack;

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

pub use ages::Ages;
pub use signal::{CpuSampling, ask};
pub use stack::{FRAMES_MAX, Stack};

use crate::ring::Ring;
use births::{Births, Raw};
use pace::Pace;

/// Heap bytes of a thread between two samples, on average, where it samples most often.
pub const HEAP_INTERVAL_BYTES: usize = 256 * 1024;
/// Leases of a thread between two samples, where it samples most often.
pub const LEASE_INTERVAL: u32 = 128;
/// Sampled objects that are remembered: two to the power of this.
const BIRTHS_BITS: u32 = 11;
/// Stacks of CPU samples and forbidden allocations that wait to be read.
pub const SAMPLES: usize = 512;
/// Kinds of leases that are told apart.
const KINDS_MAX: usize = 16;
/// Heap objects are of this kind; leases of the others.
const HEAP: u8 = 0;
/// Words of a sample before its frames: time, kind with thread and number of frames, bytes.
const HEAD: usize = 3;
/// A thread tells of its first forbidden allocations all, then one in so many.
const FORBIDDEN_ALL: u32 = 16;
const FORBIDDEN_INTERVAL: u32 = 64;

/// Heap bytes that sampling takes once it is on. No other figure includes them.
pub const BYTES: usize =
    Births::bytes(BIRTHS_BITS) + Ring::<{ HEAD + FRAMES_MAX }>::bytes(SAMPLES) + size_of::<Profile>();

static ON: AtomicBool = AtomicBool::new(false);
static PROFILE: OnceLock<Profile> = OnceLock::new();
static KINDS: [OnceLock<&'static str>; KINDS_MAX] = [const { OnceLock::new() }; KINDS_MAX];

/// What sampling knows.
#[derive(Debug)]
pub struct Profile {
    began: Instant,
    births: Births,
    ages: [Ages; KINDS_MAX],
    samples: Ring<{ HEAD + FRAMES_MAX }>,
}

/// A sampled object that is alive.
#[derive(Debug, Clone, Copy)]
pub struct Birth {
    /// The pool of a lease; `None` for the heap.
    pub pool: Option<&'static str>,
    /// How many objects it stands for.
    pub objects: f64,
    /// How many bytes it stands for.
    pub bytes: f64,
    /// When it was born, as [`Profile::now_ns`] tells the time.
    pub born_ns: u64,
    /// Where.
    pub stack: Stack,
}

/// Why a stack was written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// The thread used CPU time.
    Cpu,
    /// It was [asked](ask).
    Asked,
    /// It allocated where nothing may be allocated.
    Forbidden,
}

/// A stack that was written down.
#[derive(Debug, Clone, Copy)]
pub struct Sampled {
    /// Why.
    pub why: Sample,
    /// When, as [`Profile::now_ns`] tells the time.
    pub at_ns: u64,
    /// The kernel's number of the thread.
    pub thread: u32,
    /// Bytes of a forbidden allocation.
    pub bytes: u64,
    /// Where it stood.
    pub stack: Stack,
}

/// Switches sampling on; it stays on. A second call changes nothing.
pub fn enable() -> &'static Profile {
    let profile = PROFILE.get_or_init(|| Profile {
        began: Instant::now(),
        births: Births::new(BIRTHS_BITS),
        ages: std::array::from_fn(|_| Ages::new()),
        samples: Ring::new(SAMPLES),
    });
    if !ON.load(Relaxed) {
        // The unwinder may set itself up on its first use: here, and not in a signal handler.
        Stack::here();
        signal::install();
        ON.store(true, Relaxed);
    }
    profile
}

/// What sampling knows; `None` when it was not [enabled](enable).
pub fn get() -> Option<&'static Profile> {
    PROFILE.get().filter(|_| ON.load(Relaxed))
}

impl Profile {
    /// Nanoseconds since sampling was switched on.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Every sampled object that is alive.
    pub fn births(&self, mut each: impl FnMut(Birth)) {
        self.births.each(|raw| each(scaled(raw)));
    }

    /// Sampled births that found no room in the table.
    pub fn births_dropped(&self) -> u64 {
        self.births.dropped()
    }

    /// The kinds of leases, and how old their sampled ones became.
    pub fn ages(&self) -> impl Iterator<Item = (&'static str, &Ages)> {
        let kinds = KINDS.iter().zip(&self.ages).skip(1);
        kinds.filter_map(|(name, ages)| Some((*name.get()?, ages)))
    }

    /// Where a reader of samples begins that wants none of the past.
    pub fn samples_end(&self) -> u64 {
        self.samples.end()
    }

    /// Samples from number `from` on; where to go on, and how many were lost. See [`Ring::read`].
    pub fn samples(&self, from: u64, mut each: impl FnMut(Sampled)) -> (u64, u64) {
        self.samples.read(from, usize::MAX, |words| {
            each(Sampled {
                why: match words[1] & 0xff {
                    0 => Sample::Cpu,
                    1 => Sample::Asked,
                    _ => Sample::Forbidden,
                },
                at_ns: words[0],
                thread: (words[1] >> 32) as u32,
                bytes: words[2],
                stack: Stack::from_words(&words[HEAD..], (words[1] >> 8) as usize & 0xff),
            })
        })
    }

    fn write(&self, why: Sample, bytes: u64) {
        let stack = Stack::here();
        let mut words = [0; HEAD + FRAMES_MAX];
        words[0] = self.now_ns();
        words[1] = u64::from(signal::thread()) << 32 | (stack.len() as u64) << 8 | why as u64;
        words[2] = bytes;
        words[HEAD..].copy_from_slice(stack.words());
        self.samples.push(&words);
    }
}

/// Writes down where this thread stands.
fn sample(why: Sample) {
    if let Some(profile) = PROFILE.get() {
        profile.write(why, 0);
    }
}

/// What a sample stands for: an object of `bytes` was chosen with the chance `1 - exp(-bytes / interval)`, a lease with one in its interval.
fn scaled(raw: &Raw) -> Birth {
    let objects = match raw.kind {
        HEAP => {
            let interval_bytes = HEAP_INTERVAL_BYTES << raw.doublings;
            1.0 / (1.0 - (-(raw.bytes.max(1) as f64) / interval_bytes as f64).exp())
        }
        _ => f64::from(LEASE_INTERVAL << raw.doublings),
    };
    Birth {
        pool: match raw.kind {
            HEAP => None,
            kind => KINDS[kind as usize % KINDS_MAX].get().copied(),
        },
        objects,
        bytes: objects * raw.bytes as f64,
        born_ns: raw.born_ns,
        stack: raw.stack,
    }
}

/// The number of a kind of leases, by its name. Beyond the most that are told apart, all are of the last.
pub(crate) fn kind(name: &'static str) -> u8 {
    let last = KINDS_MAX - 1;
    let place = (1..last).find(|&kind| *KINDS[kind].get_or_init(|| name) == name);
    let kind = place.unwrap_or(last);
    KINDS[kind].get_or_init(|| "others");
    kind as u8
}

/// Bytes left of a thread that has not drawn its first interval.
const UNDRAWN: i64 = i64::MIN / 2;

struct Local {
    /// Bytes until the next heap sample.
    heap_left: Cell<i64>,
    heap_pace: Pace,
    /// Leases until the next one.
    leases_left: Cell<u32>,
    lease_pace: Pace,
    forbidden: Cell<u32>,
    random: Cell<u64>,
}

thread_local! {
    // Constant and without drop, as the allocator's own.
    static LOCAL: Local = const {
        Local {
            heap_left: Cell::new(UNDRAWN),
            heap_pace: Pace::new(),
            leases_left: Cell::new(0),
            lease_pace: Pace::new(),
            forbidden: Cell::new(0),
            random: Cell::new(0),
        }
    };
}

impl Local {
    /// A number above 0, up to 1.
    fn random(&self) -> f64 {
        let mut x = self.random.get();
        if x == 0 {
            // Threads lie at different addresses.
            x = (&raw const *self as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        }
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        ((x >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Bytes to the next sample: exponentially distributed, so that every byte has the same chance.
    fn heap_gap(&self) -> i64 {
        let interval_bytes = HEAP_INTERVAL_BYTES << self.heap_pace.doublings();
        (-self.random().ln() * interval_bytes as f64) as i64
    }
}

/// The allocator hands out `bytes` at `address`.
#[inline]
pub(crate) fn heap_born(address: *const u8, bytes: usize) {
    if ON.load(Relaxed) {
        choose_heap(address, bytes);
    }
}

fn choose_heap(address: *const u8, bytes: usize) {
    LOCAL.with(|local| {
        let left = local.heap_left.get() - bytes as i64;
        local.heap_left.set(left);
        if left < 0 {
            sample_heap(local, address, bytes);
        }
    });
}

#[cold]
fn sample_heap(local: &Local, address: *const u8, bytes: usize) {
    if local.heap_left.get() < UNDRAWN / 2 {
        local.heap_left.set(local.heap_gap() - bytes as i64);
        if local.heap_left.get() >= 0 {
            return;
        }
    }
    born(HEAP, address as u64, bytes, &local.heap_pace);
    local.heap_left.set(local.heap_gap());
}

/// The allocator takes back what lies at `address`; called while it is still the caller's.
#[inline]
pub(crate) fn heap_died(address: *const u8) {
    if births::may_live(address as u64)
        && let Some(profile) = PROFILE.get()
    {
        profile.births.remove(address as u64);
    }
}

/// A pool hands out a slot; true when it is sampled, and [`lease_died`] must be told.
#[inline]
pub(crate) fn lease_born(kind: u8, address: *const u8, bytes: usize) -> bool {
    ON.load(Relaxed) && choose_lease(kind, address, bytes)
}

fn choose_lease(kind: u8, address: *const u8, bytes: usize) -> bool {
    LOCAL.with(|local| {
        let Some(left) = local.leases_left.get().checked_sub(1) else {
            born(kind, address as u64, bytes, &local.lease_pace);
            // Between half and one and a half intervals, so that no rhythm of the leases hides a kind.
            let interval = LEASE_INTERVAL << local.lease_pace.doublings();
            let gap = f64::from(interval) * (0.5 + local.random());
            local.leases_left.set(gap as u32 - 1);
            return true;
        };
        local.leases_left.set(left);
        false
    })
}

/// A sampled slot comes back.
pub(crate) fn lease_died(address: *const u8) {
    let Some(profile) = PROFILE.get() else { return };
    if let Some(death) = profile.births.remove(address as u64) {
        let age_ns = profile.now_ns().saturating_sub(death.born_ns);
        profile.ages[death.kind as usize % KINDS_MAX].died(age_ns, 1 << death.doublings);
    }
}

/// Something was allocated where nothing may be.
#[cold]
pub(crate) fn forbidden(bytes: usize) {
    let Some(profile) = get() else { return };
    let count = LOCAL.with(|local| local.forbidden.replace(local.forbidden.get().wrapping_add(1)));
    if count < FORBIDDEN_ALL || count.is_multiple_of(FORBIDDEN_INTERVAL) {
        profile.write(Sample::Forbidden, bytes as u64);
    }
}

fn born(kind: u8, address: u64, bytes: usize, pace: &Pace) {
    let Some(profile) = PROFILE.get() else { return };
    let birth = Raw {
        kind,
        doublings: pace.doublings(),
        bytes: bytes as u64,
        born_ns: profile.now_ns(),
        stack: Stack::here(),
    };
    profile.births.insert(address, &birth);
    pace.sampled(birth.born_ns);
}
