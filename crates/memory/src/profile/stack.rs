//! Where a thread stands: raw return addresses, named only when somebody reads them.

use super::frames::{Frame, Frames, Unknown};

/// Frames that are kept of a stack, innermost first.
pub const FRAMES_MAX: usize = 40;

/// A stack: return addresses, innermost first.
#[derive(Debug, Clone, Copy)]
pub struct Stack {
    frames: [u64; FRAMES_MAX],
    len: usize,
}

impl Stack {
    /// The stack of the caller, with a few frames of this module on top. Allocates nothing, takes no lock, and may be called in a signal handler.
    pub(super) fn here(known: &Frames) -> Stack {
        let mut walk = Walk {
            known,
            stack: Stack {
                frames: [0; FRAMES_MAX],
                len: 0,
            },
            last: None,
            unknown_to: 0,
        };
        // SAFETY: what the function asks to be synchronised from outside is a library of Windows; the unwinder that it calls on Linux keeps its state on
        // the stack and reads tables that the loader guards.
        unsafe {
            backtrace::trace_unsynchronized(|frame| {
                walk.step(Frame {
                    address: frame.ip() as u64,
                    stack_pointer: frame.sp() as u64,
                })
            });
        }
        walk.end()
    }

    /// From words that [`Stack::words`] gave.
    pub(super) fn from_words(words: &[u64], len: usize) -> Stack {
        let mut frames = [0; FRAMES_MAX];
        frames.copy_from_slice(words);
        Stack {
            frames,
            len: len.min(FRAMES_MAX),
        }
    }

    /// All places for frames, used or not.
    pub(super) fn words(&self) -> &[u64; FRAMES_MAX] {
        &self.frames
    }

    /// Frames that are known.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Return addresses, innermost first. Without the outermost where there were more than [`FRAMES_MAX`].
    pub fn frames(&self) -> &[u64] {
        &self.frames[..self.len]
    }
}

#[cfg(test)]
thread_local! {
    /// Frames that the unwinder was asked for.
    static UNWOUND: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// A walk by the unwinder, until all that is left is known.
struct Walk<'a> {
    known: &'a Frames,
    stack: Stack,
    last: Option<Frame>,
    /// So many frames must be the unwinder's: the last of them had no known caller.
    unknown_to: usize,
}

impl Walk<'_> {
    /// The unwinder came to a frame; whether it shall go on.
    fn step(&mut self, frame: Frame) -> bool {
        if frame.address == 0 {
            return false;
        }
        self.known.saw(self.last, frame);
        self.last = Some(frame);
        #[cfg(test)]
        UNWOUND.set(UNWOUND.get() + 1);
        self.push(frame) && (self.stack.len <= self.unknown_to || !self.follow(frame))
    }

    /// The stack, when the unwinder stopped.
    fn end(self) -> Stack {
        // Where there was room, it stopped because there was no caller, or because all others were known.
        if let Some(last) = self.last
            && self.stack.len < FRAMES_MAX
        {
            self.known.ended(last);
        }
        self.stack
    }

    /// Keeps a frame; false when there is no room for more.
    fn push(&mut self, frame: Frame) -> bool {
        self.stack.frames[self.stack.len] = frame.address;
        self.stack.len += 1;
        self.stack.len < FRAMES_MAX
    }

    /// Goes on from `frame` by what is known; where that does not reach the end, the stack is as before, and it returns false.
    fn follow(&mut self, frame: Frame) -> bool {
        let (len, mut caller) = (self.stack.len, self.known.caller(frame));
        while let Ok(Some(frame)) = caller {
            if !self.push(frame) {
                return true;
            }
            caller = self.known.caller(frame);
        }
        if caller == Err(Unknown) {
            self.unknown_to = self.stack.len;
            self.stack.len = len;
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    /// The stack under `depth` calls.
    #[inline(never)]
    fn deep(known: &Frames, depth: u32) -> Stack {
        let here = match depth {
            0 => Stack::here(known),
            _ => deep(known, depth - 1),
        };
        black_box(here)
    }

    /// The same through a frame that aligns itself, so that its size is another one each time.
    #[inline(never)]
    fn through_an_aligned_frame(known: &Frames, depth: u32) -> Stack {
        #[repr(align(256))]
        struct Aligned([u8; 300]);
        let aligned = black_box(Aligned([depth as u8; 300]));
        let stack = deep(known, depth);
        black_box(aligned.0[7]);
        stack
    }

    #[inline(never)]
    fn after<const BYTES: usize>(run: impl FnOnce() -> Stack) -> Stack {
        let room = black_box([0u8; BYTES]);
        let stack = run();
        black_box(room[BYTES / 2]);
        stack
    }

    /// The frames as the unwinder alone tells them: nothing is known to it.
    fn asked(known: &Frames, run: impl Fn(&Frames) -> Stack) -> (Vec<u64>, Vec<u64>) {
        let (nothing, mut walks) = (Frames::new(), Vec::new());
        // One place calls both, so that all return addresses are the same.
        for known in black_box(vec![&nothing, known]) {
            walks.push(black_box(&run)(known).frames().to_vec());
        }
        (walks.remove(0), walks.remove(0))
    }

    #[test]
    fn what_is_known_of_frames_gives_the_stack_that_the_unwinder_gives() {
        let known = Frames::new();
        for round in 0..4 {
            for depth in [0, 3, 7, 12, 60] {
                let (unwound, walked) = asked(&known, |known| deep(known, depth));
                assert_eq!(walked, unwound, "round {round}, {depth} calls");
                assert!(walked.len() >= FRAMES_MAX.min(depth as usize));
            }
        }
    }

    #[test]
    fn a_frame_whose_size_varies_is_the_unwinders() {
        let known = Frames::new();
        for _ in 0..4 {
            let run = |known: &Frames| through_an_aligned_frame(known, 3);
            for (unwound, walked) in [
                asked(&known, |known| after::<16>(|| run(known))),
                asked(&known, |known| after::<48>(|| run(known))),
                asked(&known, |known| after::<112>(|| run(known))),
                asked(&known, |known| after::<208>(|| run(known))),
            ] {
                assert_eq!(walked, unwound);
            }
        }
    }

    #[test]
    fn a_stack_that_is_known_needs_one_frame_of_the_unwinder() {
        let (known, mut unwound) = (Frames::new(), Vec::new());
        // From one place, as above.
        for depth in black_box(vec![5; 3]) {
            deep(&known, depth);
            unwound.push(UNWOUND.take());
        }
        assert!(unwound[0] > 5);
        assert!(
            cfg!(not(target_arch = "x86_64")) || unwound[2] == 1,
            "{unwound:?}"
        );
    }
}
