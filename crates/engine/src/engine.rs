//! The engine: one model, one ledger, one table of requests. Shared by every task and worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use plimsoll_encoder::{Crew, Model};
use plimsoll_memory::{CacheConfig, Lease, Ledger, Owner, PoolStats, Reservation, ReserveError, VectorCache};
use plimsoll_text::segment::Segmenter;
use plimsoll_text::{EncodeOptions, TokenSlots, Tokenizer, Truncation};

use crate::berth::Berths;
use crate::cached::Keys;
use crate::clock::{Clock, Nanos};
use crate::config::{EngineConfig, Limits, Probe, Prompt, Stage};
use crate::error::StartError;
use crate::gate::{Gate, GateLimits, Held};
use crate::govern::Order;
use crate::governor::{Governor, Traffic};
use crate::inputs::{Input, InputTable};
use crate::need::Rates;
use crate::plan::{self, Plan};
use crate::pools::{self, Pools};
use crate::queue::Queue;
use crate::request::{Ask, JobOptions, PromptId, SessionId, Tasks};
use crate::ticket::{Admission, Job, Ticket};
use crate::trace::{Step, Trace};
use crate::work::{Features, Labels, Progress, Times, Tokens, Work};
use crate::worker::Worker;

/// Who the bytes of cached vectors are debited to.
const CACHE: Owner = Owner::new(2, "cached vectors");

/// What tokenizers of SentencePiece's family write for a space.
const SPACE_MARKER: &str = "▁";

/// The engine. It has no threads, does no I/O and does not ask what time it is.
pub struct Engine {
    model: Model,
    tokenizer: Tokenizer,
    segmenter: Segmenter,
    plan: Plan,
    rates: Rates,
    can: Tasks,
    arena_bytes: usize,
    text_scratch_bytes: usize,
    window_overlap_tokens: usize,
    specials: Specials,
    /// Whether the model has every type that the tokenizer gives; else all tokens are of the first.
    reads_types: bool,
    prompts: Vec<(Prompt, Vec<u32>)>,
    space_marker: Option<u32>,
    pools: Pools,
    keys: Keys,
    cache: Option<VectorCache>,
    gate: Arc<Gate>,
    queue: Queue,
    /// One a worker, which leads it; idle workers help.
    crews: Box<[Crew]>,
    workers_made: AtomicUsize,
    requests_numbered: AtomicU64,
    pub(crate) marked_at: AtomicU64,
    berths: Berths,
    clock: Arc<dyn Clock>,
    probe: Option<Probe>,
    drop_order: Order,
    trace: Option<Trace>,
    pub(crate) governor: Governor,
    pub(crate) traffic: Traffic,
}

/// The special tokens around a single text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Specials {
    pub(crate) lead: Vec<u32>,
    pub(crate) tail: Vec<u32>,
}

/// A crew that is open; dismissed when this is dropped.
pub(crate) struct Mustered<'a>(&'a Crew);

impl Mustered<'_> {
    pub(crate) fn crew(&self) -> &Crew {
        self.0
    }
}

impl Drop for Mustered<'_> {
    fn drop(&mut self) {
        self.0.dismiss();
    }
}

/// Counts of the slots of one kind.
#[derive(Clone, Copy, Debug)]
pub struct KindStats {
    /// The kind.
    pub kind: &'static str,
    /// Its counts.
    pub stats: PoolStats,
}

impl Engine {
    /// Builds an engine: draws up the plan, reserves the address space, commits nothing yet.
    ///
    /// # Errors
    /// When the budget cannot hold the weights and one longest request, when the tokenizer does not fit the model, when the
    /// system refuses the reservation.
    pub fn new(config: EngineConfig, model: Model, tokenizer: Tokenizer) -> Result<Arc<Engine>, StartError> {
        let info = model.info();
        if tokenizer.id_end() > info.vocab_size {
            return Err(StartError::VocabMismatch {
                tokenizer: tokenizer.id_end(),
                model: info.vocab_size,
            });
        }
        let segmenter = Segmenter::embedded();
        let can = tasks_of(&model);
        let [lead, tail] = tokenizer.specials_around();
        let specials = Specials { lead, tail };
        let with_tokens = |prompt: &Prompt| (prompt.clone(), bare_ids(&tokenizer, &prompt.text));
        let prompts: Vec<_> = config.prompts.iter().map(with_tokens).collect();
        let prompt_tokens = prompts.iter().map(|(_, tokens)| tokens.len()).max().unwrap_or(0);
        let rates = Rates {
            prompt_tokens,
            ..rates_of(&model)
        };
        let text_scratch = |bytes: usize| tokenizer.scratch_bytes(bytes).max(segmenter.scratch_bytes(bytes));
        let priced = plan::draw(&config, &model, rates, can, &text_scratch)?;
        let limits = priced.plan.limits;
        if specials.lead.len() + prompt_tokens + specials.tail.len() >= limits.tokens_max {
            return Err(StartError::Setting {
                name: "tokens of a prompt",
                value: prompt_tokens,
                reason: "a sequence must hold the prompt, the special tokens and one of the text",
            });
        }
        let memory = |error: &dyn std::fmt::Display| StartError::Memory(error.to_string());
        let pools = Pools::new(
            &priced.longest,
            limits.chunk_bytes,
            priced.plan.request_slots_bytes,
            limits.requests_max,
            config.layers.reuse,
        )
        .map_err(|e| memory(&e))?;
        let ledger = Ledger::new(priced.plan.request_slots_bytes);
        let cache = priced
            .cache
            .map(|cache| build_cache(cache, &pools, &ledger))
            .transpose()
            .map_err(|e| memory(&e))?;
        let keys = Keys::new(
            config.cache.secret,
            &config.cache.model,
            model.info().pooling.name(),
        );
        let gate = Gate::new(
            ledger,
            Arc::clone(&config.clock),
            GateLimits {
                requests_max: limits.requests_max,
                waiting_max: limits.waiting_max,
                wait: limits.admission_wait,
                line_max: config.line_max,
                marks: config.marks,
            },
        );
        if let Some(cache) = &cache {
            gate.register(Arc::new(cache.clone()));
        }
        let reads_types = usize::from(tokenizer.type_max()) < info.type_vocab_size;
        let space_marker = tokenizer.token_to_id(SPACE_MARKER);
        Ok(Arc::new(Engine {
            queue: Queue::new(limits.requests_max, limits.batch_tokens_max),
            crews: plan::crews(config.workers),
            workers_made: AtomicUsize::new(0),
            requests_numbered: AtomicU64::new(0),
            marked_at: AtomicU64::new(0),
            berths: Berths::new(limits.requests_max),
            window_overlap_tokens: config.window_overlap_tokens.min(limits.tokens_max / 4),
            arena_bytes: priced.arena_bytes,
            text_scratch_bytes: priced.text_scratch_bytes,
            rates: priced.rates,
            governor: Governor::new(config.pace, config.layers, &priced.plan),
            traffic: Traffic::default(),
            drop_order: config.drop_order,
            trace: config.trace.then(|| Trace::new(config.workers)),
            plan: priced.plan,
            clock: config.clock,
            probe: config.probe,
            model,
            tokenizer,
            segmenter,
            can,
            specials,
            reads_types,
            prompts,
            space_marker,
            pools,
            keys,
            cache,
            gate,
        }))
    }

    /// The bill.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The limits that requests meet.
    pub fn limits(&self) -> &Limits {
        &self.plan.limits
    }

    /// The tasks that this model can do.
    pub fn can(&self) -> Tasks {
        self.can
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Index of the prompt called `name`.
    pub fn prompt(&self, name: &str) -> Option<PromptId> {
        self.prompts
            .iter()
            .position(|(prompt, _)| prompt.name == name)
            .map(PromptId)
    }

    /// The time, by the clock that the engine was given.
    pub fn now(&self) -> Nanos {
        self.clock.now()
    }

    /// Asks to be let in, before the body is read.
    pub fn admit(self: &Arc<Self>, ask: Ask) -> Admission {
        Admission::new(Arc::clone(self), ask)
    }

    /// Hands an admitted request to the workers.
    pub fn submit(&self, ticket: Ticket, options: JobOptions, deadline: Nanos) -> Job {
        ticket.submit(options, deadline)
    }

    /// A worker; the caller gives it a thread.
    ///
    /// # Errors
    /// When the system refuses its arena.
    pub fn worker(self: &Arc<Self>) -> Result<Worker, StartError> {
        let index = self.workers_made.fetch_add(1, Ordering::Relaxed);
        Worker::new(Arc::clone(self), index)
    }

    /// Workers that were made, at least one.
    pub(crate) fn workers(&self) -> usize {
        self.workers_made.load(Ordering::Relaxed).max(1)
    }

    /// Opens a worker's crew for the time of a pass, and wakes who may help.
    pub(crate) fn muster(&self, index: usize) -> Mustered<'_> {
        // A worker beyond those that were planned works alone.
        static ALONE: Crew = Crew::alone();
        let crew = self.crews.get(index).unwrap_or(&ALONE);
        if crew.lanes() > 1 {
            crew.muster();
            self.queue.call_helper();
        }
        Mustered(crew)
    }

    /// A crew that wants helpers.
    pub(crate) fn crew_in_need(&self) -> Option<&Crew> {
        self.crews.iter().find(|crew| crew.is_mustered())
    }

    /// Sleeps until there may be work for a worker, at most `timeout`.
    pub fn wait_for_work(&self, timeout: Duration) {
        self.queue.wait(timeout);
    }

    /// Refuses new requests from now on; those inside go on.
    pub fn drain(&self) {
        self.gate.drain();
        self.queue.ring();
    }

    /// The exact ledger of requests.
    pub fn ledger(&self) -> &Ledger {
        self.gate.ledger()
    }

    /// Requests inside.
    pub fn requests_inside(&self) -> usize {
        self.gate.inside()
    }

    /// Requests that wait at the door.
    pub fn requests_waiting(&self) -> usize {
        self.gate.waiting()
    }

    /// Jobs that wait for a worker.
    pub fn queue_len(&self) -> usize {
        self.queue.len()
    }

    /// Counts by kind of slot.
    pub fn pool_stats(&self) -> [KindStats; 9] {
        let of = |kind, stats| KindStats { kind, stats };
        let p = &self.pools;
        [
            of(p.bodies.name(), p.bodies.stats()),
            of(p.inputs.name(), p.inputs.stats()),
            of(p.ids.name(), p.ids.stats()),
            of(p.tokens.name(), p.tokens.stats()),
            of(p.words.name(), p.words.stats()),
            of(p.labels.name(), p.labels.stats()),
            of(p.features.name(), p.features.stats()),
            of(p.pins.name(), p.pins.stats()),
            of(p.chunks.name(), p.chunks.stats()),
        ]
    }

    /// Gives every idle slot back to the system; returns the bytes freed.
    pub fn trim(&self) -> usize {
        self.pools.cap().trim_all()
    }

    /// The cache of vectors, if there is one.
    pub fn cache(&self) -> Option<&VectorCache> {
        self.cache.as_ref()
    }

    /// The session of that name: requests of one see vectors of no other.
    pub fn session(&self, name: &[u8]) -> SessionId {
        self.keys.session(name)
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(crate) fn pools(&self) -> &Pools {
        &self.pools
    }

    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    pub(crate) fn berths(&self) -> &Berths {
        &self.berths
    }

    pub(crate) fn segmenter(&self) -> &Segmenter {
        &self.segmenter
    }

    pub(crate) fn reads_types(&self) -> bool {
        self.reads_types
    }

    pub(crate) fn specials(&self) -> &Specials {
        &self.specials
    }

    pub(crate) fn rates(&self) -> &Rates {
        &self.rates
    }

    pub(crate) fn arena_bytes(&self) -> usize {
        self.arena_bytes
    }

    pub(crate) fn text_scratch_bytes(&self) -> usize {
        self.text_scratch_bytes
    }

    pub(crate) fn window_overlap_tokens(&self) -> usize {
        self.window_overlap_tokens
    }

    /// The piece that stands for the space between a prompt and a text, when the prompt ends with one.
    pub(crate) fn marker_behind(&self, id: PromptId) -> Option<u32> {
        self.space_marker
            .filter(|_| self.prompts[id.0].0.text.ends_with(' '))
    }

    pub(crate) fn prompt_tokens(&self, id: PromptId) -> &[u32] {
        &self.prompts[id.0].1
    }

    pub(crate) fn entity_label(&self, index: usize) -> &str {
        self.model
            .info()
            .token_head
            .as_ref()
            .map_or("", |labels| labels.entity(index))
    }

    pub(crate) fn chunk_slot_bytes(&self) -> usize {
        pools::slot::<u8>(self.limits().chunk_bytes)
    }

    /// The number of a request that was let in: they count from 1.
    pub(crate) fn number_request(&self) -> u64 {
        self.requests_numbered.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn trace(&self) -> Option<&Trace> {
        self.trace.as_ref()
    }

    pub(crate) fn probe(&self, stage: Stage) {
        if let Some(probe) = &self.probe {
            probe(stage);
        }
    }

    pub(crate) fn new_work(
        &self,
        body: Lease<u8>,
        inputs: InputTable,
        ids: Option<Lease<u32>>,
        held: Held,
        mut options: JobOptions,
        deadline: Nanos,
    ) -> Work {
        let pressure = self.gate.level().1;
        let dropped = self.drop_order.dropped(options.tasks, options.wanted, pressure);
        options.tasks = options.tasks.without(dropped);
        Work {
            body,
            inputs,
            ids,
            tokens: Tokens::default(),
            words: None,
            labels: Labels::default(),
            features: Features::default(),
            pins: None,
            uses_cache: false,
            options,
            times: Times {
                submitted: self.now(),
                deadline,
                ..Times::default()
            },
            progress: Progress::default(),
            text_taken: false,
            dropped,
            in_turn: None,
            held,
        }
    }

    /// Gives up a place and all that is left in it.
    pub(crate) fn vacate(&self, berth: u32) {
        let mut cell = self.berths.lock(berth);
        let inside = cell.inside();
        let left = cell.reset();
        drop(cell);
        drop(left);
        self.gate.leave(berth);
        if let Some(inside) = inside {
            self.tell(inside.number, |_| Step::Left {
                phase: inside.phase,
                flushed_bytes: inside.flushed_bytes,
                stay: inside.stay,
            });
        }
    }
}

fn build_cache(config: CacheConfig, pools: &Pools, ledger: &Ledger) -> Result<VectorCache, ReserveError> {
    let reservation = Reservation::new(VectorCache::reserve_bytes(&config))?;
    VectorCache::new(&reservation, pools.cap(), ledger, CACHE, config)
}

fn tasks_of(model: &Model) -> Tasks {
    let info = model.info();
    let mut can = Tasks::WORDS
        .with(Tasks::TOKENS)
        .with(Tasks::TOKEN_COUNT)
        .with(Tasks::TOKEN_EMBEDDINGS)
        .with(Tasks::EMBEDDING);
    if info.sequence_head.is_some() {
        can = can.with(Tasks::CLASSES);
    }
    if info.token_head.is_some() {
        can = can.with(Tasks::ENTITIES);
    }
    can
}

fn rates_of(model: &Model) -> Rates {
    let info = model.info();
    Rates {
        hidden: info.hidden,
        classes: info.sequence_head.as_ref().map_or(0, |head| head.labels.len()),
        prompt_tokens: 0,
        characters: info.character_labels.is_some(),
        cache: false,
    }
}

/// The tokens of a prompt.
fn bare_ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let capacity = 4 * text.len() + 16;
    let mut scratch = vec![0; tokenizer.scratch_bytes(text.len())];
    let (mut ids, mut starts, mut ends, mut types) = (
        vec![0; capacity],
        vec![0; capacity],
        vec![0; capacity],
        vec![0; capacity],
    );
    let mut out = TokenSlots {
        ids: &mut ids,
        starts: &mut starts,
        ends: &mut ends,
        types: &mut types,
    };
    let options = EncodeOptions {
        add_special_tokens: false,
        tokens_max: capacity,
        truncation: Truncation::Right,
        count_all: false,
    };
    let count = tokenizer
        .encode(text, &options, &mut scratch, &mut out)
        .map_or(0, |encoded| encoded.count);
    ids.truncate(count);
    ids
}

/// An input's token range less its special tokens.
pub(crate) fn content(
    specials: &Specials,
    input: &Input,
    add_special_tokens: bool,
) -> std::ops::Range<usize> {
    let range = input.tokens.range();
    if !add_special_tokens {
        return range;
    }
    range.start + specials.lead.len()..range.end - specials.tail.len()
}
