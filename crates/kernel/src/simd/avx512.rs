//! Sixteen lanes: AVX-512 (Skylake-X, Ice Lake, Zen 4 and later), without and with its instructions for 8-bit and bf16 products.

use core::arch::x86_64::*;

use super::{Fetch, Op, Simd, amx};
use crate::product::Strided;
use crate::q4::{Q4_BLOCK_BYTES, Q4_BLOCK_WEIGHTS};

/// AVX-512 F, BW, DQ and VL: what every AVX-512 server has.
pub(crate) const PLAIN: u8 = 0;
/// And VNNI: four 8-bit products at once (Cascade Lake, Ice Lake).
pub(crate) const VNNI: u8 = 1;
/// And BF16: two bf16 products at once (Cooper Lake, Sapphire Rapids, Zen 4).
pub(crate) const BF16: u8 = 2;
/// And AMX: products of [tiles](super::amx) (Sapphire Rapids and later).
pub(crate) const AMX: u8 = 3;

/// Having one tells you: this CPU has AVX-512 F, BW, DQ and VL, AVX2, FMA, F16C, and what `EXTRA` names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512<const EXTRA: u8>(());

impl<const EXTRA: u8> Avx512<EXTRA> {
    pub(crate) fn new() -> Option<Self> {
        let here = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && (EXTRA < VNNI || is_x86_feature_detected!("avx512vnni"))
            && (EXTRA < BF16 || is_x86_feature_detected!("avx512bf16"))
            && (EXTRA < AMX || amx::is_usable());
        here.then_some(Avx512(()))
    }
}

/// The one function compiled for AVX-512; `op` is inlined into it.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
pub(super) fn shell<O: Op>(op: O, s: Avx512<PLAIN>) -> O::Output {
    op.run(s)
}

/// The same with VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) fn shell_vnni<O: Op>(op: O, s: Avx512<VNNI>) -> O::Output {
    op.run(s)
}

/// The same with VNNI and BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c")]
pub(super) fn shell_bf16<O: Op>(op: O, s: Avx512<BF16>) -> O::Output {
    op.run(s)
}

/// The same for a CPU with AMX, whose instructions are written out.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c")]
pub(super) fn shell_amx<O: Op>(op: O, s: Avx512<AMX>) -> O::Output {
    op.run(s)
}

const LANES: usize = 16;

/// Mask whose first `count` lanes are set.
#[inline(always)]
fn first_lanes(count: usize) -> __mmask16 {
    ((1_u32 << count) - 1) as __mmask16
}

/// Lower plus upper half.
#[inline(always)]
fn fold<const EXTRA: u8>(_proof: Avx512<EXTRA>, v: __m512) -> __m256 {
    // SAFETY: the Avx512 value proves AVX-512F and AVX2.
    unsafe {
        let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(v)));
        _mm256_add_ps(_mm512_castps512_ps256(v), high)
    }
}

/// Lane `i` of the first vector and lane `i` of the second, side by side.
const PAIRS: [u16; 2 * LANES] = {
    let mut order = [0; 2 * LANES];
    let mut i = 0;
    while i < LANES {
        order[2 * i] = i as u16;
        order[2 * i + 1] = (LANES + i) as u16;
        i += 1;
    }
    order
};

/// Both rounded to bf16, the first one's lanes below.
///
/// # Safety
/// The CPU must have AVX-512 BF16.
#[inline(always)]
unsafe fn both_bf16(first: __m512, second: __m512) -> __m512i {
    // SAFETY: as the caller says; __m512bh is sixteen words like __m512i.
    unsafe { core::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first)) }
}

impl<const EXTRA: u8> Simd for Avx512<EXTRA> {
    type V = __m512;
    type W = __m512i;
    const LANES: usize = LANES;
    const TILE_ROWS: usize = 4;
    const TILE_VECTORS: usize = 3;
    const PACKED_ROWS: [usize; 3] = [8; 3];
    const HAS_BF16: bool = EXTRA >= BF16;
    const HAS_TILES: bool = EXTRA >= AMX;
    const LOOKS_UP: bool = true;

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        // SAFETY: self proves AVX-512F.
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    fn load(self, from: &[f32]) -> __m512 {
        assert!(from.len() >= LANES);
        // SAFETY: self proves AVX-512F; the slice holds 16 floats.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }
    #[inline(always)]
    fn load_short(self, from: &[f32]) -> __m512 {
        // SAFETY: self proves AVX-512F; lanes at and beyond the slice's length are masked out, hence not read.
        unsafe { _mm512_maskz_loadu_ps(first_lanes(from.len()), from.as_ptr()) }
    }
    #[inline(always)]
    unsafe fn load_ptr(self, from: *const f32) -> __m512 {
        // SAFETY: self proves AVX-512F; the caller says that 16 floats are readable.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    fn store(self, v: __m512, to: &mut [f32]) {
        assert!(to.len() >= LANES);
        // SAFETY: self proves AVX-512F; the slice holds 16 floats.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn store_short(self, v: __m512, to: &mut [f32]) {
        // SAFETY: self proves AVX-512F; lanes at and beyond the slice's length are masked out, hence not written.
        unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), first_lanes(to.len()), v) }
    }
    #[inline(always)]
    fn splat_word(self, word: u32) -> __m512i {
        // SAFETY: self proves AVX-512F.
        unsafe { _mm512_set1_epi32(word as i32) }
    }
    #[inline(always)]
    unsafe fn load_words(self, from: *const u32) -> __m512i {
        // SAFETY: self proves AVX-512F; the caller says that 16 words are readable.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    fn floats(self, words: __m512i) -> __m512 {
        // SAFETY: self proves AVX-512F.
        unsafe { _mm512_castsi512_ps(words) }
    }
    #[inline(always)]
    fn words_to_floats(self, words: __m512i) -> __m512 {
        // SAFETY: self proves AVX-512F.
        unsafe { _mm512_cvtepi32_ps(words) }
    }
    #[inline(always)]
    fn low_bf16(self, pairs: __m512i) -> __m512 {
        // SAFETY: self proves AVX-512F.
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)) }
    }
    #[inline(always)]
    fn high_bf16(self, pairs: __m512i) -> __m512 {
        // SAFETY: self proves AVX-512F.
        unsafe { _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32 as i32))) }
    }
    #[inline(always)]
    fn dot_bf16(self, acc: __m512, a: __m512i, b: __m512i) -> __m512 {
        assert!(Self::HAS_BF16);
        // SAFETY: self proves BF16; __m512bh is sixteen words like __m512i.
        unsafe {
            use core::mem::transmute;
            let (a, b) = (
                transmute::<__m512i, __m512bh>(a),
                transmute::<__m512i, __m512bh>(b),
            );
            _mm512_dpbf16_ps(acc, a, b)
        }
    }
    #[inline(always)]
    fn dot_bytes(self, acc: __m512i, x: __m512i, w: __m512i) -> __m512i {
        // SAFETY: self proves AVX-512F and BW, and VNNI where that is asked for.
        unsafe {
            if EXTRA >= VNNI {
                return _mm512_dpbusd_epi32(acc, x, w);
            }
            // Not `maddubs`, which saturates: bytes of odd and even places as 16-bit numbers, whose products are exact.
            let even_x = _mm512_and_si512(x, _mm512_set1_epi16(0xff));
            let odd_x = _mm512_srli_epi16::<8>(x);
            let even_w = _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(w));
            let odd_w = _mm512_srai_epi16::<8>(w);
            let even = _mm512_madd_epi16(even_x, even_w);
            let odd = _mm512_madd_epi16(odd_x, odd_w);
            _mm512_add_epi32(acc, _mm512_add_epi32(even, odd))
        }
    }
    #[inline(always)]
    fn byte_to_floats(self, words: __m512i, place: usize) -> __m512 {
        // SAFETY: self proves AVX-512F.
        unsafe {
            let above = _mm_cvtsi32_si128(24 - 8 * place as i32);
            _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(_mm512_sll_epi32(words, above)))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, v: __m512, to: *mut u32) {
        // SAFETY: self proves AVX-512F, and BF16 where that is asked for; the caller says that 8 words are writable.
        unsafe {
            if EXTRA >= BF16 {
                let packed = core::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v));
                return _mm256_storeu_si256(to.cast(), packed);
            }
            let bits = _mm512_castps_si512(v);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
            let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x40_0000));
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
            let high = _mm512_srli_epi32::<16>(_mm512_mask_mov_epi32(rounded, nan, quiet));
            _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(high));
        }
    }
    #[inline(always)]
    unsafe fn store_both_bf16(self, first: __m512, second: __m512, to: *mut u32) {
        if EXTRA >= BF16 {
            // SAFETY: self proves BF16; the caller says that 16 words are writable.
            return unsafe { _mm512_storeu_si512(to.cast(), both_bf16(first, second)) };
        }
        // SAFETY: the caller says that 16 words are writable, half of them for each.
        unsafe {
            self.store_bf16(first, to);
            self.store_bf16(second, to.add(LANES / 2));
        }
    }
    #[inline(always)]
    unsafe fn store_pairs(self, low: __m512, high: __m512, to: *mut u32) {
        if EXTRA >= BF16 {
            // SAFETY: self proves BF16 and AVX-512BW; the caller says that 16 words are writable.
            return unsafe {
                let order = _mm512_loadu_si512(PAIRS.as_ptr().cast());
                _mm512_storeu_si512(to.cast(), _mm512_permutexvar_epi16(order, both_bf16(low, high)));
            };
        }
        // SAFETY: self proves AVX-512F; eight words hold a vector of bf16; the caller says that 16 words are writable.
        unsafe {
            let (mut lows, mut highs) = ([0_u32; LANES / 2], [0_u32; LANES / 2]);
            self.store_bf16(low, lows.as_mut_ptr());
            self.store_bf16(high, highs.as_mut_ptr());
            let low = _mm512_cvtepu16_epi32(_mm256_loadu_si256(lows.as_ptr().cast()));
            let high = _mm512_cvtepu16_epi32(_mm256_loadu_si256(highs.as_ptr().cast()));
            _mm512_storeu_si512(to.cast(), _mm512_or_si512(low, _mm512_slli_epi32::<16>(high)));
        }
    }
    /// Four rounds: pairs of words, pairs of those, then quarters of vectors twice.
    #[inline(always)]
    unsafe fn transpose(
        self,
        from: *const u32,
        from_stride: usize,
        to: *mut u32,
        to_stride: usize,
        count: usize,
    ) {
        // SAFETY: self proves AVX-512F; the caller says that 16 rows of 16 words are readable and `count` of them writable.
        unsafe {
            let mut rows = [_mm512_setzero_si512(); LANES];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = _mm512_loadu_si512(from.add(i * from_stride).cast());
            }
            let mut words = rows;
            for i in (0..LANES).step_by(2) {
                words[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
                words[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
            }
            // Group 4 g + k: columns k, 4 + k, 8 + k and 12 + k of rows 4 g to 4 g + 3, a quarter each.
            let mut groups = words;
            for g in (0..LANES).step_by(4) {
                groups[g] = _mm512_unpacklo_epi64(words[g], words[g + 2]);
                groups[g + 1] = _mm512_unpackhi_epi64(words[g], words[g + 2]);
                groups[g + 2] = _mm512_unpacklo_epi64(words[g + 1], words[g + 3]);
                groups[g + 3] = _mm512_unpackhi_epi64(words[g + 1], words[g + 3]);
            }
            for k in 0..4 {
                let [a, b, c, d] = [groups[k], groups[4 + k], groups[8 + k], groups[12 + k]];
                let (ab_low, ab_high) = (
                    _mm512_shuffle_i32x4::<0x44>(a, b),
                    _mm512_shuffle_i32x4::<0xee>(a, b),
                );
                let (cd_low, cd_high) = (
                    _mm512_shuffle_i32x4::<0x44>(c, d),
                    _mm512_shuffle_i32x4::<0xee>(c, d),
                );
                let columns = [
                    _mm512_shuffle_i32x4::<0x88>(ab_low, cd_low),
                    _mm512_shuffle_i32x4::<0xdd>(ab_low, cd_low),
                    _mm512_shuffle_i32x4::<0x88>(ab_high, cd_high),
                    _mm512_shuffle_i32x4::<0xdd>(ab_high, cd_high),
                ];
                for (quarter, column) in columns.into_iter().enumerate() {
                    if 4 * quarter + k < count {
                        _mm512_storeu_si512(to.add((4 * quarter + k) * to_stride).cast(), column);
                    }
                }
            }
        }
    }
    #[inline(always)]
    unsafe fn store_row(self, v: __m512, to: *mut u8) {
        // SAFETY: self proves AVX-512F; the caller says that 16 bytes are writable.
        unsafe { _mm_storeu_si128(to.cast(), _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(v))) }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: self proves AVX-512F.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: self proves AVX-512F.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: self proves AVX-512F.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: self proves AVX-512F.
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: self proves AVX-512F.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: self proves AVX-512F.
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: self proves AVX-512F.
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn abs(self, v: __m512) -> __m512 {
        // SAFETY: self proves AVX-512F.
        unsafe { _mm512_abs_ps(v) }
    }
    #[inline(always)]
    fn lookup(self, table: &[f32; 32], at: __m512) -> __m512 {
        // SAFETY: self proves AVX-512F; the table is two vectors long.
        unsafe {
            let (low, high) = (
                _mm512_loadu_ps(table.as_ptr()),
                _mm512_loadu_ps(table.as_ptr().add(LANES)),
            );
            _mm512_permutex2var_ps(low, _mm512_castps_si512(at), high)
        }
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        // SAFETY: self proves AVX-512F.
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    fn pow2(self, n: __m512) -> __m512 {
        // SAFETY: self proves AVX-512F.
        unsafe {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        }
    }
    #[inline(always)]
    fn scale_down(self, v: __m512, n: __m512) -> __m512 {
        // SAFETY: self proves AVX-512F.
        unsafe { _mm512_scalef_ps(v, n) }
    }
    #[inline(always)]
    fn sum(self, v: __m512) -> f32 {
        let v = fold(self, v);
        // SAFETY: self proves AVX2.
        unsafe {
            let half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)))
        }
    }
    #[inline(always)]
    fn sum4(self, v: [__m512; 4]) -> [f32; 4] {
        let [a, b, c, d] = [
            fold(self, v[0]),
            fold(self, v[1]),
            fold(self, v[2]),
            fold(self, v[3]),
        ];
        // SAFETY: self proves AVX2; __m128 and [f32; 4] have the same size and both hold plain floats.
        unsafe {
            let pairs = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
            let sums = _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps::<1>(pairs));
            core::mem::transmute::<__m128, [f32; 4]>(sums)
        }
    }
    #[inline(always)]
    fn max_lane(self, v: __m512) -> f32 {
        // SAFETY: self proves AVX-512F.
        unsafe { _mm512_reduce_max_ps(v) }
    }
    #[inline(always)]
    fn min_lane(self, v: __m512) -> f32 {
        // SAFETY: self proves AVX-512F.
        unsafe { _mm512_reduce_min_ps(v) }
    }
    #[inline(always)]
    fn q4_block(self, block: &[u8; Q4_BLOCK_BYTES], out: &mut [f32; Q4_BLOCK_WEIGHTS]) {
        // SAFETY: self proves AVX-512F and F16C; 16 bytes follow the scale, and 2 times 16 floats fit in `out`.
        unsafe {
            let scale_bits = i32::from(u16::from_le_bytes([block[0], block[1]]));
            let scale = _mm512_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(scale_bits)));
            let offset = _mm512_mul_ps(scale, _mm512_set1_ps(-8.0));
            let bytes = _mm_loadu_si128(block.as_ptr().add(2).cast());
            let low_mask = _mm_set1_epi8(15);
            let low = _mm_and_si128(bytes, low_mask);
            let high = _mm_and_si128(_mm_srli_epi16::<4>(bytes), low_mask);
            for (i, half) in [low, high].into_iter().enumerate() {
                let q = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(half));
                _mm512_storeu_ps(out.as_mut_ptr().add(i * LANES), _mm512_fmadd_ps(q, scale, offset));
            }
        }
    }
    #[inline(always)]
    fn shape_tiles(self, rows: usize, rest: usize) {
        assert!(Self::HAS_TILES);
        // SAFETY: self proves AMX.
        unsafe { amx::shape(rows, rest) }
    }
    #[inline(always)]
    unsafe fn multiply_tile<const FORMAT: u8, const N: usize>(
        self,
        x: Strided,
        w: Strided,
        words: usize,
        fetch: Fetch,
        sums: *mut u32,
    ) {
        assert!(Self::HAS_TILES);
        // SAFETY: self proves AMX; the rest is as the caller says.
        unsafe { amx::multiply::<FORMAT, N>(x, w, words, fetch, sums) }
    }
    #[inline(always)]
    unsafe fn multiply_two_tiles<const FORMAT: u8>(
        self,
        x: [Strided; 2],
        w: *const u32,
        words: usize,
        fetch: Fetch,
        sums: [*mut u32; 2],
    ) {
        assert!(Self::HAS_TILES);
        // SAFETY: self proves AMX; the rest is as the caller says.
        unsafe { amx::multiply_pair::<FORMAT>(x, w, words, fetch, sums) }
    }
    #[inline(always)]
    fn release_tiles(self) {
        assert!(Self::HAS_TILES);
        // SAFETY: self proves AMX.
        unsafe { amx::release() }
    }
}
