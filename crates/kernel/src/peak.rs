//! What this CPU's arithmetic units can do at most: the measure that shares of the peak are taken of.
//!
//! A data sheet does not know the clock of a shared virtual machine, so the peak is measured: chains of the one instruction that a
//! matrix product consists of, in registers alone, twelve at a time, which is more than any such unit's latency times its number.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::simd::Level;
use crate::{Format, Kernel};

/// Chains that run side by side.
const CHAINS: usize = 12;
/// Steps of a burst: about a millisecond.
const STEPS: usize = 100_000;
/// Lanes of a chain in plain Rust.
const PORTABLE_LANES: usize = 8;

impl Kernel {
    /// The most operations a second in a format (a multiplication and an addition are two) that one thread reaches on this instruction set: the best
    /// of the bursts of a millisecond that fit into `time`, at least one. `None` where it has no one
    /// instruction that does it.
    ///
    /// ```
    /// use plimsoll_kernel::{Format, Kernel};
    /// let peak = Kernel::detect().peak(Format::F32, std::time::Duration::from_millis(2));
    /// assert!(peak.unwrap() > 1e8);
    /// ```
    pub fn peak(&self, format: Format, time: Duration) -> Option<f64> {
        let burst = self.burst(format)?;
        let start = Instant::now();
        let mut best = 0.0_f64;
        loop {
            let before = Instant::now();
            burst.run();
            let operations = (STEPS * CHAINS * burst.operations()) as f64;
            best = best.max(operations / before.elapsed().as_secs_f64());
            if start.elapsed() >= time {
                return Some(best);
            }
        }
    }

    fn burst(&self, format: Format) -> Option<Burst> {
        match (self.level, format) {
            (Level::Portable(_), Format::F32) => Some(Burst::Portable),
            (Level::Portable(_), _) => None,
            #[cfg(target_arch = "x86_64")]
            (Level::Avx2(_), Format::F32) => Some(Burst::Avx2),
            #[cfg(target_arch = "x86_64")]
            (Level::Avx2(_), _) => None,
            #[cfg(target_arch = "x86_64")]
            (_, Format::F32) => Some(Burst::Avx512),
            #[cfg(target_arch = "x86_64")]
            (_, Format::Bf16) => is_x86_feature_detected!("avx512bf16").then_some(Burst::Avx512Bf16),
            #[cfg(target_arch = "x86_64")]
            (_, Format::Int8) => is_x86_feature_detected!("avx512vnni").then_some(Burst::Avx512Int8),
        }
    }
}

/// A loop. Having one tells you: this CPU can run it.
#[derive(Clone, Copy)]
enum Burst {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
    #[cfg(target_arch = "x86_64")]
    Avx512Int8,
}

impl Burst {
    /// Operations of one step of one chain.
    fn operations(self) -> usize {
        match self {
            Burst::Portable => 2 * PORTABLE_LANES,
            #[cfg(target_arch = "x86_64")]
            Burst::Avx2 => 16,
            #[cfg(target_arch = "x86_64")]
            Burst::Avx512 => 32,
            #[cfg(target_arch = "x86_64")]
            Burst::Avx512Bf16 => 64,
            #[cfg(target_arch = "x86_64")]
            Burst::Avx512Int8 => 128,
        }
    }

    fn run(self) {
        match self {
            Burst::Portable => portable(),
            // SAFETY: a value of Level::Avx2 or Level::Avx512 proves its foundation, and `burst` asked for what is beyond it.
            #[cfg(target_arch = "x86_64")]
            _ => unsafe {
                match self {
                    Burst::Portable => {}
                    Burst::Avx2 => x86::avx2(),
                    Burst::Avx512 => x86::avx512(),
                    Burst::Avx512Bf16 => x86::avx512_bf16(),
                    Burst::Avx512Int8 => x86::avx512_int8(),
                }
            },
        }
    }
}

fn portable() {
    let (gain, offset) = black_box((0.5_f32, 1.0_f32));
    let mut chains = [[0.0_f32; PORTABLE_LANES]; CHAINS];
    for _ in 0..STEPS {
        for chain in &mut chains {
            for lane in chain {
                *lane = *lane * gain + offset;
            }
        }
    }
    black_box(chains);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;
    use std::hint::black_box;

    use super::{CHAINS, STEPS};

    /// Defines a burst: `CHAINS` accumulators that start at `zero`, and what a step does to one.
    macro_rules! burst {
        ($name:ident, $features:literal, $zero:expr, $input:expr, $sum:ident, $x:ident => $step:expr) => {
            #[target_feature(enable = $features)]
            pub(super) fn $name() {
                let $x = black_box($input);
                let mut chains = [$zero; CHAINS];
                for _ in 0..STEPS {
                    for chain in &mut chains {
                        let $sum = *chain;
                        *chain = $step;
                    }
                }
                black_box(chains);
            }
        };
    }

    burst!(avx2, "avx2,fma", _mm256_setzero_ps(), _mm256_set1_ps(0.5), sum, x => _mm256_fmadd_ps(x, x, sum));
    burst!(avx512, "avx512f", _mm512_setzero_ps(), _mm512_set1_ps(0.5), sum, x => _mm512_fmadd_ps(x, x, sum));
    burst!(
        avx512_bf16, "avx512f,avx512bf16", _mm512_setzero_ps(),
        _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5), _mm512_set1_ps(0.5)), sum, x => _mm512_dpbf16_ps(sum, x, x)
    );
    burst!(
        avx512_int8, "avx512f,avx512vnni", _mm512_setzero_si512(),
        _mm512_set1_epi32(0x0101_0101), sum, x => _mm512_dpbusd_epi32(sum, x, x)
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn every_instruction_set_has_a_peak_in_f32() {
        for kernel in Isa::ALL.into_iter().filter_map(Kernel::with) {
            let peak = kernel.peak(Format::F32, Duration::ZERO).unwrap();
            assert!(peak.is_finite() && peak > 0.0, "{}: {peak}", kernel.isa().name());
        }
        assert_eq!(Kernel::portable().peak(Format::Bf16, Duration::ZERO), None);
    }
}
