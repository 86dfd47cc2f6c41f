//! What is asked of each attack, and whether it held.

use std::time::Duration;

use super::cgroup::{Counters, Reading};
use super::field::{Tally, quantile};
use super::health::Health;
use super::sample::Peaks;

/// Goodput that must be left at ten times the load.
const GOODPUT_SHARE_MIN: f64 = 0.95;
/// Refusals, 99 of 100, by the server's own clock.
const REFUSAL_SERVER_S_MAX: f64 = 0.001;
/// The same by the client's clock.
const REFUSAL_CLIENT_US_MAX: u32 = 5000;
/// From the end of an attack to the next answer, and to a ledger that holds nothing.
const RECOVERY_MAX: Duration = Duration::from_secs(1);
/// Changes of the level in a second.
const LEVEL_CHANGES_MAX: f64 = 1.0;
/// What idle memory may be above what it was before.
const SETTLED_SHARE_MAX: f64 = 1.05;

/// Which of the two runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// The group's limit is the line itself: nothing may be killed.
    AtLine,
    /// The group has four times as much: what cannot be reclaimed must stay below the line by itself.
    WithRoom,
}

impl Run {
    /// Both.
    pub const BOTH: [Run; 2] = [Run::AtLine, Run::WithRoom];

    /// The group's limit for a line of `bytes`.
    pub fn group_bytes(self, bytes: u64) -> u64 {
        match self {
            Run::AtLine => bytes,
            Run::WithRoom => 4 * bytes,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Run::AtLine => "A",
            Run::WithRoom => "B",
        }
    }
}

/// After the attack.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recovery {
    /// From its end to the first answer.
    pub first_answer: Option<Duration>,
    /// From its end to a ledger without debits.
    pub empty_ledger: Option<Duration>,
    /// What was held 5 s later, where that was waited for.
    pub settled: Option<Reading>,
    /// Of that, vectors in the cache: they are kept for hits, and a request takes them back when it wants the bytes.
    pub cached_bytes: u64,
}

/// All that was measured around one attack.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// What the clients saw.
    pub tally: Tally,
    /// What the group held at most.
    pub peaks: Peaks,
    /// What the kernel counted during it.
    pub counters: Counters,
    /// What `/health` did.
    pub health: Health,
    /// The server's refusals, 99 of 100, in seconds by its own clock.
    pub refusal_server_s: Option<f64>,
    /// Changes of the ledger's level, and how long they were counted for.
    pub level_changes: (u64, Duration),
    /// How it came back.
    pub recovery: Recovery,
    /// What was held before.
    pub idle: Reading,
    /// Of that, vectors in the cache.
    pub idle_cached_bytes: u64,
    /// Cores that the server used.
    pub server_cores: f64,
    /// Cores that the attackers used.
    pub client_cores: f64,
    /// Whether the server was there at its end.
    pub alive: bool,
}

/// One judgment.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What was asked.
    pub asked: &'static str,
    /// Whether it held.
    pub holds: bool,
    /// What was measured.
    pub measured: f64,
    /// What it was measured against.
    pub bound: f64,
}

fn verdict(asked: &'static str, holds: bool, measured: f64, bound: f64) -> Verdict {
    Verdict {
        asked,
        holds,
        measured,
        bound,
    }
}

/// Judges one attack. `line_bytes` is N.
pub fn judge(run: Run, line_bytes: u64, facts: &Facts) -> Vec<Verdict> {
    let mut verdicts = vec![
        verdict(
            "kills",
            facts.counters.kills == 0 && facts.alive,
            facts.counters.kills as f64,
            0.0,
        ),
        health(&facts.health),
        verdict(
            "refusals without a reason or Retry-After",
            facts.tally.mute_refusals == 0,
            facts.tally.mute_refusals as f64,
            0.0,
        ),
    ];
    verdicts.push(levels(facts.level_changes));
    if run == Run::WithRoom {
        let peak = facts.peaks.at_peak.held_bytes();
        verdicts.push(verdict(
            "peak bytes held",
            peak <= line_bytes && facts.peaks.samples > 0,
            peak as f64,
            line_bytes as f64,
        ));
    }
    verdicts.extend(recovery(&facts.recovery, &facts.idle, facts.idle_cached_bytes));
    if let Some(overload) = facts.tally.overload {
        let least = GOODPUT_SHARE_MIN * overload.peak_per_second;
        let rate = overload.overload_per_second;
        verdicts.push(verdict(
            "goodput a second at ten times the load",
            rate >= least,
            rate,
            least,
        ));
        verdicts.extend(refusals(facts));
    }
    verdicts
}

fn health(health: &Health) -> Verdict {
    let asked = health.fresh > 0 && health.kept > 0;
    verdict(
        "health checks without an answer",
        asked && health.failed() == 0,
        health.failed() as f64,
        0.0,
    )
}

/// The first change of any time needs no time before it.
fn levels((changes, time): (u64, Duration)) -> Verdict {
    let rate = changes.saturating_sub(1) as f64 / time.as_secs_f64().max(1.0);
    verdict(
        "level changes a second",
        rate <= LEVEL_CHANGES_MAX,
        rate,
        LEVEL_CHANGES_MAX,
    )
}

fn recovery(recovery: &Recovery, idle: &Reading, idle_cached_bytes: u64) -> Vec<Verdict> {
    let within = |asked, took: Option<Duration>| {
        let seconds = took.map_or(f64::INFINITY, |took| took.as_secs_f64());
        verdict(
            asked,
            seconds <= RECOVERY_MAX.as_secs_f64(),
            seconds,
            RECOVERY_MAX.as_secs_f64(),
        )
    };
    let mut verdicts = vec![
        within("seconds to the first answer", recovery.first_answer),
        within("seconds to an empty ledger", recovery.empty_ledger),
    ];
    if let Some(settled) = recovery.settled {
        let (bytes, bound) = (
            settled.held_bytes().saturating_sub(recovery.cached_bytes) as f64,
            SETTLED_SHARE_MAX * idle.held_bytes().saturating_sub(idle_cached_bytes) as f64,
        );
        verdicts.push(verdict(
            "bytes held 5 s later, less cached vectors",
            bytes <= bound,
            bytes,
            bound,
        ));
    }
    verdicts
}

fn refusals(facts: &Facts) -> Vec<Verdict> {
    let broken = facts.tally.broken;
    let mut verdicts = vec![verdict(
        "requests that were neither answered nor refused",
        broken == 0,
        broken as f64,
        0.0,
    )];
    if let Some(seconds) = facts.refusal_server_s {
        let asked = "refusal p99 in seconds, server";
        verdicts.push(verdict(
            asked,
            seconds <= REFUSAL_SERVER_S_MAX,
            seconds,
            REFUSAL_SERVER_S_MAX,
        ));
    }
    if let Some(us) = quantile(&facts.tally.refusal_us, 0.99) {
        let (seconds, bound) = (f64::from(us) / 1e6, f64::from(REFUSAL_CLIENT_US_MAX) / 1e6);
        verdicts.push(verdict(
            "refusal p99 in seconds, client",
            us <= REFUSAL_CLIENT_US_MAX,
            seconds,
            bound,
        ));
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::field::Overload;

    fn good() -> Facts {
        let held = |anon_bytes| Reading {
            anon_bytes,
            ..Reading::default()
        };
        Facts {
            peaks: Peaks {
                at_peak: held(100),
                samples: 9,
                ..Peaks::default()
            },
            health: Health {
                fresh: 5,
                kept: 5,
                ..Health::default()
            },
            recovery: Recovery {
                first_answer: Some(Duration::from_millis(3)),
                empty_ledger: Some(Duration::from_millis(3)),
                settled: Some(held(135)),
                cached_bytes: 30,
            },
            idle: held(100),
            alive: true,
            ..Facts::default()
        }
    }

    fn failing(run: Run, facts: &Facts) -> Vec<&'static str> {
        let verdicts = judge(run, 100, facts);
        verdicts
            .into_iter()
            .filter(|v| !v.holds)
            .map(|v| v.asked)
            .collect()
    }

    #[test]
    fn a_good_night_passes_and_each_fault_is_named() {
        assert!(failing(Run::AtLine, &good()).is_empty() && failing(Run::WithRoom, &good()).is_empty());
        let mut killed = good();
        killed.counters.kills = 1;
        assert_eq!(failing(Run::AtLine, &killed), ["kills"]);
        let mut dead = good();
        (dead.alive, dead.health.fresh_failed) = (false, 1);
        assert_eq!(
            failing(Run::AtLine, &dead),
            ["kills", "health checks without an answer"]
        );
        let mut high = good();
        high.peaks.at_peak.sock_bytes = 1;
        assert!(failing(Run::AtLine, &high).is_empty());
        assert_eq!(failing(Run::WithRoom, &high), ["peak bytes held"]);
        let mut restless = good();
        restless.level_changes = (12, Duration::from_secs(10));
        assert_eq!(failing(Run::AtLine, &restless), ["level changes a second"]);
        let mut stuck = good();
        stuck.recovery.empty_ledger = None;
        stuck.recovery.settled = Some(high.peaks.at_peak);
        stuck.recovery.settled.as_mut().unwrap().anon_bytes = 136;
        assert_eq!(
            failing(Run::AtLine, &stuck),
            [
                "seconds to an empty ledger",
                "bytes held 5 s later, less cached vectors"
            ]
        );
    }

    #[test]
    fn overload_is_judged_by_goodput_and_by_both_clocks() {
        let mut facts = good();
        facts.tally.overload = Some(Overload {
            clients: 8,
            peak_per_second: 100.0,
            overload_per_second: 94.0,
            offered_per_second: 1000.0,
        });
        facts.refusal_server_s = Some(0.002);
        facts.tally.refusal_us = vec![1, 6000];
        assert_eq!(
            failing(Run::AtLine, &facts),
            [
                "goodput a second at ten times the load",
                "refusal p99 in seconds, server",
                "refusal p99 in seconds, client"
            ]
        );
    }
}
