//! Eight lanes: AVX2 with FMA and F16C (Haswell, Zen and later).

use core::arch::x86_64::*;

use super::{Op, Simd};
use crate::q4::{Q4_BLOCK_BYTES, Q4_BLOCK_WEIGHTS};

/// Having one tells you: this CPU has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(crate) fn new() -> Option<Self> {
        let here = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        here.then_some(Avx2(()))
    }
}

/// The one function compiled for AVX2; `op` is inlined into it.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn shell<O: Op>(op: O, s: Avx2) -> O::Output {
    op.run(s)
}

const LANES: usize = 8;

/// Mask whose first `count` lanes are set.
#[inline(always)]
fn first_lanes(count: usize) -> __m256i {
    const ONES_THEN_ZEROS: [i32; 2 * LANES] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    let window = &ONES_THEN_ZEROS[LANES - count..][..LANES];
    // SAFETY: called with an Avx2 value in hand; `window` is 8 integers long.
    unsafe { _mm256_loadu_si256(window.as_ptr().cast()) }
}

impl Simd for Avx2 {
    type V = __m256;
    type W = __m256i;
    const LANES: usize = LANES;
    const TILE_ROWS: usize = 3;
    const TILE_VECTORS: usize = 2;
    const PACKED_ROWS: [usize; 3] = [6, 4, 4];
    const FETCH_TILES: [usize; 3] = [8, 4, 4];
    const STEPS: usize = 4;
    const ROW_MOST: u8 = 127;
    const ROW_OUTLIER: bool = true;
    const JOINS_BYTES: bool = true;

    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        // SAFETY: self proves AVX2.
        unsafe { _mm256_set1_ps(value) }
    }
    #[inline(always)]
    fn load(self, from: &[f32]) -> __m256 {
        assert!(from.len() >= LANES);
        // SAFETY: self proves AVX2; the slice holds 8 floats.
        unsafe { _mm256_loadu_ps(from.as_ptr()) }
    }
    #[inline(always)]
    fn load_short(self, from: &[f32]) -> __m256 {
        // SAFETY: self proves AVX2; lanes at and beyond the slice's length are masked out, hence not read.
        unsafe { _mm256_maskload_ps(from.as_ptr(), first_lanes(from.len())) }
    }
    #[inline(always)]
    unsafe fn load_ptr(self, from: *const f32) -> __m256 {
        // SAFETY: self proves AVX2; the caller says that 8 floats are readable.
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    fn store(self, v: __m256, to: &mut [f32]) {
        assert!(to.len() >= LANES);
        // SAFETY: self proves AVX2; the slice holds 8 floats.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn store_short(self, v: __m256, to: &mut [f32]) {
        // SAFETY: self proves AVX2; lanes at and beyond the slice's length are masked out, hence not written.
        unsafe { _mm256_maskstore_ps(to.as_mut_ptr(), first_lanes(to.len()), v) }
    }
    #[inline(always)]
    fn splat_word(self, word: u32) -> __m256i {
        // SAFETY: self proves AVX2.
        unsafe { _mm256_set1_epi32(word as i32) }
    }
    #[inline(always)]
    unsafe fn load_words(self, from: *const u32) -> __m256i {
        // SAFETY: self proves AVX2; the caller says that 8 words are readable.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }
    #[inline(always)]
    fn floats(self, words: __m256i) -> __m256 {
        // SAFETY: self proves AVX2.
        unsafe { _mm256_castsi256_ps(words) }
    }
    #[inline(always)]
    fn words_to_floats(self, words: __m256i) -> __m256 {
        // SAFETY: self proves AVX2.
        unsafe { _mm256_cvtepi32_ps(words) }
    }
    #[inline(always)]
    fn low_bf16(self, pairs: __m256i) -> __m256 {
        // SAFETY: self proves AVX2.
        unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs)) }
    }
    #[inline(always)]
    fn high_bf16(self, pairs: __m256i) -> __m256 {
        // SAFETY: self proves AVX2.
        unsafe { _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000_u32 as i32))) }
    }
    /// `maddubs` multiplies unsigned with signed bytes and adds pairs, but saturates at 2^15, which x of up to 255 would reach: twice 127 * 127 does
    /// not.
    #[inline(always)]
    fn dot_bytes(self, acc: __m256i, x: __m256i, w: __m256i) -> __m256i {
        // SAFETY: self proves AVX2.
        unsafe {
            let pairs = _mm256_maddubs_epi16(x, w);
            _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }
    /// Three multiplications instead of four.
    #[inline(always)]
    fn dot_two_bytes(self, acc: __m256i, x: [__m256i; 2], w: [__m256i; 2]) -> __m256i {
        // SAFETY: self proves AVX2.
        unsafe {
            let (first, second) = (_mm256_maddubs_epi16(x[0], w[0]), _mm256_maddubs_epi16(x[1], w[1]));
            let fours = _mm256_add_epi16(first, second);
            _mm256_add_epi32(acc, _mm256_madd_epi16(fours, _mm256_set1_epi16(1)))
        }
    }
    #[inline(always)]
    fn byte_to_floats(self, words: __m256i, place: usize) -> __m256 {
        // SAFETY: self proves AVX2.
        unsafe {
            let above = _mm_cvtsi32_si128(24 - 8 * place as i32);
            _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(_mm256_sll_epi32(words, above)))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, v: __m256, to: *mut u32) {
        // SAFETY: self proves AVX2; the caller says that 4 words are writable.
        unsafe {
            let bits = _mm256_castps_si256(v);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
            let high = _mm256_srli_epi32::<16>(_mm256_blendv_epi8(rounded, quiet, nan));
            let packed = _mm256_packus_epi32(high, high);
            let low = _mm256_castsi256_si128(packed);
            let high = _mm256_extracti128_si256::<1>(packed);
            _mm_storeu_si128(to.cast(), _mm_unpacklo_epi64(low, high));
        }
    }
    #[inline(always)]
    unsafe fn store_row(self, v: __m256, to: *mut u8) {
        // SAFETY: self proves AVX2; the caller says that 8 bytes are writable.
        unsafe {
            let words = _mm256_cvtps_epi32(v);
            let halves = _mm_packus_epi32(
                _mm256_castsi256_si128(words),
                _mm256_extracti128_si256::<1>(words),
            );
            _mm_storel_epi64(to.cast(), _mm_packus_epi16(halves, halves));
        }
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: self proves AVX2.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: self proves AVX2.
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: self proves AVX2.
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: self proves AVX2.
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: self proves FMA.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: self proves AVX2.
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: self proves AVX2.
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        // SAFETY: self proves AVX2.
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    fn pow2(self, n: __m256) -> __m256 {
        // SAFETY: self proves AVX2.
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        }
    }
    #[inline(always)]
    fn sum(self, v: __m256) -> f32 {
        // SAFETY: self proves AVX2.
        unsafe {
            let half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)))
        }
    }
    #[inline(always)]
    fn sum4(self, v: [__m256; 4]) -> [f32; 4] {
        // SAFETY: self proves AVX2; __m128 and [f32; 4] have the same size and both hold plain floats.
        unsafe {
            let pairs = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
            let sums = _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps::<1>(pairs));
            core::mem::transmute::<__m128, [f32; 4]>(sums)
        }
    }
    #[inline(always)]
    fn max_lane(self, v: __m256) -> f32 {
        // SAFETY: self proves AVX2.
        unsafe {
            let half = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let pair = _mm_max_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)))
        }
    }
    #[inline(always)]
    fn min_lane(self, v: __m256) -> f32 {
        // SAFETY: self proves AVX2.
        unsafe {
            let half = _mm_min_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let pair = _mm_min_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_min_ss(pair, _mm_movehdup_ps(pair)))
        }
    }
    #[inline(always)]
    fn q4_block(self, block: &[u8; Q4_BLOCK_BYTES], out: &mut [f32; Q4_BLOCK_WEIGHTS]) {
        // SAFETY: self proves AVX2 and F16C; 16 bytes follow the scale, and 4 times 8 floats fit in `out`.
        unsafe {
            let scale_bits = i32::from(u16::from_le_bytes([block[0], block[1]]));
            let scale = _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(scale_bits)));
            let offset = _mm256_mul_ps(scale, _mm256_set1_ps(-8.0));
            let bytes = _mm_loadu_si128(block.as_ptr().add(2).cast());
            let low_mask = _mm_set1_epi8(15);
            let low = _mm_and_si128(bytes, low_mask);
            let high = _mm_and_si128(_mm_srli_epi16::<4>(bytes), low_mask);
            let quarters = [low, _mm_srli_si128::<8>(low), high, _mm_srli_si128::<8>(high)];
            for (i, quarter) in quarters.into_iter().enumerate() {
                let q = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(quarter));
                _mm256_storeu_ps(out.as_mut_ptr().add(i * LANES), _mm256_fmadd_ps(q, scale, offset));
            }
        }
    }
}
