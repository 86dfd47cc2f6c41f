//! The server under attack: the same executable, in a group of its own.
//!
//! A page of a file is charged to the group that reads it first, and ours has read this executable already. So the server runs a copy whose
//! pages nobody holds: what it maps is charged to it, as it would be in a container. The same is asked for the model's files.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::RigError;
use super::cgroup::Group;
use super::leftovers::{own_name, sweep};

const PAGE_BYTES: u64 = 4096;
/// Lines of the server's own words that are kept for the report.
const WORDS_MAX: usize = 40;
/// How long a server may take from SIGTERM to its end.
const STOP_PATIENCE: Duration = Duration::from_secs(40);

/// How the executable is told to do what the rig needs of it.
#[derive(Clone, Debug)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Arguments that make it enter the group named next and become the program named after that.
    pub enter: Vec<String>,
    /// Arguments that make it write a log: bytes and file follow.
    pub log: Vec<String>,
    /// Flags of `serve` and `plan` that choose the model.
    pub flags: Vec<String>,
    /// Directory of the model, where it is not inside the executable.
    pub model_dir: Option<PathBuf>,
}

/// What `plan` says.
#[derive(Clone, Debug)]
pub struct Bill {
    /// N.
    pub limit_bytes: u64,
    /// The longest body.
    pub body_bytes_max: usize,
    /// Texts in a request.
    pub inputs_max: usize,
    /// Tokens in a sequence.
    pub tokens_max: usize,
    /// Connections at the same time.
    pub connections_max: usize,
}

impl Program {
    /// Arguments that make it serve on a free port below `limit_bytes`.
    pub fn serve(&self, limit_bytes: u64) -> Vec<String> {
        let words = [
            "serve",
            "--hostname",
            "127.0.0.1",
            "--port",
            "0",
            "--memory-limit",
        ];
        let mut arguments = words.map(str::to_owned).to_vec();
        arguments.push(limit_bytes.to_string());
        arguments.extend_from_slice(&self.flags);
        arguments
    }

    /// Arguments that make it the naive twin, on a free port.
    pub fn twin(&self) -> Vec<String> {
        let mut arguments = ["drill", "twin"].map(str::to_owned).to_vec();
        if let Some(dir) = &self.model_dir {
            arguments.extend(["--model-id".to_owned(), dir.display().to_string()]);
        }
        arguments
    }

    /// The bill at `limit_bytes`, or the limit that is needed instead.
    ///
    /// # Errors
    /// When `plan` fails for another reason.
    pub fn plan(&self, limit_bytes: u64) -> Result<Result<Bill, u64>, RigError> {
        let output = Command::new(&self.path)
            .args(["plan", "--json", "--memory-limit", &limit_bytes.to_string()])
            .args(&self.flags)
            .output()
            .map_err(|error| RigError::Program(error.to_string()))?;
        let words = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            let needed = words
                .split(" are needed")
                .next()
                .and_then(|text| text.rsplit(' ').next()?.parse().ok());
            return match needed {
                Some(needed) if words.contains("is too small") => Ok(Err(needed)),
                _ => Err(RigError::Program(words.trim().to_owned())),
            };
        }
        let plan: Value =
            serde_json::from_slice(&output.stdout).map_err(|error| RigError::Program(error.to_string()))?;
        let number = |value: &Value| {
            value
                .as_u64()
                .ok_or_else(|| RigError::Program("`plan --json` lacks a number".to_owned()))
        };
        let limits = &plan["limits"];
        let lines = plan["lines"].as_array().map_or(&[][..], Vec::as_slice);
        let connections = lines.iter().find(|line| line["owner"] == "connections");
        Ok(Ok(Bill {
            limit_bytes,
            body_bytes_max: number(&limits["body_bytes_max"])? as usize,
            inputs_max: number(&limits["inputs_max"])? as usize,
            tokens_max: number(&limits["tokens_max"])? as usize,
            connections_max: number(connections.map_or(&Value::Null, |line| &line["count"]))? as usize,
        }))
    }

    /// The least limit that the server starts with. The lines of the bill grow with the limit, so it is climbed to from below.
    ///
    /// # Errors
    /// As [`Program::plan`].
    pub fn least_limit(&self) -> Result<u64, RigError> {
        let mut limit_bytes = 1 << 20;
        while let Err(needed) = self.plan(limit_bytes)? {
            limit_bytes = needed.max(limit_bytes + PAGE_BYTES);
        }
        // The drilled copy has a longer path, and its heap is that much larger.
        Ok((limit_bytes + PAGE_BYTES).next_multiple_of(PAGE_BYTES))
    }
}

/// A file or directory of the drill, removed when dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new directory beside the executable's target, so that it is on a disk and not in memory.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(program: &Path) -> Result<Scratch, RigError> {
        let parent = program.parent().unwrap_or(Path::new("."));
        sweep(parent, |path| fs::remove_dir_all(path));
        let path = parent.join(own_name(""));
        fs::create_dir_all(&path).map_err(|error| RigError::Files(error.to_string()))?;
        Ok(Scratch(path))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running server.
pub struct Server {
    child: Child,
    words: Arc<Mutex<VecDeque<String>>>,
    reader: Option<JoinHandle<()>>,
    /// Where it listens.
    pub address: SocketAddr,
    /// From exec to listening.
    pub started_in: Duration,
}

impl Server {
    /// Starts it in `group` at the bill's limit.
    ///
    /// # Errors
    /// When it ends before it listens; its last words are in the error.
    pub fn start(
        program: &Program,
        scratch: &Scratch,
        group: &Group,
        bill: &Bill,
    ) -> Result<Server, RigError> {
        Server::start_as(program, scratch, Some(group), &program.serve(bill.limit_bytes))
    }

    /// Starts the executable with these `arguments`, which make it a server, in a group where there is one.
    ///
    /// # Errors
    /// When it ends before it listens; its last words are in the error.
    pub fn start_as(
        program: &Program,
        scratch: &Scratch,
        group: Option<&Group>,
        arguments: &[String],
    ) -> Result<Server, RigError> {
        let copy = fresh_copy(&program.path, scratch)?;
        program.model_dir.iter().try_for_each(|dir| forget_pages(dir))?;
        let began = Instant::now();
        let mut command = match group {
            None => Command::new(copy),
            Some(group) => {
                let mut command = Command::new(&program.path);
                command.args(&program.enter).arg(group.procs()).arg(copy);
                command
            }
        };
        let mut child = command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| RigError::Program(error.to_string()))?;
        let words = Arc::new(Mutex::new(VecDeque::new()));
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe was asked for"));
        loop {
            let mut line = String::new();
            if lines.read_line(&mut line).unwrap_or(0) == 0 {
                let _ = child.wait();
                return Err(RigError::Program(last_words(&words)));
            }
            keep(&words, &line);
            if let Some((_, address)) = line.trim_end().split_once(" on http://")
                && let Ok(address) = address.parse()
            {
                let kept = Arc::clone(&words);
                let reader = std::thread::spawn(move || {
                    lines
                        .lines()
                        .map_while(Result::ok)
                        .for_each(|line| keep(&kept, &line));
                });
                return Ok(Server {
                    child,
                    words,
                    reader: Some(reader),
                    address,
                    started_in: began.elapsed(),
                });
            }
        }
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it, gently first, and returns how it ended and what it said last.
    pub fn stop(mut self) -> (Option<ExitStatus>, String) {
        let ended = self.end();
        (ended, last_words(&self.words))
    }

    fn end(&mut self) -> Option<ExitStatus> {
        if self.is_alive() {
            let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
            let asked = pid.is_some_and(|pid| kill_process(pid, Signal::TERM).is_ok());
            let began = Instant::now();
            while asked && began.elapsed() < STOP_PATIENCE && self.is_alive() {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = self.child.kill();
        }
        let status = self.child.wait().ok();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        status
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn keep(words: &Mutex<VecDeque<String>>, line: &str) {
    let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
    if words.len() == WORDS_MAX {
        words.pop_front();
    }
    words.push_back(line.trim_end().chars().take(400).collect());
}

fn last_words(words: &Mutex<VecDeque<String>>) -> String {
    let words = words.lock().unwrap_or_else(PoisonError::into_inner);
    words.iter().cloned().collect::<Vec<_>>().join("\n")
}

/// A copy of the executable whose pages are on disk only.
fn fresh_copy(program: &Path, scratch: &Scratch) -> Result<PathBuf, RigError> {
    let copy = scratch.path().join("plimsoll");
    let failed = |error: std::io::Error| RigError::Files(format!("{}: {error}", copy.display()));
    // Written anew each time: a mapped file keeps its pages.
    if copy.exists() {
        fs::remove_file(&copy).map_err(failed)?;
    }
    fs::copy(program, &copy).map_err(failed)?;
    File::open(&copy).and_then(|file| forget(&file)).map_err(failed)?;
    Ok(copy)
}

fn forget_pages(dir: &Path) -> Result<(), RigError> {
    let failed = |error: std::io::Error| RigError::Files(format!("{}: {error}", dir.display()));
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_file() {
            File::open(&path).and_then(|file| forget(&file)).map_err(failed)?;
        }
    }
    Ok(())
}

/// Drops the pages of a file, so that who reads it next is charged for them.
pub(crate) fn forget(file: &File) -> std::io::Result<()> {
    file.sync_all()?;
    Ok(fadvise(file, 0, None, Advice::DontNeed)?)
}

/// CPU time that a process has used, in seconds, from `/proc`.
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / rustix::param::clock_ticks_per_second() as f64)
}
