//! The formats of a product as instructions: every one takes a 32-bit word of each operand and adds to a 32-bit sum, so that one
//! [tile](crate::product) serves them all. Where bf16 has no instruction, or one slower than that of floats, a word of weights is two
//! floats, one after the other, and rows of x are floats.

use crate::packed::Format;
use crate::simd::Simd;

/// How the words of two operands are multiplied and summed.
pub(crate) trait Dot: Copy {
    /// Sums of a vector of outputs.
    type Acc<S: Simd>: Copy;
    /// A vector of words, as the multiplier takes them.
    type Operand<S: Simd>: Copy;
    /// What rows of x are.
    const FORMAT: Format;
    /// Words of a row for a word of weights.
    const PARTS: usize = 1;
    /// Whether two steps are multiplied at once.
    const JOINED: bool = false;

    /// Sums that start at a value; a whole one where sums are whole.
    fn start<S: Simd>(s: S, value: f32) -> Self::Acc<S>;
    fn splat<S: Simd>(s: S, word: u32) -> Self::Operand<S>;
    /// One of the [parts](Dot::PARTS) of a vector of weights.
    ///
    /// # Safety
    /// `from` must be readable for a vector of words.
    unsafe fn load<S: Simd>(s: S, from: *const u32, part: usize) -> Self::Operand<S>;
    fn add<S: Simd>(s: S, acc: Self::Acc<S>, x: Self::Operand<S>, w: Self::Operand<S>) -> Self::Acc<S>;
    /// [`Dot::add`] of one step and then the other; what two [joined](Dot::JOINED) ones are computed by.
    #[inline(always)]
    fn add_two<S: Simd>(
        s: S,
        acc: Self::Acc<S>,
        x: [Self::Operand<S>; 2],
        w: [Self::Operand<S>; 2],
    ) -> Self::Acc<S> {
        Self::add(s, Self::add(s, acc, x[0], w[0]), x[1], w[1])
    }
    fn to_floats<S: Simd>(s: S, acc: Self::Acc<S>) -> S::V;
}

/// Products of floats with floats, or with the two bf16 of a word, one part and then the other.
#[derive(Clone, Copy)]
pub(crate) struct FloatDot<const PARTS: usize = 1>;

/// Rows of floats, weights in bf16.
pub(crate) type WideDot = FloatDot<2>;

impl<const PARTS: usize> Dot for FloatDot<PARTS> {
    type Acc<S: Simd> = S::V;
    type Operand<S: Simd> = S::V;
    const FORMAT: Format = Format::F32;
    const PARTS: usize = PARTS;

    #[inline(always)]
    fn start<S: Simd>(s: S, value: f32) -> S::V {
        s.splat(value)
    }
    #[inline(always)]
    fn splat<S: Simd>(s: S, word: u32) -> S::V {
        s.splat(f32::from_bits(word))
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, from: *const u32, part: usize) -> S::V {
        // SAFETY: as the caller says.
        unsafe {
            match (PARTS, part) {
                (1, _) => s.load_ptr(from.cast()),
                (_, 0) => s.low_bf16(s.load_words(from)),
                _ => s.high_bf16(s.load_words(from)),
            }
        }
    }
    #[inline(always)]
    fn add<S: Simd>(s: S, acc: S::V, x: S::V, w: S::V) -> S::V {
        s.fma(x, w, acc)
    }
    #[inline(always)]
    fn to_floats<S: Simd>(_s: S, acc: S::V) -> S::V {
        acc
    }
}

/// Products of pairs of bf16.
#[derive(Clone, Copy)]
pub(crate) struct Bf16Dot;

impl Dot for Bf16Dot {
    type Acc<S: Simd> = S::V;
    type Operand<S: Simd> = S::W;
    const FORMAT: Format = Format::Bf16;

    #[inline(always)]
    fn start<S: Simd>(s: S, value: f32) -> S::V {
        s.splat(value)
    }
    #[inline(always)]
    fn splat<S: Simd>(s: S, word: u32) -> S::W {
        s.splat_word(word)
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, from: *const u32, _part: usize) -> S::W {
        // SAFETY: as the caller says.
        unsafe { s.load_words(from) }
    }
    #[inline(always)]
    fn add<S: Simd>(s: S, acc: S::V, x: S::W, w: S::W) -> S::V {
        s.dot_bf16(acc, x, w)
    }
    #[inline(always)]
    fn to_floats<S: Simd>(_s: S, acc: S::V) -> S::V {
        acc
    }
}

/// Products of fours of 8-bit numbers, or of two fours where weights are [bounded](crate::Packed::bounded).
#[derive(Clone, Copy)]
pub(crate) struct Int8Dot<const JOINED: bool = false>;

impl<const JOINED: bool> Dot for Int8Dot<JOINED> {
    type Acc<S: Simd> = S::W;
    type Operand<S: Simd> = S::W;
    const FORMAT: Format = Format::Int8;
    const JOINED: bool = JOINED;

    #[inline(always)]
    fn start<S: Simd>(s: S, value: f32) -> S::W {
        s.splat_word(value as i32 as u32)
    }
    #[inline(always)]
    fn splat<S: Simd>(s: S, word: u32) -> S::W {
        s.splat_word(word)
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, from: *const u32, _part: usize) -> S::W {
        // SAFETY: as the caller says.
        unsafe { s.load_words(from) }
    }
    #[inline(always)]
    fn add<S: Simd>(s: S, acc: S::W, x: S::W, w: S::W) -> S::W {
        s.dot_bytes(acc, x, w)
    }
    #[inline(always)]
    fn add_two<S: Simd>(s: S, acc: S::W, x: [S::W; 2], w: [S::W; 2]) -> S::W {
        s.dot_two_bytes(acc, x, w)
    }
    #[inline(always)]
    fn to_floats<S: Simd>(s: S, acc: S::W) -> S::V {
        s.words_to_floats(acc)
    }
}
