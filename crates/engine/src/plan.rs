//! The plan of the budget: where each of the N bytes goes.
//!
//! N = what the process holds outside the engine + weights + one scratch arena a worker + the tables + the slots of requests. The first
//! terms are fixed at start; what is left is the ledger's limit. A budget that cannot hold the weights and one longest request
//! is refused at start.

use plimsoll_encoder::{BatchShape, Crew, Model};
use plimsoll_memory::{CacheConfig, VectorCache};

use crate::berth::Cell;
use crate::clock::Nanos;
use crate::config::{CacheSettings, EngineConfig, Limits};
use crate::error::StartError;
use crate::gate::Gate;
use crate::govern::{Door, Lengths};
use crate::line::Line;
use crate::need::{Known, Need, Rates, need};
use crate::pass;
use crate::pools;
use crate::request::Tasks;
use crate::trace::Trace;

/// The longest body when nobody says otherwise and the budget allows it.
const BODY_BYTES_DEFAULT: usize = 2_000_000;
/// A default payload limit is halved down to this before the budget is called too small.
const BODY_BYTES_LEAST: usize = 16 * 1024;
/// One chunk of answer.
const CHUNK_BYTES: usize = 16 * 1024;
/// Of what the longest request leaves, one part in so many may hold cached vectors where nobody says otherwise.
const CACHE_SHARE: usize = 4;
/// Nor more than this where nobody says: its tables are filled at start, and take a twelfth of it.
const CACHE_DEFAULT_BYTES_MAX: usize = 256 << 20;
/// The cache of vectors grows only into what this part of the budget leaves free.
const CACHE_FLOOR_PERCENT: usize = 40;
/// How long a request may wait at the door for bytes.
const ADMISSION_WAIT_MS: u64 = 2;

/// One line of the bill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BillLine {
    /// Who owns the bytes.
    pub owner: &'static str,
    /// How many of them.
    pub count: usize,
    /// Bytes of each.
    pub each_bytes: usize,
}

impl BillLine {
    /// `count` times `each_bytes`.
    pub fn total_bytes(&self) -> usize {
        self.count * self.each_bytes
    }
}

/// The bill: its lines sum to the limit exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// N.
    pub limit_bytes: usize,
    /// Owner by owner; the last line is what requests share.
    pub lines: Vec<BillLine>,
    /// What requests share: the ledger's limit.
    pub request_slots_bytes: usize,
    /// What the longest request that is let in may need.
    pub longest_request_bytes: usize,
    /// Of it, what the cache of vectors may borrow while requests leave it free.
    pub cache_bytes_max: usize,
    /// The limits that follow.
    pub limits: Limits,
}

/// Everything that must be known of a model to price requests.
pub(crate) struct Priced {
    pub(crate) plan: Plan,
    pub(crate) rates: Rates,
    /// The longest slots of any request.
    pub(crate) longest: Need,
    /// Bytes of one worker's arena.
    pub(crate) arena_bytes: usize,
    /// Bytes that one worker reads texts with.
    pub(crate) text_scratch_bytes: usize,
    /// The cache of vectors, unless it has no room.
    pub(crate) cache: Option<CacheConfig>,
}

/// Draws up the plan.
pub(crate) fn draw(
    config: &EngineConfig,
    model: &Model,
    rates: Rates,
    can: Tasks,
    text_scratch: &dyn Fn(usize) -> usize,
) -> Result<Priced, StartError> {
    let mut limits = limits(config, model)?;
    let usual = can
        .with(Tasks::WORDS)
        .without(Tasks::TOKEN_EMBEDDINGS.with(Tasks::TOKENS));
    let draft = |limits: &Limits, limit_bytes: usize, rates: Rates| {
        let mut lines = fixed_lines(config, model, limits, text_scratch);
        let longest = longest_need(limits, &rates, can.with(Tasks::WORDS), limit_bytes);
        let tables = pools::bookkeeping_bytes(&longest, limits.chunk_bytes, limit_bytes, limits.requests_max);
        lines.push(line("pool tables", 1, tables));
        Draft {
            slots_bytes: limit_bytes.saturating_sub(total(&lines)),
            request_bytes: longest_bytes(limits, &rates, usual),
            lines,
            rates,
            cache: None,
        }
    };
    let limit_bytes = config.memory_limit_bytes;
    loop {
        let plain = draft(&limits, limit_bytes, rates);
        if Door::limit_for(plain.request_bytes) <= plain.slots_bytes {
            let rates = Rates { cache: true, ..rates };
            let cached = draft(&limits, limit_bytes, rates).with_cache(&config.cache);
            let mut draft = cached.unwrap_or(plain);
            draft.lines.push(line("request slots", 1, draft.slots_bytes));
            let plan = Plan {
                limit_bytes,
                lines: draft.lines,
                request_slots_bytes: draft.slots_bytes,
                longest_request_bytes: draft.request_bytes,
                cache_bytes_max: draft.cache.as_ref().map_or(0, VectorCache::reserve_bytes),
                limits,
            };
            let longest = longest_need(&limits, &draft.rates, can.with(Tasks::WORDS), draft.slots_bytes);
            let arena_bytes = arena_bytes(config, model, &limits);
            let text_scratch_bytes = text_scratch(limits.body_bytes_max);
            return Ok(Priced {
                plan,
                rates: draft.rates,
                longest,
                arena_bytes,
                text_scratch_bytes,
                cache: draft.cache,
            });
        }
        let priced = |limits: &Limits| longest_bytes(limits, &rates, usual);
        if !shrink(config, model, &mut limits, &priced) {
            let request_bytes = plain.request_bytes;
            let lines = |limit_bytes| draft(&limits, limit_bytes, rates).lines;
            let cost = |limit_bytes| total(&lines(limit_bytes)) + Door::limit_for(request_bytes);
            return Err(too_small(limit_bytes, weight_bytes(model), request_bytes, cost));
        }
    }
}

/// Halves what costs most: the largest pass, or the longest body or the most texts of a request, as far as the operator left them open; false when none can
/// give way. `request_bytes` says what the longest request costs under given limits.
fn shrink(
    config: &EngineConfig,
    model: &Model,
    limits: &mut Limits,
    request_bytes: &dyn Fn(&Limits) -> usize,
) -> bool {
    let pass = Limits {
        batch_tokens_max: limits.batch_tokens_max / 2,
        ..*limits
    };
    let body = Limits {
        body_bytes_max: limits.body_bytes_max / 2,
        ..*limits
    };
    let inputs = Limits {
        inputs_max: limits.inputs_max / 2,
        ..*limits
    };
    let pass_may = pass.batch_tokens_max >= config.batch_tokens_least.max(limits.tokens_max);
    let body_may = config.body_bytes_max.is_none() && body.body_bytes_max >= BODY_BYTES_LEAST;
    let inputs_may = inputs.inputs_max >= config.inputs_least;
    let passes_bytes = config.workers * arena_bytes(config, model, limits);
    let requests = [(body_may, body), (inputs_may, inputs)];
    let request = requests
        .into_iter()
        .filter(|(may, _)| *may)
        .map(|(_, limits)| limits)
        .min_by_key(request_bytes);
    let cheaper = match request {
        Some(_) if pass_may && passes_bytes > request_bytes(limits) => Some(pass),
        None if pass_may => Some(pass),
        request => request,
    };
    let may = cheaper.is_some();
    *limits = cheaper.unwrap_or(*limits);
    may
}

/// A bill in the making.
struct Draft {
    /// All but the slots of requests.
    lines: Vec<BillLine>,
    slots_bytes: usize,
    request_bytes: usize,
    rates: Rates,
    cache: Option<CacheConfig>,
}

impl Draft {
    /// With a cache of vectors, its tables paid from what one longest request leaves of the slots; `None` when that is too little. So a cache never makes
    /// the least limit larger.
    fn with_cache(mut self, settings: &CacheSettings) -> Option<Draft> {
        let spare_bytes = self
            .slots_bytes
            .checked_sub(Door::limit_for(self.request_bytes))?;
        let share_bytes = (spare_bytes / CACHE_SHARE).min(CACHE_DEFAULT_BYTES_MAX);
        let wanted = settings.bytes_max.unwrap_or(share_bytes);
        let mut bytes_max = wanted.min(self.slots_bytes);
        loop {
            let config = CacheConfig {
                vector_len: self.rates.hidden,
                bytes_max,
                pinned_bytes_max: bytes_max / 2,
                session_bytes_max: bytes_max / 100 * settings.session_percent,
                ttl_ns: settings.ttl.0,
                floor_bytes: self.slots_bytes / 100 * CACHE_FLOOR_PERCENT,
                policy: settings.policy,
            };
            let tables = VectorCache::table_bytes(&config);
            if VectorCache::reserve_bytes(&config) == 0 {
                return None;
            }
            if tables <= spare_bytes {
                self.lines.push(line("cache tables", 1, tables));
                self.slots_bytes -= tables;
                self.cache = Some(config);
                return Some(self);
            }
            bytes_max /= 2;
        }
    }
}

fn total(lines: &[BillLine]) -> usize {
    lines.iter().map(BillLine::total_bytes).sum()
}

fn limits(config: &EngineConfig, model: &Model) -> Result<Limits, StartError> {
    let reads = model.info().tokens_max;
    let tokens_max = config
        .tokens_max
        .unwrap_or(reads)
        .min(reads)
        .min(config.batch_tokens_max);
    check(config, tokens_max)?;
    Ok(Limits {
        body_bytes_max: config.body_bytes_max.unwrap_or(BODY_BYTES_DEFAULT),
        inputs_max: config.inputs_max,
        tokens_max,
        batch_tokens_max: config.batch_tokens_max,
        requests_max: config.requests_max,
        waiting_max: config.waiting_max,
        admission_wait: match config.layers.waiting {
            true => Nanos::from_ms(ADMISSION_WAIT_MS),
            false => Nanos(0),
        },
        chunk_bytes: CHUNK_BYTES,
    })
}

/// Everything but the slots of requests.
fn fixed_lines(
    config: &EngineConfig,
    model: &Model,
    limits: &Limits,
    text_scratch: &dyn Fn(usize) -> usize,
) -> Vec<BillLine> {
    let arena_bytes = arena_bytes(config, model, limits);
    let tables_bytes = pass::table_bytes(limits, model.info());
    let place_bytes = size_of::<std::sync::Mutex<Cell>>()
        + 2 * size_of::<u32>()
        + 2 * Line::PLACE_BYTES
        + size_of::<crate::returns::Candidate>();
    let mut lines = config.fixed.clone();
    lines.extend([
        line("weights", 1, weight_bytes(model)),
        line("hidden states", config.workers, arena_bytes),
        line(
            "text scratch",
            config.workers,
            text_scratch(limits.body_bytes_max),
        ),
        line("batch tables", config.workers, tables_bytes),
        line("request table", config.requests_max, place_bytes),
        line("line at the door", limits.waiting_max, Gate::WAITER_BYTES),
        line("length histogram", 1, Lengths::HEAP_BYTES),
    ]);
    if config.trace {
        lines.push(line("trace", 1, Trace::bytes(config.workers)));
    }
    lines
}

fn line(owner: &'static str, count: usize, each_bytes: usize) -> BillLine {
    BillLine {
        owner,
        count,
        each_bytes,
    }
}

fn weight_bytes(model: &Model) -> usize {
    let bytes = model.info().weight_bytes;
    bytes.mapped + bytes.converted
}

/// Names the least limit that works. What is needed grows a little with the limit itself (tables of slots), so the least is where the
/// two meet; climbing from below reaches it and cannot pass it.
fn too_small(
    limit_bytes: usize,
    weight_bytes: usize,
    request_bytes: usize,
    cost: impl Fn(usize) -> usize,
) -> StartError {
    let mut needed_bytes = limit_bytes;
    while cost(needed_bytes) > needed_bytes {
        needed_bytes = cost(needed_bytes);
    }
    StartError::LimitTooSmall {
        limit_bytes,
        needed_bytes,
        weight_bytes,
        request_bytes,
        shortfall_bytes: needed_bytes - limit_bytes,
    }
}

/// More threads than this gain little on one text.
const CREW_LANES_MAX: usize = 8;

/// Threads that take part in one pass.
fn crew_lanes(workers: usize) -> usize {
    workers.clamp(1, CREW_LANES_MAX)
}

/// A crew for each worker, without helpers as yet.
pub(crate) fn crews(workers: usize) -> Box<[Crew]> {
    let crew = || {
        let crew = Crew::new(crew_lanes(workers));
        crew.dismiss();
        crew
    };
    (0..workers).map(|_| crew()).collect()
}

/// Bytes of one worker's arena.
fn arena_bytes(config: &EngineConfig, model: &Model, limits: &Limits) -> usize {
    let lanes = crew_lanes(config.workers);
    model.forward_scratch_with(batch_shape(limits), lanes).bytes()
}

/// The largest pass.
pub(crate) fn batch_shape(limits: &Limits) -> BatchShape {
    BatchShape {
        tokens: limits.batch_tokens_max,
        sequences: pass::sequences_max(limits),
        tokens_longest: limits.tokens_max,
    }
}

fn check(config: &EngineConfig, tokens_max: usize) -> Result<(), StartError> {
    let settings = [
        ("workers", config.workers, 1, "at least one worker is needed"),
        (
            "max-batch-tokens",
            config.batch_tokens_max,
            8,
            "a pass must hold one short sequence",
        ),
        (
            "max-client-batch-size",
            config.inputs_max,
            1,
            "a request carries at least one text",
        ),
        (
            "max-concurrent-requests",
            config.requests_max,
            1,
            "at least one request must get in",
        ),
        (
            "tokens_max",
            tokens_max,
            8,
            "a sequence must hold its special tokens and a few more",
        ),
        (
            "payload-limit",
            config.body_bytes_max.unwrap_or(BODY_BYTES_LEAST),
            64,
            "a body must hold one short text",
        ),
    ];
    match settings.iter().find(|(_, value, least, _)| value < least) {
        Some(&(name, value, _, reason)) => Err(StartError::Setting { name, value, reason }),
        None => Ok(()),
    }
}

fn longest_bytes(limits: &Limits, rates: &Rates, tasks: Tasks) -> usize {
    pools::bytes(
        &need(
            limits,
            rates,
            tasks,
            Known::before_the_body(limits, tasks, limits.body_bytes_max, limits.inputs_max),
        ),
        limits.chunk_bytes,
    )
}

/// The longest slot of each kind that any request that fits may lease.
fn longest_need(limits: &Limits, rates: &Rates, tasks: Tasks, slots_bytes: usize) -> Need {
    let whole = need(
        limits,
        rates,
        tasks,
        Known::before_the_body(limits, tasks, limits.body_bytes_max, limits.inputs_max),
    );
    let cut_tasks = tasks.without(Tasks::ENTITIES.with(Tasks::TOKENS));
    let cut = need(
        limits,
        rates,
        cut_tasks,
        Known::before_the_body(limits, cut_tasks, limits.body_bytes_max, limits.inputs_max),
    );
    Need {
        tokens: whole.tokens.max(cut.tokens),
        features: whole
            .features
            .max(cut.features)
            .min(slots_bytes / size_of::<f32>()),
        ..whole
    }
}
