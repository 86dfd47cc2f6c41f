//! What is printed at the end.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::attacks::Attack;
use super::cgroup::{Reading, Version};
use super::field::quantile;
use super::judge::{Facts, Run, Verdict, judge};
use super::server::Bill;

/// One attack at one line, in one run, under one setting of huge pages.
#[derive(Clone, Debug)]
pub struct Cell {
    huge_pages: String,
    line_bytes: u64,
    connections_max: usize,
    run: Run,
    attack: &'static str,
    facts: Facts,
    verdicts: Vec<Verdict>,
}

/// The whole drill.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Time of an attack.
    pub time: Duration,
    /// Whose counters.
    pub version: Version,
    /// Descriptors that the attackers had.
    pub descriptors: u64,
    /// The least limit that the server starts with.
    pub least_bytes: u64,
    /// Attack by attack.
    pub cells: Vec<Cell>,
}

impl Cell {
    pub(super) fn new(huge_pages: &str, bill: &Bill, run: Run, attack: &Attack, facts: Facts) -> Cell {
        Cell {
            huge_pages: huge_pages.to_owned(),
            line_bytes: bill.limit_bytes,
            connections_max: bill.connections_max,
            run,
            attack: attack.name,
            verdicts: judge(run, bill.limit_bytes, &facts),
            facts,
        }
    }

    /// A line for each judgment that did not hold.
    pub fn faults(&self) -> Vec<String> {
        let bad = self.verdicts.iter().filter(|verdict| !verdict.holds);
        bad.map(|verdict| {
            let Verdict {
                asked,
                measured,
                bound,
                ..
            } = verdict;
            let first = match &self.facts.health.first_failure {
                Some(failure) if asked.starts_with("health") => format!(" ({failure})"),
                _ => String::new(),
            };
            format!(
                "THP {}, N = {}, run {}, {}: {asked}: {measured} against {bound}{first}",
                self.huge_pages,
                self.line_bytes,
                self.run.name(),
                self.attack
            )
        })
        .collect()
    }

    fn json(&self) -> Value {
        let facts = &self.facts;
        let (tally, health, recovery) = (&facts.tally, &facts.health, &facts.recovery);
        let ms = |us: Option<u32>| us.map(|us| f64::from(us) / 1e3);
        let seconds = |took: Option<Duration>| took.map(|took| took.as_secs_f64());
        let reading = |reading: &Reading| {
            json!({
                "held_bytes": reading.held_bytes(), "anon_bytes": reading.anon_bytes, "kernel_bytes": reading.kernel_bytes,
                "sock_bytes": reading.sock_bytes, "file_bytes": reading.file_bytes, "huge_bytes": reading.huge_bytes,
            })
        };
        json!({
            "huge_pages": self.huge_pages,
            "line_bytes": self.line_bytes,
            "connections_max": self.connections_max,
            "run": self.run.name(),
            "group_bytes": self.run.group_bytes(self.line_bytes),
            "attack": self.attack,
            "kills": facts.counters.kills,
            "limit_hits": facts.counters.limit_hits,
            "max_usage_bytes": facts.counters.max_usage_bytes,
            "idle": reading(&facts.idle),
            "peak": reading(&facts.peaks.at_peak),
            "sock_peak_bytes": facts.peaks.sock_bytes,
            "huge_peak_bytes": facts.peaks.huge_bytes,
            "samples": facts.peaks.samples,
            "settled": recovery.settled.as_ref().map(reading),
            "cached_bytes": recovery.cached_bytes,
            "first_answer_s": seconds(recovery.first_answer),
            "empty_ledger_s": seconds(recovery.empty_ledger),
            "health": {
                "fresh": health.fresh, "fresh_failed": health.fresh_failed, "kept": health.kept,
                "kept_failed": health.kept_failed, "slowest_s": health.slowest.as_secs_f64(), "first_failure": health.first_failure,
            },
            "clients": {
                "connections": tally.connections, "unconnected": tally.unconnected, "open_max": tally.open_max,
                "served": tally.served, "refused": tally.refused, "mute_refusals": tally.mute_refusals,
                "others": tally.others.iter().map(|(status, count)| (status.to_string(), json!(count))).collect::<serde_json::Map<_, _>>(),
                "broken": tally.broken, "log_bytes": tally.log_bytes,
                "served_p50_ms": ms(quantile(&tally.served_us, 0.5)), "served_p99_ms": ms(quantile(&tally.served_us, 0.99)),
                "refusal_p50_ms": ms(quantile(&tally.refusal_us, 0.5)), "refusal_p99_ms": ms(quantile(&tally.refusal_us, 0.99)),
            },
            "refusal_server_p99_ms_at_most": facts.refusal_server_s.map(|seconds| seconds * 1e3),
            "overload": tally.overload.map(|overload| json!({
                "clients_at_peak": overload.clients, "peak_per_second": overload.peak_per_second,
                "overload_per_second": overload.overload_per_second, "offered_per_second": overload.offered_per_second,
            })),
            "level_changes": facts.level_changes.0,
            "server_cores": facts.server_cores,
            "client_cores": facts.client_cores,
            "verdicts": self.verdicts.iter().map(|v| json!({
                "asked": v.asked, "holds": v.holds, "measured": v.measured, "bound": v.bound,
            })).collect::<Vec<_>>(),
        })
    }
}

impl Report {
    /// Whether every judgment held.
    pub fn holds(&self) -> bool {
        !self.cells.is_empty()
            && self
                .cells
                .iter()
                .all(|cell| cell.verdicts.iter().all(|verdict| verdict.holds))
    }

    /// As JSON.
    pub fn as_json(&self) -> Value {
        json!({
            "holds": self.holds(),
            "seed": self.seed,
            "attack_seconds": self.time.as_secs_f64(),
            "cgroup": format!("{:?}", self.version).to_lowercase(),
            "descriptors": self.descriptors,
            "least_limit_bytes": self.least_bytes,
            "cells": self.cells.iter().map(Cell::json).collect::<Vec<_>>(),
        })
    }

    /// As a table, the faults below it.
    pub fn as_text(&self) -> String {
        let mut text = format!(
            "{:<8} {:>9} {:<3} {:<15} {:>5} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7} {:>11} {:>5} {:>5}  {}\n",
            "THP",
            "N MiB",
            "run",
            "attack",
            "kills",
            "peak MiB",
            "anon",
            "kernel",
            "sockets",
            "served",
            "refused",
            "health",
            "slowest ms",
            "srv",
            "cli",
            "holds"
        );
        for cell in &self.cells {
            let (facts, peak) = (&cell.facts, cell.facts.peaks.at_peak);
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            let asked = facts.health.fresh + facts.health.kept + facts.health.failed();
            let health = format!("{}/{asked}", asked - facts.health.failed());
            let holds = if cell.faults().is_empty() { "yes" } else { "NO" };
            writeln!(
                text,
                "{:<8} {:>9.1} {:<3} {:<15} {:>5} {:>9.1} {:>8.1} {:>8.1} {:>8.1} {:>8} {:>8} {health:>7} {:>11.1} {:>5.2} {:>5.2}  {holds}",
                cell.huge_pages,
                mib(cell.line_bytes),
                cell.run.name(),
                cell.attack,
                facts.counters.kills,
                mib(peak.held_bytes()),
                mib(peak.anon_bytes),
                mib(peak.kernel_bytes),
                mib(peak.sock_bytes),
                facts.tally.served,
                facts.tally.refused,
                facts.health.slowest.as_secs_f64() * 1e3,
                facts.server_cores,
                facts.client_cores,
            )
            .expect("a String takes all that is written to it");
        }
        text += &format!(
            "seed {}, {} s an attack, cgroup {:?}, least limit {} bytes, {} descriptors\n",
            self.seed,
            self.time.as_secs_f64(),
            self.version,
            self.least_bytes,
            self.descriptors
        );
        let faults: Vec<String> = self.cells.iter().flat_map(Cell::faults).collect();
        match faults.as_slice() {
            [] => text += "the line holds\n",
            faults => text += &format!("THE LINE DOES NOT HOLD:\n{}\n", faults.join("\n")),
        }
        text
    }
}
