//! The naive twin: this server as a careful team would first write it. It exists for `drill 3am` and `drill ablation`, and serves nobody else.
//!
//! A promise is worth what the same night does to a service without it, so the twin answers two of our routes with the same model, the same
//! kernels, the same tokenizer and the same segmenter, and with none of the layers:
//!
//! | here | in the twin |
//! |---|---|
//! | L1 pools | a `Vec` or `String` for every buffer of every request |
//! | L2 bounded cache of vectors | a map of maps behind a mutex, by session and text, that forgets nothing |
//! | L3 one arena a worker | activations allocated for each batch, by its length |
//! | L4, G3 reservation and admission | the framework's limit of 2 MB a body, and a queue without bound |
//! | G2 watermarks, G6 reclaimer | nothing |
//!
//! Nothing in it is made worse than habit has it: texts are cut to what the model reads, batches are packed and bounded, weights are mapped, vectors
//! are shared and not copied out of the cache, the log goes through a buffer.
mod http;
mod worker;

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};

use plimsoll_encoder::Model;
use plimsoll_text::Tokenizer;
use plimsoll_text::segment::Segmenter;
use tokio::sync::mpsc::{self, UnboundedSender};

use crate::model::{self, ModelError};
use worker::Job;

/// Why the twin does not start.
#[derive(Debug, thiserror::Error)]
pub enum TwinError {
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A thread, the port, the log.
    #[error("the twin cannot start: {0}")]
    Io(#[from] std::io::Error),
}

/// How it is started.
#[derive(Clone, Debug)]
pub struct Setup<'a> {
    /// Directory of a model; without it, the one inside the binary.
    pub model_id: Option<&'a str>,
    /// Where it listens.
    pub address: SocketAddr,
    /// Threads that run the model.
    pub workers: usize,
    /// Where a line for each request goes.
    pub log: Option<&'a Path>,
    /// Whether vectors are remembered.
    pub caches: bool,
}

type Vectors = HashMap<String, HashMap<String, Arc<[f32]>>>;

/// What all its requests share.
struct Twin {
    model: Model,
    tokenizer: Tokenizer,
    segmenter: Segmenter,
    prompt: String,
    vectors: Option<Mutex<Vectors>>,
    queue: UnboundedSender<Job>,
    queued: AtomicUsize,
    hits: AtomicU64,
    misses: AtomicU64,
    log: Option<Mutex<BufWriter<File>>>,
}

impl Twin {
    /// The vector of a text that this session has asked for before.
    fn remembered(&self, session: &str, text: &str) -> Option<Arc<[f32]>> {
        let vectors = self.vectors.as_ref()?.lock().expect("nobody panics with it");
        vectors.get(session)?.get(text).cloned()
    }

    fn remember(&self, session: &str, text: String, vector: Arc<[f32]>) {
        let Some(vectors) = &self.vectors else { return };
        let mut vectors = vectors.lock().expect("nobody panics with it");
        vectors
            .entry(session.to_owned())
            .or_default()
            .insert(text, vector);
    }

    fn log(&self, line: &str) {
        if let Some(log) = &self.log {
            let mut log = log.lock().expect("nobody panics with it");
            // A full disk must not end an answer.
            let _ = writeln!(log, "{line}");
        }
    }
}

/// Serves until it is killed.
///
/// # Errors
/// [`TwinError`].
pub fn run(setup: &Setup<'_>) -> Result<(), TwinError> {
    let loaded = model::load(setup.model_id, None, None)?;
    let named = loaded.default_prompt.as_deref();
    let prompt = loaded
        .prompts
        .iter()
        .find(|prompt| Some(prompt.name.as_str()) == named);
    let (queue, jobs) = mpsc::unbounded_channel();
    let twin = Arc::new(Twin {
        prompt: prompt.map_or_else(String::new, |prompt| prompt.text.clone()),
        model: loaded.model,
        tokenizer: loaded.tokenizer,
        segmenter: Segmenter::embedded(),
        vectors: setup.caches.then(Mutex::default),
        queue,
        queued: AtomicUsize::new(0),
        hits: AtomicU64::new(0),
        misses: AtomicU64::new(0),
        log: setup
            .log
            .map(|path| File::create(path).map(|file| Mutex::new(BufWriter::new(file))))
            .transpose()?,
    });
    let jobs = Arc::new(Mutex::new(jobs));
    for index in 0..setup.workers {
        let (twin, jobs) = (Arc::clone(&twin), Arc::clone(&jobs));
        std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || worker::run(&twin, &jobs))?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(setup.address).await?;
        eprintln!("serving the naive twin on http://{}", listener.local_addr()?);
        Ok(axum::serve(listener, http::router(twin)).await?)
    })
}
