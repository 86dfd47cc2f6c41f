//! The report: one page that needs nothing else, neither a network nor a server.
//!
//! The page's own style and script and the two libraries that draw (uPlot for lines, d3-flame-graph for flames; `assets` and `page/vendor` have their versions and licences) are in the
//! binary; the data is one JSON value in the page.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::reading::Reading;
use super::series::Series;
use super::stacks::{Stack, stacks};
use super::verdict::{Finding, bytes, clock, span};
use crate::debug::Profile;

const PAGE: &str = include_str!("page/report.html");
/// Where the page wants what.
const PARTS: [(&str, &str); 5] = [
    (
        "/*uplot.css*/",
        include_str!("../../../assets/uplot/uPlot.min.css"),
    ),
    ("/*report.css*/", include_str!("page/report.css")),
    (
        "/*uplot.js*/",
        include_str!("../../../assets/uplot/uPlot.iife.min.js"),
    ),
    ("/*flame.js*/", include_str!("page/vendor/flame.min.js")),
    ("/*report.js*/", include_str!("page/report.js")),
];
const DATA: &str = "/*data*/";
/// Groups of leases in the table of suspects.
const SUSPECTS_MAX: usize = 50;

/// The page.
pub(super) fn page(reading: &Reading, series: &Series, findings: &[Finding]) -> String {
    let page = PARTS
        .iter()
        .fold(PAGE.to_owned(), |page, (name, text)| page.replacen(name, text, 1));
    // A script ends at the first `</script`, wherever it stands.
    let data = data(reading, series, findings).to_string().replace("</", "<\\/");
    page.replacen(DATA, &data, 1)
}

fn data(reading: &Reading, series: &Series, findings: &[Finding]) -> Value {
    let (before, after) = (&reading.before, &reading.after);
    let mut names = Names::default();
    json!({
        "url": reading.url,
        "version": after.version,
        "model": after.model,
        "began": clock(before.unix_ms),
        "seconds": reading.seconds(),
        "limit_bytes": after.memory_limit_bytes,
        "plan": after.plan,
        "zero_s": (after.unix_ms as f64 - after.now_ms as f64) / 1000.0,
        "findings": findings,
        "facts": facts(reading, series),
        "series": series,
        "cpu": names.profile(&reading.cpu, "at"),
        "heap": names.profile(&reading.heap, "born"),
        "pools": names.profile(&reading.pools, "born"),
        "suspects": suspects(reading),
        "requests": requests(reading),
        "names": names.all,
    })
}

/// What is worth knowing even when nothing is wrong.
fn facts(reading: &Reading, series: &Series) -> Vec<(&'static str, String)> {
    let (before, after) = (&reading.before, &reading.after);
    let answered: f64 = series.answered.iter().map(|rate| rate * series.bucket_s).sum();
    let mut facts = vec![
        ("level", after.level.clone()),
        (
            "answered",
            format!("{answered:.0}, {:.0} a second", answered / reading.seconds()),
        ),
        ("refused", series.refusals().to_string()),
    ];
    let worst = series.p99.iter().flatten().copied().fold(0.0, f64::max);
    if worst > 0.0 {
        facts.push(("worst P99", span(worst)));
    }
    let worked = after.reclaim.worked_ms.saturating_sub(before.reclaim.worked_ms) as f64;
    facts.push((
        "reclaim",
        format!(
            "{} cycles, {:.2}% of a core",
            after.reclaim.cycles - before.reclaim.cycles,
            worked / reading.seconds() / 10.0
        ),
    ));
    let busy = stacks(&reading.cpu).iter().map(|stack| stack.value).sum::<i64>() as f64 / 1e9;
    facts.push(("CPU", format!("{:.2} cores", busy / reading.seconds())));
    facts.push(("heap", bytes(after.heap.live_bytes)));
    facts
}

/// Function names, each once.
#[derive(Default)]
struct Names {
    all: Vec<String>,
    known: HashMap<String, usize>,
}

impl Names {
    fn index(&mut self, name: &str) -> usize {
        if let Some(&index) = self.known.get(name) {
            return index;
        }
        self.all.push(name.to_owned());
        self.known.insert(name.to_owned(), self.all.len() - 1);
        self.all.len() - 1
    }

    /// Samples as lists: functions from the outermost in, value, count, time in milliseconds of the engine's clock, and the thread or the kind.
    fn profile(&mut self, profile: &Profile, time: &str) -> Vec<Value> {
        let stacks = stacks(profile);
        let sample = |stack: &Stack<'_>| {
            let frames: Vec<usize> = stack.frames.iter().rev().map(|name| self.index(name)).collect();
            let (thread, kind) = (stack.text("thread"), stack.text("kind"));
            json!([
                frames,
                stack.value,
                stack.count,
                stack.number(time),
                if kind.is_empty() { thread } else { kind },
                stack.place()
            ])
        };
        stacks.iter().map(sample).collect()
    }
}

/// Leases older than 999 of 1,000 of their kind, by kind and place.
fn suspects(reading: &Reading) -> Vec<Value> {
    let leases = stacks(&reading.pools);
    let usual = |kind: &str| {
        let pool = reading.after.pools.iter().find(|pool| pool.kind == kind);
        pool.and_then(|pool| pool.ages.p999_ms)
    };
    let mut groups: HashMap<(&str, &str), (i64, i64, i64)> = HashMap::new();
    for lease in &leases {
        let age_ms = lease.number("age");
        // Before any died, a second is old.
        if age_ms as f64 > usual(lease.text("kind")).unwrap_or(1000.0) {
            let group = groups.entry((lease.text("kind"), lease.place())).or_default();
            *group = (group.0 + lease.count, group.1 + lease.value, group.2.max(age_ms));
        }
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, sums)| std::cmp::Reverse(sums.2));
    let groups = groups.into_iter().take(SUSPECTS_MAX);
    groups
        .map(|((kind, place), (count, bytes, oldest_ms))| {
            json!({"kind": kind, "place": place, "count": count, "bytes": bytes, "oldest_ms": oldest_ms, "p999_ms": usual(kind)})
        })
        .collect()
}

fn requests(reading: &Reading) -> Vec<Value> {
    let now_ms = reading.after.now_ms;
    let mut requests: Vec<_> = reading.after.requests.iter().collect();
    requests.sort_by_key(|request| request.admitted_ms);
    let row = |request: &&super::reading::Request| {
        json!({
            "number": request.number,
            "phase": request.phase,
            "age_ms": now_ms.saturating_sub(request.admitted_ms),
            "held": request.held_bytes,
            "flushed": request.flushed_bytes,
            "tasks": request.tasks.join(", "),
        })
    };
    requests.iter().map(row).collect()
}
