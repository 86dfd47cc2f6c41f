//! `plimsoll tune`: labelled texts in, a classification head out.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::Instant;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::MemoryLimit;
use crate::model::{self, ModelError};
use crate::tune::{FeatureError, Head, Table, TableError, Task, feature_bytes, features, tune, write};

/// Flags of `tune`.
#[derive(Args, Clone, Debug)]
pub struct TuneArgs {
    /// What the labels mean.
    #[arg(long, env = "PLIMSOLL_TASK", value_enum)]
    task: Task,
    /// Labelled texts: a CSV file with a header.
    #[arg(long, env = "PLIMSOLL_DATA")]
    data: PathBuf,
    /// The column with the texts.
    #[arg(long, env = "PLIMSOLL_TEXT_COLUMN", default_value = "text")]
    text_column: String,
    /// The column with the labels.
    #[arg(long, env = "PLIMSOLL_LABEL_COLUMN", default_value = "label")]
    label_column: String,
    /// Directory for the head; `plimsoll serve --head` reads it.
    #[arg(
        long = "output",
        short,
        alias = "out",
        env = "PLIMSOLL_OUT",
        default_value = "head"
    )]
    out: PathBuf,
    /// Directory of a model; without it, the one inside the binary.
    #[arg(long, env)]
    model_id: Option<String>,
    /// The prompt, by name, that will stand in front of texts; `none` for no prompt. By default the model's own.
    #[arg(long, env)]
    default_prompt_name: Option<String>,
    /// Share of the texts that only tell how good the head is.
    #[arg(long, env = "PLIMSOLL_HELD_OUT", default_value_t = 0.2, value_parser = share)]
    held_out: f64,
    /// The same seed gives the same head.
    #[arg(long, env = "PLIMSOLL_SEED", default_value_t = 0)]
    seed: u64,
    /// Threads that read the texts; by default as many as there are cores.
    #[arg(long, env)]
    workers: Option<usize>,
    /// The file and what is made of its texts take at most half of this: bytes (also 512MiB, 2GB), a share of the machine (80%), or `auto`.
    #[arg(long, env, default_value = "auto")]
    memory_limit: MemoryLimit,
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    if (0.05..=0.9).contains(&share) {
        Ok(share)
    } else {
        Err("expected a number from 0.05 to 0.9".into())
    }
}

/// Why there is no head. One line each.
#[derive(Debug, thiserror::Error)]
pub enum TuneError {
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The file's content.
    #[error("{}: {source}", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: TableError,
    },
    /// A file.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Texts that cannot be read by the model.
    #[error(transparent)]
    Features(#[from] FeatureError),
    /// More than fits.
    #[error("{what} takes {bytes} bytes; half of --memory-limit is {bytes_max}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// How much.
        bytes: u64,
        /// How much there may be.
        bytes_max: u64,
    },
    /// `auto` or a share, where the system does not tell what it has.
    #[error("--memory-limit: this system does not tell how much memory it has; give it in bytes")]
    NoMemoryFigure,
    /// A prompt that the model does not have.
    #[error("--default-prompt-name {name}: the model has no such prompt")]
    NoPrompt {
        /// What was asked for.
        name: String,
    },
}

/// Trains a head, prints its report, writes its files.
///
/// # Errors
/// [`TuneError`]; nothing is written then.
pub fn run(args: &TuneArgs) -> Result<(), TuneError> {
    let begun = Instant::now();
    let bytes_max = args.memory_limit.bytes().ok_or(TuneError::NoMemoryFigure)? as u64 / 2;
    let io_error = |path: &PathBuf| {
        let path = path.clone();
        |source| TuneError::Io { path, source }
    };
    let file = File::open(&args.data).map_err(io_error(&args.data))?;
    let fits = |what, bytes| {
        if bytes <= bytes_max {
            Ok(())
        } else {
            Err(TuneError::TooLarge {
                what,
                bytes,
                bytes_max,
            })
        }
    };
    let file_bytes = file.metadata().map_err(io_error(&args.data))?.len();
    fits("the file", file_bytes)?;
    let table = Table::read(file, args.task, &args.text_column, &args.label_column).map_err(|source| {
        TuneError::Table {
            path: args.data.clone(),
            source,
        }
    })?;
    let loaded = model::load(args.model_id.as_deref(), None, None)?;
    let prompt = prompt(args, &loaded)?;
    let hidden = loaded.model.info().hidden;
    // Once as the encoder gives them, once scaled.
    let feature_bytes = 2 * feature_bytes(table.texts.len(), hidden) as u64;
    fits(
        "the file with the features of its texts",
        file_bytes + feature_bytes,
    )?;
    println!(
        "{} texts in {} classes ({} repeated rows, {} texts with contradicting labels left out)",
        table.texts.len(),
        table.labels.len(),
        table.repeated,
        table.contradicted
    );
    let threads = args
        .workers
        .unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
    let bar = progress(table.texts.len() as u64);
    let found = features(
        &loaded.model,
        &loaded.tokenizer,
        &prompt,
        &table.texts,
        threads,
        || bar.inc(1),
    )?;
    bar.finish_and_clear();
    let read = begun.elapsed();
    let tuned = tune(&found, &table, args.held_out, args.seed);
    print!("{}", tuned.report);
    let head = Head {
        tuned: &tuned,
        table: &table,
        task: args.task,
        model_id: &loaded.id,
        fingerprint: loaded.model.fingerprint(),
        hidden,
        prompt: &prompt,
    };
    write(&args.out, &head).map_err(io_error(&args.out))?;
    let (read, all) = (read.as_secs_f64(), begun.elapsed().as_secs_f64());
    println!(
        "texts read in {read:.1} s, head trained in {:.1} s; serve it: plimsoll serve --head {}",
        all - read,
        args.out.display()
    );
    Ok(())
}

fn prompt(args: &TuneArgs, loaded: &model::Loaded) -> Result<String, TuneError> {
    let name = match args.default_prompt_name.as_deref() {
        Some("none") => return Ok(String::new()),
        Some(name) => name,
        None => match &loaded.default_prompt {
            Some(name) => name,
            None => return Ok(String::new()),
        },
    };
    let found = loaded.prompts.iter().find(|prompt| prompt.name == name);
    found
        .map(|prompt| prompt.text.clone())
        .ok_or_else(|| TuneError::NoPrompt {
            name: name.to_owned(),
        })
}

fn progress(texts: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} texts {per_sec} eta {eta}");
    ProgressBar::new(texts).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
