//! What this CPU's arithmetic units can do at most: the measure that shares of the peak are taken of.
//!
//! A data sheet does not know the clock of a shared virtual machine, so the peak is measured: chains of the one instruction that a
//! matrix product consists of, in registers alone, twelve at a time (of tiles six), which is more than any such unit's latency times its number.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::simd::Level;
#[cfg(target_arch = "x86_64")]
use crate::simd::amx;
use crate::{Format, Kernel};

/// Chains that run side by side.
const CHAINS: usize = 12;
/// Steps of a burst: about a millisecond.
const STEPS: usize = 100_000;
/// Steps of a burst that only compares, and how many there are of each: some 15 us, with one of them undisturbed.
const BRIEF_STEPS: usize = 1000;
const BRIEF_BURSTS: usize = 4;
/// Bf16 pays from this ratio on; CPUs have about 0.5, 1 or 2.
const PAYS_FROM: f64 = 1.3;
/// Lanes of a chain in plain Rust.
const PORTABLE_LANES: usize = 8;

impl Kernel {
    /// The most operations a second in a format (a multiplication and an addition are two) that one thread reaches on this instruction set: the best
    /// of the bursts of a millisecond that fit into `time`, at least one. `None` where it has no one
    /// instruction that does it; bf16 is multiplied as floats where [that is how it goes](Kernel::row_format).
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
            burst.run(STEPS);
            best = best.max(burst.rate(STEPS, before));
            if start.elapsed() >= time {
                return Some(best);
            }
        }
    }

    /// Whether what this instruction set has beyond others is faster than what those do instead.
    pub(crate) fn pays(&self) -> bool {
        if !self.level.multiplies_bf16() || self.level.has_tiles() {
            return true;
        }
        let best = |format| {
            let rate = |burst: Burst| {
                let before = Instant::now();
                burst.run(BRIEF_STEPS);
                burst.rate(BRIEF_STEPS, before)
            };
            let rates = (0..BRIEF_BURSTS).filter_map(|_| self.burst(format).map(rate));
            rates.fold(0.0, f64::max)
        };
        best(Format::Bf16) > PAYS_FROM * best(Format::F32)
    }

    fn burst(&self, format: Format) -> Option<Burst> {
        match (self.level, self.row_format(format)) {
            (Level::Portable(_), Format::F32) => Some(Burst::Portable),
            (Level::Portable(_), _) => None,
            #[cfg(target_arch = "x86_64")]
            (Level::Avx2(_), Format::F32) => Some(Burst::Avx2),
            #[cfg(target_arch = "x86_64")]
            (Level::Avx2(_), _) => None,
            // Of floats in two bf16, too: what the CPU's own multipliers of floats would do.
            #[cfg(target_arch = "x86_64")]
            (_, Format::F32 | Format::TwoBf16) => Some(Burst::Avx512),
            #[cfg(target_arch = "x86_64")]
            (Level::Avx512Amx(_), Format::Bf16) => Some(Burst::AmxBf16),
            #[cfg(target_arch = "x86_64")]
            (Level::Avx512Amx(_), Format::Int8) => Some(Burst::AmxInt8),
            #[cfg(target_arch = "x86_64")]
            (_, Format::Bf16) => Some(Burst::Avx512Bf16),
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
    #[cfg(target_arch = "x86_64")]
    AmxBf16,
    #[cfg(target_arch = "x86_64")]
    AmxInt8,
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
            #[cfg(target_arch = "x86_64")]
            Burst::AmxBf16 => 2 * 16 * 16 * 32,
            #[cfg(target_arch = "x86_64")]
            Burst::AmxInt8 => 2 * 16 * 16 * 64,
        }
    }

    /// Operations a second of a run that began at a time and ends now.
    fn rate(self, steps: usize, start: Instant) -> f64 {
        (steps * CHAINS * self.operations()) as f64 / start.elapsed().as_secs_f64()
    }

    fn run(self, steps: usize) {
        match self {
            Burst::Portable => portable(steps),
            // SAFETY: a value of Level::Avx2 or Level::Avx512 proves its foundation, Level::Avx512Amx tiles, rows of bf16 prove BF16, and `burst` asked for VNNI.
            #[cfg(target_arch = "x86_64")]
            _ => unsafe {
                match self {
                    Burst::Portable => {}
                    Burst::Avx2 => x86::avx2(steps),
                    Burst::Avx512 => x86::avx512(steps),
                    Burst::Avx512Bf16 => x86::avx512_bf16(steps),
                    Burst::Avx512Int8 => x86::avx512_int8(steps),
                    Burst::AmxBf16 => amx::burst::<false>(steps * CHAINS),
                    Burst::AmxInt8 => amx::burst::<true>(steps * CHAINS),
                }
            },
        }
    }
}

fn portable(steps: usize) {
    let (gain, offset) = black_box((0.5_f32, 1.0_f32));
    let mut chains = [[0.0_f32; PORTABLE_LANES]; CHAINS];
    for _ in 0..steps {
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

    use super::CHAINS;

    /// Defines a burst: `CHAINS` accumulators that start at `zero`, and what a step does to one.
    macro_rules! burst {
        ($name:ident, $features:literal, $zero:expr, $input:expr, $sum:ident, $x:ident => $step:expr) => {
            #[target_feature(enable = $features)]
            pub(super) fn $name(steps: usize) {
                let $x = black_box($input);
                let mut chains = [$zero; CHAINS];
                for _ in 0..steps {
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
        assert!(Kernel::portable().peak(Format::Bf16, Duration::ZERO).is_some());
        assert_eq!(Kernel::portable().peak(Format::Int8, Duration::ZERO), None);
    }
}
