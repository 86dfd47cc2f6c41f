//! Where a thread stands: raw return addresses, named only when somebody reads them.

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
    pub(super) fn here() -> Stack {
        let mut stack = Stack {
            frames: [0; FRAMES_MAX],
            len: 0,
        };
        // SAFETY: what the function asks to be synchronised from outside is a library of Windows; the unwinder that it calls on Linux keeps its state on
        // the stack and reads tables that the loader guards.
        unsafe {
            backtrace::trace_unsynchronized(|frame| {
                stack.frames[stack.len] = frame.ip() as u64;
                stack.len += 1;
                stack.len < FRAMES_MAX
            });
        }
        stack
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
