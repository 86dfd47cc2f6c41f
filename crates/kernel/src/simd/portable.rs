//! Four lanes of plain Rust: any CPU, and what the compiler turns into SSE2 or NEON.

use super::Simd;
use crate::q4::{Q4_BLOCK_BYTES, Q4_BLOCK_WEIGHTS, f16_to_f32, f32_to_bf16};

/// The instruction set that is always there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

const LANES: usize = 4;
type V = [f32; LANES];

macro_rules! lanewise {
    ($a:ident, $b:ident, $lane:ident => $value:expr) => {{
        let mut out = [0.0; LANES];
        for $lane in 0..LANES {
            out[$lane] = $value;
        }
        out
    }};
}

impl Simd for Portable {
    type V = V;
    type W = [u32; LANES];
    const LANES: usize = LANES;
    const TILE_ROWS: usize = 3;
    const TILE_VECTORS: usize = 3;
    const PACKED_ROWS: [usize; 3] = [3; 3];
    const ROW_OUTLIER: bool = true;

    #[inline(always)]
    fn splat(self, value: f32) -> V {
        [value; LANES]
    }
    #[inline(always)]
    fn load(self, from: &[f32]) -> V {
        [from[0], from[1], from[2], from[3]]
    }
    #[inline(always)]
    fn load_short(self, from: &[f32]) -> V {
        let mut out = [0.0; LANES];
        out[..from.len()].copy_from_slice(from);
        out
    }
    #[inline(always)]
    unsafe fn load_ptr(self, from: *const f32) -> V {
        // SAFETY: the caller says that LANES floats are readable; an array of f32 needs no more alignment than f32.
        unsafe { from.cast::<V>().read() }
    }
    #[inline(always)]
    fn store(self, v: V, to: &mut [f32]) {
        to[..LANES].copy_from_slice(&v);
    }
    #[inline(always)]
    fn store_short(self, v: V, to: &mut [f32]) {
        to.copy_from_slice(&v[..to.len()]);
    }
    #[inline(always)]
    fn splat_word(self, word: u32) -> [u32; LANES] {
        [word; LANES]
    }
    #[inline(always)]
    unsafe fn load_words(self, from: *const u32) -> [u32; LANES] {
        // SAFETY: the caller says that LANES words are readable.
        unsafe { from.cast::<[u32; LANES]>().read_unaligned() }
    }
    #[inline(always)]
    fn floats(self, words: [u32; LANES]) -> V {
        words.map(f32::from_bits)
    }
    #[inline(always)]
    fn words_to_floats(self, words: [u32; LANES]) -> V {
        lanewise!(words, words, i => words[i] as i32 as f32)
    }
    #[inline(always)]
    fn low_bf16(self, pairs: [u32; LANES]) -> V {
        pairs.map(|pair| f32::from_bits(pair << 16))
    }
    #[inline(always)]
    fn high_bf16(self, pairs: [u32; LANES]) -> V {
        pairs.map(|pair| f32::from_bits(pair & 0xffff_0000))
    }
    #[inline(always)]
    fn dot_bytes(self, acc: [u32; LANES], x: [u32; LANES], w: [u32; LANES]) -> [u32; LANES] {
        let mut out = acc;
        for i in 0..LANES {
            for (x, w) in x[i].to_le_bytes().into_iter().zip(w[i].to_le_bytes()) {
                out[i] = out[i].wrapping_add_signed(i32::from(x) * i32::from(w as i8));
            }
        }
        out
    }
    #[inline(always)]
    fn byte_to_floats(self, words: [u32; LANES], place: usize) -> V {
        words.map(|word| f32::from(word.to_le_bytes()[place] as i8))
    }
    #[inline(always)]
    unsafe fn store_bf16(self, v: V, to: *mut u32) {
        let pair = |i: usize| u32::from(f32_to_bf16(v[i])) | u32::from(f32_to_bf16(v[i + 1])) << 16;
        // SAFETY: the caller says that LANES / 2 words are writable.
        unsafe { to.cast::<[u32; LANES / 2]>().write_unaligned([pair(0), pair(2)]) }
    }
    #[inline(always)]
    unsafe fn store_row(self, v: V, to: *mut u8) {
        // SAFETY: the caller says that LANES bytes are writable.
        unsafe {
            to.cast::<[u8; LANES]>()
                .write(v.map(|x| x.round_ties_even() as u8))
        }
    }
    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        lanewise!(a, b, i => a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        lanewise!(a, b, i => a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        lanewise!(a, b, i => a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        lanewise!(a, b, i => a[i] / b[i])
    }
    // Not `mul_add`: without the instruction that is a call into libm.
    #[inline(always)]
    fn fma(self, a: V, b: V, c: V) -> V {
        lanewise!(a, b, i => a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        lanewise!(a, b, i => if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        lanewise!(a, b, i => if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn round(self, a: V) -> V {
        lanewise!(a, a, i => a[i].round_ties_even())
    }
    #[inline(always)]
    fn pow2(self, n: V) -> V {
        lanewise!(n, n, i => f32::from_bits((((n[i] as i32) + 127) << 23) as u32))
    }
    #[inline(always)]
    fn sum(self, v: V) -> f32 {
        (v[0] + v[2]) + (v[1] + v[3])
    }
    #[inline(always)]
    fn sum4(self, v: [V; 4]) -> [f32; 4] {
        [self.sum(v[0]), self.sum(v[1]), self.sum(v[2]), self.sum(v[3])]
    }
    #[inline(always)]
    fn max_lane(self, v: V) -> f32 {
        v[0].max(v[1]).max(v[2].max(v[3]))
    }
    #[inline(always)]
    fn min_lane(self, v: V) -> f32 {
        v[0].min(v[1]).min(v[2].min(v[3]))
    }
    #[inline(always)]
    fn q4_block(self, block: &[u8; Q4_BLOCK_BYTES], out: &mut [f32; Q4_BLOCK_WEIGHTS]) {
        let scale = f16_to_f32(u16::from_le_bytes([block[0], block[1]]));
        for j in 0..Q4_BLOCK_WEIGHTS / 2 {
            let byte = block[2 + j];
            out[j] = (f32::from(byte & 15) - 8.0) * scale;
            out[j + Q4_BLOCK_WEIGHTS / 2] = (f32::from(byte >> 4) - 8.0) * scale;
        }
    }
}
