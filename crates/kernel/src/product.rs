//! `Y = X W^T + b` with [packed](crate::packed) weights.
//!
//! The register tile is up to eight rows of x by three vectors of outputs, six by two where there are 16 registers. A step loads the
//! vectors of weights, broadcasts one word of each row and issues a multiply-add for every pair: 24 of them for eleven loads, or 12 for
//! eight, so the multipliers are the limit. Sums stay in registers along all inputs; nothing is reduced across lanes. The same tile serves floats, bf16 and
//! 8-bit numbers, whose instructions all take a 32-bit word of each operand and add to a 32-bit sum; where that is faster, two steps of bytes are one.
//!
//! A panel of weights stays in the first- or second-level cache while all rows of x pass by. Threads share a product of many rows by rows, so that each goes on with what
//! its own core has, and else by panels: each then reads its own weights only.

mod tiles;

use crate::act::{Activation, Apply, Function, apply};
use crate::crew::Crew;
use crate::dot::{Bf16Dot, Dot, FloatDot, Int8Dot, WideDot};
use crate::encode::{Rows, Tail, encode_row};
use crate::packed::{Format, PANEL, Packed};
use crate::simd::{Level, Op, Simd, prefetch};

/// Vectors of outputs in the widest tile.
const TILE_VECTORS_MAX: usize = 3;
/// Rows of the highest tile of all.
const TILE_ROWS_MAX: usize = 8;
/// About this many steps times rows make a chunk, if there is enough for all: some ten microseconds, so that nobody waits long for another, but few claims and long runs of Y.
const CHUNK_WORK: usize = 49152;

/// What happens to a product on its way into Y.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Epilogue {
    /// `Y = X W^T + b`.
    Store,
    /// `Y = Y + X W^T + b`: what Y held is the residual.
    Add,
    /// `Y = f(X W^T + b)`; with [`Format::Bf16`] and [`Format::Int8`] f is [near](Activation) enough for their precision.
    Activate(Activation),
}

/// One operand of a tile: rows (or steps of weights) at equal distances.
#[derive(Clone, Copy)]
pub(crate) struct Strided {
    pub(crate) words: *const u32,
    /// Words from one row or step to the next.
    pub(crate) stride: usize,
}

/// The register tile: `M` rows of x by `N` vectors of outputs, along `words` words of x, added to `acc`. What lies at `ahead` is fetched meanwhile.
///
/// # Safety
/// `x` must be readable for `M` rows of `words` words, `w` for as many steps of `N` vectors, one for [`Dot::PARTS`] words.
#[inline(always)]
pub(crate) unsafe fn tile_from<D: Dot, S: Simd, const M: usize, const N: usize>(
    s: S,
    x: Strided,
    w: Strided,
    words: usize,
    ahead: Option<Strided>,
    mut acc: [[D::Acc<S>; N]; M],
) -> [[D::Acc<S>; N]; M] {
    // One part of all steps, then the other: side by side, operands of both and the sums are more than the registers hold.
    for part in 0..D::PARTS {
        let steps = (words - part).div_ceil(D::PARTS);
        let ahead = ahead.filter(|_| part == 0);
        let mut step = 0;
        // SAFETY: all steps are below `steps`, and their part lies within `words`.
        unsafe {
            while S::STEPS > 1 && step + S::STEPS <= steps {
                acc = steps_from::<D, S, M, N>(s, x, w, part, step..step + S::STEPS, ahead, acc);
                step += S::STEPS;
            }
            while step < steps {
                acc = steps_from::<D, S, M, N>(s, x, w, part, step..step + 1, ahead, acc);
                step += 1;
            }
        }
    }
    acc
}

/// A part of some steps of a tile.
///
/// # Safety
/// As [`tile_from`], as far as these steps.
// Indices, not iterators: all loops must unroll so that the sums stay in registers.
#[expect(clippy::needless_range_loop)]
#[inline(always)]
unsafe fn steps_from<D: Dot, S: Simd, const M: usize, const N: usize>(
    s: S,
    x: Strided,
    w: Strided,
    part: usize,
    mut steps: core::ops::Range<usize>,
    ahead: Option<Strided>,
    mut acc: [[D::Acc<S>; N]; M],
) -> [[D::Acc<S>; N]; M] {
    if let Some(ahead) = ahead {
        for step in steps.clone() {
            let fetched = ahead.words.wrapping_add(step * ahead.stride);
            // A step's part is three cache lines, where tiles have three vectors, but with fewer vectors tiles have shares of it.
            for n in 0..if N == TILE_VECTORS_MAX { N } else { 1 } {
                prefetch(fetched.wrapping_add(n * ahead.stride / N));
            }
        }
    }
    while D::JOINED && steps.len() >= 2 {
        // SAFETY: both steps are within what the caller says is readable.
        acc = unsafe { two_steps_from::<D, S, M, N>(s, x, w, steps.start, acc) };
        steps.start += 2;
    }
    for step in steps {
        // SAFETY: step, part, m < M and n < N are within what the caller says is readable.
        unsafe {
            let from = w.words.add(step * w.stride);
            let mut ws = [D::splat(s, 0); N];
            for n in 0..N {
                ws[n] = D::load(s, from.add(n * S::LANES), part);
            }
            for m in 0..M {
                let at = m * x.stride + step * D::PARTS + part;
                let word = D::splat(s, x.words.add(at).read());
                for n in 0..N {
                    acc[m][n] = D::add(s, acc[m][n], word, ws[n]);
                }
            }
        }
    }
    acc
}

/// A step of a tile and the next one, joined.
///
/// # Safety
/// As [`tile_from`], as far as these steps.
#[expect(clippy::needless_range_loop)]
#[inline(always)]
unsafe fn two_steps_from<D: Dot, S: Simd, const M: usize, const N: usize>(
    s: S,
    x: Strided,
    w: Strided,
    step: usize,
    mut acc: [[D::Acc<S>; N]; M],
) -> [[D::Acc<S>; N]; M] {
    const { assert!(D::PARTS == 1 || !D::JOINED) };
    // SAFETY: both steps, m < M and n < N are within what the caller says is readable.
    unsafe {
        let from = w.words.add(step * w.stride);
        let mut ws = [[D::splat(s, 0); 2]; N];
        for n in 0..N {
            let first = from.add(n * S::LANES);
            ws[n] = [D::load(s, first, 0), D::load(s, first.add(w.stride), 0)];
        }
        for m in 0..M {
            let word = x.words.add(m * x.stride + step);
            let words = [D::splat(s, word.read()), D::splat(s, word.add(1).read())];
            for n in 0..N {
                acc[m][n] = D::add_two(s, acc[m][n], words, ws[n]);
            }
        }
    }
    acc
}

/// Rows of the highest tile of a format.
#[inline(always)]
pub(crate) fn rows_max<D: Dot, S: Simd>() -> usize {
    S::PACKED_ROWS[D::FORMAT as usize]
}

/// Calls `$call` with the number of rows as a constant, as far as this tile of this instruction set goes.
macro_rules! by_rows {
    ($rows:expr, $call:ident::<$D:ident, $S:ident $(, $generic:ident)*>($($argument:expr),* $(,)?)) => {
        match $rows {
            1 => $call::<$D, $S $(, $generic)*, 1>($($argument),*),
            2 => $call::<$D, $S $(, $generic)*, 2>($($argument),*),
            3 => $call::<$D, $S $(, $generic)*, 3>($($argument),*),
            4 if rows_max::<$D, $S>() >= 4 => $call::<$D, $S $(, $generic)*, 4>($($argument),*),
            5 if rows_max::<$D, $S>() >= 5 => $call::<$D, $S $(, $generic)*, 5>($($argument),*),
            6 if rows_max::<$D, $S>() >= 6 => $call::<$D, $S $(, $generic)*, 6>($($argument),*),
            7 if rows_max::<$D, $S>() >= 7 => $call::<$D, $S $(, $generic)*, 7>($($argument),*),
            8 if rows_max::<$D, $S>() >= 8 => $call::<$D, $S $(, $generic)*, 8>($($argument),*),
            rows => unreachable!("a tile of {rows} rows"),
        }
    };
}
pub(crate) use by_rows;

/// Rows of the next tile when `left` are left: as many as there are, but never a full tile and then a sliver.
#[inline(always)]
pub(crate) fn tile_rows<D: Dot, S: Simd>(left: usize) -> usize {
    let most = rows_max::<D, S>();
    if left > most && left < 2 * most {
        left.div_ceil(2)
    } else {
        left.min(most)
    }
}

/// Rows of floats, or of words of bf16, written in parts by several threads.
#[derive(Clone, Copy)]
struct Output<T> {
    start: *mut T,
    stride: usize,
}

// SAFETY: threads write disjoint panels of columns, or disjoint rows.
unsafe impl<T> Sync for Output<T> {}

impl<T> Output<T> {
    /// From a row and a column on.
    #[inline(always)]
    fn at(self, row: usize, column: usize) -> Output<T> {
        Output {
            start: self.start.wrapping_add(row * self.stride + column),
            ..self
        }
    }
}

/// Where a product goes, and what happens to it on its way.
#[derive(Clone, Copy)]
enum Target {
    Floats(Output<f32>, Epilogue),
    Bf16(Output<u32>, Activation),
}

impl Target {
    fn at_row(self, row: usize) -> Target {
        match self {
            Target::Floats(y, epilogue) => Target::Floats(y.at(row, 0), epilogue),
            Target::Bf16(y, activation) => Target::Bf16(y.at(row, 0), activation),
        }
    }
}

/// See [`crate::Kernel::product`].
pub(crate) fn product(
    level: Level,
    x: Rows<'_>,
    w: Packed<'_>,
    bias: Option<&[f32]>,
    y: &mut [f32],
    epilogue: Epilogue,
    crew: &Crew,
) {
    let y = Output {
        start: y.as_mut_ptr(),
        stride: w.outputs(),
    };
    share(level, x, w, bias, Target::Floats(y, epilogue), crew);
}

/// See [`crate::Kernel::product_bf16`].
pub(crate) fn product_bf16(
    level: Level,
    x: Rows<'_>,
    w: Packed<'_>,
    bias: Option<&[f32]>,
    y: &mut [u32],
    activation: Activation,
    crew: &Crew,
) {
    let y = Output {
        start: y.as_mut_ptr(),
        stride: Format::Bf16.row_words(w.outputs()),
    };
    share(level, x, w, bias, Target::Bf16(y, activation), crew);
}

/// Has the crew do all panels of all rows.
fn share(level: Level, x: Rows<'_>, w: Packed<'_>, bias: Option<&[f32]>, target: Target, crew: &Crew) {
    let target = &target;
    if let Some(each) = crew.rows_each(x.rows()) {
        return crew.run(x.rows().div_ceil(each), &|chunk, _lane| {
            let rows = chunk * each..x.rows().min((chunk + 1) * each);
            level.run(Part {
                target: target.at_row(rows.start),
                x: x.part(rows),
                w,
                panels: 0..w.panels(),
                next: w.panels(),
                bias,
            });
        });
    }
    let work = x.rows() * w.steps();
    let together = if crew.lanes() == 1 {
        w.panels()
    } else {
        // As many chunks for one as for another.
        let together = (CHUNK_WORK / work.max(1)).clamp(1, w.panels());
        let chunks = w.panels().div_ceil(together).next_multiple_of(crew.serving());
        w.panels().div_ceil(chunks)
    };
    crew.run(w.panels().div_ceil(together), &|chunk, _lane| {
        let panels = chunk * together..w.panels().min((chunk + 1) * together);
        // Those who serve take turns, as a rule.
        let next = panels.end + (crew.serving() - 1) * together;
        level.run(Part {
            x,
            w,
            panels,
            next,
            bias,
            target: *target,
        });
    });
}

/// Some panels of some rows of a product.
struct Part<'a> {
    x: Rows<'a>,
    w: Packed<'a>,
    panels: core::ops::Range<usize>,
    /// The panel that this thread will probably take after these, counted on into the next weights.
    next: usize,
    bias: Option<&'a [f32]>,
    target: Target,
}

impl Op for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match (self.x.format(), self.w.format()) {
            (Format::Bf16, _) if S::HAS_TILES => self.by_tiles::<S, { Format::Bf16 as u8 }>(s),
            (Format::Int8, _) if S::HAS_TILES => self.by_tiles::<S, { Format::Int8 as u8 }>(s),
            (_, Format::TwoBf16) => self.by_tiles::<S, { Format::TwoBf16 as u8 }>(s),
            (Format::Bf16, _) if S::HAS_BF16 => self.tiles::<Bf16Dot, S>(s),
            (_, Format::Bf16) => self.tiles::<WideDot, S>(s),
            (_, Format::F32) => self.tiles::<FloatDot, S>(s),
            (_, Format::Int8) if S::JOINS_BYTES && self.w.is_bounded() => self.tiles::<Int8Dot<true>, S>(s),
            (_, Format::Int8) => self.tiles::<Int8Dot, S>(s),
        }
    }
}

/// A group of outputs that a tile makes, and what becomes of its sums.
struct Columns<'a, S: Simd, const N: usize> {
    /// First column of Y, and how many there are; a tile is wider at the end of Y.
    first: usize,
    count: usize,
    /// Their weights.
    w: Strided,
    bias: [S::V; N],
    /// Scales and sums of 8-bit weights, or none.
    scales: [S::V; N],
    sums: [S::V; N],
    x: &'a Rows<'a>,
}

impl<S: Simd, const N: usize> Columns<'_, S, N> {
    /// A sum of the vector of outputs `n` with its bias and, of 8-bit numbers, whose row brings a tail, scaled.
    #[inline(always)]
    fn finished(&self, s: S, n: usize, sum: S::V, tail: Option<Tail>) -> S::V {
        let Some(tail) = tail else {
            return s.add(sum, self.bias[n]);
        };
        // X W^T = scale_x scale_w (sum of products - zero * sum of weights + outlier * its weight).
        let mut sum = s.fma(s.splat(-tail.zero), self.sums[n], sum);
        if S::ROW_OUTLIER {
            // SAFETY: its place is one of the inputs, all of which the panel has.
            let words =
                unsafe { s.load_words(self.w.words.add(tail.place / 4 * self.w.stride + n * S::LANES)) };
            sum = s.fma(
                s.splat(tail.outlier),
                s.byte_to_floats(words, tail.place % 4),
                sum,
            );
        }
        s.fma(sum, s.mul(s.splat(tail.scale), self.scales[n]), self.bias[n])
    }
}

impl Part<'_> {
    #[inline(always)]
    fn tiles<D: Dot, S: Simd>(&self, s: S) {
        match S::TILE_VECTORS {
            2 => self.panels::<D, S, 2>(s),
            _ => self.panels::<D, S, 3>(s),
        }
    }

    #[inline(always)]
    fn panels<D: Dot, S: Simd, const N: usize>(&self, s: S) {
        let width = N * S::LANES;
        const { assert!(PANEL.is_multiple_of(S::TILE_VECTORS * S::LANES)) };
        // A tile that cannot go straight to Y.
        let mut aside = [0.0; TILE_ROWS_MAX * PANEL];
        for panel in self.panels.clone() {
            let mut offset = 0;
            while offset < PANEL && panel * PANEL + offset < self.w.outputs() {
                let columns = self.columns::<S, N>(s, panel, offset);
                let mut row = 0;
                while row < self.x.rows() {
                    let height = tile_rows::<D, S>(self.x.rows() - row);
                    let whole = columns.count == width;
                    let aside = Output {
                        start: aside.as_mut_ptr(),
                        stride: PANEL,
                    };
                    let (floats, bf16) = match self.target {
                        Target::Floats(y, _) if whole => (y.at(row, columns.first), None),
                        Target::Bf16(y, _) if whole => (aside, Some(y.at(row, columns.first / 2))),
                        _ => (aside, None),
                    };
                    let (add, activation) = match self.target {
                        Target::Floats(_, Epilogue::Store) => (false, None),
                        Target::Floats(_, Epilogue::Add) => (whole, None),
                        Target::Floats(_, Epilogue::Activate(f)) | Target::Bf16(_, f) => (false, Some(f)),
                    };
                    let ahead = self.ahead::<D, S>(panel, offset, row);
                    by_rows!(height, multiply::<D, S, N>(s, &columns, ahead, row, floats, add));
                    if let Some(activation) = activation {
                        let tile = Tile::<N> { height, floats, bf16 };
                        apply(s, activation, self.w.format() != Format::F32, tile);
                    }
                    if !whole {
                        self.put(s, aside, &columns, row, height);
                    }
                    row += height;
                }
                offset += width;
            }
        }
    }

    /// What the tile from a row and a column of a panel on brings into the second-level cache: its part of the next panel. The last tiles of a panel share it, so
    /// that with few rows of x, where reading the weights takes as long as multiplying them, memory is never idle.
    #[inline(always)]
    fn ahead<D: Dot, S: Simd>(&self, panel: usize, offset: usize, row: usize) -> Option<Strided> {
        let (width, rows_max) = (S::TILE_VECTORS * S::LANES, rows_max::<D, S>());
        let high = self.x.rows().div_ceil(rows_max);
        let tiles = high * (PANEL / width);
        let tile = high * (offset / width) + row.div_ceil(rows_max);
        let shared = tiles.min(S::FETCH_TILES[D::FORMAT as usize]);
        let part = (tile + shared).checked_sub(tiles)?;
        let next = if panel + 1 < self.panels.end {
            panel + 1
        } else {
            self.next
        };
        let next = self.w.fetched(next)?;
        let stride = PANEL / shared;
        Some(Strided {
            words: next.wrapping_add(part * self.w.steps() * stride),
            stride,
        })
    }

    #[inline(always)]
    fn columns<S: Simd, const N: usize>(&self, s: S, panel: usize, offset: usize) -> Columns<'_, S, N> {
        let first = panel * PANEL + offset;
        let count = (N * S::LANES).min(self.w.outputs() - first);
        let w = Strided {
            words: self.w.panel(panel)[offset..].as_ptr(),
            stride: PANEL,
        };
        let mut columns = Columns {
            first,
            count,
            w,
            bias: [s.splat(0.0); N],
            scales: [s.splat(0.0); N],
            sums: [s.splat(0.0); N],
            x: &self.x,
        };
        for n in 0..N {
            let start = n * S::LANES;
            if let Some(bias) = self.bias.filter(|_| start < count) {
                let bias = &bias[first + start..first + count];
                columns.bias[n] = if bias.len() < S::LANES {
                    s.load_short(bias)
                } else {
                    s.load(bias)
                };
            }
            if self.w.format() == Format::Int8 {
                let [scales, sums] = self.w.columns(panel);
                let (scales, sums) = (
                    &scales[offset + start..][..S::LANES],
                    &sums[offset + start..][..S::LANES],
                );
                // SAFETY: both slices are a vector long, as sliced; words and floats have one size and no invalid values.
                unsafe {
                    columns.scales[n] = s.load_ptr(scales.as_ptr().cast());
                    columns.sums[n] = s.load_ptr(sums.as_ptr().cast());
                }
            }
        }
        columns
    }

    /// A tile that is wider than what is left of Y, from aside into Y.
    #[inline(always)]
    fn put<S: Simd, const N: usize>(
        &self,
        s: S,
        aside: Output<f32>,
        columns: &Columns<'_, S, N>,
        row: usize,
        height: usize,
    ) {
        let count = columns.count;
        for i in 0..height {
            // SAFETY: row and columns lie within Y, which `Kernel::product` or `Kernel::product_bf16` checked; no other thread touches them. All
            // tiles before have an even number of columns, so that none shares a word of bf16 with this one.
            unsafe {
                let from = core::slice::from_raw_parts(aside.at(i, 0).start, count);
                match self.target {
                    Target::Floats(y, epilogue) => {
                        let y = y.at(row + i, columns.first).start;
                        let to = core::slice::from_raw_parts_mut(y, count);
                        match epilogue {
                            Epilogue::Add => to.iter_mut().zip(from).for_each(|(y, x)| *y += x),
                            _ => to.copy_from_slice(from),
                        }
                    }
                    Target::Bf16(y, _) => {
                        let y = y.at(row + i, columns.first / 2).start;
                        let to = core::slice::from_raw_parts_mut(y, count.div_ceil(2));
                        encode_row(s, Format::Bf16, from, to);
                    }
                }
            }
        }
    }
}

/// A whole tile to be activated: in place, or on its way to bf16.
struct Tile<const N: usize> {
    height: usize,
    floats: Output<f32>,
    bf16: Option<Output<u32>>,
}

impl<S: Simd, const N: usize> Apply<S> for Tile<N> {
    #[inline(always)]
    fn apply<F: Function>(self, s: S) {
        for row in 0..self.height {
            let floats = self.floats.at(row, 0).start;
            let mut vectors = [s.splat(0.0); N];
            // SAFETY: a row of whole vectors, in Y as many words of two; nobody else touches them.
            unsafe {
                for (n, v) in vectors.iter_mut().enumerate() {
                    *v = F::of(s, s.load_ptr(floats.add(n * S::LANES)));
                }
                match self.bf16 {
                    Some(y) => {
                        let y = y.at(row, 0).start;
                        s.store_both_bf16(vectors[0], vectors[1], y);
                        if N == 3 {
                            s.store_bf16(vectors[2], y.add(S::LANES));
                        }
                    }
                    None => {
                        for (n, v) in vectors.into_iter().enumerate() {
                            s.store(
                                v,
                                core::slice::from_raw_parts_mut(floats.add(n * S::LANES), S::LANES),
                            );
                        }
                    }
                }
            }
        }
    }
}

/// One tile: sums, then scales, bias and residual, to where the tile goes.
// Indices, not iterators: both loops must unroll so that the sums stay in registers.
#[expect(clippy::needless_range_loop)]
#[inline(always)]
fn multiply<D: Dot, S: Simd, const N: usize, const M: usize>(
    s: S,
    columns: &Columns<'_, S, N>,
    ahead: Option<Strided>,
    row: usize,
    tile: Output<f32>,
    add: bool,
) {
    let x = columns.x.strided(row..row + M);
    let zero = [[D::start(s, 0.0); N]; M];
    // SAFETY: `strided` checked M rows of x; a panel holds a step of PANEL words for each of their words, or two of them, and the tile ends within PANEL.
    let acc = unsafe { tile_from::<D, S, M, N>(s, x, columns.w, columns.x.words(), ahead, zero) };
    for m in 0..M {
        let tail = (D::FORMAT == Format::Int8).then(|| columns.x.tail(row + m));
        for n in 0..N {
            let sum = D::to_floats(s, acc[m][n]);
            let v = columns.finished(s, n, sum, tail);
            // SAFETY: the tile has M rows of whole vectors, which nobody else touches.
            let to = unsafe {
                let start = tile.start.add(m * tile.stride + n * S::LANES);
                core::slice::from_raw_parts_mut(start, S::LANES)
            };
            s.store(if add { s.add(v, s.load(to)) } else { v }, to);
        }
    }
}
