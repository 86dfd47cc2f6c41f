//! Sessions over a corpus, answered without a cache, from a plain locked map, and from the cache of vectors: how long an answer takes and what grows.
//!
//! `cargo run --release -p plimsoll-engine --example session_cache MODEL_DIR REQUESTS TEXTS...`
//!
//! Eight sessions at a time; each asks again and again for a few neighbouring lines of the corpus, or for one that is popular with all. The three take turns
//! request by request, so that what else the machine does falls on all alike. One worker.

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use plimsoll_encoder::Model;
use plimsoll_engine::*;
use plimsoll_memory::{CountingAllocator, alloc};
use plimsoll_text::Tokenizer;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

struct Monotonic(Instant);

impl Clock for Monotonic {
    fn now(&self) -> Nanos {
        Nanos(self.0.elapsed().as_nanos() as u64 + 1)
    }
}

/// An engine that is driven by hand.
struct Rig {
    engine: Arc<Engine>,
    worker: Worker,
}

fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("one request at a time never waits"),
    }
}

impl Rig {
    fn new(dir: &Path, cache_bytes: Option<usize>) -> Rig {
        let mut config = EngineConfig::new(256 << 20, Arc::new(Monotonic(Instant::now())));
        config.cache = CacheSettings::new(cache_bytes);
        let model = Model::load_dir(dir).expect("a model");
        let tokenizer = std::fs::read(dir.join("tokenizer.json")).expect("tokenizer.json");
        let tokenizer = Tokenizer::from_json(&tokenizer).expect("a tokenizer");
        let engine = Engine::new(config, model, tokenizer).expect("256 MiB are enough");
        let worker = engine.worker().expect("an arena");
        Rig { engine, worker }
    }

    /// Shows `read` the vector of a text.
    fn ask<T>(&mut self, text: &str, session: SessionId, read: impl FnOnce(&[f32]) -> T) -> T {
        let ask = Ask {
            tasks: Tasks::EMBEDDING,
            body_bytes: Some(text.len()),
            inputs_max: Some(1),
        };
        let Ok(mut ticket) = ready(self.engine.admit(ask)) else {
            panic!("one request at a time fits")
        };
        ticket.push(text.as_bytes()).expect("the length was declared");
        let whole = Span {
            start: 0,
            len: text.len() as u32,
        };
        ticket
            .parse(|_, inputs| inputs.push_text(whole))
            .expect("one input");
        let options = JobOptions {
            session,
            ..JobOptions::new(Tasks::EMBEDDING)
        };
        let deadline = self.engine.now().after(Nanos::from_ms(60_000));
        let job = self.engine.submit(ticket, options, deadline);
        while self.worker.turn() != Turn::Idle {}
        let answer = ready(job).expect("an answer");
        read(answer.embedding(0))
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }

    /// One of a few; the first come up most.
    fn few(&mut self, count: usize) -> usize {
        self.below(count) * self.below(count) / count
    }
}

/// Session and text of each request.
fn trace(requests: usize, texts: usize) -> Vec<(usize, usize)> {
    let mut random = Random(3);
    let mut starts: Vec<usize> = (0..8).map(|_| random.below(texts)).collect();
    (0..requests)
        .map(|_| {
            let session = random.below(starts.len());
            if random.below(60) == 0 {
                starts[session] = random.below(texts);
            }
            match random.below(10) {
                0 => (session, random.few(100)),
                _ => (session, (starts[session] + random.few(12)) % texts),
            }
        })
        .collect()
}

/// What the requests of one way came to.
#[derive(Default)]
struct Tally {
    times_ms: Vec<f64>,
    hits: usize,
    heap_bytes: i64,
}

impl Tally {
    /// Times one request, which says whether it was a hit.
    fn add(&mut self, request: impl FnOnce() -> (f32, bool)) -> f32 {
        let heap = || alloc::total_counts().live_bytes() as i64;
        let (start, before) = (Instant::now(), heap());
        let (sum, hit) = request();
        let took = start.elapsed().as_secs_f64() * 1e3;
        self.heap_bytes += heap() - before;
        self.hits += usize::from(hit);
        self.times_ms.push(took);
        sum
    }

    fn print(mut self, name: &str) {
        self.times_ms.sort_by(f64::total_cmp);
        let count = self.times_ms.len();
        let at = |percent: usize| self.times_ms[(count - 1) * percent / 100];
        let mean = self.times_ms.iter().sum::<f64>() / count as f64;
        let (p50, p99, share) = (at(50), at(99), 100.0 * self.hits as f64 / count as f64);
        let heap_bytes = self.heap_bytes;
        println!("{name:<12} {p50:>9.3} {p99:>9.3} {mean:>9.3} {share:>7.1} {heap_bytes:>12}");
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, requests, files @ ..] = &args[..] else {
        panic!("expected MODEL_DIR REQUESTS TEXTS...")
    };
    let mut texts: Vec<String> = Vec::new();
    for path in files {
        let file = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        texts.extend(file.lines().filter(|line| line.len() > 8).map(str::to_owned));
    }
    let trace = trace(requests.parse().expect("a number of requests"), texts.len());
    let rig = |cache_bytes| Rig::new(Path::new(dir), cache_bytes);
    let (mut bare, mut mapped, mut cached) = (rig(Some(0)), rig(Some(0)), rig(None));
    let map: Mutex<HashMap<(usize, String), Vec<f32>>> = Mutex::default();
    let [mut without, mut with_map, mut with_cache] = [(); 3].map(|()| Tally {
        times_ms: Vec::with_capacity(trace.len()),
        ..Tally::default()
    });
    let sum = |vector: &[f32]| vector.iter().sum::<f32>();
    for (session, at) in trace {
        let text = &texts[at];
        let expected = without.add(|| (bare.ask(text, SessionId::NONE, sum), false));
        let found = with_map.add(|| {
            let key = (session, text.clone());
            let known = map.lock().expect("nobody panics").get(&key).cloned();
            let hit = known.is_some();
            let vector = known.unwrap_or_else(|| {
                let vector = mapped.ask(text, SessionId::NONE, <[f32]>::to_vec);
                map.lock().expect("nobody panics").insert(key, vector.clone());
                vector
            });
            (sum(&vector), hit)
        });
        assert_eq!(found, expected);
        let name = cached.engine.session(&[session as u8]);
        let found = with_cache.add(|| (cached.ask(text, name, sum), false));
        assert_eq!(found, expected);
    }
    let stats = cached.engine.cache().expect("a cache").stats();
    with_cache.hits = stats.hits as usize;
    println!("ms                 p50       p99      mean   hit %   heap grown");
    without.print("no cache");
    with_map.print("locked map");
    with_cache.print("L2");
    let (bytes, most, entries) = (stats.bytes, stats.target_bytes, stats.entries);
    println!("L2 holds {entries} entries in {bytes} bytes, {most} at most");
}
