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

/// A function of one vector: a type, because a closure would not be compiled with the caller's CPU features.
pub(crate) trait Function {
    fn of<S: Simd>(s: S, x: S::V) -> S::V;
}

/// What is done with an activation once it is known which.
pub(crate) trait Apply<S: Simd> {
    fn apply<F: Function>(self, s: S);
}

/// Has `work` done with the function: exactly, or near enough for bf16 and 8-bit products, where [`Activation::Gelu`] has an absolute
/// error below 5e-4.
#[inline(always)]
pub(crate) fn apply<S: Simd, A: Apply<S>>(s: S, activation: Activation, near: bool, work: A) {
    match activation {
        Activation::Gelu if near => work.apply::<NearGeluFn>(s),
        Activation::Gelu => work.apply::<GeluFn>(s),
        Activation::GeluTanh => work.apply::<GeluTanhFn>(s),
        Activation::Relu => work.apply::<ReluFn>(s),
        Activation::Tanh => work.apply::<TanhFn>(s),
    }
}

struct GeluFn;
impl Function for GeluFn {
    #[inline(always)]
    fn of<S: Simd>(s: S, x: S::V) -> S::V {
        math::gelu(s, x)
    }
}

struct NearGeluFn;
impl Function for NearGeluFn {
    #[inline(always)]
    fn of<S: Simd>(s: S, x: S::V) -> S::V {
        math::gelu_near(s, x)
    }
}

struct GeluTanhFn;
impl Function for GeluTanhFn {
    #[inline(always)]
    fn of<S: Simd>(s: S, x: S::V) -> S::V {
        math::gelu_tanh(s, x)
    }
}

struct ReluFn;
impl Function for ReluFn {
    #[inline(always)]
    fn of<S: Simd>(s: S, x: S::V) -> S::V {
        s.max(s.splat(0.0), x)
    }
}

struct TanhFn;
impl Function for TanhFn {
    #[inline(always)]
    fn of<S: Simd>(s: S, x: S::V) -> S::V {
        math::tanh(s, x)
    }
}

/// Floats, in place.
pub(crate) struct InPlace<'a>(pub(crate) &'a mut [f32]);

impl<S: Simd> Apply<S> for InPlace<'_> {
    #[inline(always)]
    fn apply<F: Function>(self, s: S) {
        let mut chunks = self.0.chunks_exact_mut(S::LANES);
        for chunk in &mut chunks {
            let v = F::of(s, s.load(chunk));
            s.store(v, chunk);
        }
        let rest = chunks.into_remainder();
        let v = F::of(s, s.load_short(rest));
        s.store_short(v, rest);
    }
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
        apply(s, self.activation, false, InPlace(self.xs));
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
