//! Rows of X in the format of a product: floats as they are or as sums of two bf16, bf16 rounded, 8-bit numbers quantised row by row.
//!
//! 8-bit rows are quantised over their own range, `x = scale * (q - zero)` with q in 0..=255, or in 0..=127 where the multiplier would saturate: GELU's rows, which
//! hardly go below zero, keep all of the range. The range always has zero in it.
//!
//! A few hidden dimensions of BERT's are many times as large as the others, which then have few of those numbers to differ in. So the number of a row that is farthest from
//! zero is kept as it is, beside the row, and zero in its place: all-MiniLM-L6-v2's least cosine with 127 numbers is 0.986 without and 0.997 with that. (AVX-512 has 255 and does without: 0.996.)

use crate::crew::Crew;
use crate::packed::Format;
use crate::product::Strided;
use crate::simd::{Level, Op, Simd, TILE};

/// Words behind a quantised row: those of its [`Tail`].
const ROW_TAIL: usize = 4;
/// Quantised rows begin at a cache line, as those of bf16 do at the usual widths: tiles of an aligned row are read in half the time.
const LINE_WORDS: usize = 16;
/// Numbers of a smaller range are zeros: its inverse, times the largest number of a row, is still a float.
const RANGE_LEAST: f32 = 1e-20;
/// Rows that make a chunk worth a claim.
const CHUNK_ROWS: usize = 8;

/// Words that `rows` rows of `inputs` numbers take when encoded.
pub const fn encoded_words(format: Format, inputs: usize, rows: usize) -> usize {
    rows * stride(format, inputs)
}

const fn stride(format: Format, inputs: usize) -> usize {
    match format {
        Format::Int8 => (format.row_words(inputs) + ROW_TAIL).next_multiple_of(LINE_WORDS),
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

    /// Some rows.
    pub(crate) fn part(&self, rows: core::ops::Range<usize>) -> Rows<'a> {
        Rows {
            rows: rows.len(),
            words: &self.words[rows.start * self.stride..rows.end * self.stride],
            ..*self
        }
    }

    /// Some rows, as a tile reads them.
    #[inline(always)]
    pub(crate) fn strided(&self, rows: core::ops::Range<usize>) -> Strided {
        Strided {
            words: self.words[rows.start * self.stride..rows.end * self.stride].as_ptr(),
            stride: self.stride,
        }
    }

    /// What stands behind a row of 8-bit numbers.
    #[inline(always)]
    pub(crate) fn tail(&self, row: usize) -> Tail {
        let tail = &self.words[row * self.stride + self.words()..][..ROW_TAIL];
        Tail {
            scale: f32::from_bits(tail[0]),
            zero: f32::from_bits(tail[1]),
            outlier: f32::from_bits(tail[2]),
            // Whatever the words are: it is read without a look at a length.
            place: (tail[3] as usize).min(self.inputs - 1),
        }
    }
}

/// What stands behind a row of 8-bit numbers.
#[derive(Clone, Copy)]
pub(crate) struct Tail {
    pub(crate) scale: f32,
    pub(crate) zero: f32,
    /// The number that stands beside the row, in units of the scale, and its place.
    pub(crate) outlier: f32,
    pub(crate) place: usize,
}

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
    crew.run_rows(out, stride(format, width), CHUNK_ROWS, &|first, out| {
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
        Format::TwoBf16 => split(s, row, out),
    }
}

/// Numbers rounded to bf16, and what that leaves: 16 bits of their 24 when it is rounded as well.
///
/// The first three operations are Veltkamp's splitting (T. J. Dekker, "A floating-point technique for extending the available precision", 1971) for eight bits.
#[inline(always)]
pub(crate) fn two_bf16<S: Simd>(s: S, v: S::V) -> (S::V, S::V) {
    let large = s.mul(v, s.splat(65537.0));
    let upper = s.sub(large, s.sub(large, v));
    (upper, s.sub(v, upper))
}

/// By tiles: the upper halves of 32 numbers, then what these leave of them; zeros behind the row's end.
#[inline(always)]
fn split<S: Simd>(s: S, row: &[f32], out: &mut [u32]) {
    let mut groups = row.chunks_exact(2 * TILE);
    let mut words = out.chunks_exact_mut(2 * TILE);
    for (group, words) in (&mut groups).zip(&mut words) {
        split_group(s, group, words);
    }
    let rest = groups.remainder();
    if let Some(words) = words.next() {
        let mut group = [0.0; 2 * TILE];
        group[..rest.len()].copy_from_slice(rest);
        split_group(s, &group, words);
    }
}

#[inline(always)]
fn split_group<S: Simd>(s: S, group: &[f32], words: &mut [u32]) {
    let (upper, lower) = words.split_at_mut(TILE);
    let vectors = group.chunks_exact(2 * S::LANES);
    let to = upper
        .chunks_exact_mut(S::LANES)
        .zip(lower.chunks_exact_mut(S::LANES));
    for (two, (upper, lower)) in vectors.zip(to) {
        let (first, second) = two.split_at(S::LANES);
        let (first, second) = (two_bf16(s, s.load(first)), two_bf16(s, s.load(second)));
        // SAFETY: either is a vector of words long.
        unsafe {
            s.store_both_bf16(first.0, second.0, upper.as_mut_ptr());
            s.store_both_bf16(first.1, second.1, lower.as_mut_ptr());
        }
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

/// The place of the number that is farthest from zero, if there is one that is not zero.
#[inline(always)]
fn farthest(row: &[f32], (least, most): (f32, f32)) -> Option<usize> {
    // Without a way out of each: vectors of comparisons.
    const TOGETHER: usize = 64;
    let value = if most >= -least { most } else { least };
    let has_it = |numbers: &[f32]| numbers.iter().fold(false, |found, &x| found | (x == value));
    let first = row.chunks(TOGETHER).position(has_it)? * TOGETHER;
    let place = row[first..].iter().position(|&x| x == value)?;
    (value != 0.0).then_some(first + place)
}

#[inline(always)]
fn quantise<S: Simd>(s: S, row: &[f32], out: &mut [u32]) {
    let (mut least, mut most) = range_of(s, row);
    let outlier = if S::ROW_OUTLIER {
        farthest(row, (least, most))
    } else {
        None
    };
    if let Some(place) = outlier {
        let (before, behind) = (range_of(s, &row[..place]), range_of(s, &row[place + 1..]));
        (least, most) = (before.0.min(behind.0), before.1.max(behind.1));
    }
    let range = most - least;
    let top = f32::from(S::ROW_MOST);
    let (scale, inverse) = if range > RANGE_LEAST {
        (range / top, top / range)
    } else {
        (1.0, 1.0)
    };
    let zero = (-least * inverse).round_ties_even();
    let (words, tail) = out.split_at_mut(Format::Int8.row_words(row.len()));
    let (inverse_v, zero_v) = (s.splat(inverse), s.splat(zero));
    // Zero was rounded, so that either end may be half a number outside.
    let (bottom, top) = (s.splat(0.0), s.splat(top));
    let mut at = 0;
    let mut chunks = row.chunks_exact(S::LANES);
    for chunk in &mut chunks {
        let q = s.min(top, s.max(bottom, s.fma(s.load(chunk), inverse_v, zero_v)));
        let to = &mut words[at..at + S::LANES / 4];
        // SAFETY: `to` is as many bytes long as a vector has lanes.
        unsafe { s.store_row(q, to.as_mut_ptr().cast()) };
        at += S::LANES / 4;
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        let mut last = [0_u32; 16];
        let q = s.min(top, s.max(bottom, s.fma(s.load_short(rest), inverse_v, zero_v)));
        // SAFETY: no vector has more than 64 lanes.
        unsafe { s.store_row(q, last.as_mut_ptr().cast()) };
        let count = rest.len().div_ceil(4);
        words[at..at + count].copy_from_slice(&last[..count]);
    }
    if let Some(place) = outlier {
        let mut bytes = words[place / 4].to_le_bytes();
        bytes[place % 4] = zero as u8;
        words[place / 4] = u32::from_le_bytes(bytes);
    }
    let outlier = outlier.map_or((0.0, 0), |place| (row[place] * inverse, place as u32));
    tail[..ROW_TAIL].copy_from_slice(&[scale.to_bits(), zero.to_bits(), outlier.0.to_bits(), outlier.1]);
}
