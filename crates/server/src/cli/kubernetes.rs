//! `plimsoll plan --kubernetes`: values for the chart under `deploy/helm`, from the bill, the load and the speed of the model on this machine.

use std::fmt::Write;
use std::num::NonZeroUsize;
use std::time::Duration;

use clap::Args;
use plimsoll_engine::Plan;

use super::bench::{self, BenchError};
use super::bytes::shown;
use super::start::StartUp;

/// Replicas are given so much of what they can do, so that a burst finds room and the line at the workers stays short.
const UTILISATION: f64 = 0.6;
/// One more than the load needs, so that one may be away.
const SPARE_REPLICAS: usize = 1;
const MEASURE_TIME: Duration = Duration::from_millis(500);

/// Flags of the load.
#[derive(Args, Clone, Debug)]
pub(super) struct LoadArgs {
    /// Requests a second that all replicas together must serve.
    #[arg(long, env, requires = "kubernetes", value_parser = rate)]
    target_rps: Option<f64>,
    /// Tokens of a usual request, all its texts together.
    #[arg(long, env, default_value_t = const { NonZeroUsize::new(64).unwrap() })]
    tokens_per_request: NonZeroUsize,
    /// Tokens a second that one replica reads; without it, measured here, now.
    #[arg(long, env, value_parser = rate)]
    tokens_per_second: Option<f64>,
}

/// The least and the most of anything a second: what follows from them are numbers of this world.
const RATES: std::ops::RangeInclusive<f64> = 0.001..=1e9;

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok();
    rate.filter(|rate| RATES.contains(rate))
        .ok_or_else(|| format!("expected a number from {} to {}", RATES.start(), RATES.end()))
}

/// The values of the chart.
pub(super) fn values(started: &StartUp, load: &LoadArgs) -> Result<String, BenchError> {
    let plan = started.app.engine.plan();
    let cores = started.workers;
    let mut text = format!(
        "# The line: request, limit and --memory-limit are this one number ({}).\n",
        shown(plan.limit_bytes)
    );
    let mut line = |arguments: std::fmt::Arguments<'_>| {
        writeln!(text, "{arguments}").expect("a String takes all that is written to it");
    };
    line(format_args!("memoryLimitBytes: {}", plan.limit_bytes));
    line(format_args!("cpu: {cores}"));
    line(format_args!("# {}", requests_at_once(plan)));
    let Some(target_rps) = load.target_rps else {
        line(format_args!("# How many replicas: give --target-rps."));
        return Ok(text);
    };
    let tokens = load.tokens_per_request.get();
    let speed = match load.tokens_per_second {
        Some(speed) => speed,
        None => bench::tokens_per_second(started.app.engine.model(), cores, tokens, MEASURE_TIME)?,
    };
    let replica_rps = speed / tokens as f64;
    let needed = (target_rps / (replica_rps * UTILISATION)).ceil().max(1.0) as usize;
    let replicas = needed + SPARE_REPLICAS;
    let whence = if load.tokens_per_second.is_some() {
        "as given"
    } else {
        "measured here"
    };
    line(format_args!(
        "# {target_rps} requests/s of {tokens} tokens; one replica reads {speed:.0} tokens/s ({whence}), {replica_rps:.1} requests/s,\n\
         # and is given {:.0}% of it: {needed} replicas, and {SPARE_REPLICAS} that may be away. What the cache answers comes on top.",
        UTILISATION * 100.0
    ));
    line(format_args!("replicas: {replicas}"));
    line(format_args!(
        "autoscaling:\n  minReplicas: {replicas}\n  maxReplicas: {}",
        replicas * 3
    ));
    let all_bytes = replicas.saturating_mul(plan.limit_bytes);
    line(format_args!(
        "# All replicas: {} and {} cores.",
        shown(all_bytes),
        replicas * cores
    ));
    Ok(text)
}

fn requests_at_once(plan: &Plan) -> String {
    let longest = (plan.request_slots_bytes / plan.longest_request_bytes.max(1)).max(1);
    let least = plan.limits.requests_max;
    format!(
        "At once: {longest} of the longest requests ({} each), or up to {least} short ones.",
        shown(plan.longest_request_bytes)
    )
}
