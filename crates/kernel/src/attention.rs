//! Self-attention of one sequence, without ever holding a length x length matrix.
//!
//! ```text
//! for each head:
//!     transpose its keys once                                    head_dim x length, in scratch
//!     for each tile of 4 queries:
//!         for each tile of 64 keys:                              scores stay in the first-level cache
//!             s = q k^T * scale;  m' = max(m, max s)
//!             c = exp(m - m');  p = exp(s - m');  l = l c + sum p;  o = o c + p v
//!         q = o / l                                              the context takes the place of the query
//! ```
//!
//! The running maximum and sum are the on-line softmax of Milakov and Gimelshein (arXiv:1805.02867), as in FlashAttention.
//! With the keys transposed, both products run along lanes and broadcast one scalar, so neither needs a horizontal sum.

use crate::math::exp;
use crate::simd::{Op, Simd};

/// Queries in a tile.
const TILE_QUERIES: usize = 4;
/// Keys in a tile, a multiple of every vector's lanes times [`GROUP`].
const TILE_KEYS: usize = 64;
/// Vectors a query row has in registers at once.
const GROUP: usize = 2;
/// Transposed keys are padded to this many.
const KEY_ALIGN: usize = 32;

/// Sizes of an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Tokens of the sequence.
    pub len: usize,
    /// Heads; a row of Q, K and V is `heads * head_dim` wide.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
}

impl AttentionShape {
    /// Floats of scratch that [`crate::Kernel::attention`] needs: the transposed keys of one head and a tile of contexts.
    ///
    /// ```
    /// let shape = plimsoll_kernel::AttentionShape { len: 100, heads: 12, head_dim: 32 };
    /// assert_eq!(shape.scratch_len(), 32 * 128 + 4 * 32);
    /// ```
    pub const fn scratch_len(&self) -> usize {
        self.head_dim * (self.padded_len() + TILE_QUERIES)
    }

    const fn padded_len(&self) -> usize {
        self.len.next_multiple_of(KEY_ALIGN)
    }
}

/// See [`crate::Kernel::attention`].
pub(crate) struct Attention<'a> {
    pub(crate) q: &'a mut [f32],
    pub(crate) k: &'a [f32],
    pub(crate) v: &'a [f32],
    pub(crate) shape: AttentionShape,
    pub(crate) scratch: &'a mut [f32],
}

impl Op for Attention<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let AttentionShape { len, heads, head_dim } = self.shape;
        let padded = self.shape.padded_len();
        let (keys, rest) = self.scratch.split_at_mut(head_dim * padded);
        let context = &mut rest[..TILE_QUERIES * head_dim];
        for h in 0..heads {
            let column = h * head_dim;
            transpose_keys(self.k, keys, column, self.shape);
            let head = Head {
                keys,
                values: &self.v[column..],
                len,
                padded,
                head_dim,
                stride: heads * head_dim,
                scale: 1.0 / (head_dim as f32).sqrt(),
            };
            let mut query = 0;
            while query < len {
                let q = &mut self.q[query * head.stride + column..];
                let count = TILE_QUERIES.min(len - query);
                match count {
                    4 => tile::<S, 4>(s, &head, q, context),
                    3 => tile::<S, 3>(s, &head, q, context),
                    2 => tile::<S, 2>(s, &head, q, context),
                    _ => tile::<S, 1>(s, &head, q, context),
                }
                query += count;
            }
        }
    }
}

/// `keys[d][j] = k[j][column + d]`, zero where j is padding.
fn transpose_keys(k: &[f32], keys: &mut [f32], column: usize, shape: AttentionShape) {
    let stride = shape.heads * shape.head_dim;
    let padded = shape.padded_len();
    for (d, row) in keys.chunks_exact_mut(padded).enumerate() {
        row[shape.len..].fill(0.0);
        let column_values = k[column + d..].iter().step_by(stride);
        for (to, from) in row[..shape.len].iter_mut().zip(column_values) {
            *to = *from;
        }
    }
}

/// One head of the sequence.
struct Head<'a> {
    /// `head_dim` rows of `padded`.
    keys: &'a [f32],
    /// Starts at the head's column of the first token; the next token is `stride` on.
    values: &'a [f32],
    len: usize,
    padded: usize,
    head_dim: usize,
    stride: usize,
    scale: f32,
}

/// `M` queries against every key; `q` starts at the head's column of the first of them.
#[inline(always)]
fn tile<S: Simd, const M: usize>(s: S, head: &Head<'_>, q: &mut [f32], context: &mut [f32]) {
    const { assert!(TILE_KEYS.is_multiple_of(GROUP * S::LANES) && KEY_ALIGN.is_multiple_of(GROUP * S::LANES)) };
    let context = &mut context[..M * head.head_dim];
    context.fill(0.0);
    let mut peaks = [f32::NEG_INFINITY; M];
    let mut totals = [0.0_f32; M];
    let mut scores = [[0.0_f32; TILE_KEYS]; M];
    let mut first = 0;
    while first < head.len {
        let count = TILE_KEYS.min(head.len - first);
        score::<S, M>(s, head, q, first, count, &mut scores);
        for m in 0..M {
            let row = &mut scores[m][..count.next_multiple_of(S::LANES)];
            row[count..].fill(f32::NEG_INFINITY);
            let correction = soften(s, row, &mut peaks[m], &mut totals[m]);
            if correction != 1.0 {
                for c in &mut context[m * head.head_dim..(m + 1) * head.head_dim] {
                    *c *= correction;
                }
            }
        }
        add_values::<S, M>(s, head, first, count, &scores, context);
        first += count;
    }
    for m in 0..M {
        let from = &context[m * head.head_dim..(m + 1) * head.head_dim];
        let factor = 1.0 / totals[m];
        for (to, from) in q[m * head.stride..m * head.stride + head.head_dim]
            .iter_mut()
            .zip(from)
        {
            *to = from * factor;
        }
    }
}

/// `scores[m][j] = scale * q[m] . k[first + j]` for `count` keys, rounded up to whole groups of vectors.
#[inline(always)]
fn score<S: Simd, const M: usize>(
    s: S,
    head: &Head<'_>,
    q: &[f32],
    first: usize,
    count: usize,
    scores: &mut [[f32; TILE_KEYS]; M],
) {
    let mut j = 0;
    while j < count {
        let mut acc = [[s.splat(0.0); GROUP]; M];
        for d in 0..head.head_dim {
            let keys = &head.keys[d * head.padded + first + j..][..GROUP * S::LANES];
            let keys = [s.load(keys), s.load(&keys[S::LANES..])];
            for m in 0..M {
                let q = s.splat(q[m * head.stride + d]);
                for g in 0..GROUP {
                    acc[m][g] = s.fma(q, keys[g], acc[m][g]);
                }
            }
        }
        let scale = s.splat(head.scale);
        for m in 0..M {
            for g in 0..GROUP {
                s.store(s.mul(acc[m][g], scale), &mut scores[m][j + g * S::LANES..]);
            }
        }
        j += GROUP * S::LANES;
    }
}

/// Turns a row of scores into `exp(score - peak)`, moves peak and total on, and returns what earlier sums must be
/// multiplied with.
#[inline(always)]
fn soften<S: Simd>(s: S, row: &mut [f32], peak: &mut f32, total: &mut f32) -> f32 {
    let mut highest = s.splat(*peak);
    for chunk in row.chunks_exact(S::LANES) {
        highest = s.max(highest, s.load(chunk));
    }
    let highest = s.max_lane(highest);
    let highest_v = s.splat(highest);
    let mut acc = s.splat(0.0);
    for chunk in row.chunks_exact_mut(S::LANES) {
        let v = exp(s, s.sub(s.load(chunk), highest_v));
        acc = s.add(acc, v);
        s.store(v, chunk);
    }
    let correction = (*peak - highest).exp();
    *peak = highest;
    *total = *total * correction + s.sum(acc);
    correction
}

/// `context[m] += sum over j of scores[m][j] * v[first + j]`.
#[inline(always)]
fn add_values<S: Simd, const M: usize>(
    s: S,
    head: &Head<'_>,
    first: usize,
    count: usize,
    scores: &[[f32; TILE_KEYS]; M],
    context: &mut [f32],
) {
    let dim = head.head_dim;
    let values = &head.values[first * head.stride..];
    let mut d = 0;
    while d + GROUP * S::LANES <= dim {
        let mut acc = [[s.splat(0.0); GROUP]; M];
        for j in 0..count {
            let v = &values[j * head.stride + d..][..GROUP * S::LANES];
            let v = [s.load(v), s.load(&v[S::LANES..])];
            for m in 0..M {
                let p = s.splat(scores[m][j]);
                for g in 0..GROUP {
                    acc[m][g] = s.fma(p, v[g], acc[m][g]);
                }
            }
        }
        for m in 0..M {
            for g in 0..GROUP {
                let to = &mut context[m * dim + d + g * S::LANES..][..S::LANES];
                s.store(s.add(s.load(to), acc[m][g]), to);
            }
        }
        d += GROUP * S::LANES;
    }
    while d < dim {
        let width = S::LANES.min(dim - d);
        add_narrow_values::<S, M>(s, head, values, d..d + width, count, scores, context);
        d += width;
    }
}

/// The same for a part of the head that is one vector wide or narrower.
#[inline(always)]
fn add_narrow_values<S: Simd, const M: usize>(
    s: S,
    head: &Head<'_>,
    values: &[f32],
    part: core::ops::Range<usize>,
    count: usize,
    scores: &[[f32; TILE_KEYS]; M],
    context: &mut [f32],
) {
    let whole = part.len() == S::LANES;
    let mut acc = [s.splat(0.0); M];
    for j in 0..count {
        let v = &values[j * head.stride + part.start..j * head.stride + part.end];
        let v = if whole { s.load(v) } else { s.load_short(v) };
        for m in 0..M {
            acc[m] = s.fma(s.splat(scores[m][j]), v, acc[m]);
        }
    }
    for m in 0..M {
        let to = &mut context[m * head.head_dim + part.start..m * head.head_dim + part.end];
        if whole {
            s.store(s.add(s.load(to), acc[m]), to);
        } else {
            s.store_short(s.add(s.load_short(to), acc[m]), to);
        }
    }
}
