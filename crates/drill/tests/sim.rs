//! Seeds of the simulator: those that failed on the way, and many more.
//!
//! `PLIMSOLL_SIM_SEEDS=100000 cargo test --release -p plimsoll-drill --test sim` runs more of them, `PLIMSOLL_SIM_FROM=N` from another one on.

use std::panic::catch_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;

use plimsoll_drill::sim::{self, Events, Violation};
use plimsoll_encoder::Model;
use plimsoll_text::{BertOptions, Tokenizer};

/// Seeds that failed once, a line each with what they found.
const CORPUS: &str = include_str!("sim-seeds.txt");

fn load() -> (Model, Tokenizer) {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/encoder/bert-q4-heads");
    let mut vocab = String::from("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n");
    for piece in ('a'..='z').chain('0'..='9').chain("我在北，".chars()) {
        vocab.push(piece);
        vocab.push('\n');
    }
    (
        Model::load_dir(&testdata).expect("the model of the tests"),
        Tokenizer::from_vocab_txt(vocab.as_bytes(), BertOptions::default()).expect("its vocabulary"),
    )
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Runs seeds on all cores; the first violation of each thread, and what happened in all.
fn run(seeds: impl Iterator<Item = u64>) -> (Vec<Violation>, Events) {
    let seeds: Vec<u64> = seeds.collect();
    let threads = available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut events = Events::default();
        while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            match catch_unwind(|| sim::run(seed, &load)) {
                Ok(Ok(more)) => events += more,
                Ok(Err(violation)) => return (Some(violation), events),
                Err(_) => panic!("seed {seed} panicked: see above"),
            }
        }
        (None, events)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let results = threads
            .into_iter()
            .map(|thread| thread.join().expect("the seed is named above"));
        let mut all = (Vec::new(), Events::default());
        for (violation, events) in results {
            all.0.extend(violation);
            all.1 += events;
        }
        all
    })
}

#[test]
fn seeds_that_failed_once_hold() {
    let seeds = CORPUS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_whitespace().next())
        .map(|seed| seed.parse::<u64>().expect("a seed"));
    let (violations, _) = run(seeds);
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn a_thousand_seeds_hold() {
    let (from, count) = (
        setting("PLIMSOLL_SIM_FROM", 0),
        setting("PLIMSOLL_SIM_SEEDS", 1000),
    );
    let (violations, events) = run(from..from + count);
    assert!(violations.is_empty(), "{violations:#?}");
    println!("{count} seeds from {from}: {events:?}");
    // They were no idle runs: everything that can happen did, many times.
    let Events {
        admitted,
        admitted_from_line,
        refused,
        answered,
        failed,
        hung_up,
        cancelled_inside,
        panics,
        returned,
        level_changes,
        cache_hits,
        cache_insertions,
    } = events;
    for (count_of, what) in [
        (admitted, "admitted"),
        (admitted_from_line, "admitted from the line"),
        (refused, "refused"),
        (answered, "answered"),
        (failed, "failed"),
        (hung_up, "hung up"),
        (cancelled_inside, "cancelled inside"),
        (panics, "panics"),
        (returned, "returned"),
        (level_changes, "level changes"),
        (cache_hits, "cache hits"),
        (cache_insertions, "cache insertions"),
    ] {
        assert!(count_of >= count / 50, "{what}: only {count_of} in {count} seeds");
    }
}

#[test]
fn a_seed_is_a_run() {
    for seed in 0..5 {
        assert_eq!(sim::run(seed, &load), sim::run(seed, &load));
    }
}
