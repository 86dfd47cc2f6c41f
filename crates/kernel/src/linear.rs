//! `Y = X W^T + b`, with W as it lies in the file.
//!
//! Hugging Face stores a linear layer row-major as `[outputs, inputs]`: a row of x and a row of W run along the same
//! dimension. So the register tile is a few rows of x by four rows of W with the accumulators along `inputs`, and the four
//! sums of a tile row come out of one transposed reduction at its end. Nothing is packed or copied; the price is that
//! reduction, a tenth of the work at 384 inputs. Rows of W are taken in panels that stay in the first-level cache while all
//! rows of x pass by.

use crate::act::{InPlace, apply};
use crate::product::Epilogue;
use crate::simd::{Op, Simd};

/// Rows of W in the register tile.
const TILE_OUTPUTS: usize = 4;
/// A panel of W is about this large, a third of a first-level cache.
const PANEL_BYTES: usize = 12 << 10;
/// Rows of x that pass a panel before the next one comes: at 384 inputs they fill half of a second-level cache.
const BLOCK_ROWS: usize = 256;

/// Sizes of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearShape {
    /// Rows of X and Y.
    pub rows: usize,
    /// Columns of X and of W.
    pub inputs: usize,
    /// Rows of W, columns of Y.
    pub outputs: usize,
}

/// See [`crate::Kernel::linear`].
pub(crate) struct Linear<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) w: &'a [f32],
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) y: &'a mut [f32],
    pub(crate) shape: LinearShape,
    pub(crate) epilogue: Epilogue,
}

impl Op for Linear<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let LinearShape {
            rows,
            inputs,
            outputs,
        } = self.shape;
        let step = panel_outputs(inputs);
        let mut row = 0;
        while row < rows {
            let block = row..rows.min(row + BLOCK_ROWS);
            let x = &self.x[block.start * inputs..block.end * inputs];
            let y = &mut self.y[block.start * outputs..block.end * outputs];
            let mut first = 0;
            while first < outputs {
                let past = outputs.min(first + step);
                let w = &self.w[first * inputs..past * inputs];
                let columns = Columns {
                    first,
                    stride: outputs,
                    bias: self.bias.map(|b| &b[first..past]),
                    add: self.epilogue == Epilogue::Add,
                };
                multiply_panel(s, x, w, inputs, columns, y);
                first = past;
            }
            if let Epilogue::Activate(activation) = self.epilogue {
                apply(s, activation, false, InPlace(y));
            }
            row = block.end;
        }
    }
}

/// Rows of W in a panel, a multiple of the tile.
fn panel_outputs(inputs: usize) -> usize {
    let rows = PANEL_BYTES / (inputs * size_of::<f32>());
    (rows / TILE_OUTPUTS * TILE_OUTPUTS).max(TILE_OUTPUTS)
}

/// Where a panel's products go in Y.
#[derive(Clone, Copy)]
struct Columns<'a> {
    first: usize,
    stride: usize,
    bias: Option<&'a [f32]>,
    add: bool,
}

impl Columns<'_> {
    #[inline(always)]
    fn put(&self, y: &mut [f32], row: usize, column: usize, sums: &[f32]) {
        let at = row * self.stride + self.first + column;
        let y = &mut y[at..at + sums.len()];
        for (i, (y, sum)) in y.iter_mut().zip(sums).enumerate() {
            let biased = sum + self.bias.map_or(0.0, |b| b[column + i]);
            *y = if self.add { *y + biased } else { biased };
        }
    }
}

/// All rows of x times the rows of W in `w`.
#[inline(always)]
fn multiply_panel<S: Simd>(s: S, x: &[f32], w: &[f32], inputs: usize, columns: Columns<'_>, y: &mut [f32]) {
    let rows = x.len() / inputs;
    let mut row = 0;
    while row < rows {
        let height = S::TILE_ROWS.min(rows - row);
        let xs = &x[row * inputs..(row + height) * inputs];
        match height {
            4 => tile_row::<S, 4>(s, xs, w, inputs, columns, row, y),
            3 => tile_row::<S, 3>(s, xs, w, inputs, columns, row, y),
            2 => tile_row::<S, 2>(s, xs, w, inputs, columns, row, y),
            _ => tile_row::<S, 1>(s, xs, w, inputs, columns, row, y),
        }
        row += height;
    }
}

/// `M` rows of x times all rows of `w`.
#[inline(always)]
fn tile_row<S: Simd, const M: usize>(
    s: S,
    x: &[f32],
    w: &[f32],
    inputs: usize,
    columns: Columns<'_>,
    row: usize,
    y: &mut [f32],
) {
    let outputs = w.len() / inputs;
    let mut out = 0;
    while out + TILE_OUTPUTS <= outputs {
        let acc = tile::<S, M, TILE_OUTPUTS>(s, x, &w[out * inputs..], inputs);
        for (m, acc) in acc.into_iter().enumerate() {
            columns.put(y, row + m, out, &s.sum4(acc));
        }
        out += TILE_OUTPUTS;
    }
    while out < outputs {
        let acc = tile::<S, M, 1>(s, x, &w[out * inputs..], inputs);
        for (m, acc) in acc.into_iter().enumerate() {
            columns.put(y, row + m, out, &[s.sum(acc[0])]);
        }
        out += 1;
    }
}

/// The register tile: `M` rows of x by `N` rows of w, each product still spread over the lanes.
// Indices, not iterators: both loops must unroll so that the accumulators stay in registers.
#[expect(clippy::needless_range_loop)]
#[inline(always)]
fn tile<S: Simd, const M: usize, const N: usize>(
    s: S,
    x: &[f32],
    w: &[f32],
    inputs: usize,
) -> [[S::V; N]; M] {
    assert!(x.len() >= M * inputs && w.len() >= N * inputs);
    let mut acc = [[s.splat(0.0); N]; M];
    let mut xs = [s.splat(0.0); M];
    let mut i = 0;
    while i + S::LANES <= inputs {
        for (m, xs) in xs.iter_mut().enumerate() {
            // SAFETY: m < M and i + LANES <= inputs, so this ends within M * inputs floats, asserted above.
            *xs = unsafe { s.load_ptr(x.as_ptr().add(m * inputs + i)) };
        }
        for n in 0..N {
            // SAFETY: n < N and i + LANES <= inputs, so this ends within N * inputs floats, asserted above.
            let w = unsafe { s.load_ptr(w.as_ptr().add(n * inputs + i)) };
            for m in 0..M {
                acc[m][n] = s.fma(xs[m], w, acc[m][n]);
            }
        }
        i += S::LANES;
    }
    if i < inputs {
        for n in 0..N {
            let w = s.load_short(&w[n * inputs + i..(n + 1) * inputs]);
            for m in 0..M {
                let x = s.load_short(&x[m * inputs + i..(m + 1) * inputs]);
                acc[m][n] = s.fma(x, w, acc[m][n]);
            }
        }
    }
    acc
}
