//! Q4_0 weights: 32 weights in 18 bytes, kept as they lie in the file.
//!
//! A block is an IEEE half-precision scale (little endian) and 16 bytes; byte `j` holds weight `j` in its low nibble and
//! weight `j + 16` in its high nibble; a weight is `(nibble - 8) * scale`. The format is ggml's `block_q4_0`
//! (`ggml-common.h` of llama.cpp). Tables stay in this form in memory, an eighth of their f32
//! size; matrices of products are expanded once, to be [packed](crate::pack).

use crate::simd::{Op, Simd};

/// Bytes of a block.
pub const Q4_BLOCK_BYTES: usize = 18;
/// Weights in a block.
pub const Q4_BLOCK_WEIGHTS: usize = 32;

/// Bytes of a row of `weights` weights, or `None` when that is not a multiple of [`Q4_BLOCK_WEIGHTS`].
pub const fn q4_row_bytes(weights: usize) -> Option<usize> {
    if weights.is_multiple_of(Q4_BLOCK_WEIGHTS) {
        Some(weights / Q4_BLOCK_WEIGHTS * Q4_BLOCK_BYTES)
    } else {
        None
    }
}

/// IEEE 754 binary16 to binary32, exact for every input (NaN payloads included).
///
/// ```
/// assert_eq!(plimsoll_kernel::f16_to_f32(0x3c00), 1.0);
/// assert_eq!(plimsoll_kernel::f16_to_f32(0x0001), 2.0_f32.powi(-24));
/// ```
pub fn f16_to_f32(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let exponent = u32::from(half >> 10) & 0x1f;
    let fraction = u32::from(half & 0x3ff);
    match exponent {
        0 => {
            // Zero or subnormal: fraction times 2^-24.
            let magnitude = fraction as f32 * f32::from_bits(0x3380_0000);
            f32::from_bits(sign | magnitude.to_bits())
        }
        0x1f => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

/// bfloat16 to binary32, exact.
///
/// ```
/// assert_eq!(plimsoll_kernel::bf16_to_f32(0xbf80), -1.0);
/// ```
pub fn bf16_to_f32(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

/// binary32 to the nearest bfloat16, ties to even; NaN stays NaN.
///
/// ```
/// assert_eq!(plimsoll_kernel::f32_to_bf16(-1.0), 0xbf80);
/// ```
pub fn f32_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + (0x7fff + (bits >> 16 & 1))) >> 16) as u16
}

/// Expands whole blocks into floats.
#[inline(always)]
pub(crate) fn expand<S: Simd>(s: S, blocks: &[u8], out: &mut [f32]) {
    let (blocks, _) = blocks.as_chunks::<Q4_BLOCK_BYTES>();
    let (out, _) = out.as_chunks_mut::<Q4_BLOCK_WEIGHTS>();
    for (block, out) in blocks.iter().zip(out) {
        s.q4_block(block, out);
    }
}

/// See [`crate::Kernel::q4_row`].
pub(crate) struct Q4Row<'a> {
    pub(crate) blocks: &'a [u8],
    pub(crate) out: &'a mut [f32],
}

impl Op for Q4Row<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        expand(s, self.blocks, self.out);
    }
}
