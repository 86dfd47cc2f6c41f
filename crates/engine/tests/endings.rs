//! Every way in which a request can end, and after each of them nothing is held.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use common::{Rig, all_tasks, now_or_never, poll, rig, rig_with};
use plimsoll_engine::*;

const STAGES: [Stage; 5] = [
    Stage::Text,
    Stage::Batch,
    Stage::Forward,
    Stage::Heads,
    Stage::Finish,
];

fn options() -> JobOptions {
    JobOptions::new(all_tasks())
}

/// An engine whose probe runs `fault` once, as `stage` begins.
fn faulty(stage: Stage, fault: impl Fn() + Send + Sync + 'static) -> Rig {
    let armed = AtomicBool::new(true);
    let probe: Probe = Arc::new(move |at| {
        if at == stage && armed.swap(false, Ordering::SeqCst) {
            fault();
        }
    });
    rig_with(|config| config.probe = Some(probe))
}

#[test]
fn an_answer_holds_its_slots_until_it_is_dropped() {
    let mut rig = rig();
    let answer = rig.answer("我 在 上 海", options()).unwrap();
    assert!(rig.engine.ledger().in_use() > 0);
    drop(answer);
    rig.assert_all_back();
}

#[test]
fn chunks_that_come_back_late_keep_nobody_from_answering() {
    let mut rig = rig_with(|config| config.requests_max = 1);
    let mut late = Vec::new();
    for _ in 0..3 {
        let answer = rig.answer("a b", options()).unwrap();
        for _ in 0..2 {
            match answer.poll_chunk(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(chunk) => late.push(chunk),
                Poll::Pending => panic!("an answer has two chunks"),
            }
        }
    }
    assert_eq!(
        rig.engine.requests_inside(),
        0,
        "the answers are gone, their chunks are not"
    );
    assert!(rig.engine.ledger().in_use() > 0, "and are still paid for");
    drop(late);
    rig.assert_all_back();
}

#[test]
fn going_away_at_the_door_in_the_body_and_before_submission() {
    let rig = rig();
    let ask = Ask {
        tasks: all_tasks(),
        body_bytes: Some(100),
        inputs_max: None,
    };
    drop(rig.engine.admit(ask));
    rig.assert_all_back();
    let mut ticket = now_or_never(rig.engine.admit(ask)).unwrap();
    ticket.push(b"half a bod").unwrap();
    drop(ticket);
    rig.assert_all_back();
    drop(rig.ticket(all_tasks(), "a\nb"));
    rig.assert_all_back();
}

#[test]
fn cancelled_in_either_line() {
    let mut rig = rig();
    drop(rig.job("a b", options()));
    rig.assert_all_back();
    let job = rig.job("a b", options());
    assert_eq!(rig.worker.turn(), Turn::Text);
    drop(job);
    rig.assert_all_back();
    assert_eq!(rig.worker.turn(), Turn::Idle);
}

#[test]
fn cancelled_when_done_but_not_fetched() {
    let mut rig = rig();
    let job = rig.job("a b", options());
    rig.work();
    drop(job);
    rig.assert_all_back();
}

#[test]
fn cancelled_in_the_middle_of_each_stage() {
    for stage in STAGES {
        let job: Arc<Mutex<Option<Job>>> = Arc::default();
        let held = Arc::clone(&job);
        // The gathering of a pass holds the line: a cancel there waits for it, as it would in a server.
        let outside = stage == Stage::Batch;
        let mut rig = faulty(stage, move || {
            let job = held.lock().unwrap().take();
            if stage == Stage::Heads {
                std::thread::scope(|s| drop(s.spawn(|| drop(job)).join()))
            } else {
                drop(job)
            }
        });
        *job.lock().unwrap() = Some(rig.job("我 在\n上 海", options()));
        rig.work();
        if outside {
            drop(job.lock().unwrap().take());
        }
        rig.assert_all_back();
        assert_eq!(rig.discarded(), 0, "{stage:?}: nothing panicked");
    }
}

#[test]
fn a_panic_in_each_stage_costs_its_own_job_only() {
    for stage in STAGES {
        let mut rig = faulty(stage, || panic!("injected"));
        let job = rig.job("我 在\n上 海", options());
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| rig.work()));
        assert!(result.is_ok(), "{stage:?}: the worker survived");
        let error = now_or_never(job).err();
        assert_eq!(error, Some(JobError::Internal { stage: stage.name() }));
        rig.assert_all_back();
        assert!(rig.discarded() > 0, "{stage:?}: its slots were discarded");
        let after = rig.answer("a b", options());
        assert!(after.is_ok(), "{stage:?}: the worker goes on");
    }
}

#[test]
fn deadlines_in_both_lines() {
    let mut rig = rig();
    let job = rig.job("a b", options());
    rig.clock.advance(Nanos::from_ms(1000));
    rig.work();
    assert_eq!(
        now_or_never(job).err(),
        Some(JobError::Deadline { deadline_ms: 1000 })
    );
    rig.assert_all_back();

    let job = rig.job("a b", options());
    assert_eq!(rig.worker.turn(), Turn::Text);
    rig.clock.advance(Nanos::from_ms(1000));
    assert_eq!(rig.worker.turn(), Turn::Idle);
    assert_eq!(
        now_or_never(job).err(),
        Some(JobError::Deadline { deadline_ms: 1000 })
    );
    rig.assert_all_back();
}

#[test]
fn chunks_outlive_their_answer_and_still_come_back() {
    let mut rig = rig();
    let answer = rig.answer("a b", options()).unwrap();
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let take = |cx: &mut _| match answer.poll_chunk(cx) {
        std::task::Poll::Ready(chunk) => Some(chunk),
        std::task::Poll::Pending => None,
    };
    let (first, second) = (take(&mut cx).unwrap(), take(&mut cx).unwrap());
    assert!(take(&mut cx).is_none(), "two chunks are the bound");
    drop(first);
    let mut third = take(&mut cx).unwrap();
    third.bytes_mut()[..5].copy_from_slice(b"hello");
    third.truncate(5);
    assert_eq!(third.as_ref(), b"hello");
    drop(answer);
    assert!(
        rig.engine.ledger().in_use() > 0,
        "chunks on their way are still debited"
    );
    drop((second, third));
    rig.assert_all_back();
}

#[test]
fn a_late_chunk_does_not_land_in_the_next_answer() {
    let mut rig = rig();
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let first = rig.answer("a b", options()).unwrap();
    let std::task::Poll::Ready(late) = first.poll_chunk(&mut cx) else {
        panic!("no chunk")
    };
    drop(first);
    let second = rig.answer("c d", options()).unwrap();
    drop(late);
    let chunks: Vec<_> = std::iter::from_fn(|| match second.poll_chunk(&mut cx) {
        std::task::Poll::Ready(chunk) => Some(chunk),
        std::task::Poll::Pending => None,
    })
    .collect();
    assert_eq!(chunks.len(), 2);
    drop((chunks, second));
    rig.assert_all_back();
}

#[test]
fn refusals_hold_nothing() {
    let rig = rig();
    let huge = Ask {
        tasks: all_tasks(),
        body_bytes: Some(1 << 40),
        inputs_max: None,
    };
    let refusal = now_or_never(rig.engine.admit(huge)).err().unwrap();
    assert_eq!(
        refusal,
        Refusal::BodyTooLarge {
            body_bytes: 1 << 40,
            body_bytes_max: 4096
        }
    );
    rig.assert_all_back();

    let ask = Ask {
        tasks: all_tasks(),
        body_bytes: Some(4096),
        inputs_max: None,
    };
    let mut inside = Vec::new();
    let waiting = loop {
        let mut admission = rig.engine.admit(ask);
        match poll(&mut admission) {
            std::task::Poll::Ready(ticket) => inside.push(ticket.unwrap()),
            std::task::Poll::Pending => break admission,
        }
    };
    assert!(matches!(
        waiting.give_up(),
        Refusal::Overloaded {
            reason: Shortage::Bytes { .. } | Shortage::Requests { .. },
            ..
        }
    ));
    assert_eq!(rig.engine.requests_waiting(), 0);
    drop(inside);
    rig.assert_all_back();
}

#[test]
fn the_body_may_not_go_on() {
    let rig = rig();
    let mut ticket = now_or_never(rig.engine.admit(Ask {
        tasks: all_tasks(),
        body_bytes: Some(4),
        inputs_max: None,
    }))
    .unwrap();
    ticket.push(b"abc").unwrap();
    assert_eq!(ticket.push(b"de"), Err(BodyTooLong { body_bytes_max: 4 }));
    assert_eq!(ticket.body(), b"abc");
}
