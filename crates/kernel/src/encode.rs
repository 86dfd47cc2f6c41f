//! Rows of X in the format of a product: floats as they are, bf16 rounded, 8-bit numbers quantised row by row.
//!
//! 8-bit rows are quantised over their own range, `x = scale * (q - zero)` with q in 0..=255, in 1..=255 where the multiplier takes q - 128 and
//! needs its opposite: GELU's rows, which hardly go below zero, keep all of the range. The range always has zero in it.

use crate::crew::Crew;
use crate::packed::Format;
use crate::product::Strided;
use crate::simd::{Level, Op, Simd};

/// Largest quantised number of a row.
const QUANTISED_MAX: f32 = 255.0;
/// Words behind a quantised row: scale and zero.
const ROW_TAIL: usize = 2;
/// Rows that make a chunk worth a claim.
const CHUNK_ROWS: usize = 8;

/// Words that `rows` rows of `inputs` numbers take when encoded.
pub const fn encoded_words(format: Format, inputs: usize, rows: usize) -> usize {
    rows * stride(format, inputs)
}

const fn stride(format: Format, inputs: usize) -> usize {
    match format {
        Format::Int8 => format.row_words(inputs) + ROW_TAIL,
        _ => format.row_words(inputs),
    }
}

/// X of a product.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    format: Format,
    inputs: usize,
    rows: usize,
    stride: usize,
    words: &'a [u32],
}

impl<'a> Rows<'a> {
    /// Rows of floats as they lie: `[n, inputs]`.
    ///
    /// # Panics
    /// When the rows are not whole.
    pub fn floats(x: &'a [f32], inputs: usize) -> Rows<'a> {
        // SAFETY: u32 has the size and alignment of f32, and every bit pattern is valid.
        let words = unsafe { core::slice::from_raw_parts(x.as_ptr().cast::<u32>(), x.len()) };
        Rows::encoded(Format::F32, inputs, words)
    }

    /// Rows that [`crate::Kernel::encode`] wrote.
    ///
    /// # Panics
    /// When the rows are not whole.
    pub fn encoded(format: Format, inputs: usize, words: &'a [u32]) -> Rows<'a> {
        let stride = stride(format, inputs);
        assert!(
            stride > 0 && words.len().is_multiple_of(stride),
            "{} words in rows of {stride}",
            words.len()
        );
        Rows {
            format,
            inputs,
            rows: words.len() / stride,
            stride,
            words,
        }
    }

    /// What the numbers are.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Numbers in a row.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// How many there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Words of a row that are multiplied.
    pub(crate) fn words(&self) -> usize {
        self.format.row_words(self.inputs)
    }

    /// Some rows, as a tile reads them.
    #[inline(always)]
    pub(crate) fn strided(&self, rows: core::ops::Range<usize>) -> Strided {
        Strided {
            words: self.words[rows.start * self.stride..rows.end * self.stride].as_ptr(),
            stride: self.stride,
        }
    }

    /// Scale and zero of a row of 8-bit numbers.
    #[inline(always)]
    pub(crate) fn tail(&self, row: usize) -> (f32, f32) {
        let tail = &self.words[row * self.stride + self.words()..][..ROW_TAIL];
        (f32::from_bits(tail[0]), f32::from_bits(tail[1]))
    }
}

/// Rows being encoded, in parts by several threads.
struct Target {
    start: *mut u32,
}

// SAFETY: threads write disjoint rows.
unsafe impl Sync for Target {}

/// See [`crate::Kernel::encode`].
pub(crate) fn encode(
    level: Level,
    format: Format,
    x: &[f32],
    width: usize,
    stride_in: usize,
    out: &mut [u32],
    crew: &Crew,
) {
    let step = stride(format, width);
    let rows = out.len() / step;
    let target = Target {
        start: out.as_mut_ptr(),
    };
    let target = &target;
    crew.run(rows.div_ceil(CHUNK_ROWS), &|chunk, _lane| {
        let first = chunk * CHUNK_ROWS;
        let count = CHUNK_ROWS.min(rows - first);
        // SAFETY: rows `first..first + count` lie within `out`, and each chunk is run once.
        let out = unsafe { core::slice::from_raw_parts_mut(target.start.add(first * step), count * step) };
        level.run(Encode {
            format,
            x: &x[first * stride_in..],
            width,
            stride_in,
            out,
        });
    });
}

struct Encode<'a> {
    format: Format,
    x: &'a [f32],
    width: usize,
    stride_in: usize,
    out: &'a mut [u32],
}

impl Op for Encode<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (i, out) in self
            .out
            .chunks_exact_mut(stride(self.format, self.width))
            .enumerate()
        {
            let row = &self.x[i * self.stride_in..][..self.width];
            encode_row(s, self.format, row, out);
        }
    }
}

/// One row; `out` is a stride long.
#[inline(always)]
pub(crate) fn encode_row<S: Simd>(s: S, format: Format, row: &[f32], out: &mut [u32]) {
    match format {
        Format::F32 => {
            for (to, x) in out.iter_mut().zip(row) {
                *to = x.to_bits();
            }
        }
        Format::Bf16 => round(s, row, out),
        Format::Int8 => quantise(s, row, out),
    }
}

#[inline(always)]
fn round<S: Simd>(s: S, row: &[f32], out: &mut [u32]) {
    let mut both = row.chunks_exact(2 * S::LANES);
    let mut at = 0;
    for chunk in &mut both {
        let to = &mut out[at..at + S::LANES];
        let (first, second) = chunk.split_at(S::LANES);
        // SAFETY: `to` is a vector of words long.
        unsafe { s.store_both_bf16(s.load(first), s.load(second), to.as_mut_ptr()) };
        at += S::LANES;
    }
    let mut chunks = both.remainder().chunks_exact(S::LANES);
    for chunk in &mut chunks {
        let to = &mut out[at..at + S::LANES / 2];
        // SAFETY: `to` is half a vector of words long.
        unsafe { s.store_bf16(s.load(chunk), to.as_mut_ptr()) };
        at += S::LANES / 2;
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        let mut words = [0_u32; 16];
        // SAFETY: no vector has more than 32 lanes.
        unsafe { s.store_bf16(s.load_short(rest), words.as_mut_ptr()) };
        let count = rest.len().div_ceil(2);
        out[at..at + count].copy_from_slice(&words[..count]);
    }
}

/// The least and the largest number of a row, or zero.
#[inline(always)]
fn range_of<S: Simd>(s: S, row: &[f32]) -> (f32, f32) {
    // Several at once: one comparison waits for the last.
    const CHAINS: usize = 4;
    let (mut least, mut most) = ([s.splat(0.0); CHAINS], [s.splat(0.0); CHAINS]);
    let mut groups = row.chunks_exact(CHAINS * S::LANES);
    for group in &mut groups {
        for i in 0..CHAINS {
            let v = s.load(&group[i * S::LANES..]);
            least[i] = s.min(least[i], v);
            most[i] = s.max(most[i], v);
        }
    }
    let mut chunks = groups.remainder().chunks_exact(S::LANES);
    for chunk in &mut chunks {
        least[0] = s.min(least[0], s.load(chunk));
        most[0] = s.max(most[0], s.load(chunk));
    }
    let rest = s.load_short(chunks.remainder());
    let least = s.min(s.min(least[0], least[1]), s.min(least[2], s.min(least[3], rest)));
    let most = s.max(s.max(most[0], most[1]), s.max(most[2], s.max(most[3], rest)));
    (s.min_lane(least), s.max_lane(most))
}

#[inline(always)]
fn quantise<S: Simd>(s: S, row: &[f32], out: &mut [u32]) {
    let (least, most) = range_of(s, row);
    let range = most - least;
    let bottom = f32::from(S::ROW_LEAST);
    let top = QUANTISED_MAX - bottom;
    let (scale, inverse) = if range > 0.0 {
        (range / top, top / range)
    } else {
        (1.0, 1.0)
    };
    let zero = bottom + (-least * inverse).round_ties_even();
    let (inverse, zero_v) = (s.splat(inverse), s.splat(zero));
    // Rounding may end a hair below; above 255 the store saturates.
    let bottom = s.splat(bottom);
    let words = Format::Int8.row_words(row.len());
    let mut at = 0;
    let mut chunks = row.chunks_exact(S::LANES);
    for chunk in &mut chunks {
        let q = s.max(bottom, s.fma(s.load(chunk), inverse, zero_v));
        let to = &mut out[at..at + S::LANES / 4];
        // SAFETY: `to` is as many bytes long as a vector has lanes.
        unsafe { s.store_row(q, to.as_mut_ptr().cast()) };
        at += S::LANES / 4;
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        let mut last = [0_u32; 16];
        let q = s.max(bottom, s.fma(s.load_short(rest), inverse, zero_v));
        // SAFETY: no vector has more than 64 lanes.
        unsafe { s.store_row(q, last.as_mut_ptr().cast()) };
        let count = rest.len().div_ceil(4);
        out[at..at + count].copy_from_slice(&last[..count]);
    }
    out[words] = scale.to_bits();
    out[words + 1] = (zero - f32::from(S::ROW_ZERO)).to_bits();
}
