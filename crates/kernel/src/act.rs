//! Elementwise functions over slices.

use crate::math;
use crate::simd::{Op, Simd};

/// The activation functions of the BERT family (`hidden_act` in `config.json`) and of its heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x/2 (1 + erf(x / sqrt 2))`, named `gelu`: what BERT uses. Absolute error below 2e-6 (relative 3e-7) for |x| <= 10.
    Gelu,
    /// `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`, named `gelu_new`, `gelu_fast` and `gelu_pytorch_tanh`.
    GeluTanh,
    /// `max(x, 0)`, named `relu`.
    Relu,
    /// `tanh(x)`, named `tanh`: poolers. Absolute error below 3e-7.
    Tanh,
}

/// Applies `activation` in place.
#[inline(always)]
pub(crate) fn activate<S: Simd>(s: S, activation: Activation, xs: &mut [f32]) {
    match activation {
        Activation::Gelu => map::<S, GeluFn>(s, xs),
        Activation::GeluTanh => map::<S, GeluTanhFn>(s, xs),
        Activation::Relu => map::<S, ReluFn>(s, xs),
        Activation::Tanh => map::<S, TanhFn>(s, xs),
    }
}

/// The same within the precision of bf16 and 8-bit products: [`Activation::Gelu`] has an absolute error below 5e-4 here.
#[inline(always)]
pub(crate) fn activate_near<S: Simd>(s: S, activation: Activation, xs: &mut [f32]) {
    match activation {
        Activation::Gelu => map::<S, NearGeluFn>(s, xs),
        exact => activate(s, exact, xs),
    }
}

/// A function of one vector: a type, because a closure would not be compiled with the caller's CPU features.
trait Map {
    fn apply<S: Simd>(s: S, x: S::V) -> S::V;
}

struct GeluFn;
impl Map for GeluFn {
    #[inline(always)]
    fn apply<S: Simd>(s: S, x: S::V) -> S::V {
        math::gelu(s, x)
    }
}

struct NearGeluFn;
impl Map for NearGeluFn {
    #[inline(always)]
    fn apply<S: Simd>(s: S, x: S::V) -> S::V {
        math::gelu_near(s, x)
    }
}

struct GeluTanhFn;
impl Map for GeluTanhFn {
    #[inline(always)]
    fn apply<S: Simd>(s: S, x: S::V) -> S::V {
        math::gelu_tanh(s, x)
    }
}

struct ReluFn;
impl Map for ReluFn {
    #[inline(always)]
    fn apply<S: Simd>(s: S, x: S::V) -> S::V {
        s.max(s.splat(0.0), x)
    }
}

struct TanhFn;
impl Map for TanhFn {
    #[inline(always)]
    fn apply<S: Simd>(s: S, x: S::V) -> S::V {
        math::tanh(s, x)
    }
}

#[inline(always)]
fn map<S: Simd, F: Map>(s: S, xs: &mut [f32]) {
    let mut chunks = xs.chunks_exact_mut(S::LANES);
    for chunk in &mut chunks {
        let v = F::apply(s, s.load(chunk));
        s.store(v, chunk);
    }
    let rest = chunks.into_remainder();
    let v = F::apply(s, s.load_short(rest));
    s.store_short(v, rest);
}

/// See [`crate::Kernel::activate`].
pub(crate) struct Activate<'a> {
    pub(crate) activation: Activation,
    pub(crate) xs: &'a mut [f32],
}

impl Op for Activate<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        activate(s, self.activation, self.xs);
    }
}

/// See [`crate::Kernel::add`].
pub(crate) struct Add<'a> {
    pub(crate) y: &'a mut [f32],
    pub(crate) x: &'a [f32],
}

impl Op for Add<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut ys = self.y.chunks_exact_mut(S::LANES);
        let mut xs = self.x.chunks_exact(S::LANES);
        for (y, x) in (&mut ys).zip(&mut xs) {
            let v = s.add(s.load(y), s.load(x));
            s.store(v, y);
        }
        let (y, x) = (ys.into_remainder(), xs.remainder());
        let v = s.add(s.load_short(y), s.load_short(x));
        s.store_short(v, y);
    }
}
