//! The night as one page that needs nothing else: charts by uPlot, which the caller has, data and script inside.

use serde_json::{Value, json};

use super::judge::Facts;
use super::report::{Report, night};

const PAGE: &str = include_str!("../../assets/night.html");

/// uPlot, as text.
#[derive(Clone, Debug)]
pub struct Uplot {
    /// Its script, which defines `uPlot`.
    pub script: String,
    /// Its style.
    pub style: String,
}

pub(super) fn page(report: &Report, uplot: &Uplot) -> String {
    let mut all = report.as_json();
    all["nights"] = report.nights.iter().map(with_moments).collect();
    // The one sequence that would end a script element early cannot stand in JSON's structure, only inside strings.
    let data = all.to_string().replace("</", "<\\/");
    PAGE.replace("/* uplot.css */", &uplot.style)
        .replace("/* uplot.js */", &uplot.script)
        .replace("\"data\"", &data)
}

fn with_moments(facts: &Facts) -> Value {
    let mut night = night(facts);
    let column =
        |of: &dyn Fn(&super::watch::Moment) -> Value| -> Value { facts.moments.iter().map(of).collect() };
    night["three_s"] = json!(facts.three.as_secs_f64());
    night["over_s"] = json!(facts.over.as_secs_f64());
    night["series"] = json!({
        "at_s": column(&|moment| json!(moment.at.as_secs_f64())),
        "held_bytes": column(&|moment| json!(moment.reading.held_bytes())),
        "file_bytes": column(&|moment| json!(moment.reading.file_bytes)),
        "ledger_bytes": column(&|moment| json!(moment.ledger_bytes)),
        "cache_bytes": column(&|moment| json!(moment.cache_bytes)),
        "level": column(&|moment| json!(moment.level)),
        "refusals": column(&|moment| json!(moment.refusals)),
        "queue": column(&|moment| json!(moment.queue)),
    });
    night
}
