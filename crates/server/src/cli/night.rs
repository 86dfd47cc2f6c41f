//! `plimsoll drill 3am`, and what it starts beside the server: the naive twin, and a process that rotates a log.

use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use flate2::Compression;
use flate2::write::GzEncoder;
use plimsoll_drill::line::RigError;
use plimsoll_drill::night::causes::LOG_FILE;
use plimsoll_drill::night::html::Uplot;
use plimsoll_drill::night::judge::Who;
use plimsoll_drill::night::plan::{Cause, Causes};
use plimsoll_drill::night::{self, Options};

use super::drill::{DrillError, DrillLine, file_error, program};
use crate::page::assets;
use crate::twin;

/// Flags of `drill 3am`.
#[derive(Args, Clone, Debug)]
pub(super) struct NightArgs {
    /// N: bytes (also 512MiB), `least` for the least that the server starts with, `2x` for twice that.
    #[arg(long, default_value = "128MiB")]
    memory_limit: DrillLine,
    /// Directory of a model; without it, the one inside the binary.
    #[arg(long)]
    model_id: Option<PathBuf>,
    /// Where all random choices come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Have the same server without its layers pass each night, too.
    #[arg(long)]
    twin: Option<Twin>,
    /// Only these causes, at the same time; without it, each alone, each pair, all together.
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(Cause::ALL.map(Cause::name).into_iter().chain(["all"])))]
    causes: Vec<String>,
    /// Reviews for the steady traffic, a line each; without it, they are made from the seed.
    #[arg(long)]
    texts: Option<PathBuf>,
    /// How long the steady traffic is left alone before and after; the causes work for twice as long.
    #[arg(long, default_value_t = 5.0)]
    calm_seconds: f64,
    /// Requests a second of the steady traffic; without it, `--load-percent` of the most that the server can do.
    #[arg(long)]
    rate: Option<f64>,
    /// Of the most that the server answers to four clients in a closed loop.
    #[arg(long, default_value_t = 70.0)]
    load_percent: f64,
    /// Fail, too, when the steady traffic's p99 before and after is above this, or more than a tenth of it is refused then. The server is told to refuse whoever would wait for
    /// half of it (`--queue-ms-max`).
    #[arg(long)]
    p99_ms_max: Option<f64>,
    /// The report as JSON.
    #[arg(long)]
    json: bool,
    /// The report as a page, with level and memory over time.
    #[arg(long)]
    html: Option<PathBuf>,
    /// Further flags for `serve` that cost memory.
    #[arg(last = true)]
    serve: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Twin {
    /// Plain allocations, maps and queues without bound.
    Naive,
}

/// Flags of the twin.
#[derive(Args, Clone, Debug)]
pub(super) struct TwinArgs {
    /// Directory of a model; without it, the one inside the binary.
    #[arg(long)]
    model_id: Option<String>,
    #[arg(long, default_value_t = 0)]
    port: u16,
    #[arg(long)]
    workers: Option<usize>,
    /// A line for each request goes there.
    #[arg(long)]
    log: Option<PathBuf>,
    /// Remember nothing.
    #[arg(long)]
    no_cache: bool,
}

/// Flags of the rotation.
#[derive(Args, Clone, Debug)]
pub(super) struct RotateArgs {
    dir: PathBuf,
}

fn causes(names: &[String]) -> Vec<Causes> {
    let named = |cause: &Cause| names.iter().any(|name| name == cause.name());
    if names.is_empty() {
        Causes::combinations()
    } else if names.iter().any(|name| name == "all") {
        vec![Causes::ALL]
    } else {
        let some: Vec<Cause> = Cause::ALL.into_iter().filter(named).collect();
        vec![Causes::of(&some)]
    }
}

/// Holds the drill; a night that was not survived is a failure. What becomes of the twin is none.
pub(super) fn run(args: &NightArgs) -> Result<ExitCode, DrillError> {
    let program = program(args.model_id.as_deref(), &args.serve)?;
    let options = Options {
        twin: program.twin(),
        program,
        rotate: ["drill", "rotate"].map(str::to_owned).to_vec(),
        line: args.memory_limit.0,
        seed: args.seed,
        calm: Duration::from_secs_f64(args.calm_seconds.clamp(0.2, 3600.0)),
        causes: causes(&args.causes),
        who: match args.twin {
            Some(Twin::Naive) => vec![Who::Twin, Who::Plimsoll],
            None => vec![Who::Plimsoll],
        },
        texts: args.texts.clone(),
        rate: args.rate.map(|rate| rate.clamp(0.1, 100_000.0)),
        load_percent: args.load_percent,
        p99_ms_max: args.p99_ms_max,
    };
    let report = night::run(&options)?;
    if let Some(path) = &args.html {
        let uplot = Uplot {
            script: assets::text("/page/uplot.js"),
            style: assets::text("/page/uplot.css"),
        };
        fs::write(path, report.as_html(&uplot)).map_err(file_error(path))?;
    }
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

/// Serves as the naive twin.
pub(super) fn twin(args: &TwinArgs) -> Result<ExitCode, DrillError> {
    let workers = args
        .workers
        .unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
    twin::run(&twin::Setup {
        model_id: args.model_id.as_deref(),
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, args.port)),
        workers,
        log: args.log.as_deref(),
        caches: !args.no_cache,
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Rotates as `logrotate` does: the log is renamed, a new one opened and written to, the old one compressed and removed.
pub(super) fn rotate(args: &RotateArgs) -> Result<ExitCode, DrillError> {
    plimsoll_drill::line::end_with_parent().map_err(RigError::Io)?;
    let (log, old) = (args.dir.join(LOG_FILE), args.dir.join("log.1"));
    fs::rename(&log, &old).map_err(file_error(&log))?;
    let mut new = File::create(&log).map_err(file_error(&log))?;
    let packed = args.dir.join("log.1.gz");
    let mut from = BufReader::new(File::open(&old).map_err(file_error(&old))?);
    let to = File::create(&packed).map_err(file_error(&packed))?;
    let mut to = GzEncoder::new(to, Compression::default());
    let mut bytes = [0; 64 * 1024];
    loop {
        let count = from.read(&mut bytes).map_err(file_error(&old))?;
        if count == 0 {
            break;
        }
        to.write_all(&bytes[..count]).map_err(file_error(&packed))?;
        // The service goes on writing meanwhile.
        writeln!(
            new,
            "2026-11-24T03:00:00Z info {count} bytes of the old log were packed"
        )
        .map_err(file_error(&log))?;
    }
    to.finish().map_err(file_error(&packed))?;
    fs::remove_file(&old).map_err(file_error(&old))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_named_or_all_combinations() {
        let causes = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            causes(&names)
        };
        assert_eq!(causes(&[]).len(), 11);
        assert_eq!(causes(&["all"]), [Causes::ALL]);
        assert_eq!(
            causes(&["scan", "burst"]),
            [Causes::of(&[Cause::Burst, Cause::Scan])]
        );
    }
}
