//! Each kernel in double precision, the obvious way: what the fast ones are held against.

// Each test file uses its own part.
#![allow(dead_code)]

use plimsoll_kernel::{
    Activation, AttentionShape, Format, Isa, Kernel, LinearShape, bf16_to_f32, f32_to_bf16,
};

/// Every kernel that this CPU can run.
pub(crate) fn kernels() -> Vec<Kernel> {
    Isa::ALL.into_iter().filter_map(Kernel::with).collect()
}

/// Deterministic values in -1..1 (SplitMix64).
pub(crate) fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    (0..count)
        .map(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// Fails unless every value is within `tolerance` of the oracle's.
#[track_caller]
pub(crate) fn check(isa: Isa, got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(got) - want).abs();
        assert!(
            error <= tolerance,
            "{}: [{i}] is {got}, the oracle says {want}: {error:e} apart",
            isa.name()
        );
    }
}

pub(crate) fn linear(x: &[f32], w: &[f32], bias: Option<&[f32]>, shape: LinearShape) -> Vec<f64> {
    let mut y = Vec::new();
    for row in 0..shape.rows {
        for out in 0..shape.outputs {
            let products = (0..shape.inputs)
                .map(|i| f64::from(x[row * shape.inputs + i]) * f64::from(w[out * shape.inputs + i]));
            y.push(products.sum::<f64>() + bias.map_or(0.0, |b| f64::from(b[out])));
        }
    }
    y
}

/// erf by its Maclaurin series, and 1 - erfc by its continued fraction beyond 3 (Abramowitz and Stegun 7.1.5, 7.1.14).
pub(crate) fn erf(x: f64) -> f64 {
    if x.abs() > 3.0 {
        let fraction = (1..=60)
            .rev()
            .fold(0.0, |tail, n| f64::from(n) / 2.0 / (x.abs() + tail));
        let erfc = (-x * x).exp() / std::f64::consts::PI.sqrt() / (x.abs() + fraction);
        return (1.0 - erfc) * x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..100 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

pub(crate) fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Gelu => x / 2.0 * (1.0 + erf(x / std::f64::consts::SQRT_2)),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            x / 2.0 * (1.0 + inner.tanh())
        }
        Activation::Relu => x.max(0.0),
        Activation::Tanh => x.tanh(),
    }
}

pub(crate) fn softmax(row: &[f64]) -> Vec<f64> {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = row.iter().map(|x| (x - max).exp()).sum();
    row.iter().map(|x| (x - max).exp() / total).collect()
}

/// The contexts, `[tokens, heads * head_dim]`, of sequences whose rows of `qkv` are query, key and value.
pub(crate) fn attention(qkv: &[f32], lens: &[u32], shape: AttentionShape) -> Vec<f64> {
    let (width, dim) = (shape.heads * shape.head_dim, shape.head_dim);
    let at = |token: usize, part: usize, head: usize, d: usize| {
        f64::from(qkv[token * 3 * width + part * width + head * dim + d])
    };
    let mut out = Vec::new();
    let mut start = 0;
    for &len in lens {
        let tokens = start..start + len as usize;
        start = tokens.end;
        for i in tokens.clone() {
            for head in 0..shape.heads {
                let score = |j| {
                    (0..dim)
                        .map(|d| at(i, 0, head, d) * at(j, 1, head, d))
                        .sum::<f64>()
                };
                let scores: Vec<f64> = tokens.clone().map(|j| score(j) / (dim as f64).sqrt()).collect();
                let weights = softmax(&scores);
                for d in 0..dim {
                    out.push(
                        tokens
                            .clone()
                            .zip(&weights)
                            .map(|(j, p)| p * at(j, 2, head, d))
                            .sum(),
                    );
                }
            }
        }
    }
    out
}

pub(crate) fn layer_norm(row: &[f32], gain: &[f32], bias: &[f32], epsilon: f32) -> Vec<f64> {
    let n = row.len() as f64;
    let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
    let factor = 1.0 / (variance + f64::from(epsilon)).sqrt();
    let parts = row.iter().zip(gain).zip(bias);
    parts
        .map(|((&x, &g), &b)| (f64::from(x) - mean) * factor * f64::from(g) + f64::from(b))
        .collect()
}

/// Four-bit blocks of any bytes but with scales below 1, and the weights they stand for.
pub(crate) fn q4_blocks(weights: usize, seed: u64) -> (Vec<u8>, Vec<f32>) {
    let (mut blocks, mut expanded) = (Vec::new(), Vec::new());
    for block in values(weights / 32 * 18, seed).chunks(18) {
        let scale_bits = 0x2c00_u16 + ((block[0] + 1.0) * 1000.0) as u16;
        let scale = plimsoll_kernel::f16_to_f32(scale_bits);
        let bytes: Vec<u8> = block[2..].iter().map(|x| ((x + 1.0) * 127.9) as u8).collect();
        expanded.extend(bytes.iter().map(|b| (f32::from(b & 15) - 8.0) * scale));
        expanded.extend(bytes.iter().map(|b| (f32::from(b >> 4) - 8.0) * scale));
        blocks.extend(scale_bits.to_le_bytes());
        blocks.extend(bytes);
    }
    (blocks, expanded)
}

/// What a format leaves of rows of x on an instruction set.
pub(crate) fn seen_rows(isa: Isa, format: Format, x: &[f32], width: usize) -> Vec<f32> {
    match format {
        Format::F32 | Format::TwoBf16 => x.to_vec(),
        Format::Bf16 => x.iter().map(|&x| bf16_to_f32(f32_to_bf16(x))).collect(),
        Format::Int8 => x.chunks(width).flat_map(|row| seen_row(isa, row)).collect(),
    }
}

/// `scale * (q - zero)` over the row's own range, q in 0..=255; in 0..=127 on AVX2. All but AVX-512 keep the number that is farthest from zero.
fn seen_row(isa: Isa, row: &[f32]) -> Vec<f32> {
    let steps = if isa == Isa::Avx2 { 127.0 } else { 255.0 };
    let farthest = row.iter().fold(0.0_f32, |a, x| a.max(x.abs()));
    // Of two as far the positive one, of several the first.
    let kept = [farthest, -farthest]
        .iter()
        .find_map(|&value| row.iter().position(|&x| x == value))
        .filter(|_| matches!(isa, Isa::Avx2 | Isa::Portable) && farthest > 0.0);
    let others = row.iter().enumerate().filter(|&(i, _)| Some(i) != kept);
    let (least, most) = others.fold((0.0_f32, 0.0_f32), |(a, b), (_, &x)| (a.min(x), b.max(x)));
    let scale = if most > least { (most - least) / steps } else { 1.0 };
    let inverse = if most > least { steps / (most - least) } else { 1.0 };
    let zero = (-least * inverse).round_ties_even();
    let seen = |x: f32| scale * (x.mul_add(inverse, zero).clamp(0.0, steps).round_ties_even() - zero);
    let rows = row.iter().enumerate();
    rows.map(|(i, &x)| if Some(i) == kept { x } else { seen(x) })
        .collect()
}

/// What a format leaves of weights.
pub(crate) fn seen_weights(format: Format, w: &[f32], inputs: usize) -> Vec<f32> {
    let Format::Int8 = format else {
        return seen_rows(Isa::Portable, format, w, inputs);
    };
    w.chunks(inputs)
        .flat_map(|row| {
            let scale = weight_scale(row);
            row.iter().map(move |w| (w / scale).round_ties_even() * scale)
        })
        .collect()
}

/// The largest weight is at most 127, and four of one sign that meet in a 16-bit sum at most 256 together.
fn weight_scale(row: &[f32]) -> f32 {
    let at = |i: usize| row.get(i).copied().unwrap_or(0.0);
    let mut scale = row.iter().fold(0.0_f32, |a, w| a.max(w.abs())) / 127.0;
    for first in (0..row.len()).step_by(8) {
        for i in [first, first + 2] {
            let four = [at(i), at(i + 1), at(i + 4), at(i + 5)];
            for sign in [1.0, -1.0] {
                let sum: f32 = four.iter().map(|w| (w * sign).max(0.0)).sum();
                scale = scale.max(sum / 256.0);
            }
        }
    }
    if scale > 0.0 { scale } else { 1.0 }
}
