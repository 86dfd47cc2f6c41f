//! AMX: sixteen by sixteen sums at once (Sapphire Rapids and later), from the same packed weights as everything else.
//!
//! A tile register is up to 16 rows of 64 bytes. A tile of weights is 16 steps of 16 outputs as they lie in a [panel](crate::packed), one of x is up to 16 rows of 16
//! words; one instruction multiplies them, in 16 cycles, 16 to 32 times what a vector instruction does in one. Reading is what limits it: rows that do not begin at a
//! cache line take two reads each and make it three times as slow, so packed weights and encoded rows are aligned to 64 bytes.
//!
//! Six tiles of sums, two of rows by three of outputs, leave one for x and one for weights; with a single tile of rows the spare ones hold what is left where the inputs are
//! no whole tiles. Floats in two bf16 are padded to whole ones, and multiply both halves of x and of weights while those are at hand. The shapes of all eight are set by one instruction, which also clears them; until they are released a switch of threads saves 8 KiB.

use core::arch::asm;
use core::arch::x86_64::__cpuid_count;

use super::{Fetch, TILE};
use crate::packed::{Format, PANEL};
use crate::product::Strided;

/// Bytes of a tile's row.
const ROW_BYTES: u16 = 64;
/// Bytes from one step of a panel to the next, and from one row of sums.
const PANEL_STEP_BYTES: usize = PANEL * size_of::<u32>();

/// Whether this CPU has tiles of bf16 and of bytes, and the system lets this process use them.
pub(super) fn is_usable() -> bool {
    /// `EDX` of leaf 7: AMX-BF16, AMX-TILE and AMX-INT8.
    const FEATURES: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    let is_here = is_x86_feature_detected!("avx512bf16") && __cpuid_count(7, 0).edx & FEATURES == FEATURES;
    is_here && permitted()
}

/// Asks the system for the tiles' state, which it keeps for those only who ask: once is enough for all threads.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_int = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;
    // SAFETY: the call takes two numbers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

const BF16: u8 = Format::Bf16 as u8;
const INT8: u8 = Format::Int8 as u8;
const TWO_BF16: u8 = Format::TwoBf16 as u8;

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// See [`Simd::shape_tiles`](super::Simd::shape_tiles).
///
/// # Safety
/// [`is_usable`] must have said yes.
#[inline(always)]
pub(super) unsafe fn shape(rows: usize, rest: usize) {
    assert!(rows > 0 && rows <= TILE && rest < TILE);
    let mut shapes = Shapes {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        row_bytes: [0; 16],
        rows: [0; 16],
    };
    shapes.row_bytes[..8].fill(ROW_BYTES);
    shapes.rows[..7].fill(rows as u8);
    shapes.rows[7] = TILE as u8;
    if rest > 0 {
        // Tiles 4 and 5 are x and weights of the rest.
        shapes.row_bytes[4] = 4 * rest as u16;
        shapes.rows[5] = rest as u8;
    }
    // SAFETY: the shapes are those of palette 1: at most 16 rows of 64 bytes; the caller says that there are tiles.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(nostack, readonly)) };
}

/// Gives the tiles' state back.
///
/// # Safety
/// As [`shape`].
#[inline(always)]
pub(super) unsafe fn release() {
    // SAFETY: as the caller says.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// What stands at the end of each step: the next one's cache lines are asked for.
macro_rules! fetch {
    () => {
        "mov {line}, {lines}
        test {line}, {line}
        jz 4f
        3:
        prefetcht1 [{ahead}]
        add {ahead}, 64
        dec {line}
        jnz 3b
        4:"
    };
}

/// Steps of one or two tiles of rows, whose words have so many parts, one behind the other; sums are given as {tile} {whose} {offset}.
macro_rules! steps {
    ($parts:literal, $x:expr, $second:expr, $w:expr, $words:expr, $fetch:expr, $sums:expr, $sums_second:expr,
     [$($tile:literal $rows:literal $at:literal),*], [$($line:expr),*]) => {
        asm!(
            "/* {sums_second} is there for one tile of rows, too */",
            $(concat!("tilezero tmm", $tile),)*
            "2:",
            $($line,)*
            fetch!(),
            "add {x}, {x_tile}",
            "add {second}, {x_tile}",
            "add {w}, {w_tile}",
            "dec {steps}",
            "jnz 2b",
            "mov {steps}, {sums_stride}",
            $(concat!("tilestored [{", $rows, "} + {steps} + ", $at, "], tmm", $tile),)*
            x = inout(reg) $x.words => _,
            x_stride = in(reg) 4 * $x.stride,
            x_tile = const $parts * ROW_BYTES as usize,
            second = inout(reg) $second.words => _,
            w = inout(reg) $w => _,
            w_stride = in(reg) $parts * PANEL_STEP_BYTES,
            w_tile = const $parts * TILE * PANEL_STEP_BYTES,
            steps = inout(reg) $words / ($parts * TILE) => _,
            sums_stride = const PANEL_STEP_BYTES,
            sums = in(reg) $sums,
            sums_second = in(reg) $sums_second,
            ahead = inout(reg) $fetch.from => _,
            lines = in(reg) $parts * $fetch.lines,
            line = out(reg) _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
}

/// Loads a tile of x.
macro_rules! x {
    ($rows:literal) => {
        concat!("tileloadd tmm6, [{", $rows, "} + {x_stride}]")
    };
    ($rows:literal lower) => {
        concat!("tileloadd tmm6, [{", $rows, "} + {x_stride} + 64]")
    };
}

/// Loads a tile of weights, unless that at hand is meant, and adds its product with that of x to a sum.
macro_rules! w {
    ($multiply:literal, $at:literal => $sum:literal) => {
        concat!("tileloadd tmm7, [{w} + {w_stride} + ", $at, "]\n", w!($multiply, => $sum))
    };
    ($multiply:literal, => $sum:literal) => {
        concat!($multiply, " tmm", $sum, ", tmm6, tmm7")
    };
}

/// Two tiles of rows share the tiles of weights.
macro_rules! pair {
    ($multiply:literal, $x:expr, $second:expr, $w:expr, $words:expr, $fetch:expr, $sums:expr, $sums_second:expr) => {
        steps!(1, $x, $second, $w, $words, $fetch, $sums, $sums_second,
            ["0" "sums" "0", "1" "sums" "64", "2" "sums" "128",
             "3" "sums_second" "0", "4" "sums_second" "64", "5" "sums_second" "128"],
            [x!("x"), w!($multiply, "0" => "0"), w!($multiply, "64" => "1"), w!($multiply, "128" => "2"),
             x!("second"), w!($multiply, => "5"), w!($multiply, "64" => "4"), w!($multiply, "0" => "3")])
    };
}

/// [`w`] of floats in two bf16: upper halves of weights first, then, from 192 bytes on, lower ones.
macro_rules! half {
    ($($at:literal)? => $sum:literal) => {
        w!("tdpbf16ps", $($at)? => $sum)
    };
}

/// See [`Simd::multiply_two_tiles`](super::Simd::multiply_two_tiles).
///
/// # Safety
/// As it says.
#[inline(always)]
pub(super) unsafe fn multiply_pair<const FORMAT: u8>(
    [x, second]: [Strided; 2],
    w: *const u32,
    words: usize,
    fetch: Fetch,
    [sums, sums_second]: [*mut u32; 2],
) {
    // SAFETY: the loop reads all tiles of either, as the caller says are there, and writes what the caller says is writable. Fetching does no harm anywhere.
    unsafe {
        if FORMAT == INT8 {
            pair!("tdpbusd", x, second, w, words, fetch, sums, sums_second);
        } else if FORMAT == BF16 {
            pair!("tdpbf16ps", x, second, w, words, fetch, sums, sums_second);
        } else {
            // No sum is added to again before two others were: products take longer than they keep their unit busy.
            steps!(2, x, second, w, words, fetch, sums, sums_second,
                ["0" "sums" "0", "1" "sums" "64", "2" "sums" "128",
                 "3" "sums_second" "0", "4" "sums_second" "64", "5" "sums_second" "128"],
                [x!("x"), half!("0" => "0"), half!("64" => "1"), half!("128" => "2"),
                 x!("second"), half!(=> "5"), half!("64" => "4"), half!("0" => "3"),
                 half!("320" => "5"), half!("256" => "4"), half!("192" => "3"),
                 x!("x"), half!(=> "0"), half!("256" => "1"), half!("320" => "2"),
                 x!("x" lower), half!("0" => "0"), half!("64" => "1"), half!("128" => "2"),
                 x!("second" lower), half!(=> "5"), half!("64" => "4"), half!("0" => "3")]);
        }
    }
}

macro_rules! single {
    ($multiply:literal, $x:expr, $w:expr, $steps:expr, $rest:expr, $fetch:expr, $sums:expr,
     [$($n:literal $at:literal),*]) => {
        asm!(
            $(concat!("tilezero tmm", $n),)*
            "test {steps}, {steps}",
            "jz 5f",
            "2:",
            "tileloadd tmm6, [{x} + {x_stride}]",
            $(
                concat!("tileloadd tmm7, [{w} + {w_stride} + ", $at, "]"),
                concat!($multiply, " tmm", $n, ", tmm6, tmm7"),
            )*
            fetch!(),
            "add {x}, 64",
            "add {w}, {w_tile}",
            "dec {steps}",
            "jnz 2b",
            "5:",
            "test {rest}, {rest}",
            "jz 6f",
            "tileloadd tmm4, [{x} + {x_stride}]",
            $(
                concat!("tileloadd tmm5, [{w} + {w_stride} + ", $at, "]"),
                concat!($multiply, " tmm", $n, ", tmm4, tmm5"),
            )*
            "6:",
            "mov {steps}, {sums_stride}",
            $(concat!("tilestored [{sums} + {steps} + ", $at, "], tmm", $n),)*
            x = inout(reg) $x.words => _,
            x_stride = in(reg) 4 * $x.stride,
            w = inout(reg) $w.words => _,
            w_stride = in(reg) 4 * $w.stride,
            w_tile = in(reg) 4 * TILE * $w.stride,
            steps = inout(reg) $steps => _,
            sums_stride = const PANEL_STEP_BYTES,
            rest = in(reg) $rest,
            sums = in(reg) $sums,
            ahead = inout(reg) $fetch.from => _,
            lines = in(reg) $fetch.lines,
            line = out(reg) _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
}

/// See [`Simd::multiply_tile`](super::Simd::multiply_tile).
///
/// # Safety
/// As it says.
#[inline(always)]
pub(super) unsafe fn multiply<const FORMAT: u8, const N: usize>(
    x: Strided,
    w: Strided,
    words: usize,
    fetch: Fetch,
    sums: *mut u32,
) {
    let (steps, rest) = (words / TILE, words % TILE);
    // SAFETY: as in `multiply_pair`; the rest is read by tiles of its own shape.
    unsafe {
        if FORMAT == TWO_BF16 {
            steps!(2, x, x, w.words, words, fetch, sums, sums,
                ["0" "sums" "0", "1" "sums" "64", "2" "sums" "128"],
                [x!("x"), half!("0" => "0"), half!("64" => "1"), half!("128" => "2"),
                 half!("192" => "0"), half!("256" => "1"), half!("320" => "2"),
                 x!("x" lower), half!("0" => "0"), half!("64" => "1"), half!("128" => "2")]);
            return;
        }
        match (FORMAT == INT8, N) {
            (true, 1) => single!("tdpbusd", x, w, steps, rest, fetch, sums, ["0" "0"]),
            (true, 2) => single!("tdpbusd", x, w, steps, rest, fetch, sums, ["0" "0", "1" "64"]),
            (true, _) => single!("tdpbusd", x, w, steps, rest, fetch, sums, ["0" "0", "1" "64", "2" "128"]),
            (false, 1) => single!("tdpbf16ps", x, w, steps, rest, fetch, sums, ["0" "0"]),
            (false, 2) => single!("tdpbf16ps", x, w, steps, rest, fetch, sums, ["0" "0", "1" "64"]),
            (false, _) => {
                single!("tdpbf16ps", x, w, steps, rest, fetch, sums, ["0" "0", "1" "64", "2" "128"])
            }
        }
    }
}

macro_rules! burst {
    ($multiply:literal, $steps:expr) => {
        asm!(
            "2:",
            concat!($multiply, " tmm0, tmm6, tmm7"),
            concat!($multiply, " tmm1, tmm6, tmm7"),
            concat!($multiply, " tmm2, tmm6, tmm7"),
            concat!($multiply, " tmm3, tmm6, tmm7"),
            concat!($multiply, " tmm4, tmm6, tmm7"),
            concat!($multiply, " tmm5, tmm6, tmm7"),
            "dec {steps}",
            "jnz 2b",
            steps = inout(reg) $steps => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, nomem),
        )
    };
}

/// Multiplies tiles of zeros, `products` and up to five more times.
///
/// # Safety
/// As [`shape`].
pub(crate) unsafe fn burst<const BYTES: bool>(products: usize) {
    let steps = products.div_ceil(6).max(1);
    // SAFETY: as the caller says; tiles are shaped before they are multiplied.
    unsafe {
        shape(TILE, 0);
        if BYTES {
            burst!("tdpbusd", steps);
        } else {
            burst!("tdpbf16ps", steps);
        }
        release();
    }
}
