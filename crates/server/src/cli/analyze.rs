//! `plimsoll analyze`: a text a line in, a JSON object a line out.
//!
//! A thread of its own reads lines into a short channel; several are with the engine at a time and are written in their order. Memory does
//! not grow with the file. A line that cannot be analysed gives an object with an `error` in its place, so that line *n* of the output is
//! always about line *n* of the input, which is also what `--resume` counts on.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::future::{Future, poll_fn};
use std::io::{self, BufReader, BufWriter, IsTerminal, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::sync::Arc;
use std::task::Poll;

use clap::Args;
use http_body::Body;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use plimsoll_engine::{Ask, Job, JobError, JobOptions, Nanos, Refusal, Span, Tasks, TooManyInputs};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::lines::{Line, Lines, Text, count};
use super::{ModelArgs, StartUp, StartUpError};
use crate::answer::{AnswerBody, Served};
use crate::app::{App, Settings};
use crate::wire::{Shape, analyze};
use crate::workers::{WorkerError, Workers};

/// Lines that are with the engine at the same time.
const IN_FLIGHT: usize = 32;
const EXIT_INTERRUPTED: u8 = 130;

/// Flags of `analyze`.
#[derive(Args, Clone, Debug)]
pub struct AnalyzeArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The file to read, `-` for standard input.
    file: PathBuf,
    /// Where to write, instead of standard output.
    #[arg(long, short, env = "PLIMSOLL_OUTPUT")]
    output: Option<PathBuf>,
    /// Go on where an earlier run into the same output stopped.
    #[arg(long, env = "PLIMSOLL_RESUME", requires = "output")]
    resume: bool,
    /// What to do with each line: words, entities, sentiment, embedding. By default all that the model can do.
    #[arg(long, env = "PLIMSOLL_TASKS", value_delimiter = ',')]
    tasks: Vec<String>,
}

/// Why `analyze` ended badly. One line each.
#[derive(Debug, thiserror::Error)]
pub enum AnalyzeError {
    /// It did not start.
    #[error(transparent)]
    StartUp(#[from] StartUpError),
    /// The workers.
    #[error(transparent)]
    Workers(#[from] WorkerError),
    /// A file.
    #[error("{name}: {source}")]
    File {
        /// Which.
        name: String,
        /// What happened.
        source: io::Error,
    },
    /// A task that there is not, or that the model cannot do.
    #[error("--tasks {name}: {reason}")]
    Task {
        /// Which.
        name: String,
        /// Why not.
        reason: &'static str,
    },
}

/// Analyses the file.
///
/// # Errors
/// [`AnalyzeError`]; faults of single lines are in the output.
pub fn run(args: &AnalyzeArgs) -> Result<ExitCode, AnalyzeError> {
    let StartUp { app, workers } = StartUp::new(&args.model, Settings::ungoverned(), None)?;
    let tasks = tasks(&args.tasks, &app)?;
    let failed = |name: &str| {
        let name = name.to_owned();
        move |source| AnalyzeError::File { name, source }
    };
    let input_name = args.file.display().to_string();
    let (input, input_bytes) = open_input(args).map_err(failed(&input_name))?;
    let output_name = args
        .output
        .as_ref()
        .map_or("standard output".to_owned(), |path| path.display().to_string());
    let (mut output, lines_done) = open_output(args).map_err(failed(&output_name))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed("runtime"))?;
    let threads = Workers::start(&app.engine, workers, |_| {})?;
    let bar = progress(input_bytes);
    let lines = spawn_reader(input, app.engine.limits().body_bytes_max, lines_done);
    let ended = runtime.block_on(pump(&app, tasks, lines, &mut output, &bar));
    let flushed = output.flush();
    bar.abandon();
    drop(threads);
    match ended {
        Err(Stopped::Input(source)) => Err(AnalyzeError::File {
            name: input_name,
            source,
        }),
        Err(Stopped::Interrupted) => {
            flushed.map_err(failed(&output_name))?;
            eprintln!("plimsoll: interrupted; --output FILE --resume goes on from here");
            Ok(ExitCode::from(EXIT_INTERRUPTED))
        }
        // Whoever read our output has seen enough.
        Err(Stopped::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(Stopped::Output(source)) => Err(AnalyzeError::File {
            name: output_name,
            source,
        }),
        Ok(()) => flushed.map(|()| ExitCode::SUCCESS).map_err(failed(&output_name)),
    }
}

fn tasks(names: &[String], app: &App) -> Result<Tasks, AnalyzeError> {
    if names.is_empty() {
        return Ok(analyze::tasks(&app.abilities));
    }
    names.iter().try_fold(Tasks::NONE, |all, name| {
        let failed = |reason| AnalyzeError::Task {
            name: name.clone(),
            reason,
        };
        let task =
            analyze::task(name).ok_or_else(|| failed("expected words, entities, sentiment or embedding"))?;
        let able = app.abilities.tasks.has(task);
        able.then(|| all.with(task))
            .ok_or_else(|| failed("the loaded model has no head for it"))
    })
}

fn open_input(args: &AnalyzeArgs) -> io::Result<(Box<dyn io::Read + Send>, Option<u64>)> {
    if args.file.as_os_str() == "-" {
        return Ok((Box::new(io::stdin()), None));
    }
    let file = File::open(&args.file)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let bytes = metadata.is_file().then_some(metadata.len());
    Ok((Box::new(file), bytes))
}

/// The output, and how many lines it holds already. What follows its last complete line was torn off and is cut.
fn open_output(args: &AnalyzeArgs) -> io::Result<(BufWriter<Box<dyn Write>>, u64)> {
    let Some(path) = &args.output else {
        return Ok((BufWriter::new(Box::new(io::stdout())), 0));
    };
    if !args.resume {
        return Ok((BufWriter::new(Box::new(File::create(path)?)), 0));
    }
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    let (lines, end) = count(BufReader::new(&file))?;
    file.set_len(end)?;
    file.seek(SeekFrom::End(0))?;
    Ok((BufWriter::new(Box::new(file)), lines))
}

fn progress(input_bytes: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    }
    let template = "{bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} eta {eta} {msg}";
    match (input_bytes, ProgressStyle::with_template(template)) {
        (Some(bytes), Ok(style)) => ProgressBar::new(bytes).with_style(style),
        _ => ProgressBar::new_spinner(),
    }
}

/// Reads on a thread of its own, which a blocking read may keep: nobody waits for it.
fn spawn_reader(
    input: Box<dyn io::Read + Send>,
    line_bytes_max: usize,
    lines_done: u64,
) -> mpsc::Receiver<io::Result<Line>> {
    let (send, receive) = mpsc::channel(IN_FLIGHT);
    std::thread::spawn(move || {
        let mut lines = Lines::new(BufReader::with_capacity(64 * 1024, input), line_bytes_max);
        while let Some(line) = lines.next().transpose() {
            let skip = line.as_ref().is_ok_and(|line| line.number <= lines_done);
            if !skip && send.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receive
}

/// Why the pump stopped early.
enum Stopped {
    Interrupted,
    Input(io::Error),
    Output(io::Error),
}

/// A line on its way.
struct Pending {
    end: u64,
    state: State,
}

enum State {
    Job(Job),
    Failed(String),
}

/// Keeps lines going through the engine, and writes what comes out in order.
async fn pump(
    app: &Arc<App>,
    tasks: Tasks,
    mut lines: mpsc::Receiver<io::Result<Line>>,
    output: &mut impl Write,
    bar: &ProgressBar,
) -> Result<(), Stopped> {
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    let mut pending: VecDeque<Pending> = VecDeque::new();
    let mut waiting: Option<Line> = None;
    let mut at_end = false;
    loop {
        if let Some(line) = waiting.take() {
            match begin(app, tasks, line).await {
                Ok(begun) => pending.push_back(begun),
                // Full: those before it give their bytes back when they are written.
                Err(line) => waiting = Some(line),
            }
        }
        if at_end && pending.is_empty() {
            return Ok(());
        }
        let may_read = !at_end && waiting.is_none() && pending.len() < IN_FLIGHT;
        tokio::select! {
            biased;
            _ = &mut interrupted => return Err(Stopped::Interrupted),
            outcome = front(&mut pending), if !pending.is_empty() => {
                write(app, tasks, outcome, output).await.map_err(Stopped::Output)?;
                bar.set_position(pending.pop_front().map_or(0, |written| written.end));
            }
            line = lines.recv(), if may_read => match line {
                Some(line) => waiting = Some(line.map_err(Stopped::Input)?),
                None => at_end = true,
            },
        }
    }
}

/// Hands a line to the engine; gives it back when there is no room for it now.
async fn begin(app: &Arc<App>, tasks: Tasks, line: Line) -> Result<Pending, Line> {
    let (number, end) = (line.number, line.end);
    let failed = |reason: String| {
        Ok(Pending {
            end,
            state: State::Failed(format!("line {number}: {reason}")),
        })
    };
    let limit = app.engine.limits().body_bytes_max;
    let bytes = match &line.text {
        Text::TooLong { bytes } => return failed(format!("{bytes} bytes; the limit is {limit}")),
        Text::Bytes(bytes) if bytes.is_empty() => return failed("empty".to_owned()),
        Text::Bytes(bytes) => bytes,
    };
    if let Err(error) = std::str::from_utf8(bytes) {
        return failed(format!("not valid UTF-8 (byte {})", error.valid_up_to()));
    }
    let mut admission = app.engine.admit(Ask {
        tasks: tasks.with(Tasks::TOKEN_COUNT),
        body_bytes: Some(bytes.len()),
        inputs_max: Some(1),
    });
    let wait = std::time::Duration::from_nanos(admission.wait().0);
    let admitted = match timeout(wait, &mut admission).await {
        Ok(admitted) => admitted,
        Err(_) => Err(admission.give_up()),
    };
    let mut ticket = match admitted {
        Ok(ticket) => ticket,
        Err(Refusal::Overloaded { .. }) if app.engine.requests_inside() > 0 => return Err(line),
        Err(refusal) => return failed(refusal.to_string()),
    };
    let len = bytes.len() as u32;
    if let Err(error) = ticket.push(bytes) {
        return failed(error.to_string());
    }
    let parsed: Result<(), TooManyInputs> =
        ticket.parse(|_, inputs| inputs.push_text(Span { start: 0, len }));
    if let Err(error) = parsed {
        return failed(error.to_string());
    }
    let options = JobOptions {
        wanted: tasks,
        prompt: app.abilities.default_prompt,
        ..JobOptions::new(tasks.with(Tasks::TOKEN_COUNT))
    };
    Ok(Pending {
        end,
        state: State::Job(app.engine.submit(ticket, options, Nanos(u64::MAX))),
    })
}

/// The outcome of the oldest line.
async fn front(pending: &mut VecDeque<Pending>) -> Result<plimsoll_engine::Answer, String> {
    poll_fn(|cx| match pending.front_mut().map(|oldest| &mut oldest.state) {
        Some(State::Job(job)) => Pin::new(job)
            .poll(cx)
            .map_err(|error: JobError| error.to_string()),
        Some(State::Failed(reason)) => Poll::Ready(Err(std::mem::take(reason))),
        None => Poll::Pending,
    })
    .await
}

async fn write(
    app: &Arc<App>,
    tasks: Tasks,
    outcome: Result<plimsoll_engine::Answer, String>,
    output: &mut impl Write,
) -> io::Result<()> {
    match outcome {
        Err(reason) => output.write_all(json!({ "error": reason }).to_string().as_bytes())?,
        Ok(answer) => {
            let served = Served::new(answer, Arc::clone(app));
            let mut body = AnswerBody::start(
                served,
                Shape::Analyze {
                    tasks,
                    dropped: Tasks::NONE,
                    single: true,
                },
            )
            .await;
            while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                output.write_all(frame.data_ref().map_or(&[], |bytes| bytes))?;
            }
        }
    }
    output.write_all(b"\n")
}
