//! Profiles, in pprof's format.
//!
//! Labels say what pprof has no field for: the thread, the pool, when an object was born, and with `slice_ms=` when CPU time was used, so that a tool can look at any interval.
//! Times are milliseconds of the engine's clock, as the trace's.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri, header};
use plimsoll_memory::profile::{
    self, CpuSampling, HEAP_INTERVAL_BYTES, LEASE_INTERVAL, SAMPLES, Sample, Sampled,
};
use tokio::time::{Instant, sleep, sleep_until};

use super::pprof::Profile;
use super::symbols::{Builder, Mark};
use super::{Problem, number, seconds};
use crate::app::App;

/// CPU samples a second of CPU time.
const HERTZ: u32 = 99;
/// How often samples are fetched from their ring, where nobody knows how many come.
const FETCH: Duration = Duration::from_millis(100);
/// Stacks that are told apart in one profile; what comes after them is counted only.
const STACKS_MAX: usize = 4096;
/// How long a thread may take to say where it stands, and how often it is asked.
const ANSWER: Duration = Duration::from_millis(30);
const ASKS: usize = 3;

/// A profile as a response.
fn packed(profile: &Profile) -> Response {
    match profile.packed() {
        Ok(bytes) => ([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response(),
        Err(error) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn sampling() -> Result<&'static profile::Profile, Problem> {
    profile::get().ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "sampling is off"))
}

/// Milliseconds to add to the profile's clock for the engine's.
fn offset_ms(app: &App, profile: &profile::Profile) -> i64 {
    app.engine.now().0 as i64 / 1_000_000 - profile.now_ns() as i64 / 1_000_000
}

/// Frames, thread and slice of time.
type Key = (Box<[u64]>, u32, u64);

/// Same stacks of the same thread in the same slice of time, counted together.
#[derive(Default)]
struct Counted {
    /// How many of each, and their bytes.
    stacks: HashMap<Key, (u64, u64)>,
    left_out: u64,
}

impl Counted {
    fn add(&mut self, sample: &Sampled, slice_ns: u64) {
        let slice = sample.at_ns.checked_div(slice_ns).unwrap_or(0);
        let key = (sample.stack.frames().into(), sample.thread, slice);
        if self.stacks.len() == STACKS_MAX && !self.stacks.contains_key(&key) {
            self.left_out += 1;
            return;
        }
        let (count, bytes) = self.stacks.entry(key).or_default();
        *count += 1;
        *bytes += sample.bytes;
    }
}

/// How often CPU samples are fetched: before all cores can have filled half of the ring, as whoever wakes takes time from those who work.
fn fetch_cpu() -> Duration {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Duration::from_secs(1).mul_f64(SAMPLES as f64 / 2.0 / (HERTZ as usize * cores) as f64)
}

/// Counts samples of a kind for a time.
async fn count(
    profile: &profile::Profile,
    why: Sample,
    time: Duration,
    slice: Duration,
    fetch: Duration,
) -> Counted {
    let (end, slice_ns) = (Instant::now() + time, slice.as_nanos() as u64);
    let (mut counted, mut next) = (Counted::default(), profile.samples_end());
    loop {
        let now = Instant::now();
        let (to, lost) = profile.samples(next, |sample| {
            if sample.why == why {
                counted.add(&sample, slice_ns);
            }
        });
        next = to;
        counted.left_out += lost;
        if now >= end {
            return counted;
        }
        sleep_until(end.min(now + fetch)).await;
    }
}

/// `/debug/pprof/profile`.
pub(super) async fn cpu(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    let (profile, time) = (sampling()?, seconds(&uri)?);
    let slice = Duration::from_millis(number(&uri, "slice_ms", 0, 0..=60_000)?);
    let Some(running) = CpuSampling::start(HERTZ) else {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "another CPU profile is being taken",
        ));
    };
    let counted = count(profile, Sample::Cpu, time, slice, fetch_cpu()).await;
    drop(running);
    let period_ns = 1_000_000_000 / i64::from(HERTZ);
    let mut builder = Builder::new(
        &[("samples", "count"), ("cpu", "nanoseconds")],
        ("cpu", "nanoseconds", period_ns),
    );
    let (names, offset_ms) = (thread_names(), offset_ms(&app, profile));
    for ((frames, thread, nth), (samples, _)) in &counted.stacks {
        let samples = *samples as i64;
        let at_ms = (*nth as i64) * slice.as_millis() as i64 + offset_ms;
        let mut marks = vec![Mark::Text("thread", name_of(&names, *thread))];
        if !slice.is_zero() {
            marks.push(Mark::Number("at", at_ms, "milliseconds"));
        }
        builder.sample(frames, vec![samples, samples * period_ns], &marks);
    }
    left_out(&mut builder, counted.left_out);
    Ok(packed(&builder.finish(time)))
}

/// `/debug/pprof/forbidden`: allocations of workers and of the pipeline.
pub(super) async fn forbidden(State(_): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    let (profile, time) = (sampling()?, seconds(&uri)?);
    let counted = count(profile, Sample::Forbidden, time, Duration::ZERO, FETCH).await;
    let mut builder = Builder::new(
        &[("allocations", "count"), ("space", "bytes")],
        ("allocations", "count", 1),
    );
    let names = thread_names();
    for ((frames, thread, _), (count, bytes)) in &counted.stacks {
        let marks = [Mark::Text("thread", name_of(&names, *thread))];
        builder.sample(frames, vec![*count as i64, *bytes as i64], &marks);
    }
    left_out(&mut builder, counted.left_out);
    Ok(packed(&builder.finish(time)))
}

fn left_out(builder: &mut Builder, samples: u64) {
    if samples > 0 {
        builder.remark(&format!("{samples} samples came too fast and are left out"));
    }
}

/// `/debug/pprof/heap`.
pub(super) async fn heap(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    births(&app, false)
}

/// `/debug/pprof/pools`.
pub(super) async fn pools(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    births(&app, true)
}

fn births(app: &App, leases: bool) -> Result<Response, Problem> {
    let profile = sampling()?;
    let (names, period) = match leases {
        false => (
            ["inuse_objects", "inuse_space"],
            ("space", "bytes", HEAP_INTERVAL_BYTES as i64),
        ),
        true => (
            ["live_leases", "live_space"],
            ("leases", "count", i64::from(LEASE_INTERVAL)),
        ),
    };
    let mut builder = Builder::new(&[(names[0], "count"), (names[1], "bytes")], period);
    let (now_ns, offset_ms) = (profile.now_ns(), offset_ms(app, profile));
    profile.births(|birth| {
        if birth.pool.is_some() != leases {
            return;
        }
        let born_ms = birth.born_ns as i64 / 1_000_000;
        let age_ms = now_ns as i64 / 1_000_000 - born_ms;
        let mut marks = vec![
            Mark::Number("born", born_ms + offset_ms, "milliseconds"),
            Mark::Number("age", age_ms, "milliseconds"),
        ];
        marks.extend(birth.pool.map(|pool| Mark::Text("kind", pool)));
        let values = vec![birth.objects.round() as i64, birth.bytes.round() as i64];
        builder.sample(birth.stack.frames(), values, &marks);
    });
    left_out(&mut builder, profile.births_dropped());
    Ok(packed(&builder.finish(Duration::ZERO)))
}

/// `/debug/pprof/threads`: every other thread is asked where it stands.
pub(super) async fn threads(State(_): State<Arc<App>>) -> Result<Response, Problem> {
    let profile = sampling()?;
    let names = thread_names();
    let mut standing: HashMap<u32, Sampled> = HashMap::new();
    for _ in 0..ASKS {
        let from = profile.samples_end();
        let silent = names.keys().filter(|thread| !standing.contains_key(thread));
        silent.for_each(|&thread| {
            profile::ask(thread);
        });
        sleep(ANSWER).await;
        profile.samples(from, |sample| {
            if sample.why == Sample::Asked {
                standing.insert(sample.thread, sample);
            }
        });
    }
    let mut builder = Builder::new(&[("threads", "count")], ("threads", "count", 1));
    for (thread, sample) in &standing {
        let marks = [Mark::Text("thread", name_of(&names, *thread))];
        builder.sample(sample.stack.frames(), vec![1], &marks);
    }
    Ok(packed(&builder.finish(Duration::ZERO)))
}

/// The threads of this process, by the kernel's number.
fn thread_names() -> HashMap<u32, String> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let named = tasks.filter_map(|task| {
        let thread = task.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        Some((thread, name.trim_end().to_owned()))
    });
    named.collect()
}

fn name_of(names: &HashMap<u32, String>, thread: u32) -> &str {
    names.get(&thread).map_or("ended", String::as_str)
}
