//! Exponentials, error function and the activations built on them, one vector at a time.

mod normal;

use crate::simd::Simd;

/// `exp(x)`, relative error below 2e-7. Below -87.3 it is 1.2e-38 and above 88.3 it is 2.2e38; NaN stays NaN.
///
/// Cody and Waite's reduction `x = n ln 2 + r` and the degree-5 polynomial of Cephes (`expf.c`).
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    let x = s.max(s.splat(-87.336), s.min(s.splat(88.376), x));
    let n = s.round(s.mul(x, s.splat(core::f32::consts::LOG2_E)));
    // ln 2 in two parts, so that n times the first is exact.
    let r = s.fma(n, s.splat(-0.693_359_4), x);
    let r = s.fma(n, s.splat(2.121_944_4e-4), r);
    let mut p = s.splat(1.987_569_1e-4);
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        p = s.fma(p, r, s.splat(c));
    }
    let p = s.fma(p, s.mul(r, r), s.add(r, s.splat(1.0)));
    s.mul(p, s.pow2(n))
}

/// `2^x` for x up to 0, relative error below 2e-7 down to -126; zero or next to it below; NaN stays NaN.
#[inline(always)]
pub(crate) fn exp2<S: Simd>(s: S, x: S::V) -> S::V {
    exp2_by(
        s,
        x,
        [
            1.535_336_2e-4,
            1.339_887_5e-3,
            9.618_437e-3,
            5.550_332_4e-2,
            0.240_226_48,
            core::f32::consts::LN_2,
        ],
    )
}

/// The same with a relative error below 2e-3, half a step of bf16: for what is rounded to bf16.
#[inline(always)]
pub(crate) fn exp2_near<S: Simd>(s: S, x: S::V) -> S::V {
    exp2_by(s, x, [0.239_863_99, 0.702_941_83])
}

/// `2^n (1 + r Q(r))` with n whole and r within a half; `q` from the highest power down.
#[inline(always)]
fn exp2_by<S: Simd, const N: usize>(s: S, x: S::V, q: [f32; N]) -> S::V {
    let n = s.round(x);
    let r = s.sub(x, n);
    let mut p = s.splat(q[0]);
    for &c in &q[1..] {
        p = s.fma(p, r, s.splat(c));
    }
    s.scale_down(s.fma(p, r, s.splat(1.0)), n)
}

/// `tanh(x)`, absolute error below 3e-7.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    // 1 - 2 / (exp(2x) + 1); beyond 44 the exponential is clamped and the quotient is zero all the same.
    let e = exp(s, s.add(x, x));
    s.sub(s.splat(1.0), s.div(s.splat(2.0), s.add(e, s.splat(1.0))))
}

/// `erf(x)`, absolute error below 5e-7: the rational approximation of XLA (`math.cc`, `ErfImpl32`), an odd numerator of
/// degree 9 over an even denominator of degree 12; beyond 3.8325 the function is 1 in f32.
#[inline(always)]
pub(crate) fn erf<S: Simd>(s: S, x: S::V) -> S::V {
    let x = s.max(s.splat(-3.832_507), s.min(s.splat(3.832_507), x));
    let x2 = s.mul(x, x);
    let mut p = s.splat(2.290_506_5e-4);
    for c in [
        3.408_291e-3,
        5.095_569_5e-2,
        0.185_208_32,
        core::f32::consts::FRAC_2_SQRT_PI,
    ] {
        p = s.fma(p, x2, s.splat(c));
    }
    let mut q = s.splat(-1.179_160_3e-7);
    for c in [
        2.354_796_6e-5,
        1.017_962_5e-3,
        1.407_047e-2,
        0.110_985_05,
        0.497_469_25,
        1.0,
    ] {
        q = s.fma(q, x2, s.splat(c));
    }
    s.div(s.mul(x, p), q)
}

/// BERT's GELU: `x/2 (1 + erf(x / sqrt 2))`.
#[inline(always)]
pub(crate) fn gelu<S: Simd>(s: S, x: S::V) -> S::V {
    let half = s.mul(x, s.splat(0.5));
    if !S::LOOKS_UP {
        let e = erf(s, s.mul(x, s.splat(core::f32::consts::FRAC_1_SQRT_2)));
        return s.fma(half, e, half);
    }
    let size = s.abs(x);
    let held = s.min(s.splat(normal::CUBIC_END), size);
    let magic = s.splat(normal::CUBIC_MAGIC);
    let piece = s.add(held, magic);
    let r = s.sub(held, s.sub(piece, magic));
    let [c0, c1, c2, c3] = &normal::CUBIC;
    let p = s.fma(s.lookup(c3, piece), r, s.lookup(c2, piece));
    let p = s.fma(p, r, s.lookup(c1, piece));
    let p = s.fma(p, r, s.lookup(c0, piece));
    s.fma(size, p, half)
}

/// BERT's GELU with an absolute error below 5e-4.
#[inline(always)]
pub(crate) fn gelu_near<S: Simd>(s: S, x: S::V) -> S::V {
    if !S::LOOKS_UP {
        return gelu_by_powers(s, x);
    }
    let size = s.abs(x);
    let held = s.min(s.splat(normal::LINEAR_END), size);
    let piece = s.add(held, s.splat(normal::LINEAR_MAGIC));
    let [c0, c1] = &normal::LINEAR;
    let p = s.fma(s.lookup(c1, piece), held, s.lookup(c0, piece));
    s.fma(size, p, s.mul(x, s.splat(0.5)))
}

/// The same as `x (1/2 + x P(x^2))`, x held within 3.7.
#[inline(always)]
fn gelu_by_powers<S: Simd>(s: S, x: S::V) -> S::V {
    let held = s.max(s.splat(-3.7), s.min(s.splat(3.7), x));
    let x2 = s.mul(held, held);
    let mut p = s.splat(-4.899_684_4e-7);
    for c in [
        2.688_856e-5,
        -6.174_989e-4,
        7.848_678e-3,
        -6.258_766e-2,
        0.396_475_05,
    ] {
        p = s.fma(p, x2, s.splat(c));
    }
    s.mul(x, s.fma(held, p, s.splat(0.5)))
}

/// GELU by tanh (`gelu_new`): `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.
#[inline(always)]
pub(crate) fn gelu_tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let cube = s.mul(s.mul(x, x), x);
    let inner = s.mul(s.splat(0.797_884_6), s.fma(s.splat(0.044_715), cube, x));
    let half = s.mul(x, s.splat(0.5));
    s.fma(half, tanh(s, inner), half)
}
