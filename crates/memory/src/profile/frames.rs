//! How large frames are, so that a stack is walked without its tables.
//!
//! The unwinder finds a frame's caller in tables of the executable: a search over half a megabyte and a small program, frame by frame, most of it out of no cache. A stack
//! of forty frames took 20 us. But at one return address nearly every function's frame has one size, for good. So what the unwinder was seen to do is remembered, and the
//! next walk adds a size and reads a return address.
//!
//! Nothing that is read is believed unseen: only a word that is itself a known return address is the next frame. A size that was seen to differ (frames that align
//! themselves, and the one that a signal leaves) is never used again; the unwinder is asked for those.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Return addresses that are remembered: two to the power of this.
const BITS: u32 = 12;
/// An entry is an address with its size, in words, below: addresses of user space are shorter than 48 bits.
const SIZE_BITS: u32 = 16;
const WORD_BYTES: u64 = 8;

/// What is known of the frame at a return address, in place of a size.
const UNKNOWN: u64 = 0;
const OUTERMOST: u64 = (1 << SIZE_BITS) - 1;
const VARIES: u64 = OUTERMOST - 1;

/// A frame: where it goes on, and its stack pointer there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) address: u64,
    pub(super) stack_pointer: u64,
}

/// Sizes by return address, one entry a hash; the last one seen stays.
#[derive(Debug)]
pub(super) struct Frames(Box<[AtomicU64]>);

thread_local! {
    /// The highest stack pointer that the unwinder found in this thread. Constant and without drop: a signal handler may ask.
    static HIGHEST: Cell<u64> = const { Cell::new(0) };
}

impl Frames {
    pub(super) fn new() -> Frames {
        Frames((0..1 << BITS).map(|_| AtomicU64::new(0)).collect())
    }

    /// Heap bytes of it.
    pub(super) const fn bytes() -> usize {
        (1 << BITS) * size_of::<AtomicU64>()
    }

    fn entry(&self, address: u64) -> &AtomicU64 {
        let hash = address.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &self.0[(hash >> (u64::BITS - BITS)) as usize]
    }

    /// What is known of a return address; `None` where it was never seen.
    fn get(&self, address: u64) -> Option<u64> {
        let entry = self.entry(address).load(Relaxed);
        (entry >> SIZE_BITS == address).then_some(entry & OUTERMOST)
    }

    fn set(&self, address: u64, size: u64) {
        if address >> (u64::BITS - SIZE_BITS) == 0 {
            self.entry(address).store(address << SIZE_BITS | size, Relaxed);
        }
    }

    /// The unwinder came to `frame` of this thread, from the frame `before` that it called.
    pub(super) fn saw(&self, before: Option<Frame>, frame: Frame) {
        if before.is_some_and(|before| frame.stack_pointer <= before.stack_pointer) {
            return;
        }
        HIGHEST.with(|highest| highest.set(highest.get().max(frame.stack_pointer)));
        let is_call = frame.is_call();
        if is_call && self.get(frame.address).is_none() {
            self.set(frame.address, UNKNOWN);
        }
        let Some(before) = before else { return };
        let Some(known) = self.get(before.address) else {
            return;
        };
        let size = match (frame.stack_pointer - before.stack_pointer) / WORD_BYTES {
            size @ 1..VARIES if is_call => size,
            _ => VARIES,
        };
        if known == UNKNOWN {
            self.set(before.address, size);
        } else if known != size {
            self.set(before.address, VARIES);
        }
    }

    /// The unwinder found no caller of `frame`.
    pub(super) fn ended(&self, frame: Frame) {
        if self.get(frame.address) == Some(UNKNOWN) {
            self.set(frame.address, OUTERMOST);
        }
    }

    /// The caller of `frame` of this thread, as far as that is known; `Err` where the unwinder must be asked.
    pub(super) fn caller(&self, frame: Frame) -> Result<Option<Frame>, Unknown> {
        let size = match self.get(frame.address) {
            None | Some(UNKNOWN | VARIES) => return Err(Unknown),
            Some(OUTERMOST) => return Ok(None),
            Some(size) => size,
        };
        let stack_pointer = frame.stack_pointer + size * WORD_BYTES;
        if stack_pointer > HIGHEST.get() {
            return Err(Unknown);
        }
        let address = word_below(stack_pointer);
        match self.get(address) {
            Some(_) => Ok(Some(Frame {
                address,
                stack_pointer,
            })),
            None => Err(Unknown),
        }
    }
}

/// Only the unwinder knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unknown;

impl Frame {
    /// Whether it goes on after a call: a thread that a signal interrupted goes on anywhere.
    fn is_call(&self) -> bool {
        word_below(self.stack_pointer) == self.address
    }
}

/// The word below a stack pointer of this thread, between the frame that runs and the highest that the unwinder found. A call leaves its return address there.
#[cfg(target_arch = "x86_64")]
fn word_below(stack_pointer: u64) -> u64 {
    let word: u64;
    // SAFETY: the callers' stack pointers are those of the unwinder, which read a return address there itself, or lie between such a one and the highest of this thread:
    // all of that is stack in use, so it is mapped, and only this thread writes there. (The one thing that runs on another stack is the standard library's handler of
    // overflows, after which the process ends.)
    // Read by an instruction of our own: to the compiler the word is part of no variable.
    unsafe {
        std::arch::asm!("mov {word}, qword ptr [{at} - 8]", word = out(reg) word, at = in(reg) stack_pointer, options(nostack, readonly, preserves_flags));
    }
    word
}

/// Elsewhere a return address may lie anywhere in its frame: none is found, and the unwinder is always asked.
#[cfg(not(target_arch = "x86_64"))]
fn word_below(_stack_pointer: u64) -> u64 {
    0
}
