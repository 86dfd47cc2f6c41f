//! The causes at work: what each of them sends, and what came back.

use std::cell::RefCell;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::plan::{Cause, Causes, Plan, SESSIONS};
use super::steady::embed;
use super::texts::{Texts, document};
use crate::line::client::{Client, Reply, post};
use crate::line::server::forget;
use crate::rng::Rng;

/// The log, in its directory.
pub const LOG_FILE: &str = "log";
/// Reviews in a request of the warm-up.
const WARM_UP_TEXTS: usize = 32;
/// Requests of the warm-up under way at the same time.
const WARM_UP_CLIENTS: usize = 4;
/// Who has been refused comes back after this at the latest: the clock is compressed.
const COMES_BACK_MAX: Duration = Duration::from_secs(1);

/// What came of what a cause sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Requests that the plan has.
    pub planned: u64,
    /// Of them, those that were answered in the end.
    pub served: u64,
    /// Refusals.
    pub refusals: u64,
    /// Of them, those without a reason or a `Retry-After`.
    pub mute: u64,
    /// Requests that broke off or failed otherwise.
    pub failed: u64,
}

impl Outcome {
    fn count(&mut self, reply: &std::io::Result<Reply>) {
        match reply {
            Ok(reply) => match reply.status {
                200 => self.served += 1,
                429 | 503 => {
                    self.refusals += 1;
                    self.mute += u64::from(!reply.says_when || !reply.says_why);
                }
                _ => self.failed += 1,
            },
            Err(_) => self.failed += 1,
        }
    }
}

/// What came of all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// The rotation: one, done when the old log was compressed.
    pub rotation: Outcome,
    /// The warm-up.
    pub warm_up: Outcome,
    /// The scan.
    pub scan: Outcome,
    /// The burst.
    pub burst: Outcome,
}

impl Outcomes {
    /// All of them.
    pub fn all(&self) -> [(Cause, Outcome); 4] {
        [
            (Cause::Rotation, self.rotation),
            (Cause::WarmUp, self.warm_up),
            (Cause::Scan, self.scan),
            (Cause::Burst, self.burst),
        ]
    }
}

/// How the log is rotated in the server's group.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// The executable.
    pub program: PathBuf,
    /// Arguments that make it enter the group and rotate the log of a directory.
    pub arguments: Vec<String>,
    /// The directory.
    pub dir: PathBuf,
}

impl Rotation {
    /// Writes the log that has grown since the last rotation. Its pages are dropped, as those of a log of yesterday would be.
    ///
    /// # Errors
    /// When the disk has no room for it.
    pub fn prepare(&self, bytes: u64) -> std::io::Result<()> {
        const BLOCK_LINES: usize = 16 * 1024;
        let mut rng = Rng::new(bytes);
        let block: String = (0..BLOCK_LINES)
            .map(|_| {
                let (id, us, tokens) = (rng.next(), rng.below(20_000), rng.below(512));
                format!("2026-11-24T02:59:59Z info request {id:016x} took {us} us for {tokens} tokens\n")
            })
            .collect();
        std::fs::create_dir_all(&self.dir)?;
        let mut file = File::create(self.dir.join(LOG_FILE))?;
        let mut left = bytes as usize;
        while left > 0 {
            let here = left.min(block.len());
            file.write_all(&block.as_bytes()[..here])?;
            left -= here;
        }
        forget(&file)
    }

    fn start(&self) -> std::io::Result<Rotating> {
        Command::new(&self.program)
            .args(&self.arguments)
            .arg(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map(Rotating)
    }
}

struct Rotating(Child);

impl Rotating {
    fn is_done(&mut self) -> bool {
        self.0
            .try_wait()
            .ok()
            .flatten()
            .is_some_and(|status| status.success())
    }
}

impl Drop for Rotating {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where the causes work.
pub struct Scene {
    /// The server.
    pub address: SocketAddr,
    /// The night.
    pub plan: Plan,
    /// Its texts.
    pub texts: std::sync::Arc<Texts>,
    /// How the log is rotated.
    pub rotation: Rotation,
    /// What came of it.
    pub outcomes: RefCell<Outcomes>,
}

/// Lets the causes loose until all is answered, or the incident is over; whoever still waits then hangs up.
///
/// # Errors
/// When the log cannot be rotated.
pub async fn run(scene: &Rc<Scene>, causes: Causes) -> std::io::Result<()> {
    let began = Instant::now();
    let until = began + scene.plan.clock.incident;
    let mut rotating = match causes.has(Cause::Rotation) {
        true => Some(scene.rotation.start()?),
        false => None,
    };
    let mut tasks = JoinSet::new();
    if causes.has(Cause::WarmUp) {
        warm_up(scene, &mut tasks);
    }
    if causes.has(Cause::Scan) {
        scene.outcomes.borrow_mut().scan.planned = scene.plan.documents.len() as u64;
        tasks.spawn_local(scan(Rc::clone(scene), began));
    }
    if causes.has(Cause::Burst) {
        scene.outcomes.borrow_mut().burst.planned = scene.plan.calls.len() as u64;
        for index in 0..scene.plan.calls.len() {
            tasks.spawn_local(call(Rc::clone(scene), began, index));
        }
    }
    // Out of time is how it is meant to end.
    let _ = timeout_at(until, async { while tasks.join_next().await.is_some() {} }).await;
    sleep_until(until).await;
    if let Some(rotating) = &mut rotating {
        scene.outcomes.borrow_mut().rotation = Outcome {
            planned: 1,
            served: u64::from(rotating.is_done()),
            ..Outcome::default()
        };
    }
    Ok(())
}

fn warm_up(scene: &Rc<Scene>, tasks: &mut JoinSet<()>) {
    let batches = scene.texts.catalogue().len().div_ceil(WARM_UP_TEXTS);
    scene.outcomes.borrow_mut().warm_up.planned = batches as u64;
    let next = Rc::new(RefCell::new(0..batches));
    for _ in 0..WARM_UP_CLIENTS {
        let (scene, next) = (Rc::clone(scene), Rc::clone(&next));
        tasks.spawn_local(async move {
            let mut client = None;
            loop {
                let Some(batch) = next.borrow_mut().next() else {
                    return;
                };
                let all = scene.texts.catalogue();
                let texts: Vec<&str> = all[batch * WARM_UP_TEXTS..]
                    .iter()
                    .take(WARM_UP_TEXTS)
                    .map(String::as_str)
                    .collect();
                let request = embed(&format!("s{}", batch % SESSIONS), &texts);
                insist(&scene, &mut client, &request, |outcomes| &mut outcomes.warm_up).await;
            }
        });
    }
}

/// Sends each document at its time.
async fn scan(scene: Rc<Scene>, began: Instant) {
    let mut tasks = JoinSet::new();
    for document_at in scene.plan.documents.clone() {
        sleep_until(began + document_at.at).await;
        let scene = Rc::clone(&scene);
        tasks.spawn_local(async move {
            let text = document(document_at.seed, document_at.bytes);
            let body = format!("{{\"tasks\": [\"words\", \"embedding\"], \"text\": \"{text}\"}}");
            drop(text);
            insist(&scene, &mut None, &post("/v1/analyze", &body), |outcomes| {
                &mut outcomes.scan
            })
            .await;
        });
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
}

/// One client of the burst; who is refused goes away.
async fn call(scene: Rc<Scene>, began: Instant, index: usize) {
    let call = scene.plan.calls[index];
    sleep_until(began + call.at).await;
    let texts: Vec<String> = (0..call.texts as u64)
        .map(|number| scene.texts.fresh(call.seed.wrapping_add(number)))
        .collect();
    let body = serde_json::json!({"tasks": ["words", "embedding"], "text": texts}).to_string();
    let reply = ask(&scene, &mut None, &post("/v1/analyze", &body)).await;
    scene.outcomes.borrow_mut().burst.count(&reply);
}

/// Asks until it is answered, coming back after a refusal as told.
async fn insist(
    scene: &Scene,
    client: &mut Option<Client>,
    request: &[u8],
    of: impl Fn(&mut Outcomes) -> &mut Outcome,
) {
    loop {
        let reply = ask(scene, client, request).await;
        of(&mut scene.outcomes.borrow_mut()).count(&reply);
        match reply {
            Ok(reply) if matches!(reply.status, 429 | 503) => {
                sleep(Duration::from_secs(reply.retry_after_s).min(COMES_BACK_MAX)).await;
            }
            _ => return,
        }
    }
}

async fn ask(scene: &Scene, client: &mut Option<Client>, request: &[u8]) -> std::io::Result<Reply> {
    // A connection that was idle may have been closed meanwhile; every HTTP client tries once more.
    if let Some(kept) = client.take()
        && let Ok(reply) = ask_on(kept, client, request).await
    {
        return Ok(reply);
    }
    let fresh = Client::connect(scene.address, 1, None).await?;
    ask_on(fresh, client, request).await
}

/// Asks, and keeps a connection that stays open.
async fn ask_on(mut open: Client, kept: &mut Option<Client>, request: &[u8]) -> std::io::Result<Reply> {
    let reply = open.ask(request).await?;
    *kept = (!reply.closes).then_some(open);
    Ok(reply)
}
