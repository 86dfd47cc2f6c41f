//! One head of one sequence: where its columns lie, and how its queries, keys and values are packed.

use core::ops::Range;

use super::{HEAD_DIM_MAX, TILE_QUERIES};
use crate::dot::Dot;
use crate::encode::encode_row;
use crate::packed::{Format, PANEL};
use crate::simd::Simd;

/// One head of one sequence.
pub(super) struct Head {
    /// Its columns of the first query; keys are `width` further on, values `2 * width`, the next token `3 * width`.
    pub(super) q: *mut f32,
    pub(super) width: usize,
    pub(super) len: usize,
    pub(super) dim: usize,
    pub(super) format: Format,
    /// Whether weights need be no nearer than bf16.
    pub(super) near: bool,
}

impl Head {
    /// Where a token's columns begin: part 0 is the query's, 1 the key's, 2 the value's. Unlike the pointer of a slice of them, this
    /// one may go on to other tokens: it is made from the pointer to all of Q, K and V.
    #[inline(always)]
    fn start(&self, token: usize, part: usize) -> *mut f32 {
        debug_assert!(token < self.len && part < 3);
        // SAFETY: within Q, K and V, as `attention` checked.
        unsafe { self.q.add((token * 3 + part) * self.width) }
    }

    /// A token's columns.
    #[inline(always)]
    pub(super) fn columns(&self, token: usize, part: usize) -> &[f32] {
        // SAFETY: within Q, K and V, as `attention` checked; nobody else writes these columns.
        unsafe { core::slice::from_raw_parts(self.start(token, part), self.dim) }
    }

    /// Where the context goes.
    #[inline(always)]
    pub(super) fn context(&mut self, token: usize) -> &mut [f32] {
        // SAFETY: as in `columns`; the result borrows the head mutably.
        unsafe { core::slice::from_raw_parts_mut(self.start(token, 0), self.dim) }
    }
}

/// The most lanes of a vector.
const LANES_MAX: usize = 16;

/// Panels of keys, `[steps, PANEL]` words each; keys behind the last one of its vector are zero, those of later vectors stale: neither
/// counts. Returns the largest norm.
#[inline(always)]
pub(super) fn pack_keys<D: Dot, S: Simd>(s: S, head: &Head, keys: &mut [u32]) -> f32 {
    let steps = head.format.row_words(head.dim);
    let mut longest = s.splat(0.0);
    for first in (0..head.len).step_by(S::LANES) {
        let count = S::LANES.min(head.len - first);
        let start = first / PANEL * PANEL * steps + first % PANEL;
        let to = &mut keys[start..][..(steps - 1) * PANEL + S::LANES];
        for step in (0..steps).step_by(S::LANES) {
            let out = S::LANES.min(steps - step);
            turn(
                s,
                head,
                first..first + count,
                step..step + out,
                &mut to[step * PANEL..],
            );
        }
        let mut norms = [D::start(s, 0.0); 2];
        for step in 0..steps {
            // SAFETY: `to` has a vector of words at every step.
            let words = unsafe { D::load(s, to.as_ptr().add(step * PANEL), 0) };
            norms[step % 2] = D::add(s, norms[step % 2], words, words);
        }
        let norms = s.add(D::to_floats(s, norms[0]), D::to_floats(s, norms[1]));
        longest = s.max(longest, norms);
    }
    s.max_lane(longest).sqrt()
}

/// Some steps of up to a vector of keys, the first one's word of each step at the next multiple of `PANEL`.
#[inline(always)]
fn turn<S: Simd>(s: S, head: &Head, keys: Range<usize>, steps: Range<usize>, to: &mut [u32]) {
    assert!(to.len() >= (steps.len() - 1) * PANEL + S::LANES);
    let to = to.as_mut_ptr();
    if head.format == Format::F32 && keys.len() == S::LANES && steps.len() == S::LANES {
        assert!(keys.end <= head.len && steps.end <= head.dim);
        // SAFETY: every key has these steps, `3 * width` floats from one to the next, and `start` may reach all of them; nobody writes a
        // head's keys, and no reference to them is alive here. `to` is long enough, as asserted, and may be reached up to its end.
        unsafe {
            let from = head.start(keys.start, 1).add(steps.start);
            s.transpose(from.cast_const().cast(), 3 * head.width, to, PANEL, S::LANES);
        }
        return;
    }
    let mut rows = [[0; LANES_MAX]; LANES_MAX];
    let words = head.format.word_inputs();
    let floats = steps.start * words..head.dim.min(steps.end * words);
    for (key, row) in keys.zip(&mut rows) {
        encode_row(
            s,
            head.format,
            &head.columns(key, 1)[floats.clone()],
            &mut row[..steps.len()],
        );
    }
    // SAFETY: no vector has more than LANES_MAX lanes; `to` is long enough, as asserted.
    unsafe { s.transpose(rows.as_ptr().cast(), LANES_MAX, to, PANEL, steps.len()) }
}

/// Values, `[steps along the keys, columns]` words.
#[inline(always)]
pub(super) fn pack_values<S: Simd>(s: S, head: &Head, values: &mut [u32], columns: usize) {
    let word_keys = head.format.word_inputs();
    let steps = values[..head.format.row_words(head.len) * columns].chunks_exact_mut(columns);
    for (step, to) in steps.enumerate() {
        let first = head.columns(word_keys * step, 2);
        let second = (word_keys * step + 1 < head.len).then(|| head.columns(word_keys * step + 1, 2));
        for start in (0..head.dim).step_by(S::LANES) {
            let to = &mut to[start..][..S::LANES];
            let low = load(s, first, start);
            if head.format == Format::F32 {
                // SAFETY: `to` is a vector long; words and floats have one size and no invalid values.
                unsafe {
                    s.store(
                        low,
                        core::slice::from_raw_parts_mut(to.as_mut_ptr().cast(), S::LANES),
                    )
                };
            } else {
                let high = second.map_or(s.splat(0.0), |second| load(s, second, start));
                // SAFETY: `to` is a vector long.
                unsafe { s.store_pairs(low, high, to.as_mut_ptr()) };
            }
        }
        to[head.dim.next_multiple_of(S::LANES)..].fill(0);
    }
}

/// The floats from `start` on, zeros behind the last.
#[inline(always)]
fn load<S: Simd>(s: S, row: &[f32], start: usize) -> S::V {
    let row = &row[start..];
    if row.len() < S::LANES {
        s.load_short(row)
    } else {
        s.load(row)
    }
}

/// Copies queries, scaled, and returns a bound of each one's scores.
#[inline(always)]
pub(super) fn copy_queries<S: Simd>(
    s: S,
    head: &Head,
    queries: Range<usize>,
    longest_key: f32,
    out: &mut [u32],
) -> [f32; TILE_QUERIES] {
    let steps = head.format.row_words(head.dim);
    let factor = s.splat(core::f32::consts::LOG2_E / (head.dim as f32).sqrt());
    let mut scaled = [0.0; HEAD_DIM_MAX];
    let mut norms = [s.splat(0.0); TILE_QUERIES];
    for ((query, norm), out) in queries.zip(&mut norms).zip(out.chunks_exact_mut(steps)) {
        let query = head.columns(query, 0);
        for start in (0..head.dim).step_by(S::LANES) {
            let v = s.mul(load(s, query, start), factor);
            s.store(v, &mut scaled[start..]);
            *norm = s.fma(v, v, *norm);
        }
        encode_row(s, head.format, &scaled[..head.dim], out);
    }
    sums(s, &norms).map(|norm| norm.sqrt() * longest_key)
}

/// The sum of each vector.
#[inline(always)]
pub(super) fn sums<S: Simd>(s: S, v: &[S::V; TILE_QUERIES]) -> [f32; TILE_QUERIES] {
    let [a, b, c, d] = s.sum4([v[0], v[1], v[2], v[3]]);
    let [e, f, g, h] = s.sum4([v[4], v[5], v[6], v[7]]);
    [a, b, c, d, e, f, g, h]
}
