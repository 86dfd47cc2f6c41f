//! The engine, its workers and its clients, one step at a time.

mod serve;

use std::sync::Arc;

use plimsoll_encoder::Model;
use plimsoll_engine::govern::{Level, Marks};
use plimsoll_engine::{
    Ask, Chunk, Clock, Engine, EngineConfig, ManualClock, Nanos, StartError, Tasks, Worker,
};
use plimsoll_text::Tokenizer;

use super::Events;
use super::cache::CacheWorld;
use super::check::{self, Known};
use super::client::{Client, Phase};
use super::faults::Faults;
use crate::rng::Rng;

/// Clients at the same time.
const CLIENTS_MAX: usize = 12;
/// Steps after the faults in which all must have ended.
const SETTLE_STEPS: usize = 20_000;
/// Readings that bring a budget back which was shrunk as far as it goes.
const STEPS_BACK: usize = 50;

/// What a step of a client may fail with: a broken promise.
type Step = Result<(), String>;

pub(super) struct World {
    rng: Rng,
    engine: Arc<Engine>,
    clock: Arc<ManualClock>,
    workers: Vec<Worker>,
    faults: Arc<Faults>,
    clients: Vec<Client>,
    /// Numbers of the clients in line, in the order in which they came.
    line: Vec<u64>,
    /// Chunks whose answers are gone, with what they may hold.
    late: Vec<(Chunk, usize)>,
    arrived: u64,
    events: Events,
    honest: bool,
    cache: CacheWorld,
    /// When someone last read from the cache: bytes that are read cannot be taken back, and nobody is woken when the reader goes.
    read_at: Option<Nanos>,
    levels: Levels,
}

/// When the level changed last, at the earliest.
#[derive(Clone, Copy, Default)]
struct Levels {
    changes: u64,
    changed_from: Option<Nanos>,
    step_began: Nanos,
}

impl World {
    pub(super) fn new(mut rng: Rng, load: &dyn Fn() -> (Model, Tokenizer)) -> Result<World, String> {
        let clock = Arc::new(ManualClock::default());
        clock.advance(Nanos(1));
        let faults = Faults::new(rng.fork(0));
        let mut config = EngineConfig::new(0, clock.clone());
        config.workers = 1 + rng.below(3);
        config.batch_tokens_max = 16 + rng.below(64);
        config.requests_max = 1 + rng.below(8);
        config.waiting_max = 1 + rng.below(6);
        config.inputs_max = 1 + rng.below(32);
        config.body_bytes_max = Some(64 + rng.below(2000));
        config.window_overlap_tokens = 4;
        config.probe = Some(faults.probe(&clock));
        let room_percent = rng.below(600);
        let engine = build(&mut config, room_percent, load)?;
        let cache = CacheWorld::new(rng.fork(1), &engine)?;
        let workers = (0..config.workers).map(|_| engine.worker().map_err(|error| error.to_string()));
        Ok(World {
            workers: workers.collect::<Result<_, _>>()?,
            engine,
            clock,
            faults,
            clients: Vec::new(),
            line: Vec::new(),
            late: Vec::new(),
            arrived: 0,
            events: Events::default(),
            honest: false,
            cache,
            read_at: None,
            levels: Levels::default(),
            rng,
        })
    }

    /// One step of whoever is next.
    pub(super) fn step(&mut self) -> Step {
        self.levels.step_began = self.clock.now();
        match self.rng.below(100) {
            0..20 => self.arrive(),
            20..55 => self.any_client(),
            55..75 => self.any_worker(),
            75..82 => self.hang_up(),
            82..84 => self.read_late(),
            84..87 => self.govern(),
            87..96 => self.cache.step(self.clock.now()),
            96 => self.weigh(),
            _ => {
                let ms = match self.rng.below(20) {
                    0 => 30_000,
                    1..4 => self.rng.below(2000),
                    _ => self.rng.below(12),
                };
                self.clock.advance(Nanos::from_ms(ms as u64));
                Ok(())
            }
        }
    }

    /// Checks what must hold now.
    pub(super) fn check(&mut self) -> Step {
        let mut known = Known::default();
        for client in &self.clients {
            match &client.phase {
                Phase::Door { .. } => known.waiting += 1,
                Phase::Body { ticket, .. } => {
                    known.inside += 1;
                    known.exact_bytes += ticket.held_bytes();
                }
                Phase::Job { .. } | Phase::Reading { .. } => {
                    known.inside += 1;
                    known.most_bytes += client.held_bytes_max;
                    known.jobs += usize::from(matches!(client.phase, Phase::Job { .. }));
                }
                Phase::Over => {}
            }
        }
        known.most_bytes += self.late.iter().map(|(_, bytes)| bytes).sum::<usize>();
        check::safety(&self.engine, known)?;
        self.cache.check()?;
        if self.cache.is_pinned() {
            self.read_at = Some(self.clock.now());
        }
        self.check_levels()
    }

    /// At most one change a second. When in a step a change came is not seen, so this asks only what must be true whenever it was.
    fn check_levels(&mut self) -> Step {
        let changes = self.engine.governor_stats().level_changes;
        let more = changes - self.levels.changes;
        if more == 0 {
            return Ok(());
        }
        let (began, now) = (self.levels.step_began, self.clock.now());
        let least = Marks::default().change_least.0;
        let since = self.levels.changed_from.map_or(u64::MAX, |from| now.since(from));
        self.levels.changes = changes;
        self.levels.changed_from = Some(began);
        self.events.level_changes += more;
        if since < least || now.since(began) < (more - 1) * least {
            return Err(format!("the level changed {more} times within a second"));
        }
        Ok(())
    }

    /// Without faults all that was begun ends, nothing stays, and the longest request is served.
    pub(super) fn settle(&mut self) -> Step {
        self.faults.stop();
        self.honest = true;
        self.cache.let_go();
        for _ in 0..STEPS_BACK {
            self.engine.weigh(0);
        }
        for _ in 0..SETTLE_STEPS {
            if self.clients.is_empty() {
                break;
            }
            self.clients.iter_mut().for_each(|client| client.stalled = false);
            self.quiet_step()?;
        }
        let stuck = self.clients.len();
        if stuck > 0 {
            return Err(format!(
                "{stuck} clients are stuck though nothing is wrong any more"
            ));
        }
        self.late.clear();
        self.check_levels()?;
        check::baseline(&self.engine)?;
        self.one_more()?;
        self.late.clear();
        check::baseline(&self.engine)?;
        self.cache.settle(self.clock.now())
    }

    /// A step of a day without faults.
    fn quiet_step(&mut self) -> Step {
        self.levels.step_began = self.clock.now();
        match self.rng.below(12) {
            0..5 => self.any_client()?,
            5..8 => self.any_worker()?,
            8 => self.read_late()?,
            9 => self.govern()?,
            _ => self.clock.advance(Nanos::from_ms(1)),
        }
        self.check()
    }

    pub(super) fn events(&self) -> Events {
        let (panics, cancelled_inside) = self.faults.counts();
        let (cache_hits, cache_insertions) = self.cache.counts();
        Events {
            panics,
            cancelled_inside,
            cache_hits,
            cache_insertions,
            ..self.events
        }
    }

    /// The longest request comes to an idle engine, and is let in at once and answered.
    fn one_more(&mut self) -> Step {
        self.levels.step_began = self.clock.now();
        self.clock.advance(Nanos::from_ms(2000));
        self.govern()?;
        self.check_levels()?;
        if self.engine.level() != Level::Normal {
            return Err(format!("an idle engine is {}", self.engine.level().name()));
        }
        let answered = self.events.answered;
        self.arrive()?;
        if self.clients.is_empty() || !self.line.is_empty() {
            return Err("an idle engine does not let the longest request in at once".to_owned());
        }
        for _ in 0..SETTLE_STEPS {
            if self.clients.is_empty() {
                break;
            }
            self.quiet_step()?;
        }
        match self.events.answered - answered {
            1 => Ok(()),
            _ => Err("an idle engine does not answer".to_owned()),
        }
    }

    fn govern(&mut self) -> Step {
        let governed = self.engine.govern();
        self.events.returned += governed.returned_requests as u64;
        match governed.next.since(self.clock.now()) {
            0..=100_000_000 => Ok(()),
            late => Err(format!("the governor would sleep for {late} ns")),
        }
    }

    /// The process looks larger than it should, or smaller.
    fn weigh(&mut self) -> Step {
        let limit_bytes = self.engine.plan().limit_bytes;
        self.engine.weigh(self.rng.below(2 * limit_bytes));
        Ok(())
    }

    fn arrive(&mut self) -> Step {
        if self.clients.len() == CLIENTS_MAX {
            return Ok(());
        }
        let body_bytes_max = self.engine.limits().body_bytes_max;
        let mut client = Client::new(self.arrived, &mut self.rng, body_bytes_max, self.honest);
        if self.honest {
            client.tasks = self
                .engine
                .can()
                .with(Tasks::WORDS)
                .without(Tasks::TOKEN_EMBEDDINGS.with(Tasks::TOKENS));
            client.body = "a ".repeat(body_bytes_max / 2);
            client.declared_bytes = Some(client.body.len());
        }
        self.arrived += 1;
        client.phase = Phase::Door {
            admission: self.engine.admit(Ask {
                tasks: client.tasks,
                body_bytes: client.declared_bytes,
                inputs_max: None,
            }),
            asked: self.clock.now(),
        };
        self.line.push(client.number);
        let stepped = self.at_door(&mut client, true);
        self.keep(client);
        stepped
    }

    fn any_client(&mut self) -> Step {
        if self.clients.is_empty() {
            return Ok(());
        }
        let index = self.rng.below(self.clients.len());
        let mut client = self.clients.swap_remove(index);
        let woken = client.flag.take();
        let stepped = match &client.phase {
            Phase::Door { .. } => self.at_door(&mut client, woken),
            Phase::Body { .. } => self.in_body(&mut client),
            Phase::Job { .. } => self.in_job(&mut client, woken),
            Phase::Reading { .. } => self.reading(&mut client, woken),
            Phase::Over => Ok(()),
        };
        self.keep(client);
        stepped
    }

    fn keep(&mut self, client: Client) {
        if !matches!(client.phase, Phase::Over) {
            self.clients.push(client);
        }
    }

    fn hang_up(&mut self) -> Step {
        if !self.clients.is_empty() && self.rng.percent(40) {
            let index = self.rng.below(self.clients.len());
            let mut client = self.clients.swap_remove(index);
            self.leave(&mut client);
            self.events.hung_up += 1;
        }
        Ok(())
    }

    fn read_late(&mut self) -> Step {
        if !self.late.is_empty() {
            let index = self.rng.below(self.late.len());
            drop(self.late.swap_remove(index));
        }
        Ok(())
    }

    /// A worker gets the processor for a turn; now and then a client hangs up in the middle of it.
    fn any_worker(&mut self) -> Step {
        let victim = match self.honest {
            false if self.rng.percent(10) => self
                .clients
                .iter()
                .position(|client| matches!(client.phase, Phase::Job { .. })),
            _ => None,
        };
        let armed = victim
            .map(|index| self.clients.swap_remove(index))
            .map(|mut client| {
                if let Phase::Job { job } = std::mem::replace(&mut client.phase, Phase::Over) {
                    self.faults.arm(job);
                }
                client
            });
        let index = self.rng.below(self.workers.len());
        self.workers[index].turn();
        if let (Some(mut client), Some(job)) = (armed, self.faults.disarm()) {
            client.phase = Phase::Job { job };
            self.clients.push(client);
        }
        Ok(())
    }
}

/// An engine with the least memory that does, and so many percent of one longest request on top.
fn build(
    config: &mut EngineConfig,
    room_percent: usize,
    load: &dyn Fn() -> (Model, Tokenizer),
) -> Result<Arc<Engine>, String> {
    loop {
        let (model, tokenizer) = load();
        match Engine::new(config.clone(), model, tokenizer) {
            Ok(engine) => return Ok(engine),
            Err(StartError::LimitTooSmall {
                needed_bytes,
                request_bytes,
                ..
            }) => config.memory_limit_bytes = needed_bytes + request_bytes * room_percent / 100,
            Err(error) => return Err(error.to_string()),
        }
    }
}
