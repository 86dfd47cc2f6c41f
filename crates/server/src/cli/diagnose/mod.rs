//! `plimsoll diagnose`: from the symptom to the culprit in one command.
//!
//! It reads a running server's debug listener for a while, joins profiles, trace and state on one axis of time, says in words what is wrong and what says so, and writes a
//! page that shows it all.

mod fetch;
mod held;
mod page;
mod readers;
mod reading;
mod series;
mod stacks;
mod verdict;

use std::fs;
use std::path::PathBuf;

use clap::Args;

use fetch::Url;
use reading::Reading;
use series::Series;

/// Flags of `diagnose`.
#[derive(Args, Clone, Debug)]
pub struct DiagnoseArgs {
    /// The server's `--debug-listen`, as http://127.0.0.1:6060.
    #[arg(long)]
    url: Url,
    /// How long to look.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=300))]
    seconds: u64,
    /// Where the report goes.
    #[arg(long, short, default_value = "report.html")]
    output: PathBuf,
}

/// Why there is no diagnosis. One line.
#[derive(Debug, thiserror::Error)]
pub enum DiagnoseError {
    /// The server was not reached, or did not answer.
    #[error("{0}")]
    Server(std::io::Error),
    /// The report could not be written.
    #[error("{path}: {source}")]
    Report {
        /// Where.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
}

/// Looks, writes the report, and prints the verdict.
///
/// # Errors
/// [`DiagnoseError`].
pub fn run(args: &DiagnoseArgs) -> Result<(), DiagnoseError> {
    eprintln!("reading {} for {} s", args.url, args.seconds);
    let reading = Reading::take(&args.url, args.seconds).map_err(DiagnoseError::Server)?;
    let series = Series::of(&reading);
    let findings = verdict::findings(&reading, &series);
    let page = page::page(&reading, &series, &findings);
    fs::write(&args.output, page).map_err(|source| DiagnoseError::Report {
        path: args.output.display().to_string(),
        source,
    })?;
    if findings.is_empty() {
        println!(
            "Nothing stands out in {:.1} s: {} refused, level {}.",
            reading.seconds(),
            series.refusals(),
            reading.after.level
        );
    }
    for finding in &findings {
        println!("{}: {}", finding.rule, finding.says);
        finding.evidence.iter().for_each(|line| println!("  - {line}"));
    }
    eprintln!(
        "report in {}; {:.1} s beside the {} s of reading",
        args.output.display(),
        reading.overhead.as_secs_f64(),
        args.seconds
    );
    Ok(())
}
