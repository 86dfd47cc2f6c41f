//! When memory is reclaimed, and how much of the time that may take.
//!
//! A cycle runs when live bytes have grown by a set share since the last one, when a level is crossed, at the latest after a period, and on request. It
//! works in short steps with pauses between, so that it never takes more than its share of a core.

use std::fmt;

use crate::clock::Nanos;

/// How often and how hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaceConfig {
    /// Growth of live bytes that starts a cycle, in percent; `None`: the reclaimer is off and only requests start cycles.
    pub growth_percent: Option<u32>,
    /// Growth below so many live bytes starts no cycle.
    pub live_bytes_least: usize,
    /// A cycle runs at least this often.
    pub period: Nanos,
    /// The share of one core that steps may take while a cycle runs.
    pub cpu_percent: u32,
}

impl Default for PaceConfig {
    fn default() -> Self {
        PaceConfig {
            growth_percent: Some(100),
            live_bytes_least: 4 << 20,
            period: Nanos::from_ms(120_000),
            cpu_percent: 10,
        }
    }
}

/// Why a cycle runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Live bytes reached the goal.
    Growth,
    /// A level was crossed.
    Level,
    /// The last cycle was long ago.
    Period,
    /// Someone asked.
    Request,
}

impl Cause {
    /// All of them.
    pub const ALL: [Cause; 4] = [Cause::Growth, Cause::Level, Cause::Period, Cause::Request];

    /// Its name in metrics and log lines.
    pub const fn name(self) -> &'static str {
        match self {
            Cause::Growth => "growth",
            Cause::Level => "level",
            Cause::Period => "period",
            Cause::Request => "request",
        }
    }
}

/// What a cycle did; its [`Display`](fmt::Display) is the line on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cycle {
    /// Cycles so far, this one included.
    pub number: u64,
    /// Why it ran.
    pub cause: Cause,
    /// When it began.
    pub began: Nanos,
    /// From its first step to its last, in nanoseconds.
    pub took_ns: u64,
    /// Of it, at work.
    pub worked_ns: u64,
    /// Nanoseconds of work of all cycles, and of the process's life: their quotient is the share of one core.
    pub total_worked_ns: u64,
    /// Bytes held when it began.
    pub live_before_bytes: usize,
    /// Of them, in use: not to be freed.
    pub marked_bytes: usize,
    /// Bytes held when it ended.
    pub live_after_bytes: usize,
    /// Bytes at which growth starts the next one.
    pub goal_bytes: usize,
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = |bytes: usize| bytes.div_ceil(1024);
        let share = self.total_worked_ns as f64 * 100.0 / (self.began.0 + self.took_ns).max(1) as f64;
        write!(
            f,
            "reclaim {} @{:.3}s {share:.2}%: {} us of {:.1} ms, {}->{}->{} KiB, goal {} KiB ({})",
            self.number,
            self.began.0 as f64 / 1e9,
            self.worked_ns / 1000,
            self.took_ns as f64 / 1e6,
            kib(self.live_before_bytes),
            kib(self.marked_bytes),
            kib(self.live_after_bytes),
            kib(self.goal_bytes),
            self.cause.name(),
        )
    }
}

/// The cycle that runs.
#[derive(Clone, Copy, Debug)]
struct Running {
    cause: Cause,
    began: Nanos,
    live_before_bytes: usize,
    worked_ns: u64,
    next_step: Nanos,
}

/// Starts cycles and measures them.
///
/// ```
/// use plimsoll_engine::govern::{Cause, PaceConfig, Pacer};
/// use plimsoll_engine::Nanos;
/// let mut pacer = Pacer::new(PaceConfig::default());
/// let live = 8 << 20;
/// assert_eq!(pacer.due(live, Nanos(0)), Some(Cause::Growth));
/// pacer.begin(Cause::Growth, live, Nanos(0));
/// let pause_until = pacer.worked(100_000, Nanos(100_000)); // a tenth of the time at most
/// assert_eq!(pause_until, Nanos(1_000_000));
/// let cycle = pacer.end(1 << 20, 5 << 20, pause_until);
/// assert_eq!((cycle.number, cycle.goal_bytes), (1, 10 << 20));
/// assert_eq!(pacer.due(9 << 20, pause_until), None);
/// ```
#[derive(Clone, Debug)]
pub struct Pacer {
    config: PaceConfig,
    cycles: u64,
    last: Nanos,
    goal_bytes: usize,
    total_worked_ns: u64,
    asked: Option<Cause>,
    running: Option<Running>,
}

impl Pacer {
    /// Before its first cycle.
    pub fn new(config: PaceConfig) -> Pacer {
        Pacer {
            cycles: 0,
            last: Nanos(0),
            goal_bytes: config.live_bytes_least,
            total_worked_ns: 0,
            asked: None,
            running: None,
            config,
        }
    }

    /// Asks for a cycle.
    /// Returns the number of the cycle that will do it.
    pub fn request(&mut self) -> u64 {
        self.asked = Some(Cause::Request);
        self.cycles + 1 + u64::from(self.running.is_some())
    }

    /// A level was crossed.
    pub fn crossed(&mut self) {
        if self.config.growth_percent.is_some() {
            self.asked.get_or_insert(Cause::Level);
        }
    }

    /// Whether a cycle should begin, and why. Never while one runs.
    pub fn due(&self, live_bytes: usize, now: Nanos) -> Option<Cause> {
        if self.running.is_some() {
            return None;
        }
        if self.asked.is_some() || self.config.growth_percent.is_none() {
            return self.asked;
        }
        if live_bytes >= self.goal_bytes {
            return Some(Cause::Growth);
        }
        (now.since(self.last) >= self.config.period.0).then_some(Cause::Period)
    }

    /// Whether a cycle runs.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether a cycle runs and its next step may begin.
    pub fn may_step(&self, now: Nanos) -> bool {
        self.running.is_some_and(|running| now >= running.next_step)
    }

    /// Bytes at which growth starts the next cycle.
    pub fn goal_bytes(&self) -> usize {
        self.goal_bytes
    }

    /// Cycles so far.
    pub fn cycles(&self) -> u64 {
        self.cycles
    }

    /// Nanoseconds of work of all cycles.
    pub fn total_worked_ns(&self) -> u64 {
        self.total_worked_ns
    }

    /// A cycle begins.
    pub fn begin(&mut self, cause: Cause, live_bytes: usize, now: Nanos) {
        self.asked = None;
        self.running = Some(Running {
            cause,
            began: now,
            live_before_bytes: live_bytes,
            worked_ns: 0,
            next_step: now,
        });
    }

    /// A step of `step_ns` ended at `now`; the next one may begin at the time returned.
    pub fn worked(&mut self, step_ns: u64, now: Nanos) -> Nanos {
        self.total_worked_ns += step_ns;
        let Some(running) = &mut self.running else {
            return now;
        };
        running.worked_ns += step_ns;
        let share = u64::from(self.config.cpu_percent.clamp(1, 100));
        running.next_step = now.after(Nanos(step_ns * (100 - share) / share));
        running.next_step
    }

    /// The cycle is over. `marked_bytes` are in use, `live_bytes` held.
    ///
    /// # Panics
    /// When none runs.
    pub fn end(&mut self, marked_bytes: usize, live_bytes: usize, now: Nanos) -> Cycle {
        let running = self.running.take().expect("a cycle that ends has begun");
        let growth = u128::from(self.config.growth_percent.unwrap_or(100));
        let goal = live_bytes as u128 * (100 + growth) / 100;
        self.goal_bytes = usize::try_from(goal)
            .unwrap_or(usize::MAX)
            .max(self.config.live_bytes_least);
        self.cycles += 1;
        self.last = now;
        Cycle {
            number: self.cycles,
            cause: running.cause,
            began: running.began,
            took_ns: now.since(running.began),
            worked_ns: running.worked_ns,
            total_worked_ns: self.total_worked_ns,
            live_before_bytes: running.live_before_bytes,
            marked_bytes,
            live_after_bytes: live_bytes,
            goal_bytes: self.goal_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: usize = 1 << 20;

    fn cycle(pacer: &mut Pacer, live_bytes: usize, now: Nanos) -> Cycle {
        pacer.begin(Cause::Request, live_bytes, now);
        pacer.end(0, live_bytes, now)
    }

    #[test]
    fn doubling_starts_a_cycle_and_so_does_time() {
        let mut pacer = Pacer::new(PaceConfig::default());
        cycle(&mut pacer, 10 * MIB, Nanos(0));
        assert_eq!(pacer.due(20 * MIB - 1, Nanos::from_ms(1000)), None);
        assert_eq!(pacer.due(20 * MIB, Nanos::from_ms(1000)), Some(Cause::Growth));
        assert_eq!(pacer.due(0, Nanos::from_ms(119_999)), None);
        assert_eq!(pacer.due(0, Nanos::from_ms(120_000)), Some(Cause::Period));
    }

    #[test]
    fn a_crossing_and_a_request_start_one_cycle() {
        let mut pacer = Pacer::new(PaceConfig::default());
        pacer.crossed();
        pacer.crossed();
        assert_eq!(pacer.due(0, Nanos(0)), Some(Cause::Level));
        let number = pacer.request();
        assert_eq!(pacer.due(0, Nanos(0)), Some(Cause::Request));
        assert_eq!(cycle(&mut pacer, 0, Nanos(0)).number, number);
        assert_eq!(pacer.due(0, Nanos(0)), None);
    }

    #[test]
    fn switched_off_it_runs_on_request_only() {
        let config = PaceConfig {
            growth_percent: None,
            ..PaceConfig::default()
        };
        let mut pacer = Pacer::new(config);
        pacer.crossed();
        assert_eq!(pacer.due(usize::MAX, Nanos(u64::MAX)), None);
        pacer.request();
        assert_eq!(pacer.due(0, Nanos(0)), Some(Cause::Request));
    }

    #[test]
    fn the_line_of_a_cycle() {
        let line = Cycle {
            number: 7,
            cause: Cause::Level,
            began: Nanos::from_ms(2000),
            took_ns: 4_000_000,
            worked_ns: 321_000,
            total_worked_ns: 20_040_000,
            live_before_bytes: 10 * MIB,
            marked_bytes: MIB,
            live_after_bytes: 2 * MIB,
            goal_bytes: 4 * MIB,
        };
        let expected =
            "reclaim 7 @2.000s 1.00%: 321 us of 4.0 ms, 10240->1024->2048 KiB, goal 4096 KiB (level)";
        assert_eq!(line.to_string(), expected);
    }

    proptest! {
        #[test]
        fn steps_take_no_more_than_their_share(steps in prop::collection::vec(1u64..2_000_000, 1..50)) {
            let mut pacer = Pacer::new(PaceConfig::default());
            let mut now = Nanos(0);
            pacer.begin(Cause::Growth, 0, now);
            let mut worked = 0;
            for step in steps {
                prop_assert!(pacer.may_step(now));
                worked += step;
                let done = now.after(Nanos(step));
                now = pacer.worked(step, done);
                prop_assert!(worked * 10 <= now.0 + 10, "{} of {}", worked, now.0);
            }
            prop_assert_eq!(pacer.end(0, 0, now).worked_ns, worked);
        }
    }
}
