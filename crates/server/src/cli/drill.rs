//! `plimsoll drill`: the promises of this program, tested on this machine.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::str::FromStr;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use plimsoll_drill::line::server::Program;
use plimsoll_drill::line::{self, Line, Options, RigError, attacks};

use super::{MemoryLimit, night, worth};
use crate::twin::TwinError;

/// Flags of `drill`.
#[derive(Args, Clone, Debug)]
pub struct DrillArgs {
    /// Which.
    #[command(subcommand)]
    drill: Drill,
}

#[derive(Clone, Debug, Subcommand)]
enum Drill {
    /// Attacks the server in a memory cgroup of its own and judges by the kernel's counters; needs to be allowed to make one.
    Line(LineArgs),
    /// The night in which services of this kind die: log rotation, warm-up, scan and burst, alone and together, in a memory cgroup that kills.
    #[command(name = "3am")]
    Night(night::NightArgs),
    /// Switches each layer off in turn and measures what it is worth.
    Ablation(worth::AblationArgs),
    /// Steady mixed traffic for minutes or days: does memory grow?
    Soak(worth::SoakArgs),
    /// Serves as the naive twin.
    #[command(hide = true)]
    Twin(night::TwinArgs),
    /// Rotates a log.
    #[command(hide = true)]
    Rotate(night::RotateArgs),
    /// Enters a cgroup and becomes another program.
    #[command(hide = true)]
    Enter(EnterArgs),
    /// Writes a log.
    #[command(hide = true)]
    Log(LogArgs),
}

/// Flags of `drill line`.
#[derive(Args, Clone, Debug)]
struct LineArgs {
    /// N: bytes (also 512MiB), `least` for the least that the server starts with, `2x` for twice that. May be given several times.
    #[arg(long, num_args = 1.., default_values = ["least"])]
    memory_limit: Vec<DrillLine>,
    /// Directory of a model; without it, the one inside the binary.
    #[arg(long)]
    model_id: Option<PathBuf>,
    /// Where all random choices come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long each attack lasts.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Only these attacks; all of them when absent.
    #[arg(long, num_args = 1.., value_parser = PossibleValuesParser::new(attacks::ALL.map(|attack| attack.name)))]
    attack: Vec<String>,
    /// Set the host's transparent huge pages to this for the drill, and back after it. May be given several times.
    #[arg(long, num_args = 1.., value_parser = ["always", "madvise", "never"])]
    huge_pages: Vec<String>,
    /// The report as JSON.
    #[arg(long)]
    json: bool,
    /// Further flags for `serve` that cost memory.
    #[arg(last = true)]
    serve: Vec<String>,
}

#[derive(Args, Clone, Debug)]
struct EnterArgs {
    procs: PathBuf,
    program: PathBuf,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

#[derive(Args, Clone, Debug)]
struct LogArgs {
    bytes: u64,
    file: PathBuf,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct DrillLine(pub(super) Line);

impl FromStr for DrillLine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let times = match text {
            "least" => Some(1),
            _ => text.strip_suffix('x').and_then(|times| times.parse().ok()),
        };
        if let Some(times) = times.filter(|times| *times > 0) {
            return Ok(DrillLine(Line::Least(times)));
        }
        match text.parse()? {
            MemoryLimit::Bytes(bytes) => Ok(DrillLine(Line::Bytes(bytes as u64))),
            _ => Err("expected bytes, `least` or a multiple of it, as 2x".to_owned()),
        }
    }
}

/// Why a drill could not be held. One line.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// The rig.
    #[error(transparent)]
    Rig(#[from] RigError),
    /// The naive twin.
    #[error(transparent)]
    Twin(#[from] TwinError),
    /// A file of the drill.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
}

pub(super) fn file_error(path: &Path) -> impl Fn(std::io::Error) -> DrillError {
    move |source| DrillError::File {
        path: path.display().to_string(),
        source,
    }
}

/// Holds the drill; a line that did not hold is a failure.
///
/// # Errors
/// [`DrillError`].
pub fn run(args: &DrillArgs) -> Result<ExitCode, DrillError> {
    match &args.drill {
        Drill::Line(args) => line_drill(args),
        Drill::Night(args) => night::run(args),
        Drill::Ablation(args) => worth::ablation(args),
        Drill::Soak(args) => worth::soak(args),
        Drill::Twin(args) => night::twin(args),
        Drill::Rotate(args) => night::rotate(args),
        Drill::Enter(args) => enter(args),
        Drill::Log(args) => log(args),
    }
}

fn line_drill(args: &LineArgs) -> Result<ExitCode, DrillError> {
    let options = Options {
        program: program(args.model_id.as_deref(), &args.serve)?,
        lines: args.memory_limit.iter().map(|line| line.0).collect(),
        seed: args.seed,
        time: Duration::from_secs_f64(args.seconds.clamp(0.1, 86_400.0)),
        attacks: args.attack.clone(),
        huge_pages: args.huge_pages.clone(),
    };
    let report = line::run(&options)?;
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

/// This executable, as the rig starts it.
pub(super) fn program(model_dir: Option<&Path>, flags: &[String]) -> Result<Program, DrillError> {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let mut flags = flags.to_vec();
    if let Some(dir) = model_dir {
        flags.extend(["--model-id".to_owned(), dir.display().to_string()]);
    }
    Ok(Program {
        path: std::env::current_exe().map_err(RigError::Io)?,
        enter: words(&["drill", "enter"]),
        log: words(&["drill", "log"]),
        flags,
        model_dir: model_dir.map(Path::to_owned),
    })
}

/// Becomes the program, inside the group: exec keeps the process's number and nothing of its memory. It ends when the drill does.
fn enter(args: &EnterArgs) -> Result<ExitCode, DrillError> {
    line::end_with_parent().map_err(RigError::Io)?;
    fs::write(&args.procs, std::process::id().to_string()).map_err(file_error(&args.procs))?;
    let error = Command::new(&args.program).args(&args.arguments).exec();
    Err(file_error(&args.program)(error))
}

/// Writes lines until there are so many bytes, as a careless logger does: nothing is synced and nothing is dropped from the cache.
fn log(args: &LogArgs) -> Result<ExitCode, DrillError> {
    let failed = file_error(&args.file);
    let mut file = File::create(&args.file).map_err(&failed)?;
    let lines = "2026-11-23T03:00:00Z info a request was served\n".repeat(1024);
    let mut left_bytes = args.bytes;
    while left_bytes > 0 {
        let here = left_bytes.min(lines.len() as u64);
        file.write_all(&lines.as_bytes()[..here as usize])
            .map_err(&failed)?;
        left_bytes -= here;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bytes_or_multiples_of_the_least() {
        let line = |text: &str| text.parse::<DrillLine>().map(|line| line.0);
        assert_eq!(line("least"), Ok(Line::Least(1)));
        assert_eq!(line("8x"), Ok(Line::Least(8)));
        assert_eq!(line("64MiB"), Ok(Line::Bytes(64 << 20)));
        for wrong in ["0x", "x", "auto", "80%", "-1x"] {
            assert!(line(wrong).is_err(), "{wrong}");
        }
    }
}
