//! `plimsoll drill ablation` and `plimsoll drill soak`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use plimsoll_drill::{ablation, soak};

use super::bytes::parse_bytes;
use super::drill::{DrillError, program};

/// Flags of `drill ablation`.
#[derive(Args, Clone, Debug)]
pub(super) struct AblationArgs {
    /// N of each variant.
    #[arg(long, default_value = "128MiB", value_parser = parse_bytes)]
    memory_limit: usize,
    /// Directory of a model; without it, the one inside the binary.
    #[arg(long)]
    model_id: Option<PathBuf>,
    /// Where all random choices come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Requests of the steady traffic, for each variant.
    #[arg(long, default_value_t = 2000)]
    requests: usize,
    /// The report as JSON.
    #[arg(long)]
    json: bool,
}

/// Flags of `drill soak`.
#[derive(Args, Clone, Debug)]
pub(super) struct SoakArgs {
    /// N.
    #[arg(long, default_value = "128MiB", value_parser = parse_bytes)]
    memory_limit: usize,
    /// Directory of a model; without it, the one inside the binary.
    #[arg(long)]
    model_id: Option<PathBuf>,
    /// Where all random choices come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long.
    #[arg(long, default_value_t = 20.0)]
    minutes: f64,
    /// Requests a second.
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// The report as JSON.
    #[arg(long)]
    json: bool,
    /// Further flags for `serve`.
    #[arg(last = true)]
    serve: Vec<String>,
}

/// Measures what each layer is worth.
pub(super) fn ablation(args: &AblationArgs) -> Result<ExitCode, DrillError> {
    let program = program(args.model_id.as_deref(), &[])?;
    let report = ablation::run(&ablation::Options {
        twin: program.twin(),
        program,
        limit_bytes: args.memory_limit as u64,
        seed: args.seed,
        requests: args.requests,
    })?;
    if args.json {
        println!("{:#}", report.as_json());
    } else {
        print!("{}", report.as_text());
    }
    Ok(ExitCode::SUCCESS)
}

/// Soaks; growth is a failure.
pub(super) fn soak(args: &SoakArgs) -> Result<ExitCode, DrillError> {
    let report = soak::run(&soak::Options {
        program: program(args.model_id.as_deref(), &args.serve)?,
        limit_bytes: args.memory_limit as u64,
        seed: args.seed,
        time: Duration::from_secs_f64(args.minutes.clamp(0.1, 100_000.0) * 60.0),
        rate: args.rate.clamp(0.1, 100_000.0),
    })?;
    if args.json {
        println!("{:#}", report.as_json());
    } else {
        print!("{}", report.as_text());
    }
    Ok(if report.holds() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
