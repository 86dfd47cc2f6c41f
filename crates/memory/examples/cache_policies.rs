//! The cache's policies over the same replayed traces: hit rates, what a full cold scan does to them, and what a lookup costs beside a plain locked map.
//!
//! `cargo run --release -p plimsoll-memory --example cache_policies [TEXTS...]`
//!
//! Each line of each file is a text; traces name texts by number, so without files there are 35,000 without words. Everything follows from one seed.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Mutex;
use std::time::Instant;

use plimsoll_memory::{
    CacheConfig, CacheKey, CachePolicy, CommitCap, CountingAllocator, Ledger, Owner, Reservation,
    VectorCache, alloc,
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Width of the default model's vectors.
const VECTOR_LEN: usize = 384;
/// Texts that the cache has room for.
const ROOM: usize = 2016;
/// Requests of a trace.
const REQUESTS: usize = 300_000;
/// Texts that were never seen.
const UNSEEN: usize = 20_000;
/// Requests in a minute, at a hundred a second.
const MINUTE: usize = 6_000;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, end: usize) -> usize {
        (self.unit() * end as f64) as usize
    }
}

/// Ranks from 0 on, the n-th with a weight of 1 / (n + 1)^skew.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(ranks: usize, skew: f64) -> Zipf {
        let mut sum = 0.0;
        let weights = (1..=ranks).map(|rank| {
            sum += (rank as f64).powf(-skew);
            sum
        });
        Zipf(weights.collect())
    }

    fn draw(&self, random: &mut Random) -> usize {
        let wanted = random.unit() * self.0[self.0.len() - 1];
        self.0.partition_point(|sum| *sum < wanted).min(self.0.len() - 1)
    }
}

/// Spreads ranks over the texts.
fn text_of(rank: usize, texts: usize) -> usize {
    rank * 7919 % texts
}

/// Traces by name, as numbers of texts.
fn traces(texts: usize, random: &mut Random) -> Vec<(&'static str, Vec<usize>)> {
    let popular = Zipf::new(texts, 0.9);
    let zipf = |random: &mut Random| text_of(popular.draw(random), texts);
    let plain: Vec<usize> = (0..REQUESTS).map(|_| zipf(random)).collect();

    // A job that reads all texts once, in order, runs beside the requests for a third of the time.
    let mut scanned = 0..texts;
    let scan: Vec<usize> = (0..REQUESTS)
        .map(|at| match at / 20_000 % 3 == 1 && random.unit() < 0.7 {
            true => scanned.next().unwrap_or_else(|| {
                scanned = 0..texts;
                0
            }),
            false => zipf(random),
        })
        .collect();

    // Round and round over a third more than fits, beside popular texts.
    let loop_len = ROOM * 4 / 3;
    let mut at = 0;
    let round: Vec<usize> = (0..REQUESTS)
        .map(|_| match random.unit() < 0.5 {
            true => {
                at = (at + 1) % loop_len;
                at
            }
            false => zipf(random),
        })
        .collect();

    // Forty sessions at a time; each asks again and again for a few neighbouring reviews, then another begins elsewhere.
    let near = Zipf::new(30, 0.7);
    let mut starts: Vec<usize> = (0..40).map(|_| random.below(texts)).collect();
    let sessions: Vec<usize> = (0..REQUESTS)
        .map(|_| {
            let session = random.below(starts.len());
            if random.unit() < 0.01 {
                starts[session] = random.below(texts);
            }
            match random.unit() < 0.8 {
                true => (starts[session] + near.draw(random)) % texts,
                false => zipf(random),
            }
        })
        .collect();

    // What is popular changes five times.
    let shift: Vec<usize> = (0..REQUESTS)
        .map(|at| (zipf(random) + at / (REQUESTS / 6) * 5_003) % texts)
        .collect();
    vec![
        ("zipf", plain),
        ("zipf and scans", scan),
        ("zipf and a loop", round),
        ("sessions", sessions),
        ("shifting zipf", shift),
    ]
}

fn key(text: usize) -> CacheKey {
    let mut random = Random(text as u64);
    CacheKey(random.next(), random.next())
}

fn cache(policy: CachePolicy) -> VectorCache {
    let config = CacheConfig {
        vector_len: VECTOR_LEN,
        bytes_max: ROOM * VECTOR_LEN * size_of::<f32>(),
        policy,
        ..CacheConfig::default()
    };
    let (ledger, cap) = (Ledger::new(1 << 30), CommitCap::new(1 << 30));
    let reservation = Reservation::new(VectorCache::reserve_bytes(&config)).expect("address space");
    VectorCache::new(&reservation, &cap, &ledger, Owner::new(1, "vectors"), config).expect("address space")
}

/// Whether the text was there; it is afterwards.
fn ask(cache: &VectorCache, text: usize, vector: &[f32]) -> bool {
    let found = cache.find(key(text), 0).is_some();
    if !found {
        cache.insert(key(text), 0, 0, vector, [0; 2]);
    }
    found
}

fn hit_rate(cache: &VectorCache, trace: &[usize], vector: &[f32]) -> f64 {
    trace.iter().filter(|text| ask(cache, **text, vector)).count() as f64 / trace.len() as f64
}

/// The hit rate of popular texts in the minute before a scan of all texts, and in the minute after it.
fn around_a_scan(cache: &VectorCache, texts: usize, vector: &[f32]) -> (f64, f64) {
    let (popular, mut random) = (Zipf::new(ROOM, 0.6), Random(5));
    let mut minutes = |count: usize| -> Vec<usize> {
        (0..count * MINUTE)
            .map(|_| text_of(popular.draw(&mut random), texts))
            .collect()
    };
    hit_rate(cache, &minutes(10), vector);
    let before = hit_rate(cache, &minutes(1), vector);
    (0..texts).for_each(|text| {
        black_box(ask(cache, text, vector));
    });
    (before, hit_rate(cache, &minutes(1), vector))
}

/// What most people write.
struct Map(Mutex<HashMap<String, Vec<f32>>>);

impl Map {
    fn ask(&self, text: &str, vector: &[f32]) -> Vec<f32> {
        let mut map = self.0.lock().expect("nobody panics");
        match map.get(text) {
            Some(known) => known.clone(),
            None => {
                map.insert(text.to_owned(), vector.to_vec());
                vector.to_vec()
            }
        }
    }
}

/// Nanoseconds of each call, sorted.
fn timed(count: usize, mut call: impl FnMut(usize)) -> Vec<u64> {
    let mut times: Vec<u64> = (0..count)
        .map(|at| {
            let start = Instant::now();
            call(at);
            start.elapsed().as_nanos() as u64
        })
        .collect();
    times.sort_unstable();
    times
}

fn print_times(name: &str, times: &[u64], grown_bytes: i64) {
    let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("{name:<16} {p50:>8} {p99:>8}   {grown_bytes}");
}

/// Heap and committed bytes.
fn live_bytes(cache: Option<&VectorCache>) -> i64 {
    alloc::total_counts().live_bytes() as i64 + cache.map_or(0, |cache| cache.bytes() as i64)
}

fn print_lookups(trace: &[usize], texts: &[String], vector: &[f32]) {
    // The first half fills, the second is timed; what grows is then measured with texts that were never seen.
    let (first, second) = trace.split_at(trace.len() / 2);
    let unseen: Vec<String> = (0..UNSEEN)
        .map(|number| format!("{number} {}", texts[number % texts.len()]))
        .collect();
    let grown = format!("bytes grown by {UNSEEN} new texts");
    println!(
        "\n{:<16} {:>8} {:>8}   {grown}",
        "zipf and scans", "p50 ns", "p99 ns"
    );
    let map = Map(Mutex::default());
    first.iter().for_each(|text| drop(map.ask(&texts[*text], vector)));
    let times = timed(second.len(), |at| {
        drop(black_box(map.ask(&texts[second[at]], vector)))
    });
    let before = live_bytes(None);
    unseen.iter().for_each(|text| drop(map.ask(text, vector)));
    print_times("locked map", &times, live_bytes(None) - before);
    drop(map);
    for policy in CachePolicy::ALL {
        let cache = cache(policy);
        hit_rate(&cache, first, vector);
        let times = timed(second.len(), |at| {
            black_box(ask(&cache, second[at], vector));
        });
        let before = live_bytes(Some(&cache));
        (0..UNSEEN).for_each(|number| assert!(!ask(&cache, texts.len() + number, vector)));
        let grown_bytes = live_bytes(Some(&cache)) - before;
        print_times(&format!("L2, {}", policy.name()), &times, grown_bytes);
    }
}

fn main() {
    let mut texts: Vec<String> = Vec::new();
    for path in std::env::args().skip(1) {
        let file = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        texts.extend(file.lines().filter(|line| !line.is_empty()).map(str::to_owned));
    }
    if texts.is_empty() {
        texts = (0..35_000).map(|number| number.to_string()).collect();
    }
    let (vector, mut random) = (vec![0.5; VECTOR_LEN], Random(1));
    let traces = traces(texts.len(), &mut random);
    println!(
        "{} texts, room for {ROOM}, {REQUESTS} requests a trace; hit rates in percent",
        texts.len()
    );
    print!("{:<18}", "trace");
    CachePolicy::ALL
        .iter()
        .for_each(|policy| print!("{:>9}", policy.name()));
    println!();
    for (name, trace) in &traces {
        print!("{name:<18}");
        for policy in CachePolicy::ALL {
            print!("{:>9.1}", 100.0 * hit_rate(&cache(policy), trace, &vector));
        }
        println!();
    }
    println!(
        "\nhot texts in the minute before a scan of all {} texts and in the minute after",
        texts.len()
    );
    for policy in CachePolicy::ALL {
        let (before, after) = around_a_scan(&cache(policy), texts.len(), &vector);
        let kept = 100.0 * after / before;
        println!(
            "{:<18}{:>9.1}{:>9.1}   {kept:.1}% of what it was",
            policy.name(),
            100.0 * before,
            100.0 * after
        );
    }
    print_lookups(&traces[1].1, &texts, &vector);
}
