//! `plimsoll plan`: the bill.

use clap::Args;
use plimsoll_engine::Plan;
use serde_json::json;

use super::bench::BenchError;
use super::bytes::shown;
use super::serve::NetArgs;
use super::{ModelArgs, StartUp, StartUpError, kubernetes};
use crate::app::Settings;

/// Flags of `plan`: those of `serve` that cost memory.
#[derive(Args, Clone, Debug)]
pub struct PlanArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    net: NetArgs,
    /// As JSON.
    #[arg(long, env = "PLIMSOLL_JSON")]
    json: bool,
    /// As values of the Helm chart, with the replicas that a load needs.
    #[arg(long, env = "PLIMSOLL_KUBERNETES", conflicts_with = "json")]
    kubernetes: bool,
    #[command(flatten)]
    load: kubernetes::LoadArgs,
}

/// Why there is no plan. One line each.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The model, or its limit.
    #[error(transparent)]
    StartUp(#[from] StartUpError),
    /// Its speed.
    #[error(transparent)]
    Speed(#[from] BenchError),
}

/// Prints the bill.
///
/// # Errors
/// When the model cannot be loaded, or the limit is too small for it.
pub fn run(args: &PlanArgs) -> Result<(), PlanError> {
    let started = StartUp::new(&args.model, Settings::default(), Some(&args.net))?;
    let plan = started.app.engine.plan();
    if args.kubernetes {
        print!("{}", kubernetes::values(&started, &args.load)?);
    } else if args.json {
        println!("{:#}", as_json(plan))
    } else {
        print!("{}", as_text(plan))
    }
    Ok(())
}

/// The bill for people: owner, count times bytes, total.
pub fn as_text(plan: &Plan) -> String {
    let mut text = format!("{:<22} {:>8} {:>14} {:>16}\n", "owner", "count", "each", "bytes");
    for line in &plan.lines {
        let (count, each, total) = (line.count, shown(line.each_bytes), line.total_bytes());
        text += &format!("{:<22} {count:>8} {each:>14} {total:>16}\n", line.owner);
    }
    text += &format!(
        "{:<22} {:>8} {:>14} {:>16}\n",
        "memory limit",
        "",
        shown(plan.limit_bytes),
        plan.limit_bytes
    );
    let limits = &plan.limits;
    text += &format!(
        "cached vectors borrow up to {} of the request slots\nlongest request {} bytes; body up to {} bytes, {} texts, {} tokens each; {} tokens a pass; {} requests\n",
        shown(plan.cache_bytes_max),
        plan.longest_request_bytes,
        limits.body_bytes_max,
        limits.inputs_max,
        limits.tokens_max,
        limits.batch_tokens_max,
        limits.requests_max,
    );
    text
}

/// The bill for programs.
pub fn as_json(plan: &Plan) -> serde_json::Value {
    let line = |line: &plimsoll_engine::BillLine| json!({"owner": line.owner, "count": line.count, "each_bytes": line.each_bytes, "bytes": line.total_bytes()});
    let limits = &plan.limits;
    json!({
        "memory_limit_bytes": plan.limit_bytes,
        "lines": plan.lines.iter().map(line).collect::<Vec<_>>(),
        "request_slots_bytes": plan.request_slots_bytes,
        "longest_request_bytes": plan.longest_request_bytes,
        "cache_bytes_max": plan.cache_bytes_max,
        "limits": {
            "body_bytes_max": limits.body_bytes_max,
            "inputs_max": limits.inputs_max,
            "tokens_max": limits.tokens_max,
            "batch_tokens_max": limits.batch_tokens_max,
            "requests_max": limits.requests_max,
        },
    })
}
