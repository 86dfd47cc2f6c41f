//! From flags to an engine: what `serve`, `analyze` and `plan` share.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::available_parallelism;

use plimsoll_engine::{BillLine, CacheSettings, Engine, EngineConfig, Nanos, Probe, PromptId, StartError};
use plimsoll_memory::{alloc, limits, process, profile};

use super::ModelArgs;
use super::serve::NetArgs;
use crate::app::{App, Monotonic, Settings};
use crate::metrics::Metrics;
use crate::model::{self, Loaded, ModelError};
use crate::page::Live;
use crate::wire::Abilities;
use crate::workers;

/// Texts in a request where the route itself has no smaller limit; OpenAI's.
const INPUTS_MAX: usize = 2048;
/// Tokens in one pass where nobody says: so many, as more are no faster and a short text may have to wait for a pass; or one longest text of a model that
/// reads longer ones, up to so many.
const BATCH_TOKENS: (usize, usize) = (512, 2048);
/// Stack of a runtime thread.
pub(super) const RUNTIME_STACK_BYTES: usize = 256 * 1024;
/// Runtime threads: they move bytes and write JSON, the model runs elsewhere.
pub(super) const RUNTIME_THREADS: usize = 2;
/// What the allocator keeps beyond what is live, and what start-up and pages like `/metrics` take for a moment.
const ALLOCATOR_BYTES: usize = 4 << 20;

/// Why the process does not start. One line each.
#[derive(Debug, thiserror::Error)]
pub enum StartUpError {
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] StartError),
    /// `auto` or a share, where the system does not tell what it has.
    #[error("--memory-limit: this system does not tell how much memory it has; give it in bytes")]
    NoMemoryFigure,
    /// A strict kernel that has promised most of its memory already.
    #[error(
        "vm.overcommit_memory is 2 and {left_bytes} bytes may still be committed on this host: requests and workers need {needed_bytes}"
    )]
    Overcommit {
        /// What the kernel may still promise.
        left_bytes: usize,
        /// What is committed while serving.
        needed_bytes: usize,
    },
    /// A default prompt that the model does not have.
    #[error("--default-prompt-name {name}: the model has no such prompt")]
    NoPrompt {
        /// What was asked for.
        name: String,
    },
}

/// What was started.
pub struct StartUp {
    /// The engine, with what it serves.
    pub app: Arc<App>,
    /// Worker threads to start.
    pub workers: usize,
}

impl StartUp {
    /// Loads the model and draws up the plan. `connections` says what the transport may hold, where there is one.
    ///
    /// # Errors
    /// [`StartUpError`].
    pub fn new(
        args: &ModelArgs,
        settings: Settings,
        connections: Option<&NetArgs>,
    ) -> Result<StartUp, StartUpError> {
        StartUp::with_probe(args, settings, connections, None)
    }

    /// As [`StartUp::new`], with a probe that may inject faults into the engine's stages.
    ///
    /// # Errors
    /// [`StartUpError`].
    pub fn with_probe(
        args: &ModelArgs,
        settings: Settings,
        connections: Option<&NetArgs>,
        probe: Option<Probe>,
    ) -> Result<StartUp, StartUpError> {
        let limit_bytes = args.memory_limit.bytes().ok_or(StartUpError::NoMemoryFigure)?;
        let workers = args
            .workers
            .unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
        alloc::keep_little();
        // Kernels that cannot do so give huge pages as the host is set.
        let _ = process::take_huge_pages_only_where_asked();
        let diagnosed = connections.is_some_and(|net| net.debug_listen.is_some());
        if diagnosed {
            profile::enable();
        }
        let mut loaded = model::load(
            args.model_id.as_deref(),
            args.dtype.format(),
            args.pooling.as_deref(),
        )?;
        if let Some(path) = &args.head {
            loaded = loaded.with_head(path)?;
        }
        let mut config = EngineConfig::new(limit_bytes, Arc::new(Monotonic::default()));
        config.workers = workers;
        let longest = loaded
            .model
            .info()
            .tokens_max
            .clamp(BATCH_TOKENS.0, BATCH_TOKENS.1);
        config.batch_tokens_max = args.max_batch_tokens.unwrap_or(longest);
        config.batch_tokens_least = args.max_batch_tokens.unwrap_or(BATCH_TOKENS.0);
        config.body_bytes_max = args.payload_limit;
        config.inputs_least = args.max_client_batch_size + 1;
        config.inputs_max = INPUTS_MAX.max(config.inputs_least);
        config.line_max = settings.line_max();
        config.requests_max = args.max_concurrent_requests;
        config.waiting_max = args.max_concurrent_requests;
        config.probe = probe;
        config.marks = settings.marks;
        config.drop_order = settings.drop_order;
        config.pace = settings.pace;
        config.layers = settings.layers;
        config.trace = diagnosed;
        config.prompts.clone_from(&loaded.prompts);
        config.cache = cache_settings(args, &loaded);
        config.fixed = fixed_lines(limit_bytes, workers, connections);
        let default_prompt = default_prompt(args, &loaded)?;
        let Loaded {
            model,
            tokenizer,
            prompts,
            id,
            ..
        } = loaded;
        let engine = Engine::new(config, model, tokenizer)
            .map_err(|error| least(error, &|limit| fixed_bytes(limit, workers, connections)))?;
        check_commit(&engine)?;
        let name = args.served_model_name.clone().unwrap_or_else(|| id.clone());
        let info = engine.model().info();
        let abilities = Abilities {
            tasks: engine.can(),
            classes: info.sequence_head.as_ref().map_or(0, |head| head.labels.len()),
            embeds_first: info.sequence_head.as_ref().is_none_or(|head| head.beside),
            entities: info
                .token_head
                .as_ref()
                .map(|labels| labels.entities())
                .unwrap_or_default(),
            dimensions: info.hidden,
            names: vec![name.as_str().into(), id.as_str().into()],
            prompts: prompts.into_iter().map(|prompt| prompt.name).collect(),
            default_prompt,
            auto_truncate: args.auto_truncate,
            batch_max: args.max_client_batch_size,
            inputs_max: engine.limits().inputs_max,
        };
        let app = App {
            abilities,
            model_name: name.into(),
            model_id: id,
            metrics: Metrics::default(),
            live: Live::default(),
            observer: connections.map_or_else(Arc::default, |net| net.telemetry.observer()),
            settings,
            draining: AtomicBool::new(false),
            warming: AtomicBool::new(false),
            engine,
        };
        Ok(StartUp {
            app: Arc::new(app),
            workers,
        })
    }
}

fn cache_settings(args: &ModelArgs, loaded: &Loaded) -> CacheSettings {
    // The standard library keys its hash maps with secrets from the system; two of its hashes of nothing are one for us.
    let secret = [(); 2].map(|()| RandomState::new().hash_one(()));
    CacheSettings {
        policy: args.cache_policy,
        ttl: Nanos::from_ms(args.cache_ttl_s.saturating_mul(1000)),
        secret,
        model: loaded.revision.clone(),
        ..CacheSettings::new(args.cache_bytes)
    }
}

/// Names the least limit that works although some lines of the bill grow with the limit: `fixed_bytes` says how large they are under one.
fn least(error: StartError, fixed_bytes: &dyn Fn(usize) -> usize) -> StartError {
    match error {
        StartError::LimitTooSmall {
            limit_bytes,
            needed_bytes,
            weight_bytes,
            request_bytes,
            ..
        } => {
            let engine_bytes = needed_bytes - fixed_bytes(limit_bytes);
            let mut least = needed_bytes;
            while engine_bytes + fixed_bytes(least) > least {
                least = engine_bytes + fixed_bytes(least);
            }
            StartError::LimitTooSmall {
                limit_bytes,
                needed_bytes: least,
                weight_bytes,
                request_bytes,
                shortfall_bytes: least - limit_bytes,
            }
        }
        other => other,
    }
}

fn fixed_bytes(limit_bytes: usize, workers: usize, connections: Option<&NetArgs>) -> usize {
    let lines = fixed_lines(limit_bytes, workers, connections);
    lines.iter().map(BillLine::total_bytes).sum()
}

/// Under strict overcommit pages are promised when they are committed. Where they could not be, a request would fail after it was let in: better not to start.
fn check_commit(engine: &Engine) -> Result<(), StartUpError> {
    let Some(left) = limits::commit_left_bytes() else {
        return Ok(());
    };
    let arenas = ["hidden states", "text scratch"];
    let lines = engine.plan().lines.iter();
    let arenas_bytes: usize = lines
        .filter(|line| arenas.contains(&line.owner))
        .map(BillLine::total_bytes)
        .sum();
    let needed_bytes = engine.plan().request_slots_bytes + arenas_bytes;
    let left_bytes = usize::try_from(left).unwrap_or(usize::MAX);
    if left_bytes < needed_bytes {
        return Err(StartUpError::Overcommit {
            left_bytes,
            needed_bytes,
        });
    }
    Ok(())
}

fn default_prompt(args: &ModelArgs, loaded: &Loaded) -> Result<Option<PromptId>, StartUpError> {
    let name = match args.default_prompt_name.as_deref() {
        Some("none") => None,
        Some(name) => Some(name),
        None => loaded.default_prompt.as_deref(),
    };
    let Some(name) = name else { return Ok(None) };
    let index = loaded.prompts.iter().position(|prompt| prompt.name == name);
    index
        .map(|index| Some(PromptId(index)))
        .ok_or_else(|| StartUpError::NoPrompt {
            name: name.to_owned(),
        })
}

/// What the process holds outside the engine. The weights inside the binary are billed as weights when they serve, and when others
/// do, their pages are never touched.
fn fixed_lines(limit_bytes: usize, workers: usize, connections: Option<&NetArgs>) -> Vec<BillLine> {
    let line = |owner, count, each_bytes| BillLine {
        owner,
        count,
        each_bytes,
    };
    let file_bytes = || {
        std::env::current_exe()
            .and_then(std::fs::metadata)
            .map_or(0, |file| file.len() as usize)
    };
    let executable = process::executable_bytes().unwrap_or_else(file_bytes);
    // Its line comes with those of the listener.
    let sampling_bytes = profile::get().map_or(0, |_| profile::BYTES);
    let heap_bytes = alloc::total_counts().live_bytes() as usize;
    let mut lines = vec![
        line(
            "binary",
            1,
            executable.saturating_sub(model::EMBEDDED_WEIGHT_BYTES),
        ),
        line("heap after loading", 1, heap_bytes.saturating_sub(sampling_bytes)),
        line("allocator remainder", 1, ALLOCATOR_BYTES),
        line("worker stacks", workers, workers::STACK_BYTES),
        line("runtime stacks", RUNTIME_THREADS + 1, RUNTIME_STACK_BYTES),
        line("page tables", 1, limit_bytes / 512),
        line("slack", 1, limit_bytes / 50),
    ];
    lines.extend(connections.into_iter().flat_map(|net| net.lines(limit_bytes)));
    lines
}
