//! What is printed at the end.

use std::fmt::Write;

use serde_json::{Value, json};

use super::html::Uplot;
use super::judge::{Facts, Part, Who, judge};
use super::plan::Clock;
use crate::line::cgroup::{Reading, Version};

/// The whole drill.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// N.
    pub line_bytes: u64,
    /// Whose counters.
    pub version: Version,
    /// The compressed clock.
    pub clock: Clock,
    /// Requests a second of the steady traffic.
    pub rate: f64,
    /// Whether the reviews were made from the seed. The documents of the scan always are.
    pub made_up: bool,
    /// Documents of the scan.
    pub documents: usize,
    /// Bytes of their texts.
    pub scan_bytes: usize,
    /// Bytes of the log that is rotated.
    pub log_bytes: u64,
    /// What was asked of the calm parts.
    pub p99_ms_max: Option<f64>,
    /// Night by night.
    pub nights: Vec<Facts>,
}

/// The head of the table.
pub(super) const HEAD: &str = "who      causes            kills limit hits peak MiB  p50/p99 ms before      during       after  refused  hot before/during/after  back s after MiB  levels cycles returned  scan done  died\n";

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn ms(part: &Part) -> String {
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
    format!("{}/{}", number(part.p50_ms), number(part.p99_ms))
}

fn percent(part: &Part) -> String {
    part.hot_share
        .map_or("-".to_owned(), |share| format!("{:.0}%", 100.0 * share))
}

/// Steady requests and those of the causes that were refused.
fn refused(facts: &Facts) -> u64 {
    let causes: u64 = facts
        .outcomes
        .all()
        .iter()
        .map(|(_, outcome)| outcome.refusals)
        .sum();
    let steady = facts.before.refused + facts.during.refused + facts.after.refused;
    causes + steady as u64
}

impl Report {
    /// Whether all promises were kept. What became of the twin is no promise.
    pub fn holds(&self) -> bool {
        !self.nights.is_empty() && self.faults().is_empty()
    }

    /// A line for each promise that was not kept.
    pub fn faults(&self) -> Vec<String> {
        let ours = self.nights.iter().filter(|facts| facts.who == Who::Plimsoll);
        ours.flat_map(|facts| {
            let bad = judge(facts, self.p99_ms_max)
                .into_iter()
                .filter(|verdict| !verdict.holds);
            bad.map(|verdict| {
                format!(
                    "{}: {}: {} against {}",
                    facts.causes, verdict.asked, verdict.measured, verdict.bound
                )
            })
        })
        .collect()
    }

    /// As a table, with who died of what below it.
    pub fn as_text(&self) -> String {
        let mut text = HEAD.to_owned();
        for facts in &self.nights {
            text += &row(facts);
        }
        text += &self.refused();
        text += &self.leases();
        for facts in &self.nights {
            if let Some(death) = &facts.death {
                text += &format!(
                    "{} died {:.1} s after 3 a.m. ({}), {}; oom_kill {}, limit met {} times, at most {:.1} MiB charged\n",
                    facts.who.name(),
                    death.at.as_secs_f64(),
                    facts.causes,
                    death.status,
                    facts.counters.kills,
                    facts.counters.limit_hits,
                    mib(facts.counters.max_usage_bytes),
                );
                death
                    .kernel
                    .iter()
                    .for_each(|line| text += &format!("  kernel: {line}\n"));
            }
        }
        for facts in self.nights.iter().filter(|facts| facts.hangs()) {
            text += &format!(
                "{} hangs ({}): it lives and answers nobody; limit met {} times, at most {:.1} MiB charged\n",
                facts.who.name(),
                facts.causes,
                facts.counters.limit_hits,
                mib(facts.counters.max_usage_bytes),
            );
        }
        text += &format!(
            "seed {}, N = {} bytes, cgroup {:?}, {:.1} steady requests a second, calm {} s, causes {} s; a scan of {} made-up documents with {:.1} MiB, a log of {:.1} MiB; reviews {}\n",
            self.seed,
            self.line_bytes,
            self.version,
            self.rate,
            self.clock.calm.as_secs_f64(),
            self.clock.incident.as_secs_f64(),
            self.documents,
            mib(self.scan_bytes as u64),
            mib(self.log_bytes),
            if self.made_up {
                "from the seed"
            } else {
                "from a file"
            },
        );
        match self.faults().as_slice() {
            [] => text += "the night is survived\n",
            faults => text += &format!("THE NIGHT IS NOT SURVIVED:\n{}\n", faults.join("\n")),
        }
        text
    }

    /// What the p99 of the calm parts was had for, where one was asked for.
    fn refused(&self) -> String {
        let ours = self
            .nights
            .iter()
            .filter(|facts| facts.who == Who::Plimsoll && self.p99_ms_max.is_some());
        ours.map(|facts| {
            let [before, after] = [&facts.before, &facts.after].map(|part| 100.0 * part.refused_share());
            format!(
                "{}: refused of the steady traffic before {before:.1}%, after {after:.1}%\n",
                facts.causes
            )
        })
        .collect()
    }

    /// Warm leases by length, over all nights of the server.
    fn leases(&self) -> String {
        let mut sums: Vec<(&str, u64, u64)> = Vec::new();
        for (name, warm, cold) in self.nights.iter().flat_map(|facts| &facts.leases) {
            match sums.iter_mut().find(|sum| sum.0 == *name) {
                Some(sum) => *sum = (sum.0, sum.1 + warm, sum.2 + cold),
                None => sums.push((name, *warm, *cold)),
            }
        }
        let mut text = String::new();
        for (name, warm, cold) in sums {
            if warm + cold > 0 {
                let share = 100.0 * warm as f64 / (warm + cold) as f64;
                text += &format!(
                    "leases of inputs up to {name} tokens: {share:.1}% warm of {}\n",
                    warm + cold
                );
            }
        }
        text
    }

    /// As JSON.
    pub fn as_json(&self) -> Value {
        json!({
            "holds": self.holds(),
            "faults": self.faults(),
            "seed": self.seed,
            "memory_limit_bytes": self.line_bytes,
            "cgroup": format!("{:?}", self.version).to_lowercase(),
            "rate_per_second": self.rate,
            "calm_s": self.clock.calm.as_secs_f64(),
            "incident_s": self.clock.incident.as_secs_f64(),
            "reviews_made_up": self.made_up,
            "documents": self.documents,
            "scan_bytes": self.scan_bytes,
            "log_bytes": self.log_bytes,
            "nights": self.nights.iter().map(night).collect::<Vec<_>>(),
        })
    }

    /// As one page that needs nothing else.
    pub fn as_html(&self, uplot: &Uplot) -> String {
        super::html::page(self, uplot)
    }
}

/// The line of one night.
pub(super) fn row(facts: &Facts) -> String {
    let mut row = String::new();
    let hot = [&facts.before, &facts.during, &facts.after]
        .map(percent)
        .join("/");
    let or_dash = |value: Option<String>| value.unwrap_or("-".to_owned());
    let died = facts
        .death
        .as_ref()
        .map(|death| format!("{:.1} s", death.at.as_secs_f64()))
        .or(facts.hangs().then(|| "hangs".to_owned()));
    let scan = facts.outcomes.scan;
    writeln!(
        row,
        "{:<8} {:<17} {:>5} {:>10} {:>8.1} {:>17} {:>11} {:>11} {:>8} {:>24} {:>7} {:>9} {:>7} {:>6} {:>8} {:>10}  {}",
        facts.who.name(),
        facts.causes,
        facts.counters.kills,
        facts.counters.limit_hits,
        mib(facts.peak.held_bytes()),
        ms(&facts.before),
        ms(&facts.during),
        ms(&facts.after),
        refused(facts),
        hot,
        or_dash(facts.recovery.map(|took| format!("{:.1}", took.as_secs_f64()))),
        or_dash(facts.settled.map(|settled| format!("{:.1}", mib(settled.held_bytes())))),
        or_dash(facts.events.map(|events| events.levels.to_string())),
        or_dash(facts.events.map(|events| events.cycles.to_string())),
        or_dash(facts.events.map(|events| events.returned.to_string())),
        format!("{}/{}", scan.served, scan.planned),
        or_dash(died),
    )
    .expect("a String takes all that is written to it");
    row
}

fn reading(reading: &Reading) -> Value {
    json!({
        "held_bytes": reading.held_bytes(),
        "anon_bytes": reading.anon_bytes,
        "kernel_bytes": reading.kernel_bytes,
        "sock_bytes": reading.sock_bytes,
        "file_bytes": reading.file_bytes,
    })
}

fn part(part: &Part) -> Value {
    json!({
        "asked": part.asked,
        "served": part.served,
        "refused": part.refused,
        "failed": part.failed,
        "p50_ms": part.p50_ms,
        "p99_ms": part.p99_ms,
        "computed_p99_ms": part.computed_p99_ms,
        "hot_share": part.hot_share,
    })
}

pub(super) fn night(facts: &Facts) -> Value {
    let outcomes = facts.outcomes.all().map(|(cause, outcome)| {
        let counts = json!({
            "planned": outcome.planned, "served": outcome.served, "refusals": outcome.refusals,
            "mute_refusals": outcome.mute, "failed": outcome.failed,
        });
        (cause.name().to_owned(), counts)
    });
    json!({
        "who": facts.who.name(),
        "causes": facts.causes.to_string(),
        "kills": facts.counters.kills,
        "limit_hits": facts.counters.limit_hits,
        "max_usage_bytes": facts.counters.max_usage_bytes,
        "peak": reading(&facts.peak),
        "idle": reading(&facts.idle),
        "settled": facts.settled.as_ref().map(reading),
        "before": part(&facts.before),
        "during": part(&facts.during),
        "after": part(&facts.after),
        "recovery_s": facts.recovery.map(|took| took.as_secs_f64()),
        "outcomes": outcomes.into_iter().collect::<serde_json::Map<_, _>>(),
        "health": {
            "answered": facts.health.fresh + facts.health.kept,
            "failed": facts.health.failed(),
            "slowest_s": facts.health.slowest.as_secs_f64(),
        },
        "death": facts.death.as_ref().map(|death| json!({
            "at_s": death.at.as_secs_f64(), "status": death.status, "kernel": death.kernel,
        })),
        "hangs": facts.hangs(),
        "events": facts.events.map(|events| json!({
            "levels": events.levels, "cycles": events.cycles, "returned": events.returned,
        })),
        "leases": facts.leases.iter().map(|(bucket, warm, cold)| json!({
            "tokens": bucket, "warm": warm, "cold": cold,
        })).collect::<Vec<_>>(),
    })
}
