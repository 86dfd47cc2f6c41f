//! Threads for the engine's workers.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use plimsoll_engine::{Engine, StartError, Turn, Worker};
use plimsoll_memory::alloc;
use rustix::process::{getpriority_process, setpriority_process};

use crate::metrics::Metrics;

/// Stack of a worker: its buffers live in arenas.
pub const STACK_BYTES: usize = 256 * 1024;
/// How long an idle worker sleeps before it looks whether it should stop.
const NAP: Duration = Duration::from_millis(100);
/// How much nicer a worker is than the threads that move bytes: a refusal must not wait for a forward pass.
const NICER_BY: i32 = 2;
/// After so many naps in a row its arenas go back to the system.
const NAPS_BEFORE_REST: u32 = 30;

/// Why workers cannot start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The engine has no arena for it.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The system has no thread for it.
    #[error("a worker thread cannot be started: {0}")]
    Thread(#[from] io::Error),
}

/// Running workers; dropping this stops and joins them.
pub struct Workers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts `count` workers. Each seals its thread: from then on its allocations are counted as violations.
    ///
    /// # Errors
    /// When the system refuses an arena or a thread.
    pub fn start(
        engine: &Arc<Engine>,
        count: usize,
        metrics: impl Fn(Turn) + Clone + Send + 'static,
    ) -> Result<Workers, WorkerError> {
        let mut workers = Workers {
            stop: Arc::default(),
            threads: Vec::new(),
        };
        for index in 0..count {
            let (engine, stop, metrics) = (Arc::clone(engine), Arc::clone(&workers.stop), metrics.clone());
            let worker = engine.worker()?;
            let builder = Builder::new()
                .name(format!("worker-{index}"))
                .stack_size(STACK_BYTES);
            workers
                .threads
                .push(builder.spawn(move || run(&engine, worker, &stop, metrics))?);
        }
        Ok(workers)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A worker that panicked has said so on stderr.
            let _ = thread.join();
        }
    }
}

fn run(engine: &Engine, mut worker: Worker, stop: &AtomicBool, metrics: impl Fn(Turn)) {
    be_nice();
    alloc::seal();
    worker.warm();
    let mut naps = 0;
    while !stop.load(Ordering::Relaxed) {
        let turn = worker.turn();
        metrics(turn);
        if turn != Turn::Idle {
            naps = 0;
            continue;
        }
        naps += 1;
        if naps == NAPS_BEFORE_REST {
            worker.rest();
        }
        engine.wait_for_work(NAP);
    }
    alloc::unseal();
}

/// Lets the threads that move bytes go first. On Linux niceness is a thread's own.
fn be_nice() {
    // A system that refuses runs all threads alike.
    let _ = getpriority_process(None).and_then(|now| setpriority_process(None, now + NICER_BY));
}

/// Records passes.
pub fn recorder(app: &Arc<crate::app::App>) -> impl Fn(Turn) + Clone + Send + 'static {
    let app = Arc::clone(app);
    move |turn| record(&app.metrics, turn)
}

fn record(metrics: &Metrics, turn: Turn) {
    if let Turn::Pass { sequences, tokens } = turn {
        metrics.passed(sequences, tokens);
    }
}
