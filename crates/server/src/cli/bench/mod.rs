//! `plimsoll bench`: the user's model on the user's CPU, and how far from what that CPU can do at most.

mod cost;
mod measure;

use std::io::{self, IsTerminal};
use std::thread::available_parallelism;
use std::time::Duration;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use plimsoll_encoder::{Model, ModelInfo};
use plimsoll_memory::process;
use serde_json::{Value, json};

use super::bytes::shown;
use super::dtype::Dtype;
use crate::model::{self, ModelError};
use cost::operations;
use measure::{Plan, Times, measure, peak};

pub use measure::MeasureError;

const PEAK_TIME: Duration = Duration::from_millis(300);

fn positive(max: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=max)
}

/// Flags of `bench`.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// Directory of a model (config.json, model.safetensors, tokenizer.json); without it, the one inside the binary.
    #[arg(long, env)]
    model_id: Option<String>,
    /// What matrix products are computed in.
    #[arg(long, env, value_enum, default_value_t)]
    dtype: Dtype,
    /// Threads; by default as many as there are cores. Batches of fewer texts are run by all threads together, others shared out between them.
    #[arg(long, env = "WORKERS", value_parser = positive(1024))]
    threads: Option<usize>,
    /// Tokens of each text; lengths that the model cannot read are left out.
    #[arg(long, env = "PLIMSOLL_LENGTHS", value_delimiter = ',', default_value = "16,64,128,256,512", value_parser = positive(1 << 20))]
    lengths: Vec<usize>,
    /// Texts in a batch.
    #[arg(long, env = "PLIMSOLL_BATCHES", value_delimiter = ',', default_value = "1,8,32", value_parser = positive(1 << 16))]
    batches: Vec<usize>,
    /// Tokens in one pass through the model.
    #[arg(long, env, default_value_t = 2048, value_parser = positive(1 << 20))]
    max_batch_tokens: usize,
    /// Seconds that each batch is repeated for, at least once.
    #[arg(long, env = "PLIMSOLL_SECONDS", default_value_t = 1.0)]
    seconds: f64,
    /// As JSON.
    #[arg(long, env = "PLIMSOLL_JSON")]
    json: bool,
}

/// Why nothing was measured. One line each.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A batch.
    #[error("{texts} texts of {tokens_each} tokens: {source}")]
    Batch {
        /// How many.
        texts: usize,
        /// How long.
        tokens_each: usize,
        /// What happened.
        source: MeasureError,
    },
    /// All lengths are longer than what the model reads.
    #[error("--lengths: the model reads up to {tokens_max} tokens")]
    NoLength {
        /// How many it reads.
        tokens_max: usize,
    },
    /// Not a time.
    #[error("--seconds {seconds}: expected 0 to 3600")]
    Seconds {
        /// What was asked for.
        seconds: f64,
    },
}

/// All that was found out.
struct Report {
    model_id: String,
    info: ModelInfo,
    isa: &'static str,
    threads: usize,
    /// Operations a second, all threads together.
    peak: Option<f64>,
    batches: Vec<Measured>,
}

struct Measured {
    texts: usize,
    tokens_each: usize,
    times: Times,
    operations: u64,
}

/// Measures every batch of every length and prints a table.
///
/// # Errors
/// [`BenchError`].
pub fn run(args: &BenchArgs) -> Result<(), BenchError> {
    if !(0.0..=3600.0).contains(&args.seconds) {
        let seconds = args.seconds;
        return Err(BenchError::Seconds { seconds });
    }
    let model::Loaded { model, id, .. } = model::load(args.model_id.as_deref(), args.dtype.format(), None)?;
    let report = report(args, &model, id)?;
    if args.json {
        println!("{:#}", report.as_json());
    } else {
        print!("{}", report.as_text());
    }
    Ok(())
}

fn report(args: &BenchArgs, model: &Model, model_id: String) -> Result<Report, BenchError> {
    let info = model.info().clone();
    let cores = || available_parallelism().map_or(1, usize::from);
    let threads = args.threads.unwrap_or_else(cores);
    let readable = |&&length: &&usize| length <= info.tokens_max;
    let lengths: Vec<usize> = args.lengths.iter().filter(readable).copied().collect();
    if lengths.is_empty() {
        let tokens_max = info.tokens_max;
        return Err(BenchError::NoLength { tokens_max });
    }
    let bar = progress(lengths.len() * args.batches.len());
    let mut batches = Vec::new();
    for (&texts, &tokens_each) in args
        .batches
        .iter()
        .flat_map(|b| lengths.iter().map(move |l| (b, l)))
    {
        bar.set_message(format!("{texts} x {tokens_each} tokens"));
        let plan = Plan {
            texts,
            tokens_each,
            threads,
            pass_tokens_max: args.max_batch_tokens,
            time: Duration::from_secs_f64(args.seconds),
        };
        let times = measure(model, &plan).map_err(|source| BenchError::Batch {
            texts,
            tokens_each,
            source,
        })?;
        let operations = texts as u64 * operations(&info, tokens_each);
        batches.push(Measured {
            texts,
            tokens_each,
            times,
            operations,
        });
        bar.inc(1);
    }
    bar.finish_and_clear();
    let format = Dtype::format_named(info.format);
    Ok(Report {
        model_id,
        isa: model.kernel().isa().name(),
        threads,
        peak: format.and_then(|format| peak(model, format, threads, PEAK_TIME)),
        batches,
        info,
    })
}

/// Tokens a second that all threads together read, in texts of so many tokens.
pub(super) fn tokens_per_second(
    model: &Model,
    threads: usize,
    tokens_each: usize,
    time: Duration,
) -> Result<f64, BenchError> {
    let tokens_each = tokens_each.min(model.info().tokens_max);
    let plan = Plan {
        texts: 16 * threads,
        tokens_each,
        threads,
        pass_tokens_max: 2048,
        time,
    };
    let times = measure(model, &plan).map_err(|source| BenchError::Batch {
        texts: plan.texts,
        tokens_each,
        source,
    })?;
    Ok((plan.texts * tokens_each) as f64 / times.median().as_secs_f64())
}

/// On standard error, when that is a terminal.
fn progress(steps: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} eta {eta} {msg}");
    match style {
        Ok(style) if io::stderr().is_terminal() => ProgressBar::new(steps as u64).with_style(style),
        _ => ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()),
    }
}

impl Measured {
    fn tokens(&self) -> usize {
        self.texts * self.tokens_each
    }

    fn tokens_per_second(&self) -> f64 {
        self.tokens() as f64 / self.times.median().as_secs_f64()
    }

    fn operations_per_second(&self) -> f64 {
        self.operations as f64 / self.times.median().as_secs_f64()
    }

    fn as_json(&self, peak: Option<f64>) -> Value {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let sorted = &self.times.sorted;
        json!({
            "texts": self.texts,
            "tokens_each": self.tokens_each,
            "tokens": self.tokens(),
            "repetitions": sorted.len(),
            "milliseconds": milliseconds(self.times.median()),
            "milliseconds_min": milliseconds(sorted[0]),
            "milliseconds_max": milliseconds(sorted[sorted.len() - 1]),
            "tokens_per_second": self.tokens_per_second(),
            "operations": self.operations,
            "operations_per_second": self.operations_per_second(),
            "share_of_peak": peak.map(|peak| self.operations_per_second() / peak),
            "scratch_bytes": self.times.scratch_bytes,
        })
    }
}

impl Report {
    fn as_json(&self) -> Value {
        let weights = &self.info.weight_bytes;
        json!({
            "model_id": self.model_id,
            "dtype": self.info.format,
            "weights_dtype": self.info.dtype,
            "instruction_set": self.isa,
            "threads": self.threads,
            "peak_operations_per_second": self.peak,
            "weight_bytes": {"mapped": weights.mapped, "converted": weights.converted},
            "resident_bytes": process::resident_bytes(),
            "batches": self.batches.iter().map(|batch| batch.as_json(self.peak)).collect::<Vec<_>>(),
        })
    }

    fn as_text(&self) -> String {
        let (info, threads) = (&self.info, self.threads);
        let mut text = format!(
            "{}: {} layers of {}, {} ({} in the file), {} on {threads} thread{}\n",
            self.model_id,
            info.layers,
            info.hidden,
            info.format,
            info.dtype,
            self.isa,
            if threads == 1 { "" } else { "s" },
        );
        text += "texts  tokens      ms   min .. max           tokens/s   GFLOP/s  of peak     scratch\n";
        for batch in &self.batches {
            let milliseconds = |time: Duration| format!("{:.2}", time.as_secs_f64() * 1e3);
            let sorted = &batch.times.sorted;
            let range = format!(
                "{} .. {}",
                milliseconds(sorted[0]),
                milliseconds(sorted[sorted.len() - 1])
            );
            let share = self.peak.map_or("-".to_owned(), |peak| {
                format!("{:.0}%", 100.0 * batch.operations_per_second() / peak)
            });
            text += &format!(
                "{:>5} {:>7} {:>9} {range:>20} {:>10.0} {:>9.1} {share:>8} {:>11}\n",
                batch.texts,
                batch.tokens_each,
                milliseconds(batch.times.median()),
                batch.tokens_per_second(),
                batch.operations_per_second() / 1e9,
                shown(batch.times.scratch_bytes),
            );
        }
        let peak = self
            .peak
            .map_or("unknown".to_owned(), |peak| format!("{:.0} GFLOP/s", peak / 1e9));
        let weights = &info.weight_bytes;
        text + &format!(
            "peak of {} {peak}; weights {} mapped, {} converted; resident {}\n",
            info.format,
            shown(weights.mapped),
            shown(weights.converted),
            process::resident_bytes().map_or("unknown".to_owned(), shown),
        )
    }
}
