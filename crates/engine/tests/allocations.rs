//! Between submission and the finished answer nothing is allocated.

mod common;

use common::{Rig, all_tasks, character_model, character_tokenizer, now_or_never, rig, rig_of, rig_with};
use plimsoll_engine::{CacheSettings, JobOptions, Tasks};
use plimsoll_memory::CountingAllocator;
use plimsoll_memory::alloc;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn requests_of_all_lengths_and_tasks_allocate_nothing() {
    allocate_nothing(rig(), "我 在 a b 上 海 1 2 ");
}

#[test]
fn being_traced_and_sampled_allocates_nothing() {
    plimsoll_memory::profile::enable();
    allocate_nothing(rig_with(|config| config.trace = true), "我 在 a b 上 海 1 2 ");
}

#[test]
fn looking_up_keeping_and_evicting_vectors_allocates_nothing() {
    let rig = rig_with(|config| config.cache = CacheSettings::new(Some(64 * 1024)));
    let cache = rig.engine.cache().unwrap().clone();
    allocate_nothing(rig, "我 在 a b 上 海 1 2 ");
    assert!(cache.stats().hits > 0);
}

#[test]
fn labels_of_characters_allocate_nothing() {
    allocate_nothing(
        rig_of(character_model(), character_tokenizer(), |_| {}),
        "abcdab dabcd, cdcda 京",
    );
}

fn allocate_nothing(mut rig: Rig, word: &str) {
    let bodies: Vec<String> = (0..40).map(|n| format!("{}\nb", word.repeat(n % 13))).collect();
    let tasks = [
        all_tasks(),
        Tasks::EMBEDDING,
        Tasks::TOKEN_EMBEDDINGS,
        Tasks::WORDS,
        Tasks::TOKENS,
    ];
    for round in 0..2 {
        for (index, body) in bodies.iter().enumerate() {
            let options = JobOptions::new(tasks[index % tasks.len()]);
            let before = alloc::thread_counts().allocations;
            let answer = rig.answer(body, options);
            let during = alloc::thread_counts().allocations - before;
            assert!(answer.is_ok());
            assert_eq!(during, 0, "round {round}, body {index}: {during} allocations");
        }
    }
}

#[test]
fn an_answer_that_waits_is_found_without_allocating() {
    let mut rig = rig();
    let jobs: Vec<_> = (0..8)
        .map(|_| rig.job("a b c", JobOptions::new(Tasks::EMBEDDING)))
        .collect();
    let before = alloc::thread_counts().allocations;
    rig.work();
    for job in jobs {
        assert!(now_or_never(job).is_ok());
    }
    // The one allocation allowed is none: freeing the vector of jobs is not an allocation.
    assert_eq!(alloc::thread_counts().allocations, before);
}
