//! Self-attention of sequences that lie end to end, without ever holding a length x length matrix.
//!
//! ```text
//! for each sequence and head:
//!     pack its keys and values as products read weights           length x head_dim each, in scratch
//!     for each tile of 8 queries:
//!         for each block of keys:                                 all of them, up to 528
//!             s = q k^T                                           8 x block, in the first-level cache
//!             m' = max(m, max s);  c = 2^(m - m');  p = 2^(s - m');  l = l c + sum p;  o = o c + p v
//!         q = o / l                                               the context takes the place of the query
//! ```
//!
//! The running maximum and sum are the on-line softmax of Milakov and Gimelshein (arXiv:1805.02867), as in FlashAttention; both
//! products are the [register tile](crate::product) of the linear layers. Queries are multiplied with `log2 e / sqrt(head_dim)`
//! while they are copied, so that powers of two do for the exponential.

use crate::crew::Crew;
use crate::encode::encode_row;
use crate::math::{exp2, exp2_near};
use crate::packed::{Format, PANEL};
use crate::product::{Bf16Dot, Dot, FloatDot, Strided, TILE_VECTORS, by_rows, tile, tile_rows};
use crate::simd::{Level, Op, Simd};

/// Queries in a tile, at most.
const TILE_QUERIES: usize = 8;
/// Keys whose scores exist at once, whole panels: every common length in one block.
const BLOCK_KEYS: usize = 11 * PANEL;
/// Columns of values are filled up to this: a vector of the widest instruction set.
const VALUE_ALIGN: usize = 16;
/// Vectors of values in a tile.
const VALUE_VECTORS: usize = 2;
/// The widest head: its rows are copied through the stack.
pub const HEAD_DIM_MAX: usize = 256;
/// With fewer sequences than this, threads share their heads as well.
const SEQUENCES_APART: usize = 8;

/// Sizes of an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Heads; a row of Q, K and V is `heads * head_dim` wide.
    pub heads: usize,
    /// Width of a head, at most 256.
    pub head_dim: usize,
}

impl AttentionShape {
    /// Width of a row of Q, of K and of V.
    pub const fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Words of scratch that [`crate::Kernel::attention`] needs for each lane of its crew and sequences of up to `len_max` tokens:
    /// keys and values of one head and a tile of queries, scores and contexts.
    ///
    /// ```
    /// let shape = plimsoll_kernel::AttentionShape { heads: 12, head_dim: 32 };
    /// assert_eq!(shape.scratch_words(100), 32 * (144 + 100) + 8 * (32 + 2 * 528 + 32));
    /// ```
    pub const fn scratch_words(&self, len_max: usize) -> usize {
        let keys = self.head_dim * len_max.next_multiple_of(PANEL);
        keys + len_max * self.value_columns()
            + TILE_QUERIES * (self.head_dim + 2 * BLOCK_KEYS + self.value_columns())
    }

    const fn value_columns(&self) -> usize {
        self.head_dim.next_multiple_of(VALUE_ALIGN)
    }
}

/// Q, K and V, or scratch, used in parts by several threads.
#[derive(Clone, Copy)]
struct Shared<T>(*mut T);

// SAFETY: threads use disjoint parts: heads of sequences of Q, K and V, and the scratch of their lane.
unsafe impl<T> Sync for Shared<T> {}

/// See [`crate::Kernel::attention`].
pub(crate) fn attention(
    level: Level,
    format: Format,
    qkv: &mut [f32],
    lens: &[u32],
    shape: AttentionShape,
    scratch: &mut [u32],
    crew: &Crew,
) {
    let lane_words = scratch.len() / crew.lanes();
    let (qkv, scratch) = (Shared(qkv.as_mut_ptr()), Shared(scratch.as_mut_ptr()));
    let (qkv, scratch) = (&qkv, &scratch);
    let row = 3 * shape.width();
    let run = |first_row: usize, lens: &[u32], heads: core::ops::Range<usize>, lane: usize| {
        // SAFETY: the rows of these sequences lie within Q, K and V, whose length was checked against all of them. Chunks have different
        // sequences or different heads of one; of a row they touch, each uses its own heads' columns only, through `Head`.
        let qkv = Shared(unsafe { qkv.0.add(first_row * row) });
        // SAFETY: two calls at the same time have different lanes.
        let scratch =
            unsafe { core::slice::from_raw_parts_mut(scratch.0.add(lane * lane_words), lane_words) };
        level.run(Attention {
            format,
            qkv,
            lens,
            heads,
            shape,
            scratch,
        });
    };
    if crew.lanes() == 1 {
        return run(0, lens, 0..shape.heads, 0);
    }
    let parts = if lens.len() < SEQUENCES_APART {
        shape.heads
    } else {
        1
    };
    let heads = shape.heads / parts;
    crew.run(lens.len() * parts, &|chunk, lane| {
        let (sequence, part) = (chunk / parts, chunk % parts);
        let first_row = lens[..sequence].iter().map(|&len| len as usize).sum();
        run(
            first_row,
            &lens[sequence..=sequence],
            part * heads..(part + 1) * heads,
            lane,
        );
    });
}

/// Some heads of some sequences.
struct Attention<'a> {
    format: Format,
    qkv: Shared<f32>,
    lens: &'a [u32],
    heads: core::ops::Range<usize>,
    shape: AttentionShape,
    scratch: &'a mut [u32],
}

impl Op for Attention<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.shape.width();
        let mut first_row = 0;
        for &len in self.lens {
            let len = len as usize;
            for head in self.heads.clone() {
                let head = Head {
                    // SAFETY: the head's columns of the sequence's first row, within Q, K and V.
                    q: unsafe { self.qkv.0.add(first_row * 3 * width + head * self.shape.head_dim) },
                    width,
                    len,
                    dim: self.shape.head_dim,
                    format: self.format,
                };
                match self.format {
                    Format::F32 => attend::<FloatDot, S>(s, &head, self.shape, self.scratch),
                    Format::Bf16 | Format::Int8 => attend::<Bf16Dot, S>(s, &head, self.shape, self.scratch),
                }
            }
            first_row += len;
        }
    }
}

/// One head of one sequence.
struct Head {
    /// Its columns of the first query; keys are `width` further on, values `2 * width`, the next token `3 * width`.
    q: *mut f32,
    width: usize,
    len: usize,
    dim: usize,
    format: Format,
}

impl Head {
    /// A token's columns: part 0 is the query's, 1 the key's, 2 the value's.
    #[inline(always)]
    fn columns(&self, token: usize, part: usize) -> &[f32] {
        debug_assert!(token < self.len && part < 3);
        // SAFETY: within Q, K and V, as `attention` checked; nobody else writes these columns.
        unsafe {
            core::slice::from_raw_parts(self.q.add(token * 3 * self.width + part * self.width), self.dim)
        }
    }

    /// Where the context goes.
    #[inline(always)]
    fn context(&mut self, token: usize) -> &mut [f32] {
        debug_assert!(token < self.len);
        // SAFETY: as in `columns`; the result borrows the head mutably.
        unsafe { core::slice::from_raw_parts_mut(self.q.add(token * 3 * self.width), self.dim) }
    }
}

/// The pieces of scratch.
struct Pieces<'a> {
    keys: &'a mut [u32],
    values: &'a mut [u32],
    queries: &'a mut [u32],
    scores: &'a mut [f32],
    weights: &'a mut [u32],
    contexts: &'a mut [f32],
}

impl<'a> Pieces<'a> {
    #[inline(always)]
    fn new(scratch: &'a mut [u32], shape: AttentionShape, len: usize) -> Pieces<'a> {
        let (keys, rest) = scratch.split_at_mut(shape.head_dim * len.next_multiple_of(PANEL));
        let (values, rest) = rest.split_at_mut(len * shape.value_columns());
        let (queries, rest) = rest.split_at_mut(TILE_QUERIES * shape.head_dim);
        let (scores, rest) = rest.split_at_mut(TILE_QUERIES * BLOCK_KEYS);
        let (weights, rest) = rest.split_at_mut(TILE_QUERIES * BLOCK_KEYS);
        let contexts = &mut rest[..TILE_QUERIES * shape.value_columns()];
        Pieces {
            keys,
            values,
            queries,
            scores: as_floats(scores),
            weights,
            contexts: as_floats(contexts),
        }
    }
}

#[inline(always)]
fn as_floats(words: &mut [u32]) -> &mut [f32] {
    // SAFETY: f32 has the size and alignment of u32, and every bit pattern is valid for both.
    unsafe { core::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), words.len()) }
}

#[inline(always)]
fn attend<D: Dot, S: Simd>(s: S, head: &Head, shape: AttentionShape, scratch: &mut [u32]) {
    let mut head = Head { ..*head };
    let columns = shape.value_columns();
    let mut pieces = Pieces::new(scratch, shape, head.len);
    pack_keys(s, &head, pieces.keys);
    pack_values(s, &head, pieces.values, columns);
    let mut query = 0;
    while query < head.len {
        let rows = tile_rows::<S>(head.len - query);
        tile_of_queries::<D, S>(s, &mut head, query, rows, columns, &mut pieces);
        query += rows;
    }
}

/// Panels of keys, `[steps, PANEL]` words each, filled up with zeros.
#[inline(always)]
fn pack_keys<S: Simd>(s: S, head: &Head, keys: &mut [u32]) {
    let steps = head.format.row_words(head.dim);
    let mut row = [0; HEAD_DIM_MAX];
    for (index, panel) in keys[..steps * head.len.next_multiple_of(PANEL)]
        .chunks_exact_mut(steps * PANEL)
        .enumerate()
    {
        let first = index * PANEL;
        let count = PANEL.min(head.len - first);
        if count < PANEL {
            panel.fill(0);
        }
        for column in 0..count {
            encode_row(s, head.format, head.columns(first + column, 1), &mut row[..steps]);
            for (step, &word) in row[..steps].iter().enumerate() {
                panel[step * PANEL + column] = word;
            }
        }
    }
}

/// Values, `[steps along the keys, columns]` words.
#[inline(always)]
fn pack_values<S: Simd>(s: S, head: &Head, values: &mut [u32], columns: usize) {
    let (mut even, mut odd) = ([0; HEAD_DIM_MAX / 2], [0; HEAD_DIM_MAX / 2]);
    let halves = head.dim.div_ceil(2);
    for (step, to) in values[..head.format.row_words(head.len) * columns]
        .chunks_exact_mut(columns)
        .enumerate()
    {
        to[head.dim..].fill(0);
        if head.format == Format::F32 {
            encode_row(s, Format::F32, head.columns(step, 2), &mut to[..head.dim]);
            continue;
        }
        encode_row(s, Format::Bf16, head.columns(2 * step, 2), &mut even[..halves]);
        if 2 * step + 1 < head.len {
            encode_row(s, Format::Bf16, head.columns(2 * step + 1, 2), &mut odd[..halves]);
        } else {
            odd[..halves].fill(0);
        }
        for (i, pair) in to[..head.dim].chunks_mut(2).enumerate() {
            pair[0] = even[i] & 0xffff | odd[i] << 16;
            if let Some(second) = pair.get_mut(1) {
                *second = even[i] >> 16 | odd[i] & 0xffff_0000;
            }
        }
    }
}

/// Up to eight queries against every key.
#[inline(always)]
fn tile_of_queries<D: Dot, S: Simd>(
    s: S,
    head: &mut Head,
    query: usize,
    rows: usize,
    columns: usize,
    pieces: &mut Pieces<'_>,
) {
    let steps = head.format.row_words(head.dim);
    copy_queries(s, head, query, rows, pieces.queries);
    pieces.contexts[..rows * columns].fill(0.0);
    let mut peaks = [f32::NEG_INFINITY; TILE_QUERIES];
    let mut totals = [0.0_f32; TILE_QUERIES];
    let mut first = 0;
    while first < head.len {
        let count = BLOCK_KEYS.min(head.len - first);
        let q = Strided {
            words: pieces.queries[..rows * steps].as_ptr(),
            stride: steps,
        };
        let keys = &pieces.keys[first * steps..];
        by_rows!(rows, S, scores::<D, S>(s, q, keys, steps, count, pieces.scores));
        let mut corrections = [1.0; TILE_QUERIES];
        for row in 0..rows {
            let scores = &mut pieces.scores[row * BLOCK_KEYS..][..count.next_multiple_of(S::LANES)];
            scores[count..].fill(f32::NEG_INFINITY);
            let weights = &mut pieces.weights[row * BLOCK_KEYS..][..BLOCK_KEYS];
            corrections[row] = soften(s, head.format, scores, weights, &mut peaks[row], &mut totals[row]);
        }
        let weights = Strided {
            words: pieces.weights[..TILE_QUERIES * BLOCK_KEYS].as_ptr(),
            stride: BLOCK_KEYS,
        };
        let key_steps = head.format.row_words(count);
        let values = &pieces.values[first / head.format.word_inputs() * columns..][..key_steps * columns];
        by_rows!(
            rows,
            S,
            mix::<D, S>(
                s,
                weights,
                values,
                columns,
                key_steps,
                &corrections,
                pieces.contexts
            )
        );
        first += count;
    }
    for (row, total) in totals[..rows].iter().enumerate() {
        let factor = 1.0 / total;
        let from = &pieces.contexts[row * columns..][..head.dim];
        for (to, from) in head.context(query + row).iter_mut().zip(from) {
            *to = from * factor;
        }
    }
}

#[inline(always)]
fn copy_queries<S: Simd>(s: S, head: &Head, query: usize, rows: usize, queries: &mut [u32]) {
    let steps = head.format.row_words(head.dim);
    let factor = core::f32::consts::LOG2_E / (head.dim as f32).sqrt();
    let mut scaled = [0.0; HEAD_DIM_MAX];
    for row in 0..rows {
        let scaled = &mut scaled[..head.dim];
        for (to, from) in scaled.iter_mut().zip(head.columns(query + row, 0)) {
            *to = from * factor;
        }
        encode_row(
            s,
            head.format,
            scaled,
            &mut queries[row * steps..(row + 1) * steps],
        );
    }
}

/// `scores[m][j] = q[m] . k[j]` for `count` keys, rounded up to whole vectors.
#[inline(always)]
fn scores<D: Dot, S: Simd, const M: usize>(
    s: S,
    q: Strided,
    keys: &[u32],
    steps: usize,
    count: usize,
    scores: &mut [f32],
) {
    let mut first = 0;
    while first < count {
        let (panel, offset) = (first / PANEL, first % PANEL);
        let from = &keys[panel * PANEL * steps..(panel + 1) * PANEL * steps][offset..];
        let w = Strided {
            words: from.as_ptr(),
            stride: PANEL,
        };
        let to = &mut scores[first..];
        // SAFETY: q has M rows of `steps` words; a group of vectors ends within its panel, which has `steps` steps.
        unsafe {
            match (count - first).div_ceil(S::LANES) {
                1 => put::<D, S, M, 1>(s, tile::<D, S, M, 1>(s, q, w, steps), to),
                2 => put::<D, S, M, 2>(s, tile::<D, S, M, 2>(s, q, w, steps), to),
                _ => put::<D, S, M, TILE_VECTORS>(s, tile::<D, S, M, TILE_VECTORS>(s, q, w, steps), to),
            }
        }
        first += TILE_VECTORS * S::LANES;
    }
}

#[inline(always)]
fn put<D: Dot, S: Simd, const M: usize, const N: usize>(s: S, acc: [[D::Acc<S>; N]; M], to: &mut [f32]) {
    for (m, acc) in acc.into_iter().enumerate() {
        for (n, acc) in acc.into_iter().enumerate() {
            s.store(D::to_floats(s, acc), &mut to[m * BLOCK_KEYS + n * S::LANES..]);
        }
    }
}

/// Turns a row of scores into weights `2^(score - peak)` in the format of the products, moves peak and total on, and returns what
/// earlier sums must be multiplied with.
#[inline(always)]
fn soften<S: Simd>(
    s: S,
    format: Format,
    scores: &[f32],
    weights: &mut [u32],
    peak: &mut f32,
    total: &mut f32,
) -> f32 {
    let mut highest = s.splat(*peak);
    for chunk in scores.chunks_exact(S::LANES) {
        highest = s.max(highest, s.load(chunk));
    }
    let highest = s.max_lane(highest);
    let highest_v = s.splat(highest);
    let mut acc = s.splat(0.0);
    if format == Format::F32 {
        for (chunk, to) in scores
            .chunks_exact(S::LANES)
            .zip(as_floats(weights).chunks_exact_mut(S::LANES))
        {
            let v = exp2(s, s.sub(s.load(chunk), highest_v));
            acc = s.add(acc, v);
            s.store(v, to);
        }
    } else {
        for (chunk, to) in scores
            .chunks_exact(S::LANES)
            .zip(weights.chunks_exact_mut(S::LANES / 2))
        {
            let v = exp2_near(s, s.sub(s.load(chunk), highest_v));
            acc = s.add(acc, v);
            // SAFETY: `to` is half a vector of words long.
            unsafe { s.store_bf16(v, to.as_mut_ptr()) };
        }
    }
    let correction = (*peak - highest).exp2();
    *peak = highest;
    *total = *total * correction + s.sum(acc);
    correction
}

/// `context[m] = context[m] * correction[m] + sum over keys of weights[m] * v`.
#[inline(always)]
fn mix<D: Dot, S: Simd, const M: usize>(
    s: S,
    weights: Strided,
    values: &[u32],
    columns: usize,
    steps: usize,
    corrections: &[f32; TILE_QUERIES],
    contexts: &mut [f32],
) {
    let mut first = 0;
    while first < columns {
        let w = Strided {
            words: values[first..].as_ptr(),
            stride: columns,
        };
        // SAFETY: the tile's rows of weights are BLOCK_KEYS apart within their piece; `values` has `steps` rows of `columns` words, and a
        // group of vectors ends within a row.
        unsafe {
            if columns - first >= VALUE_VECTORS * S::LANES {
                let acc = tile::<D, S, M, VALUE_VECTORS>(s, weights, w, steps);
                blend::<D, S, M, VALUE_VECTORS>(s, acc, columns, corrections, &mut contexts[first..]);
            } else {
                let acc = tile::<D, S, M, 1>(s, weights, w, steps);
                blend::<D, S, M, 1>(s, acc, columns, corrections, &mut contexts[first..]);
            }
        }
        first += VALUE_VECTORS * S::LANES;
    }
}

#[inline(always)]
fn blend<D: Dot, S: Simd, const M: usize, const N: usize>(
    s: S,
    acc: [[D::Acc<S>; N]; M],
    columns: usize,
    corrections: &[f32; TILE_QUERIES],
    contexts: &mut [f32],
) {
    for (m, acc) in acc.into_iter().enumerate() {
        let correction = s.splat(corrections[m]);
        for (n, acc) in acc.into_iter().enumerate() {
            let to = &mut contexts[m * columns + n * S::LANES..][..S::LANES];
            s.store(s.fma(s.load(to), correction, D::to_floats(s, acc)), to);
        }
    }
}
