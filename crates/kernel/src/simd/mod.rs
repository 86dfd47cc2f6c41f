//! The vector operations that every kernel is written in, once per instruction set.
//!
//! A value of [`Avx2`] or [`Avx512`] exists only after the running CPU was asked for those features, so the methods of
//! [`Simd`] may be safe although the intrinsics beneath are not: holding the value is the proof. Everything is
//! `#[inline(always)]` and free of closures, so that a body written over `S: Simd` melts into the one
//! `#[target_feature]` shell it is called from (see [`Op`]).

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::{AMX, Avx512, BF16, PLAIN, VNNI};
pub(crate) use portable::Portable;

use crate::product::Strided;
use crate::q4::{Q4_BLOCK_BYTES, Q4_BLOCK_WEIGHTS};

/// Rows of a tile, and words of a row.
pub(crate) const TILE: usize = 16;

/// What is fetched while tiles are multiplied: so many cache lines for each step of [`TILE`] words.
#[derive(Clone, Copy)]
pub(crate) struct Fetch {
    pub(crate) from: *const u32,
    pub(crate) lines: usize,
}

impl Fetch {
    pub(crate) const NOTHING: Fetch = Fetch {
        from: core::ptr::null(),
        lines: 0,
    };
}

/// Vectors of `LANES` floats.
pub(crate) trait Simd: Copy {
    /// One vector register.
    type V: Copy;
    /// One vector register of 32-bit words: an i32, two bf16 or four 8-bit numbers each.
    type W: Copy;
    /// Floats in a vector.
    const LANES: usize;
    /// Vectors of outputs in the register tile of a product with packed weights: 2 or 3.
    const TILE_VECTORS: usize;
    /// Rows of x in that tile (at most 8), in the order of [`Format`](crate::Format): what the register file holds beside the operands.
    const PACKED_ROWS: [usize; 3];
    /// Tiles at the end of a panel that fetch the next one, a divisor of the panel's width, in the same order: few, so that it is there late and stays, but not so few that
    /// they wait for memory.
    const FETCH_TILES: [usize; 3] = [4; 3];
    /// Steps of a tile from one computation of its addresses to the next: more where the multipliers leave no time for that.
    const STEPS: usize = 1;
    /// The largest of the whole numbers, from zero on, that rows of x are quantised to: what the multiplier of bytes takes.
    const ROW_MOST: u8 = 255;
    /// Whether the largest number of a quantised row stands beside it, so that the others have the range to themselves.
    const ROW_OUTLIER: bool = false;
    /// Whether it is faster to multiply the bytes of [two steps](Simd::dot_two_bytes) at once.
    const JOINS_BYTES: bool = false;
    /// Rows of x in the register tile of a matrix product (at most 4): what the register file holds.
    const TILE_ROWS: usize;
    /// Whether it has instructions for bf16.
    const HAS_BF16: bool = false;
    /// Whether it multiplies [tiles](tiles) of bf16 and of bytes.
    const HAS_TILES: bool = false;
    /// Whether a [look-up](Simd::lookup) takes about as long as a multiplication.
    const LOOKS_UP: bool = false;

    fn splat(self, value: f32) -> Self::V;
    /// Loads the first `LANES` floats.
    ///
    /// # Panics
    /// When `from` is shorter.
    fn load(self, from: &[f32]) -> Self::V;
    /// Loads all of `from`, which is shorter than a vector; the lanes above are zero.
    fn load_short(self, from: &[f32]) -> Self::V;
    /// Loads `LANES` floats without looking at a length.
    ///
    /// # Safety
    /// `from` must be readable for `LANES` floats.
    unsafe fn load_ptr(self, from: *const f32) -> Self::V;
    /// Stores `LANES` floats.
    ///
    /// # Panics
    /// When `to` is shorter.
    fn store(self, v: Self::V, to: &mut [f32]);
    /// Stores the first lanes, as many as `to` has (fewer than `LANES`).
    fn store_short(self, v: Self::V, to: &mut [f32]);

    fn splat_word(self, word: u32) -> Self::W;
    /// Loads `LANES` words without looking at a length.
    ///
    /// # Safety
    /// `from` must be readable for `LANES` words; it need not be aligned.
    unsafe fn load_words(self, from: *const u32) -> Self::W;
    /// The words as the bits of floats.
    fn floats(self, words: Self::W) -> Self::V;
    /// The words as signed numbers, rounded.
    fn words_to_floats(self, words: Self::W) -> Self::V;
    /// The bf16 in the low half of each word.
    fn low_bf16(self, pairs: Self::W) -> Self::V;
    /// The bf16 in the high half of each word.
    fn high_bf16(self, pairs: Self::W) -> Self::V;
    /// `acc + a0 b0 + a1 b1` of the two bf16 of each word, where [there is an instruction](Simd::HAS_BF16).
    fn dot_bf16(self, _acc: Self::V, _a: Self::W, _b: Self::W) -> Self::V {
        unreachable!("bf16 without instructions for it")
    }
    /// `acc + x0 w0 + x1 w1 + x2 w2 + x3 w3`, x whole numbers up to [`Simd::ROW_MOST`], w signed ones from -127 on; exact.
    fn dot_bytes(self, acc: Self::W, x: Self::W, w: Self::W) -> Self::W;
    /// [`Simd::dot_bytes`] of two steps whose weights are [bounded](crate::Packed::bounded), where [that is faster](Simd::JOINS_BYTES); exact.
    #[inline(always)]
    fn dot_two_bytes(self, acc: Self::W, x: [Self::W; 2], w: [Self::W; 2]) -> Self::W {
        self.dot_bytes(self.dot_bytes(acc, x[0], w[0]), x[1], w[1])
    }
    /// The signed byte at a place, 0 to 3, of each word.
    fn byte_to_floats(self, words: Self::W, place: usize) -> Self::V;
    /// Rounds to bf16, ties to even; NaN stays NaN. Lane 0 is the low half of the first word.
    ///
    /// # Safety
    /// `to` must be writable for `LANES / 2` words; it need not be aligned.
    unsafe fn store_bf16(self, v: Self::V, to: *mut u32);
    /// Rounds two vectors to bf16, the lanes of `first` and then those of `second`.
    ///
    /// # Safety
    /// `to` must be writable for `LANES` words; it need not be aligned.
    #[inline(always)]
    unsafe fn store_both_bf16(self, first: Self::V, second: Self::V, to: *mut u32) {
        // SAFETY: the caller says that LANES words are writable, half of them for each.
        unsafe {
            self.store_bf16(first, to);
            self.store_bf16(second, to.add(Self::LANES / 2));
        }
    }
    /// Rounds two vectors to bf16, a word for each lane: `low` in its low half, `high` in its high half.
    ///
    /// # Safety
    /// `to` must be writable for `LANES` words; it need not be aligned.
    #[inline(always)]
    unsafe fn store_pairs(self, low: Self::V, high: Self::V, to: *mut u32) {
        let (mut lows, mut highs) = ([0_u32; 8], [0_u32; 8]);
        // SAFETY: no vector has more than 16 lanes, two a word; the caller says that LANES words are writable.
        unsafe {
            self.store_bf16(low, lows.as_mut_ptr());
            self.store_bf16(high, highs.as_mut_ptr());
            for i in 0..Self::LANES / 2 {
                to.add(2 * i).write_unaligned(lows[i] & 0xffff | highs[i] << 16);
                to.add(2 * i + 1)
                    .write_unaligned(lows[i] >> 16 | highs[i] & 0xffff_0000);
            }
        }
    }
    /// Turns `LANES` rows of `LANES` words, `from_stride` words apart, into `count` rows, `to_stride` apart: word `i` of row `j` becomes word
    /// `j` of row `i`.
    ///
    /// # Safety
    /// `from` must be readable for all those rows, `to` writable for `count` rows of `LANES` words, at most `LANES`.
    #[inline(always)]
    unsafe fn transpose(
        self,
        from: *const u32,
        from_stride: usize,
        to: *mut u32,
        to_stride: usize,
        count: usize,
    ) {
        for i in 0..count {
            for j in 0..Self::LANES {
                // SAFETY: i < count and j < LANES, as the caller says.
                unsafe {
                    to.add(i * to_stride + j)
                        .write(from.add(j * from_stride + i).read())
                };
            }
        }
    }
    /// Rounds to whole numbers, none below zero, and stores them as bytes, those above 255 as 255.
    ///
    /// # Safety
    /// `to` must be writable for `LANES` bytes.
    unsafe fn store_row(self, v: Self::V, to: *mut u8);

    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once where the CPU can.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a > b ? a : b` lane by lane, so a NaN in `b` comes through.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a < b ? a : b` lane by lane, so a NaN in `b` comes through.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// Without the sign.
    #[inline(always)]
    fn abs(self, v: Self::V) -> Self::V {
        self.max(v, self.sub(self.splat(0.0), v))
    }
    /// The entries that the lowest five bits of each lane choose.
    #[inline(always)]
    fn lookup(self, table: &[f32; 32], at: Self::V) -> Self::V {
        let mut lanes = [0.0_f32; 16];
        self.store(at, &mut lanes);
        for lane in &mut lanes[..Self::LANES] {
            *lane = table[(lane.to_bits() & 31) as usize];
        }
        self.load(&lanes)
    }
    /// To the nearest whole number, ties to even.
    fn round(self, a: Self::V) -> Self::V;
    /// 2 to the power of `n`, for whole `n` in -126..=127.
    fn pow2(self, n: Self::V) -> Self::V;
    /// `v * 2^n` for v about 1 and whole `n` up to 0; below -126 zero or next to it.
    #[inline(always)]
    fn scale_down(self, v: Self::V, n: Self::V) -> Self::V {
        self.mul(v, self.pow2(self.max(self.splat(-126.0), n)))
    }

    fn sum(self, v: Self::V) -> f32;
    /// The four sums of four vectors: the transposed reduction at the end of a register tile.
    fn sum4(self, v: [Self::V; 4]) -> [f32; 4];
    fn max_lane(self, v: Self::V) -> f32;
    fn min_lane(self, v: Self::V) -> f32;

    /// Shapes all tiles for products of `rows` rows of x at a time, up to [`TILE`], whose words are whole tiles and `rest` more, where
    /// [there are tiles](Simd::HAS_TILES). It takes as long as a few products of tiles.
    fn shape_tiles(self, _rows: usize, _rest: usize) {
        unreachable!("tiles without instructions for them")
    }
    /// Sums of one tile of rows and `16 N` outputs, N up to three, and three for two bf16: whole numbers of bytes, else floats, as the [format](crate::Format) says.
    ///
    /// # Safety
    /// Tiles must be [shaped](Simd::shape_tiles) for so many rows and the rest of `words`. `x` must be readable for as many rows of `words` words, `w` for `words` steps of
    /// `16 N`; `sums` writable for as many rows of `16 N` words, [`PANEL`](crate::packed::PANEL) apart.
    unsafe fn multiply_tile<const FORMAT: u8, const N: usize>(
        self,
        _x: Strided,
        _w: Strided,
        _words: usize,
        _fetch: Fetch,
        _sums: *mut u32,
    ) {
        unreachable!("tiles without instructions for them")
    }
    /// The same of two tiles of rows, the second one of them from `second` on, and a panel, without a rest.
    ///
    /// # Safety
    /// As [`Simd::multiply_tile`], for the rows of both tiles.
    unsafe fn multiply_two_tiles<const FORMAT: u8>(
        self,
        _x: [Strided; 2],
        _w: *const u32,
        _words: usize,
        _fetch: Fetch,
        _sums: [*mut u32; 2],
    ) {
        unreachable!("tiles without instructions for them")
    }
    /// Gives the tiles' state back, so that a switch of threads need not save it.
    fn release_tiles(self) {
        unreachable!("tiles without instructions for them")
    }

    /// `out[j] = (low nibble of byte j - 8) * scale`, `out[j + 16]` likewise from the high nibble.
    fn q4_block(self, block: &[u8; Q4_BLOCK_BYTES], out: &mut [f32; Q4_BLOCK_WEIGHTS]);
}

/// Has a cache line brought into the second-level cache, if the address is one and the instruction set is known.
#[inline(always)]
pub(crate) fn prefetch(from: *const u32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has SSE; a prefetch of any address does no harm.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T1 }>(from.cast())
    };
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

/// A kernel with its arguments, ready to run on any instruction set.
pub(crate) trait Op {
    /// What it gives back.
    type Output;
    /// The body; implementations are `#[inline(always)]`.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// Which instruction set runs, with the proof that the CPU has it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Level {
    Portable(Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512<PLAIN>),
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(Avx512<VNNI>),
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16(Avx512<BF16>),
    #[cfg(target_arch = "x86_64")]
    Avx512Amx(Avx512<AMX>),
}

impl Level {
    /// Whether it has instructions for bf16.
    pub(crate) const fn multiplies_bf16(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Bf16(_) | Level::Avx512Amx(_) => true,
            _ => false,
        }
    }

    /// Whether it multiplies [tiles](Simd::HAS_TILES).
    pub(crate) const fn has_tiles(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Amx(_) => true,
            _ => false,
        }
    }

    /// Runs `op` in the shell of this level.
    pub(crate) fn run<O: Op>(self, op: O) -> O::Output {
        match self {
            Level::Portable(s) => op.run(s),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a value of Avx2 exists only after the CPU reported avx2, fma and f16c.
            Level::Avx2(s) => unsafe { avx2::shell(op, s) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a value of Avx512 exists only after the CPU reported every feature of its shell.
            Level::Avx512(s) => unsafe { avx512::shell(op, s) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Level::Avx512Vnni(s) => unsafe { avx512::shell_vnni(op, s) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Level::Avx512Bf16(s) => unsafe { avx512::shell_bf16(op, s) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above; what AMX adds is in no function's features.
            Level::Avx512Amx(s) => unsafe { avx512::shell_amx(op, s) },
        }
    }
}
