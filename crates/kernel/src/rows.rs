//! Row by row: softmax, layer normalisation, L2 normalisation, pooling, dot product.

use crate::crew::Crew;
use crate::math::exp;
use crate::simd::{Level, Op, Simd};

/// Sums that grow at once: one addition waits for the last.
const CHAINS: usize = 4;

/// Sum of `f` over the slice would need closures; these three sums are all there is.
#[inline(always)]
fn sum<S: Simd>(s: S, xs: &[f32]) -> f32 {
    let mut sums = [s.splat(0.0); CHAINS];
    let mut groups = xs.chunks_exact(CHAINS * S::LANES);
    for group in &mut groups {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = s.add(*sum, s.load(&group[i * S::LANES..]));
        }
    }
    let mut chunks = groups.remainder().chunks_exact(S::LANES);
    for chunk in &mut chunks {
        sums[0] = s.add(sums[0], s.load(chunk));
    }
    sums[1] = s.add(sums[1], s.load_short(chunks.remainder()));
    s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])))
}

/// Sum of squared distances from `mean`.
#[inline(always)]
fn squares<S: Simd>(s: S, xs: &[f32], mean: f32) -> f32 {
    let mean_v = s.splat(mean);
    let mut sums = [s.splat(0.0); CHAINS];
    let mut groups = xs.chunks_exact(CHAINS * S::LANES);
    for group in &mut groups {
        for (i, sum) in sums.iter_mut().enumerate() {
            let d = s.sub(s.load(&group[i * S::LANES..]), mean_v);
            *sum = s.fma(d, d, *sum);
        }
    }
    let mut chunks = groups.remainder().chunks_exact(S::LANES);
    for chunk in &mut chunks {
        let d = s.sub(s.load(chunk), mean_v);
        sums[0] = s.fma(d, d, sums[0]);
    }
    let mut total = s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])));
    for &x in chunks.remainder() {
        total += (x - mean) * (x - mean);
    }
    total
}

/// Sum of products.
#[inline(always)]
pub(crate) fn dot<S: Simd>(s: S, a: &[f32], b: &[f32]) -> f32 {
    let mut acc = s.splat(0.0);
    let (mut a, mut b) = (a.chunks_exact(S::LANES), b.chunks_exact(S::LANES));
    for (a, b) in (&mut a).zip(&mut b) {
        acc = s.fma(s.load(a), s.load(b), acc);
    }
    s.sum(s.fma(s.load_short(a.remainder()), s.load_short(b.remainder()), acc))
}

/// `xs = xs * factor`.
#[inline(always)]
fn scale<S: Simd>(s: S, xs: &mut [f32], factor: f32) {
    let factor_v = s.splat(factor);
    let mut chunks = xs.chunks_exact_mut(S::LANES);
    for chunk in &mut chunks {
        let v = s.mul(s.load(chunk), factor_v);
        s.store(v, chunk);
    }
    for x in chunks.into_remainder() {
        *x *= factor;
    }
}

/// See [`crate::Kernel::dot`].
pub(crate) struct Dot<'a> {
    pub(crate) a: &'a [f32],
    pub(crate) b: &'a [f32],
}

impl Op for Dot<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        dot(s, self.a, self.b)
    }
}

/// See [`crate::Kernel::softmax`].
pub(crate) struct Softmax<'a> {
    pub(crate) rows: &'a mut [f32],
    pub(crate) width: usize,
}

impl Op for Softmax<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for row in self.rows.chunks_exact_mut(self.width) {
            softmax_row(s, row);
        }
    }
}

#[inline(always)]
fn softmax_row<S: Simd>(s: S, row: &mut [f32]) {
    let mut peak = s.splat(f32::NEG_INFINITY);
    let mut chunks = row.chunks_exact(S::LANES);
    for chunk in &mut chunks {
        peak = s.max(peak, s.load(chunk));
    }
    let mut max = s.max_lane(peak);
    for &x in chunks.remainder() {
        max = max.max(x);
    }
    let max_v = s.splat(max);
    let mut acc = s.splat(0.0);
    let mut chunks = row.chunks_exact_mut(S::LANES);
    for chunk in &mut chunks {
        let v = exp(s, s.sub(s.load(chunk), max_v));
        acc = s.add(acc, v);
        s.store(v, chunk);
    }
    let rest = chunks.into_remainder();
    let v = exp(s, s.sub(s.load_short(rest), max_v));
    s.store_short(v, rest);
    let total = s.sum(s.add(acc, s.load_short(rest)));
    scale(s, row, 1.0 / total);
}

/// See [`crate::Kernel::layer_norm`].
struct LayerNorm<'a> {
    rows: &'a mut [f32],
    gain: &'a [f32],
    bias: &'a [f32],
    epsilon: f32,
}

/// See [`crate::Kernel::layer_norm`].
pub(crate) fn layer_norm(
    level: Level,
    rows: &mut [f32],
    gain: &[f32],
    bias: &[f32],
    epsilon: f32,
    crew: &Crew,
) {
    let width = gain.len();
    // Few rows are done sooner than handed over.
    let few = (rows.len() / width).max(1);
    crew.run_rows(rows, width, few, &|_first, rows| {
        level.run(LayerNorm {
            rows,
            gain,
            bias,
            epsilon,
        });
    });
}

impl Op for LayerNorm<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for row in self.rows.chunks_exact_mut(self.gain.len()) {
            layer_norm_row(s, row, self.gain, self.bias, self.epsilon);
        }
    }
}

#[inline(always)]
fn layer_norm_row<S: Simd>(s: S, row: &mut [f32], gain: &[f32], bias: &[f32], epsilon: f32) {
    let width = row.len() as f32;
    let mean = sum(s, row) / width;
    let variance = squares(s, row, mean) / width;
    let (mean_v, factor) = (s.splat(mean), s.splat(1.0 / (variance + epsilon).sqrt()));
    let mut chunks = row.chunks_exact_mut(S::LANES);
    let (mut gain, mut bias) = (gain.chunks_exact(S::LANES), bias.chunks_exact(S::LANES));
    for ((chunk, gain), bias) in (&mut chunks).zip(&mut gain).zip(&mut bias) {
        let d = s.mul(s.sub(s.load(chunk), mean_v), factor);
        let v = s.fma(d, s.load(gain), s.load(bias));
        s.store(v, chunk);
    }
    let rest = chunks.into_remainder();
    let d = s.mul(s.sub(s.load_short(rest), mean_v), factor);
    let v = s.fma(d, s.load_short(gain.remainder()), s.load_short(bias.remainder()));
    s.store_short(v, rest);
}

/// See [`crate::Kernel::l2_normalize`].
pub(crate) struct L2Normalize<'a> {
    pub(crate) xs: &'a mut [f32],
}

impl Op for L2Normalize<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // torch.nn.functional.normalize: the norm is raised to 1e-12, so that a zero vector stays zero.
        let norm = dot(s, self.xs, self.xs).sqrt().max(1e-12);
        scale(s, self.xs, 1.0 / norm);
    }
}

/// How [`Pool`] joins rows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Join {
    Mean,
    Max,
}

/// See [`crate::Kernel::mean_pool`] and [`crate::Kernel::max_pool`].
pub(crate) struct Pool<'a> {
    pub(crate) rows: &'a [f32],
    pub(crate) out: &'a mut [f32],
    pub(crate) join: Join,
}

impl Op for Pool<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.out.len();
        let (first, others) = self.rows.split_at(width);
        self.out.copy_from_slice(first);
        for row in others.chunks_exact(width) {
            let mut outs = self.out.chunks_exact_mut(S::LANES);
            let mut rows = row.chunks_exact(S::LANES);
            for (out, row) in (&mut outs).zip(&mut rows) {
                let v = joined(s, self.join, s.load(row), s.load(out));
                s.store(v, out);
            }
            let out = outs.into_remainder();
            let v = joined(s, self.join, s.load_short(rows.remainder()), s.load_short(out));
            s.store_short(v, out);
        }
        if self.join == Join::Mean {
            scale(s, self.out, width as f32 / self.rows.len() as f32);
        }
    }
}

#[inline(always)]
fn joined<S: Simd>(s: S, join: Join, row: S::V, out: S::V) -> S::V {
    match join {
        Join::Mean => s.add(row, out),
        Join::Max => s.max(row, out),
    }
}
