//! Self-attention of sequences that lie end to end, without ever holding a length x length matrix.
//!
//! ```text
//! for each sequence and head:
//!     pack its keys and values as products read weights           length x head_dim each, in scratch
//!     for each tile of 8 queries:
//!         m = a bound of their scores: |q| max |k|, or, where that is loose, their maximum, by a product of its own
//!         for each block of keys:                                 all of them, up to 528
//!             p = 2^(q k^T - m);  l = l + sum p                   8 x block, in the first-level cache
//!             o = o + p v
//!         q = o / l                                               the context takes the place of the query
//! ```
//!
//! Softmax does not change when all scores are lowered alike, so that any bound does for the maximum as long as no weight that counts
//! gets lost below the smallest float. With one known before the product, sums start at minus m and become weights while they are in
//! registers; no score is ever stored. Both products are the [register tile](crate::product) of the linear layers. Queries are
//! multiplied with `log2 e / sqrt(head_dim)` while they are copied, so that powers of two do for the exponential.

mod head;
mod tiles;

use head::{Head, copy_queries, pack_keys, pack_values};

use crate::crew::{Crew, Shared};
use crate::dot::{Bf16Dot, Dot, FloatDot};
use crate::math::{exp2, exp2_near};
use crate::packed::{Format, PANEL};
use crate::product::{Strided, by_rows, rows_max, tile_from, tile_rows};
use crate::simd::{Level, Op, Simd, TILE};

/// Queries in a tile, at most.
const TILE_QUERIES: usize = 8;
/// Keys whose weights exist at once, whole panels: every common length in one block.
const BLOCK_KEYS: usize = 11 * PANEL;
/// Words of a query's weights in scratch: those of two, in bf16, are whole [tiles].
const WEIGHTS: usize = BLOCK_KEYS.next_multiple_of(2 * TILE);
/// Columns of values are filled up to this: a vector of the widest instruction set.
const VALUE_ALIGN: usize = 16;
/// Vectors of values in a tile.
const VALUE_VECTORS: usize = 2;
/// The widest head: its rows are copied through the stack.
pub const HEAD_DIM_MAX: usize = 256;
/// Scores lie between minus a bound and it. Up to this one the largest weight is at least 2^-90, and what is lost below 2^-126
/// is less than 2^-36 of it.
const BOUND_MAX: f32 = 45.0;
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
    /// keys and values of one head, and queries and weights of a tile.
    ///
    /// ```
    /// let shape = plimsoll_kernel::AttentionShape { heads: 12, head_dim: 32 };
    /// assert_eq!(shape.scratch_words(100), 32 * (144 + 100) + 8 * (32 + 544));
    /// ```
    pub const fn scratch_words(&self, len_max: usize) -> usize {
        let keys = self.head_dim * len_max.next_multiple_of(PANEL);
        let values_max = if len_max < 2 * TILE { 2 * TILE } else { len_max };
        keys + values_max * self.value_columns()
            + TILE_QUERIES * (self.head_dim.next_multiple_of(2) + WEIGHTS)
    }

    const fn value_columns(&self) -> usize {
        self.head_dim.next_multiple_of(VALUE_ALIGN)
    }
}

/// See [`crate::Kernel::attention`].
pub(crate) fn attention(
    level: Level,
    weights: Format,
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
            weights,
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
    /// What the weights of the layers around it are.
    weights: Format,
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
        let near = self.weights != Format::F32;
        let bf16 = near && S::HAS_BF16;
        let by_tiles = near && S::HAS_TILES;
        if by_tiles {
            s.shape_tiles(TILE, Format::Bf16.row_words(self.shape.head_dim) % TILE);
        }
        let mut first_row = 0;
        for &len in self.lens {
            let len = len as usize;
            for head in self.heads.clone() {
                let mut head = Head {
                    // SAFETY: the head's columns of the sequence's first row, within Q, K and V.
                    q: unsafe { self.qkv.0.add(first_row * 3 * width + head * self.shape.head_dim) },
                    width,
                    len,
                    dim: self.shape.head_dim,
                    format: if bf16 { Format::Bf16 } else { Format::F32 },
                    near,
                };
                if by_tiles {
                    tiles::attend::<S>(s, &mut head, self.shape, self.scratch);
                } else if bf16 {
                    attend::<Bf16Dot, S>(s, &mut head, self.shape, self.scratch);
                } else {
                    attend::<FloatDot, S>(s, &mut head, self.shape, self.scratch);
                }
            }
            first_row += len;
        }
        if by_tiles {
            s.release_tiles();
        }
    }
}

/// The pieces of scratch.
struct Pieces<'a> {
    keys: &'a mut [u32],
    values: &'a mut [u32],
    queries: &'a mut [u32],
    weights: &'a mut [u32],
}

impl<'a> Pieces<'a> {
    #[inline(always)]
    fn new(scratch: &'a mut [u32], shape: AttentionShape, len: usize) -> Pieces<'a> {
        let (keys, rest) = scratch.split_at_mut(shape.head_dim * len.next_multiple_of(PANEL));
        let (values, rest) = rest.split_at_mut(len * shape.value_columns());
        let (queries, rest) = rest.split_at_mut(TILE_QUERIES * shape.head_dim);
        let weights = &mut rest[..TILE_QUERIES * BLOCK_KEYS];
        Pieces {
            keys,
            values,
            queries,
            weights,
        }
    }
}

#[inline(always)]
fn attend<D: Dot, S: Simd>(s: S, head: &mut Head, shape: AttentionShape, scratch: &mut [u32]) {
    let columns = shape.value_columns();
    let mut pieces = Pieces::new(scratch, shape, head.len);
    let longest_key = pack_keys::<D, S>(s, head, pieces.keys);
    pack_values(s, head, pieces.values, columns);
    let mut query = 0;
    while query < head.len {
        let rows = tile_rows::<D, S>(head.len - query);
        tile_of_queries::<D, S>(s, head, query..query + rows, longest_key, columns, &mut pieces);
        query += rows;
    }
}

/// Up to eight queries against every key.
#[inline(always)]
fn tile_of_queries<D: Dot, S: Simd>(
    s: S,
    head: &mut Head,
    queries: core::ops::Range<usize>,
    longest_key: f32,
    columns: usize,
    pieces: &mut Pieces<'_>,
) {
    let (steps, rows) = (head.format.row_words(head.dim), queries.len());
    let mut peaks = copy_queries(s, head, queries.clone(), longest_key, pieces.queries);
    let tile = Tile {
        q: Strided {
            words: pieces.queries[..rows * steps].as_ptr(),
            stride: steps,
        },
        steps,
        rows,
    };
    if peaks.iter().any(|&peak| peak > BOUND_MAX) {
        by_rows!(rows, highest::<D, S>(s, &tile, pieces.keys, head.len, &mut peaks));
    }
    let mut totals = [0.0_f32; TILE_QUERIES];
    let mut first = 0;
    while first < head.len {
        let count = BLOCK_KEYS.min(head.len - first);
        let keys = &pieces.keys[first * steps..];
        by_rows!(
            rows,
            weigh::<D, S>(s, &tile, keys, head, count, &peaks, &mut totals, pieces.weights)
        );
        let key_steps = head.format.row_words(count);
        let values = &pieces.values[first / head.format.word_inputs() * columns..][..key_steps * columns];
        let contexts = Contexts {
            first: queries.start,
            add: first > 0,
            factors: (first + count == head.len).then(|| totals.map(|total| 1.0 / total)),
        };
        by_rows!(
            rows,
            mix::<D, S>(s, pieces.weights, values, columns, key_steps, head, &contexts)
        );
        first += count;
    }
}

/// Queries, as a product reads them.
struct Tile {
    q: Strided,
    steps: usize,
    rows: usize,
}

impl Tile {
    /// Scores of `N` vectors of keys, from the one at `first` on, plus `start`.
    #[inline(always)]
    fn scores<D: Dot, S: Simd, const M: usize, const N: usize>(
        &self,
        s: S,
        keys: &[u32],
        first: usize,
        start: &[f32; TILE_QUERIES],
    ) -> [[S::V; N]; M] {
        assert_eq!(M, self.rows);
        let (panel, offset) = (first / PANEL, first % PANEL);
        let panel = &keys[panel * PANEL * self.steps..(panel + 1) * PANEL * self.steps];
        assert!(offset + N * S::LANES <= PANEL);
        let w = Strided {
            words: panel[offset..].as_ptr(),
            stride: PANEL,
        };
        let mut acc = [[D::start(s, 0.0); N]; M];
        for m in 0..M {
            acc[m] = [D::start(s, start[m]); N];
        }
        // SAFETY: q has M rows of `steps` words; the vectors end within their panel, which has `steps` steps.
        let acc = unsafe { tile_from::<D, S, M, N>(s, self.q, w, self.steps, None, acc) };
        let mut scores = [[s.splat(0.0); N]; M];
        for m in 0..M {
            for n in 0..N {
                scores[m][n] = D::to_floats(s, acc[m][n]);
            }
        }
        scores
    }
}

/// So low that nothing is left of a weight.
const LOWEST: f32 = -1e30;

/// A vector of zeros, whose lanes from `valid` on are `low`.
#[inline(always)]
fn window<S: Simd>(s: S, low: f32, valid: usize) -> S::V {
    const LANES_MAX: usize = 16;
    let mut lanes = [0.0; 2 * LANES_MAX];
    lanes[LANES_MAX..].fill(low);
    s.load(&lanes[LANES_MAX - valid..])
}

/// The highest score of each query.
#[inline(always)]
fn highest<D: Dot, S: Simd, const M: usize>(
    s: S,
    tile: &Tile,
    keys: &[u32],
    len: usize,
    peaks: &mut [f32; TILE_QUERIES],
) {
    let mut highest = [s.splat(f32::NEG_INFINITY); M];
    let mut first = 0;
    while first < len {
        let scores = tile.scores::<D, S, M, 1>(s, keys, first, &[0.0; TILE_QUERIES]);
        let low = window(s, LOWEST, S::LANES.min(len - first));
        for m in 0..M {
            highest[m] = s.max(highest[m], s.add(scores[m][0], low));
        }
        first += S::LANES;
    }
    for m in 0..M {
        peaks[m] = s.max_lane(highest[m]);
    }
}

/// `weights[m][j] = 2^(q[m] . k[j] - peak[m])` for `count` keys, in the format of the products, and their totals.
// Its arguments are what a tile is; a bundle would only rename them.
#[expect(clippy::too_many_arguments)]
#[inline(always)]
fn weigh<D: Dot, S: Simd, const M: usize>(
    s: S,
    tile: &Tile,
    keys: &[u32],
    head: &Head,
    count: usize,
    peaks: &[f32; TILE_QUERIES],
    totals: &mut [f32; TILE_QUERIES],
    weights: &mut [u32],
) {
    let start = peaks.map(|peak| -peak);
    let mut sums = [s.splat(0.0); TILE_QUERIES];
    let mut first = 0;
    while first < count {
        let at = first / head.format.word_inputs();
        let to = &mut weights[at..];
        match (count - first).div_ceil(S::LANES).min(S::TILE_VECTORS) {
            1 => {
                let scores = tile.scores::<D, S, M, 1>(s, keys, first, &start);
                soften::<S, M, 1>(s, scores, head, count - first, &mut sums, to);
            }
            2 => {
                let scores = tile.scores::<D, S, M, 2>(s, keys, first, &start);
                soften::<S, M, 2>(s, scores, head, count - first, &mut sums, to);
            }
            _ => {
                let scores = tile.scores::<D, S, M, 3>(s, keys, first, &start);
                soften::<S, M, 3>(s, scores, head, count - first, &mut sums, to);
            }
        }
        first += S::TILE_VECTORS * S::LANES;
    }
    for (total, sum) in totals.iter_mut().zip(head::sums(s, &sums)) {
        *total += sum;
    }
}

/// Turns lowered scores into weights, of which `left` are wanted.
#[inline(always)]
fn soften<S: Simd, const M: usize, const N: usize>(
    s: S,
    scores: [[S::V; N]; M],
    head: &Head,
    left: usize,
    sums: &mut [S::V; TILE_QUERIES],
    to: &mut [u32],
) {
    let words = S::LANES / head.format.word_inputs();
    // Keys behind the last one are zero, so that their scores are numbers; their weights are to be none.
    let last = (N * S::LANES > left).then(|| window(s, LOWEST, left - (N - 1) * S::LANES));
    for m in 0..M {
        for n in 0..N {
            let score = match last {
                Some(last) if n + 1 == N => s.add(scores[m][n], last),
                _ => scores[m][n],
            };
            let v = if head.near {
                exp2_near(s, score)
            } else {
                exp2(s, score)
            };
            sums[m] = s.add(sums[m], v);
            let to = &mut to[m * BLOCK_KEYS + n * words..][..words];
            // SAFETY: `to` is as long as a vector of this format; words and floats have one size and no invalid values.
            unsafe {
                match head.format {
                    Format::F32 => s.store(v, core::slice::from_raw_parts_mut(to.as_mut_ptr().cast(), words)),
                    _ => s.store_bf16(v, to.as_mut_ptr()),
                }
            }
        }
    }
}

/// Where the contexts of a tile go.
struct Contexts {
    /// The first one's token.
    first: usize,
    /// Whether contexts of earlier keys are there.
    add: bool,
    /// One over the totals, once all keys have been weighed.
    factors: Option<[f32; TILE_QUERIES]>,
}

/// `context[m] = context[m] + sum over keys of weights[m] * v`, times its factor.
#[inline(always)]
fn mix<D: Dot, S: Simd, const M: usize>(
    s: S,
    weights: &[u32],
    values: &[u32],
    columns: usize,
    steps: usize,
    head: &mut Head,
    contexts: &Contexts,
) {
    assert!(weights.len() >= M * BLOCK_KEYS && steps <= BLOCK_KEYS && values.len() >= steps * columns);
    let weights = Strided {
        words: weights.as_ptr(),
        stride: BLOCK_KEYS,
    };
    for first in (0..head.dim).step_by(VALUE_VECTORS * S::LANES) {
        let w = Strided {
            words: values[first..].as_ptr(),
            stride: columns,
        };
        // SAFETY: the tile's rows of weights are BLOCK_KEYS apart; `values` has `steps` rows of `columns` words, whole vectors, as asserted,
        // and a group of vectors ends within a row.
        unsafe {
            if columns - first >= VALUE_VECTORS * S::LANES {
                let zero = [[D::start(s, 0.0); VALUE_VECTORS]; M];
                let acc = tile_from::<D, S, M, VALUE_VECTORS>(s, weights, w, steps, None, zero);
                collect::<D, S, M, VALUE_VECTORS>(s, acc, first, head, contexts);
            } else {
                let acc = tile_from::<D, S, M, 1>(s, weights, w, steps, None, [[D::start(s, 0.0); 1]; M]);
                collect::<D, S, M, 1>(s, acc, first, head, contexts);
            }
        }
    }
}

#[expect(clippy::needless_range_loop)]
#[inline(always)]
fn collect<D: Dot, S: Simd, const M: usize, const N: usize>(
    s: S,
    acc: [[D::Acc<S>; N]; M],
    first: usize,
    head: &mut Head,
    contexts: &Contexts,
) {
    for m in 0..M {
        let factor = contexts.factors.map(|factors| s.splat(factors[m]));
        let context = &mut head.context(contexts.first + m)[first..];
        for n in 0..N {
            let start = (n * S::LANES).min(context.len());
            let v = D::to_floats(s, acc[m][n]);
            land(s, v, contexts.add, factor, &mut context[start..]);
        }
    }
}

/// A vector of contexts to its token, as much of it as there is room for: added to what is there, multiplied with a factor.
#[inline(always)]
fn land<S: Simd>(s: S, mut v: S::V, add: bool, factor: Option<S::V>, to: &mut [f32]) {
    let whole = to.len() >= S::LANES;
    if add {
        v = s.add(v, if whole { s.load(to) } else { s.load_short(to) });
    }
    if let Some(factor) = factor {
        v = s.mul(v, factor);
    }
    if whole {
        s.store(v, to);
    } else {
        s.store_short(v, to);
    }
}
