//! One server, one line, one attack after the other.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

use super::attacks::Attack;
use super::cgroup::{Counters, Group, Reading};
use super::client::{Client, post};
use super::cores::Split;
use super::corpus;
use super::field::Field;
use super::health::Prober;
use super::judge::{Facts, Recovery, Run};
use super::logs::Logs;
use super::sample::Sampler;
use super::scrape::Metrics;
use super::server::{Bill, Scratch, Server, cpu_seconds};
use super::{Options, RigError};
use crate::rng::Rng;

/// How long an attacked server is waited for.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(5);
/// When memory must be back.
const SETTLES_AFTER: Duration = Duration::from_secs(5);
/// Attacks after which that is waited for.
const SETTLED_AFTER: [&str; 2] = ["overload", "everything"];
/// Tokens of requests before the first reading, so that what is built once is there ...
const WARM_UP: [usize; 4] = [1, 30, 400, 4000];
/// ... and how many short ones: a vector here and there touches all of the cache's tables.
const WARM_UP_VECTORS: usize = 500;
const WARM_UP_TOKENS: usize = 8;

/// A server and its group; made anew when the server is killed, and for an attack that wants it on cores of its own.
pub(super) struct Night<'a> {
    options: &'a Options,
    scratch: &'a Scratch,
    bill: Bill,
    run: Run,
    runtime: Runtime,
    split: Option<Split>,
    stage: Option<Stage>,
}

struct Stage {
    /// Whether the server has cores of its own.
    apart: bool,
    server: Server,
    group: Arc<Group>,
    idle: Reading,
    idle_cached_bytes: u64,
}

impl<'a> Night<'a> {
    pub(super) fn new(
        options: &'a Options,
        scratch: &'a Scratch,
        bill: Bill,
        run: Run,
    ) -> Result<Self, RigError> {
        Ok(Night {
            options,
            scratch,
            bill,
            run,
            runtime: Builder::new_current_thread().enable_all().build()?,
            split: Split::new()?,
            stage: None,
        })
    }

    /// Makes one attack and measures around it.
    pub(super) fn attack(&mut self, attack: &Attack, seed: u64, time: Duration) -> Result<Facts, RigError> {
        let split = self.split.filter(|_| attack.is_apart);
        let mut stage = match self.stage.take().filter(|stage| stage.apart == split.is_some()) {
            Some(stage) => stage,
            None => self.set_up(split)?,
        };
        let _on_our_side = split.map(|split| split.as_client()).transpose()?;
        let (address, group) = (stage.server.address, Arc::clone(&stage.group));
        let before = group.counters()?;
        let metrics = Metrics::of(address)?;
        let sampler = Sampler::start(&group);
        let prober = Prober::start(address);
        let cpu = (
            cpu_seconds(stage.server.pid()),
            cpu_seconds(std::process::id()),
            Instant::now(),
        );
        let field = self.runtime.block_on(async {
            let field = Field::new(address, self.bill.clone(), self.logs(&group), time);
            let rng = Rng::new(seed ^ hash(attack.name));
            LocalSet::new().run_until((attack.run)(field.clone(), rng)).await;
            field
        });
        let over = Instant::now();
        let cores = |pid, before: Option<f64>| {
            let used = cpu_seconds(pid)
                .zip(before)
                .map_or(0.0, |(now, before)| now - before);
            used / (over - cpu.2).as_secs_f64()
        };
        let (server_cores, client_cores) =
            (cores(stage.server.pid(), cpu.0), cores(std::process::id(), cpu.1));
        let health = prober.finish();
        let mut alive = stage.server.is_alive();
        let mut recovery = Recovery::default();
        let (mut refusal_server_s, mut level_changes) = (None, 0);
        if alive {
            recovery = self.recover(address, over);
            if let Ok(after) = Metrics::of(address) {
                let changes =
                    |metrics: &Metrics| metrics.value("plimsoll_level_changes_total").unwrap_or(0.0);
                level_changes = (changes(&after) - changes(&metrics)) as u64;
                refusal_server_s = after.quantile_since(&metrics, "plimsoll_refusal_duration_seconds", 0.99);
            }
            if SETTLED_AFTER.contains(&attack.name) {
                std::thread::sleep(SETTLES_AFTER.saturating_sub(over.elapsed()));
                recovery.settled = Some(group.reading()?);
                recovery.cached_bytes = cached_bytes(address);
            }
            alive = stage.server.is_alive();
        }
        let counters = since(before, group.counters()?);
        let facts = Facts {
            tally: field.tally.take(),
            peaks: sampler.finish(),
            counters,
            health,
            refusal_server_s,
            level_changes: (level_changes, cpu.2.elapsed()),
            recovery,
            idle: stage.idle,
            idle_cached_bytes: stage.idle_cached_bytes,
            server_cores,
            client_cores,
            alive,
        };
        if alive {
            self.stage = Some(stage);
        } else {
            let (status, words) = stage.server.stop();
            eprintln!("the server ended ({status:?}); its last words:\n{words}");
        }
        Ok(facts)
    }

    /// Ends the server.
    pub(super) fn finish(&mut self) {
        if let Some(stage) = self.stage.take() {
            drop(stage.server.stop());
        }
    }

    fn set_up(&self, split: Option<Split>) -> Result<Stage, RigError> {
        let group_bytes = self.run.group_bytes(self.bill.limit_bytes);
        let group = Arc::new(Group::new("line", group_bytes)?);
        let on_its_side = split.map(|split| split.as_server()).transpose()?;
        let server = Server::start(&self.options.program, self.scratch, &group, &self.bill)?;
        drop(on_its_side);
        self.warm_up(server.address)?;
        drop(Metrics::of(server.address)?);
        // As rested as it must be after an attack: what is still warm now would excuse what is not given back then.
        std::thread::sleep(SETTLES_AFTER);
        let (idle, idle_cached_bytes) = (group.reading()?, cached_bytes(server.address));
        Ok(Stage {
            apart: split.is_some(),
            server,
            group,
            idle,
            idle_cached_bytes,
        })
    }

    fn warm_up(&self, address: SocketAddr) -> Result<(), RigError> {
        let mut rng = Rng::new(self.options.seed);
        let longer =
            WARM_UP.map(|tokens| post("/v1/analyze", &corpus::analyze(&corpus::text(&mut rng, tokens))));
        let short = (0..WARM_UP_VECTORS).map(|_| {
            let text = corpus::text(&mut rng, WARM_UP_TOKENS);
            post("/embed", &format!("{{\"inputs\": \"{text}\"}}"))
        });
        for request in longer.into_iter().chain(short) {
            let asked = self.runtime.block_on(async {
                let mut client = Client::connect(address, 0, None).await?;
                client.ask(&request).await
            });
            let asked = asked.map_err(|error| RigError::Program(format!("the first requests: {error}")))?;
            if !matches!(asked.status, 200 | 413) {
                let status = asked.status;
                return Err(RigError::Program(format!(
                    "one of the first requests was answered with {status}"
                )));
            }
        }
        Ok(())
    }

    fn logs(&self, group: &Group) -> Logs {
        let program = &self.options.program;
        let texts = |paths: [PathBuf; 2]| paths.map(|path| path.display().to_string());
        let mut arguments = program.enter.clone();
        arguments.extend(texts([group.procs(), program.path.clone()]));
        arguments.extend(program.log.clone());
        Logs {
            program: program.path.clone(),
            arguments,
            file: self.scratch.path().join("log"),
        }
    }

    /// Asks until it answers, and until its ledger is empty.
    fn recover(&self, address: SocketAddr, over: Instant) -> Recovery {
        let request = post("/embed", "{\"inputs\": \"after\"}");
        let mut recovery = Recovery::default();
        while recovery.first_answer.is_none() && over.elapsed() < RECOVERY_PATIENCE {
            let asked = self.runtime.block_on(async {
                let mut client = Client::connect(address, 0, None).await?;
                client.ask(&request).await
            });
            if asked.is_ok_and(|reply| reply.status == 200) {
                recovery.first_answer = Some(over.elapsed());
            }
        }
        while recovery.empty_ledger.is_none() && over.elapsed() < 2 * RECOVERY_PATIENCE {
            let held = Metrics::of(address)
                .ok()
                .and_then(|metrics| metrics.value("plimsoll_ledger_in_use_bytes"));
            if held == Some(0.0) {
                recovery.empty_ledger = Some(over.elapsed());
            }
        }
        recovery
    }
}

/// Vectors in the cache, or 0 where the server does not say.
fn cached_bytes(address: SocketAddr) -> u64 {
    let now = Metrics::of(address).ok();
    now.and_then(|now| now.value("plimsoll_cache_bytes"))
        .unwrap_or(0.0) as u64
}

/// What was counted between two moments.
fn since(before: Counters, after: Counters) -> Counters {
    Counters {
        kills: after.kills - before.kills,
        limit_hits: after.limit_hits - before.limit_hits,
        max_usage_bytes: after.max_usage_bytes,
    }
}

/// A number from a name, so that each attack has its own stream whatever runs before it (FNV-1a).
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}
