//! What governs the line, seen through the engine: degradation, forced return, reclaiming, pools that follow the traffic.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};

use common::{Rig, all_tasks, now_or_never, rig, rig_with};
use plimsoll_engine::govern::{Cause, Level, Pressure};
use plimsoll_engine::*;

/// A rig whose longest request takes half of the ledger.
fn tight() -> Rig {
    let least = |limit| {
        let config = EngineConfig {
            batch_tokens_max: 64,
            batch_tokens_least: 64,
            requests_max: 256,
            inputs_max: 32,
            body_bytes_max: Some(4096),
            ..EngineConfig::new(limit, Arc::new(ManualClock::default()))
        };
        match Engine::new(config, common::model(), common::tokenizer()) {
            Err(StartError::LimitTooSmall { needed_bytes, .. }) => needed_bytes,
            _ => limit,
        }
    };
    let (needed, longest) = (least(64 * 1024), rig().engine.plan().longest_request_bytes);
    rig_with(|config| {
        config.memory_limit_bytes = needed + longest;
        config.requests_max = 256;
    })
}

fn ask(body_bytes: usize) -> Ask {
    Ask {
        tasks: all_tasks(),
        body_bytes: Some(body_bytes),
        inputs_max: None,
    }
}

/// Lets requests in, one a second, until the engine refuses.
fn fill(rig: &Rig) -> Vec<Ticket> {
    fill_with(rig, &[4096, 2048, 1024, 512, 256, 128, 64, 32, 16, 8, 1])
}

/// As [`fill`], each time with the first of these lengths that goes in.
fn fill_with(rig: &Rig, bodies_bytes: &[usize]) -> Vec<Ticket> {
    let mut tickets = Vec::new();
    while rig.engine.level() != Level::Refusing {
        rig.clock.advance(Nanos::from_ms(1000));
        let ticket = bodies_bytes.iter().find_map(|&bytes| {
            let mut admission = rig.engine.admit(ask(bytes));
            match common::poll(&mut admission) {
                Poll::Ready(Ok(ticket)) => Some(ticket),
                _ => None,
            }
        });
        tickets.push(ticket.expect("something fits"));
    }
    tickets
}

#[test]
fn knowing_the_body_gives_bytes_back_at_once() {
    let rig = rig();
    let body = format!("a{}", " b".repeat(2000));
    let ticket = rig.ticket(all_tasks(), &body);
    let before = rig.engine.ledger().in_use();
    let job = rig
        .engine
        .submit(ticket, JobOptions::new(all_tasks()), Nanos(u64::MAX));
    let after = rig.engine.ledger().in_use();
    assert!(
        after < before,
        "{before} then {after}: one text, where thousands could have come"
    );
    drop(job);
    rig.assert_all_back();
}

#[test]
fn under_pressure_tasks_are_dropped_and_named() {
    let mut rig = tight();
    let tickets = fill(&rig);
    assert_eq!(rig.engine.level(), Level::Refusing);
    assert_eq!(rig.engine.pressure(), Pressure::FULL);
    // One that is inside already is submitted now.
    let mut tickets = tickets.into_iter();
    let mut ticket = tickets.next_back().unwrap();
    ticket.push(b"a").unwrap();
    ticket.parse(common::read).unwrap();
    let job = rig
        .engine
        .submit(ticket, JobOptions::new(all_tasks()), Nanos(u64::MAX));
    rig.work();
    let answer = now_or_never(job).unwrap();
    let dropped = Tasks::WORDS.with(Tasks::ENTITIES).with(Tasks::CLASSES);
    assert_eq!(answer.dropped(), dropped);
    assert!(answer.words(0).is_empty() && answer.logits(0).is_empty());
    assert_eq!(answer.embedding(0).len(), rig.engine.model().info().hidden);
    drop((answer, tickets));
    rig.assert_all_back();
    rig.clock.advance(Nanos::from_ms(1000));
    let whole = rig.answer("a", JobOptions::new(all_tasks())).unwrap();
    assert_eq!(
        (whole.dropped(), rig.engine.level()),
        (Tasks::NONE, Level::Normal)
    );
}

#[test]
fn what_has_not_started_is_returned_largest_first() {
    let mut rig = tight();
    let small = rig.engine.submit(
        rig.ticket(all_tasks(), "a"),
        JobOptions::new(all_tasks()),
        Nanos(u64::MAX),
    );
    let mut tickets = fill(&rig);
    let mut cx = Context::from_waker(Waker::noop());
    let governed = rig.engine.govern();
    assert_eq!(governed.change.unwrap().to, Level::Refusing);
    assert_eq!(governed.returned_requests, 0, "nobody was turned away");
    let turned_away = rig.engine.admit(ask(4096)).give_up();
    assert!(matches!(
        turned_away,
        Refusal::Overloaded {
            reason: Shortage::Bytes {
                level: Level::Refusing,
                ..
            },
            ..
        }
    ));
    assert_eq!(rig.engine.govern().returned_requests, 1);
    let largest = tickets.iter().map(Ticket::held_bytes).max().unwrap();
    let returned: Vec<bool> = tickets
        .iter_mut()
        .map(|ticket| ticket.poll_returned(&mut cx).is_ready())
        .collect();
    let hit = returned.iter().position(|&returned| returned).unwrap();
    assert_eq!(tickets[hit].held_bytes(), largest);
    assert_eq!(rig.engine.governor_stats().returned_requests, 1);
    drop(tickets.remove(hit));
    assert_eq!(
        rig.engine.govern().returned_requests,
        0,
        "told once, and enough is free"
    );
    drop(tickets);
    rig.work();
    assert!(now_or_never(small).is_ok());
    rig.assert_all_back();
}

#[test]
fn a_job_in_line_is_returned_with_a_reason() {
    let mut rig = tight();
    let ticket = rig.ticket(all_tasks(), &"a b c d e f g h ".repeat(200));
    let mut job = rig
        .engine
        .submit(ticket, JobOptions::new(all_tasks()), Nanos(u64::MAX));
    let held = rig.engine.ledger().in_use();
    let tickets = fill_with(&rig, &[8, 1]);
    let turn_away = |body_bytes| {
        let refusal = rig.engine.admit(ask(body_bytes)).give_up();
        assert!(matches!(refusal, Refusal::Overloaded { .. }));
        rig.engine.govern().returned_requests
    };
    assert!(turn_away(4096) > 0);
    assert!(
        common::poll(&mut job).is_pending(),
        "for one like it only those end whose bodies still come in"
    );
    assert!(turn_away(256) > 0);
    drop(tickets);
    rig.work();
    let end = now_or_never(job).err();
    assert!(
        matches!(end, Some(JobError::Returned { held_bytes, .. }) if held_bytes == held),
        "{end:?}"
    );
    rig.assert_all_back();
}

/// A cache that frees what it is told to.
struct Cache(AtomicUsize);

impl Reclaim for Cache {
    fn name(&self) -> &'static str {
        "cache"
    }
    fn capacity_bytes(&self) -> usize {
        1000
    }
    fn live_bytes(&self) -> usize {
        self.0.load(SeqCst)
    }
    fn marked_bytes(&self) -> usize {
        7
    }
    fn reclaim(&self, goal_bytes: usize, step_bytes: usize) -> usize {
        let excess = self.live_bytes().saturating_sub(goal_bytes).min(step_bytes);
        self.0.fetch_sub(excess, SeqCst);
        excess
    }
}

/// Governs until nothing is left to do; the cycles that ended.
fn settle(rig: &Rig) -> Vec<govern::Cycle> {
    let mut cycles = Vec::new();
    for _ in 0..100 {
        cycles.extend(rig.engine.govern().cycle);
        rig.clock.advance(Nanos::from_ms(100));
    }
    cycles
}

#[test]
fn a_cycle_on_request_gives_back_all_that_is_idle() {
    let mut rig = rig();
    let cache = Arc::new(Cache(AtomicUsize::new(1000)));
    rig.engine.register(cache.clone());
    drop(rig.answer("a b c", JobOptions::new(all_tasks())).unwrap());
    assert!(rig.engine.committed_bytes() > 0);
    let before = rig.engine.committed_bytes();
    rig.engine.request_reclaim();
    let cycles = settle(&rig);
    assert_eq!(cycles.len(), 1, "{cycles:?}");
    assert_eq!((cycles[0].cause, cycles[0].number), (Cause::Request, 1));
    assert_eq!((cycles[0].live_before_bytes, cycles[0].marked_bytes), (before, 7));
    assert_eq!(cycles[0].live_after_bytes, 0);
    assert_eq!(cache.live_bytes(), 1000, "a cache without pressure keeps all");
    assert_eq!(rig.engine.committed_bytes(), 0);
}

#[test]
fn pressure_shrinks_a_cache_to_a_quarter() {
    let rig = tight();
    let cache = Arc::new(Cache(AtomicUsize::new(1000)));
    rig.engine.register(cache.clone());
    let tickets = fill(&rig);
    let cycles = settle(&rig);
    assert_eq!(cycles[0].cause, Cause::Level);
    assert_eq!(cache.live_bytes(), 250);
    drop(tickets);
}

#[test]
fn after_a_burst_idle_memory_goes_and_one_request_stays_warm() {
    let mut rig = rig();
    drop(rig.answer("a b c", JobOptions::new(all_tasks())).unwrap());
    let one = rig.engine.committed_bytes();
    let jobs: Vec<Job> = (0..12)
        .map(|_| rig.job("a b c", JobOptions::new(all_tasks())))
        .collect();
    rig.work();
    drop(jobs.into_iter().map(now_or_never).collect::<Vec<_>>());
    assert!(rig.engine.committed_bytes() > 4 * one);
    settle(&rig);
    let held = rig.engine.committed_bytes();
    assert!(
        held >= one && held <= 2 * one,
        "{held} bytes stay, one request takes {one}"
    );
    let misses = |rig: &Rig| rig.engine.length_stats().misses[0];
    let before = misses(&rig);
    drop(rig.answer("a b c", JobOptions::new(all_tasks())).unwrap());
    assert_eq!(misses(&rig), before);
}

#[test]
fn a_shift_of_the_lengths_is_followed_and_strands_nothing() {
    let mut rig = rig();
    let (short, long) = ("a b".to_owned(), "a b c d e f g h i j ".repeat(40));
    for body in [&short, &long] {
        for nth in 0..1100 {
            drop(rig.answer(body, JobOptions::new(all_tasks())).unwrap());
            if nth % 10 == 0 {
                rig.clock.advance(Nanos::from_ms(100));
                rig.engine.govern();
            }
        }
    }
    let stats = rig.engine.length_stats();
    assert_eq!(stats.buckets.0, [0, 0, 1024, 0, 0], "402 tokens each");
    assert_eq!(stats.boundaries, [408; 4]);
    for bucket in [0, 2] {
        let (hits, misses) = (stats.hits[bucket], stats.misses[bucket]);
        assert!(misses * 200 < hits, "{hits} hits and {misses} misses");
    }
    settle(&rig);
    let held = rig.engine.committed_bytes();
    rig.engine.request_reclaim();
    settle(&rig);
    drop(rig.answer(&long, JobOptions::new(all_tasks())).unwrap());
    let one = rig.engine.committed_bytes();
    // In a pause those of its slots that are larger than 16 KiB go.
    assert!(
        held >= one / 2 && held <= 2 * one,
        "{held} bytes stay, one long request takes {one}"
    );
}

#[test]
fn a_process_beyond_its_line_has_a_smaller_budget() {
    let rig = rig();
    let limit = rig.engine.ledger().limit_bytes();
    rig.engine.weigh(common::LIMIT + 1);
    assert_eq!(rig.engine.ledger().limit_bytes(), limit - limit / 100);
    rig.engine.weigh(0);
    assert_eq!(rig.engine.ledger().limit_bytes(), limit);
}

/// A request of 36 bytes: the tokens of as many texts as it may have room in one page, those of pairs that share a text do not.
const SHORT: Ask = Ask {
    tasks: Tasks::CLASSES,
    body_bytes: Some(36),
    inputs_max: None,
};

/// As many pairs of one long text and one short one as such a request may have.
fn shared(rig: &Rig) -> Ticket {
    let mut ticket = now_or_never(rig.engine.admit(SHORT)).unwrap();
    ticket.push(&[b'a'; 36]).unwrap();
    let [first, second] = [(0, 35), (35, 1)].map(|(start, len)| Span { start, len });
    let pairs = ticket.parse(|_, inputs| {
        while inputs.push_pair(first, second).is_ok() {}
        Ok::<usize, ()>(inputs.len())
    });
    assert_eq!(pairs, Ok(19));
    ticket
}

fn submit(rig: &Rig, ticket: Ticket) -> Job {
    let deadline = rig.engine.now().after(Nanos::from_ms(1000));
    rig.engine
        .submit(ticket, JobOptions::new(Tasks::CLASSES), deadline)
}

#[test]
fn what_inputs_share_is_debited_as_often_as_it_is_read() {
    let mut rig = rig();
    let before = now_or_never(rig.engine.admit(SHORT)).unwrap().held_bytes();
    let job = submit(&rig, shared(&rig));
    assert!(rig.engine.requests_bytes() > before);
    rig.work();
    drop(now_or_never(job).unwrap());
    rig.assert_all_back();
}
