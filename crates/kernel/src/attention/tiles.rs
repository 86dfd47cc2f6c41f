//! Attention where the CPU multiplies [tiles](crate::simd::Simd::HAS_TILES): sixteen queries at a time, and scores pass through the first-level cache.
//!
//! One shape serves both products and every length: a tile of fewer queries holds stale ones below them, whose contexts nobody reads, and weights and values behind
//! the last key are zeros up to whole tiles.

use super::head::{Head, copy_queries, pack_keys, pack_values, sums};
use super::{AttentionShape, BLOCK_KEYS, BOUND_MAX, LOWEST, TILE_QUERIES, WEIGHTS, land, window};
use crate::dot::Bf16Dot;
use crate::math::exp2_near;
use crate::packed::{Format, PANEL};
use crate::product::Strided;
use crate::simd::{Fetch, Simd, TILE};

/// Words of a query's weights.
const WEIGHTS_STRIDE: usize = Format::Bf16.row_words(WEIGHTS);
/// What keys, queries, values and weights are.
const BF16: u8 = Format::Bf16 as u8;
/// Vectors, and tiles, of a panel.
const VECTORS: usize = 3;

/// Scores of a panel of keys, or contexts.
#[repr(align(64))]
struct Sums([u32; TILE * PANEL]);

/// The pieces of scratch.
struct Pieces<'a> {
    keys: &'a mut [u32],
    values: &'a mut [u32],
    queries: &'a mut [u32],
    weights: &'a mut [u32],
    sums: Sums,
}

impl<'a> Pieces<'a> {
    #[inline(always)]
    fn new(scratch: &'a mut [u32], shape: AttentionShape, len: usize) -> Pieces<'a> {
        let steps = Format::Bf16.row_words(shape.head_dim);
        // Whole tiles of every block.
        let value_steps = Format::Bf16.row_words(len) + TILE;
        let (keys, rest) = scratch.split_at_mut(steps * len.next_multiple_of(PANEL));
        let (values, rest) = rest.split_at_mut(value_steps * shape.value_columns());
        let (queries, rest) = rest.split_at_mut(TILE * steps);
        let weights = &mut rest[..TILE * WEIGHTS_STRIDE];
        Pieces {
            keys,
            values,
            queries,
            weights,
            sums: Sums([0; TILE * PANEL]),
        }
    }
}

/// Up to sixteen queries.
struct Tile {
    first: usize,
    rows: usize,
    /// Words of each.
    steps: usize,
    /// What their scores are lowered by.
    peaks: [f32; TILE],
    totals: [f32; TILE],
}

/// One head; tiles must be shaped for [`TILE`] rows and what a query has beyond whole tiles.
#[inline(always)]
pub(super) fn attend<S: Simd>(s: S, head: &mut Head, shape: AttentionShape, scratch: &mut [u32]) {
    let columns = shape.value_columns();
    let mut pieces = Pieces::new(scratch, shape, head.len);
    let longest_key = pack_keys::<Bf16Dot, S>(s, head, pieces.keys);
    pack_values(s, head, pieces.values, columns);
    let packed = head.format.row_words(head.len) * columns;
    pieces.values[packed..].fill(0);
    for first in (0..head.len).step_by(TILE) {
        let mut tile = Tile {
            first,
            rows: TILE.min(head.len - first),
            steps: head.format.row_words(head.dim),
            peaks: [0.0; TILE],
            totals: [0.0; TILE],
        };
        tile.copy(s, head, longest_key, pieces.queries);
        if tile.peaks.iter().any(|&peak| peak > BOUND_MAX) {
            tile.raise(s, head, &mut pieces);
        }
        for start in (0..head.len).step_by(BLOCK_KEYS) {
            let count = BLOCK_KEYS.min(head.len - start);
            tile.weigh(s, start, count, &mut pieces);
            tile.mix(s, head, start, count, columns, &mut pieces);
        }
    }
}

impl Tile {
    /// Copies the queries and bounds their scores.
    #[inline(always)]
    fn copy<S: Simd>(&mut self, s: S, head: &Head, longest_key: f32, queries: &mut [u32]) {
        for half in (0..self.rows).step_by(TILE_QUERIES) {
            let count = TILE_QUERIES.min(self.rows - half);
            let first = self.first + half;
            let to = &mut queries[half * self.steps..];
            let peaks = copy_queries(s, head, first..first + count, longest_key, to);
            self.peaks[half..half + count].copy_from_slice(&peaks[..count]);
        }
    }

    /// Scores of the panel that begins with a key, of which `left` are wanted.
    #[inline(always)]
    fn score<S: Simd>(&self, s: S, key: usize, left: usize, pieces: &mut Pieces<'_>) {
        let panel = &pieces.keys[key * self.steps..][..PANEL * self.steps];
        let (q, w) = (
            Strided {
                words: pieces.queries[..TILE * self.steps].as_ptr(),
                stride: self.steps,
            },
            Strided {
                words: panel.as_ptr(),
                stride: PANEL,
            },
        );
        let sums = pieces.sums.0.as_mut_ptr();
        // SAFETY: tiles are shaped for TILE rows, of which there are so many queries, `steps` words each; the panel has as many steps, and there are TILE rows of sums.
        unsafe {
            match left.div_ceil(TILE) {
                1 => s.multiply_tile::<BF16, 1>(q, w, self.steps, Fetch::NOTHING, sums),
                2 => s.multiply_tile::<BF16, 2>(q, w, self.steps, Fetch::NOTHING, sums),
                _ => s.multiply_tile::<BF16, VECTORS>(q, w, self.steps, Fetch::NOTHING, sums),
            }
        }
    }

    /// Takes each query's highest score for its bound.
    #[inline(always)]
    fn raise<S: Simd>(&mut self, s: S, head: &Head, pieces: &mut Pieces<'_>) {
        let mut highest = [s.splat(f32::NEG_INFINITY); TILE];
        for key in (0..head.len).step_by(PANEL) {
            let left = PANEL.min(head.len - key);
            self.score(s, key, left, pieces);
            for (highest, scores) in highest.iter_mut().zip(pieces.sums.0.chunks_exact(PANEL)) {
                for (n, scores) in scores
                    .chunks_exact(S::LANES)
                    .enumerate()
                    .take(left.div_ceil(S::LANES))
                {
                    let low = window(s, LOWEST, S::LANES.min(left - n * S::LANES));
                    *highest = s.max(*highest, s.add(vector(s, scores), low));
                }
            }
        }
        self.peaks = highest.map(|highest| s.max_lane(highest));
    }

    /// `weights = 2^(score - peak)` of some keys, and their totals.
    #[inline(always)]
    fn weigh<S: Simd>(&mut self, s: S, start: usize, count: usize, pieces: &mut Pieces<'_>) {
        let mut totals = [s.splat(0.0); TILE];
        for key in (0..count).step_by(PANEL) {
            let left = PANEL.min(count - key);
            self.score(s, start + key, left, pieces);
            let last = window(s, LOWEST, (left - 1) % S::LANES + 1);
            let rows = pieces
                .sums
                .0
                .chunks_exact(PANEL)
                .zip(pieces.weights.chunks_exact_mut(WEIGHTS_STRIDE));
            for ((scores, weights), (peak, total)) in
                rows.zip(self.peaks.iter().zip(&mut totals)).take(self.rows)
            {
                let (low, to) = (s.splat(-peak), &mut weights[key / 2..]);
                *total = if left == PANEL {
                    soften_panel(s, scores, low, *total, to)
                } else {
                    soften(s, scores, low, left, last, *total, to)
                };
            }
        }
        let written = count.div_ceil(S::LANES) * (S::LANES / 2);
        if !written.is_multiple_of(TILE) {
            for weights in pieces.weights.chunks_exact_mut(WEIGHTS_STRIDE).take(self.rows) {
                weights[written..written.next_multiple_of(TILE)].fill(0);
            }
        }
        for (half, totals) in totals.as_chunks::<TILE_QUERIES>().0.iter().enumerate() {
            let to = &mut self.totals[half * TILE_QUERIES..];
            to.iter_mut()
                .zip(sums(s, totals))
                .for_each(|(to, total)| *to += total);
        }
    }

    /// `context = context + weights * values` of some keys, divided by the totals behind the last.
    #[inline(always)]
    fn mix<S: Simd>(
        &self,
        s: S,
        head: &mut Head,
        start: usize,
        count: usize,
        columns: usize,
        pieces: &mut Pieces<'_>,
    ) {
        let steps = head.format.row_words(count).next_multiple_of(TILE);
        let values = &pieces.values[start / 2 * columns..][..steps * columns];
        let weights = Strided {
            words: pieces.weights.as_ptr(),
            stride: WEIGHTS_STRIDE,
        };
        let sums = pieces.sums.0.as_mut_ptr();
        for first in (0..columns).step_by(PANEL) {
            let w = Strided {
                words: values[first..].as_ptr(),
                stride: columns,
            };
            // SAFETY: tiles are shaped for TILE rows, of which there are so many of weights, WEIGHTS_STRIDE words each; values have `steps` rows of `columns` words,
            // whole tiles, and there are TILE rows of sums.
            unsafe {
                match (columns - first) / TILE {
                    1 => s.multiply_tile::<BF16, 1>(weights, w, steps, Fetch::NOTHING, sums),
                    2 => s.multiply_tile::<BF16, 2>(weights, w, steps, Fetch::NOTHING, sums),
                    _ => s.multiply_tile::<BF16, VECTORS>(weights, w, steps, Fetch::NOTHING, sums),
                }
            }
            let is_last = start + count == head.len;
            for (row, sums) in pieces.sums.0.chunks_exact(PANEL).enumerate().take(self.rows) {
                let factor = is_last.then(|| s.splat(1.0 / self.totals[row]));
                let context = &mut head.context(self.first + row)[first..];
                for (sums, to) in sums.chunks_exact(S::LANES).zip(context.chunks_mut(S::LANES)) {
                    land(s, vector(s, sums), start > 0, factor, to);
                }
            }
        }
    }
}

/// A vector of sums.
#[inline(always)]
fn vector<S: Simd>(s: S, sums: &[u32]) -> S::V {
    assert!(sums.len() >= S::LANES);
    // SAFETY: as many words are there.
    s.floats(unsafe { s.load_words(sums.as_ptr()) })
}

/// Weights of a whole panel; returns the total with them.
#[inline(always)]
fn soften_panel<S: Simd>(s: S, scores: &[u32], low: S::V, total: S::V, to: &mut [u32]) -> S::V {
    let mut v = [total; VECTORS];
    for (v, scores) in v.iter_mut().zip(scores.chunks_exact(S::LANES)) {
        *v = exp2_near(s, s.add(vector(s, scores), low));
    }
    let to = &mut to[..VECTORS * S::LANES / 2];
    // SAFETY: three vectors of bf16 are as long.
    unsafe {
        s.store_both_bf16(v[0], v[1], to.as_mut_ptr());
        s.store_bf16(v[2], to.as_mut_ptr().add(S::LANES));
    }
    s.add(s.add(total, v[0]), s.add(v[1], v[2]))
}

/// Weights of the `left` keys of the last panel, the last vector of which is lowered by `last`.
#[inline(always)]
fn soften<S: Simd>(
    s: S,
    scores: &[u32],
    low: S::V,
    left: usize,
    last: S::V,
    mut total: S::V,
    to: &mut [u32],
) -> S::V {
    let vectors = left.div_ceil(S::LANES);
    for n in 0..vectors {
        let score = s.add(vector(s, &scores[n * S::LANES..]), low);
        let v = exp2_near(
            s,
            if n + 1 == vectors {
                s.add(score, last)
            } else {
                score
            },
        );
        total = s.add(total, v);
        let to = &mut to[n * S::LANES / 2..][..S::LANES / 2];
        // SAFETY: `to` is a vector of bf16 long.
        unsafe { s.store_bf16(v, to.as_mut_ptr()) };
    }
    total
}
