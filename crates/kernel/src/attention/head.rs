//! One head of one sequence: where its columns lie, and how its queries, keys and values are packed.

use super::{HEAD_DIM_MAX, TILE_QUERIES};
use crate::encode::encode_row;
use crate::packed::{Format, PANEL};
use crate::rows::dot;
use crate::simd::Simd;

/// One head of one sequence.
pub(super) struct Head {
    /// Its columns of the first query; keys are `width` further on, values `2 * width`, the next token `3 * width`.
    pub(super) q: *mut f32,
    pub(super) width: usize,
    pub(super) len: usize,
    pub(super) dim: usize,
    pub(super) format: Format,
}

impl Head {
    /// A token's columns: part 0 is the query's, 1 the key's, 2 the value's.
    #[inline(always)]
    pub(super) fn columns(&self, token: usize, part: usize) -> &[f32] {
        debug_assert!(token < self.len && part < 3);
        // SAFETY: within Q, K and V, as `attention` checked; nobody else writes these columns.
        unsafe {
            core::slice::from_raw_parts(self.q.add(token * 3 * self.width + part * self.width), self.dim)
        }
    }

    /// Where the context goes.
    #[inline(always)]
    pub(super) fn context(&mut self, token: usize) -> &mut [f32] {
        debug_assert!(token < self.len);
        // SAFETY: as in `columns`; the result borrows the head mutably.
        unsafe { core::slice::from_raw_parts_mut(self.q.add(token * 3 * self.width), self.dim) }
    }
}

/// Panels of keys, `[steps, PANEL]` words each; what stands behind the last key is never used. Returns the largest norm.
#[inline(always)]
pub(super) fn pack_keys<S: Simd>(s: S, head: &Head, keys: &mut [u32]) -> f32 {
    let steps = head.format.row_words(head.dim);
    let mut row = [0; HEAD_DIM_MAX];
    let mut longest = 0.0_f32;
    for (index, panel) in keys[..steps * head.len.next_multiple_of(PANEL)]
        .chunks_exact_mut(steps * PANEL)
        .enumerate()
    {
        let first = index * PANEL;
        for column in 0..PANEL.min(head.len - first) {
            let key = head.columns(first + column, 1);
            longest = longest.max(dot(s, key, key));
            encode_row(s, head.format, key, &mut row[..steps]);
            for (step, &word) in row[..steps].iter().enumerate() {
                panel[step * PANEL + column] = word;
            }
        }
    }
    longest.sqrt()
}

/// Values, `[steps along the keys, columns]` words.
#[inline(always)]
pub(super) fn pack_values<S: Simd>(s: S, head: &Head, values: &mut [u32], columns: usize) {
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

/// Copies queries, scaled, and returns a bound of each one's scores.
#[inline(always)]
pub(super) fn copy_queries<S: Simd>(
    s: S,
    head: &Head,
    queries: core::ops::Range<usize>,
    longest_key: f32,
    out: &mut [u32],
) -> [f32; TILE_QUERIES] {
    let steps = head.format.row_words(head.dim);
    let factor = core::f32::consts::LOG2_E / (head.dim as f32).sqrt();
    let mut scaled = [0.0; HEAD_DIM_MAX];
    let scaled = &mut scaled[..head.dim];
    let mut bounds = [0.0; TILE_QUERIES];
    for (row, query) in queries.enumerate() {
        for (to, from) in scaled.iter_mut().zip(head.columns(query, 0)) {
            *to = from * factor;
        }
        bounds[row] = dot(s, scaled, scaled).sqrt() * longest_key;
        encode_row(s, head.format, scaled, &mut out[row * steps..(row + 1) * steps]);
    }
    bounds
}
