//! The normal distribution in pieces, for [GELU](super::gelu): tables that the compiler works out.
//!
//! What is tabulated is `D(a) = P(0 < Z <= a)`. Piece `k` surrounds the point `k STEP` up to half a step to each side, and holds
//! Taylor's polynomial there, the first power that it leaves out replaced by the lower ones that are nearest to it (Chebyshev).

/// Pieces of a table.
pub(super) const PIECES: usize = 32;

/// Coefficients of one power in every piece.
pub(super) type Table = [f32; PIECES];

/// Width of a cubic piece.
const CUBIC_STEP: f64 = 0.25;
/// Width of a straight piece.
const LINEAR_STEP: f64 = 0.125;

/// `D(k/4 + r)` by the powers 0 to 3 of r; error below 7e-7.
pub(super) static CUBIC: [Table; 4] = cubic();
/// From here on D is 1/2 in single precision.
pub(super) const CUBIC_END: f32 = 5.5;
/// Added to a number, leaves the number of its cubic piece in the lowest bits.
pub(super) const CUBIC_MAGIC: f32 = magic(CUBIC_STEP);

/// `D(a)` by the powers 0 and 1 of a; error below 3e-4.
pub(super) static LINEAR: [Table; 2] = linear();
/// The last straight piece reaches 1/2 here.
pub(super) const LINEAR_END: f32 = 3.875;
/// Added to a number, leaves the number of its straight piece in the lowest bits.
pub(super) const LINEAR_MAGIC: f32 = magic(LINEAR_STEP);

/// A float whose last bit is worth `step`.
const fn magic(step: f64) -> f32 {
    (step * 12_582_912.0) as f32
}

const fn cubic() -> [Table; 4] {
    let mut tables = [[0.0; PIECES]; 4];
    let half = CUBIC_STEP / 2.0;
    let mut k = 0;
    while k < PIECES {
        let at = k as f64 * CUBIC_STEP;
        let density = density(at);
        // r^4 is nearly half^2 r^2 - half^4 / 8.
        let fourth = (3.0 * at - at * at * at) * density / 24.0;
        let square = half * half;
        tables[0][k] = (distance(at) - fourth * square * square / 8.0) as f32;
        tables[1][k] = density as f32;
        tables[2][k] = (-at * density / 2.0 + fourth * square) as f32;
        tables[3][k] = ((at * at - 1.0) * density / 6.0) as f32;
        k += 1;
    }
    tables
}

const fn linear() -> [Table; 2] {
    let mut tables = [[0.0; PIECES]; 2];
    let half = LINEAR_STEP / 2.0;
    let mut k = 0;
    while k < PIECES {
        let at = k as f64 * LINEAR_STEP;
        // r^2 is nearly half^2 / 2.
        let slope = density(at);
        let value = distance(at) - at * slope * half * half / 4.0;
        tables[0][k] = (value - at * slope) as f32;
        tables[1][k] = slope as f32;
        k += 1;
    }
    // The last one stands for everything beyond it.
    tables[0][PIECES - 1] = 0.5;
    tables[1][PIECES - 1] = 0.0;
    tables
}

/// `exp(-a^2 / 2) / sqrt(2 pi)`.
const fn density(a: f64) -> f64 {
    let x = a * a / 2.0;
    let (mut exp, mut term, mut n) = (1.0, 1.0, 1.0);
    while term > exp * 1e-17 {
        term *= x / n;
        exp += term;
        n += 1.0;
    }
    // 1 / sqrt(2 pi).
    0.398_942_280_401_432_7 / exp
}

/// `D(a)`: the density times `a + a^3/3 + a^5/(3*5) + ..`.
const fn distance(a: f64) -> f64 {
    let (mut sum, mut term, mut n) = (a, a, 3.0);
    while term > sum * 1e-17 {
        term *= a * a / n;
        sum += term;
        n += 2.0;
    }
    sum * density(a)
}
