//! The command line. Every flag is also an environment variable, under the names of text-embeddings-inference where it has them.

pub mod analyze;
pub mod bench;
mod bytes;
pub mod diagnose;
pub mod drill;
mod dtype;
mod kubernetes;
mod lines;
mod night;
pub mod plan;
pub mod quantize;
pub mod serve;
mod start;
mod telemetry;
pub mod tune;
mod worth;

use clap::{Args, Parser, Subcommand};
use plimsoll_memory::CachePolicy;

pub use bytes::MemoryLimit;
pub use dtype::Dtype;
pub use start::{StartUp, StartUpError};
pub use telemetry::TelemetryError;

/// An NLP inference server that keeps below the memory line its operator draws.
#[derive(Debug, Parser)]
#[command(name = "plimsoll", version, about, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve over HTTP: /v1/analyze, the routes of text-embeddings-inference, and OpenAI's /v1/embeddings.
    Serve(serve::ServeArgs),
    /// Analyse a file: a text a line in, a JSON object a line out.
    Analyze(analyze::AnalyzeArgs),
    /// Print the memory bill: owner by owner, where each byte of the limit goes.
    Plan(plan::PlanArgs),
    /// Write a model whose weights are packed for bf16 or 8-bit products: it is smaller, faster, and starts at once.
    Quantize(quantize::QuantizeArgs),
    /// Train a classification head on labelled texts, for the model to serve beside its other answers.
    Tune(tune::TuneArgs),
    /// Look at a running server: what is wrong, who did it, and what says so, in words and as a page.
    Diagnose(diagnose::DiagnoseArgs),
    /// Test the promises on this machine.
    Drill(drill::DrillArgs),
    /// Measure how fast the model is on this CPU, and how far from what the CPU can do at most.
    Bench(bench::BenchArgs),
}

/// The model and its memory.
#[derive(Args, Clone, Debug)]
pub struct ModelArgs {
    /// Directory of a model (config.json, model.safetensors, tokenizer.json); without it, the one inside the binary.
    #[arg(long, env)]
    pub model_id: Option<String>,
    /// Directory of a head made by `plimsoll tune` on this model: it answers as sentiment and as classes, in the place of the model's own.
    #[arg(long, env = "PLIMSOLL_HEAD")]
    pub head: Option<std::path::PathBuf>,
    /// What the model's products are computed in. `auto`: bf16 from bf16 weights, int8 from 4-bit ones, what a quantized file was made for,
    /// and else f32.
    #[arg(long, env, value_enum, default_value_t)]
    pub dtype: Dtype,
    /// What requests and answers call the model.
    #[arg(long, env)]
    pub served_model_name: Option<String>,
    /// Overrides how token vectors become one: mean, cls, last-token or max.
    #[arg(long, env)]
    pub pooling: Option<String>,
    /// The prompt, by name, for requests that name none; `none` for no prompt.
    #[arg(long, env)]
    pub default_prompt_name: Option<String>,
    /// The whole process stays below this: bytes (also 512MiB, 2GB), a share of the machine (80%), or `auto`: the cgroup's limit, else the host's.
    #[arg(long, env, default_value = "auto")]
    pub memory_limit: MemoryLimit,
    /// Threads that run the model; by default as many as there are cores.
    #[arg(long, env)]
    pub workers: Option<usize>,
    /// Tokens in one pass through the model; by default 512, or one longest text of a model that reads longer ones. Larger passes use more memory, are no faster on a CPU, and short texts wait for them.
    #[arg(long, env)]
    pub max_batch_tokens: Option<usize>,
    /// Requests inside at the same time; more wait, then get 429.
    #[arg(long, env, default_value_t = 512)]
    pub max_concurrent_requests: usize,
    /// Texts in one request of text-embeddings-inference's routes (the others take 2048, or this if it is more).
    #[arg(long, env, default_value_t = 32, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    pub max_client_batch_size: usize,
    /// Bytes of the longest body; by default 2000000, or less where the memory limit is small.
    #[arg(long, env)]
    pub payload_limit: Option<usize>,
    /// Most bytes of cached vectors, 0 for none; by default a quarter of what the longest request leaves of the bytes that requests share, at most 256 MiB. The cache borrows
    /// them while they are free.
    #[arg(long, env, value_parser = bytes::parse_bytes)]
    pub cache_bytes: Option<usize>,
    /// Which cached vectors go first: lru, sieve or s3-fifo.
    #[arg(long, env, default_value = "s3-fifo")]
    pub cache_policy: CachePolicy,
    /// A cached vector not used for so many seconds is gone.
    #[arg(long, env, default_value_t = 3600)]
    pub cache_ttl_s: u64,
    /// Whether texts longer than the model reads are cut where a request does not say; otherwise they are refused.
    #[arg(long, env, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub auto_truncate: bool,
}
