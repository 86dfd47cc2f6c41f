//! What is kept of a request's road, of the governor's deeds and of who is inside.

mod common;

use common::{Rig, now_or_never, rig, rig_with};
use plimsoll_engine::trace::{Deed, Phase, REFUSALS, Stay, Step, Told};
use plimsoll_engine::{Ask, JobOptions, Nanos, Tasks};

fn traced() -> Rig {
    rig_with(|config| config.trace = true)
}

fn steps(rig: &Rig) -> Vec<Told> {
    let mut all = Vec::new();
    let (_, lost) = rig.engine.steps(0, usize::MAX, |told| all.push(told));
    assert_eq!(lost, 0);
    all
}

#[test]
fn each_stage_of_a_request_is_told_once() {
    let mut rig = traced();
    rig.clock.advance(Nanos(100));
    let answer = rig.answer("a b c\nd", JobOptions::new(Tasks::EMBEDDING)).unwrap();
    drop(answer);
    let all = steps(&rig);
    assert!(
        matches!(
            all.iter().map(|told| told.step).collect::<Vec<_>>()[..],
            [
                Step::Text {
                    worker: 0,
                    tokens: 8,
                    ..
                },
                Step::Pass {
                    worker: 0,
                    sequences: 2,
                    tokens: 8,
                    ..
                },
                Step::InPass { pass: 1 },
                Step::Left {
                    phase: Phase::Answer,
                    stay: Stay {
                        submitted: Some(_),
                        writing: Some(_),
                        inputs: 2,
                        ..
                    },
                    ..
                },
            ]
        ),
        "{all:?}"
    );
    assert!(all.iter().all(|told| (told.number, told.at) == (1, Nanos(101))));
}

#[test]
fn who_is_inside_is_seen_where_it_stands() {
    let mut rig = traced();
    let body = rig.ticket(Tasks::EMBEDDING, "a");
    let line = rig.job("a b", JobOptions::new(Tasks::WORDS));
    let phases = |rig: &Rig| -> Vec<_> {
        let inside = rig.engine.inside();
        inside
            .map(|inside| (inside.number, inside.phase, inside.tasks))
            .collect()
    };
    assert_eq!(
        phases(&rig),
        [(1, Phase::Body, Tasks::default()), (2, Phase::Line, Tasks::WORDS)]
    );
    drop(body);
    rig.work();
    let answer = now_or_never(line).unwrap();
    let inside = rig.engine.inside().next().unwrap();
    assert_eq!(inside.phase, Phase::Answer);
    let held = rig.engine.requests_bytes();
    assert_eq!((inside.held_bytes(), inside.flushed_bytes), (held as u64, 0));
    drop(answer);
    assert_eq!(rig.engine.inside().count(), 0);
    let left: Vec<_> = steps(&rig)
        .into_iter()
        .filter_map(|told| match told.step {
            Step::Left { phase, .. } => Some((told.number, phase)),
            _ => None,
        })
        .collect();
    assert_eq!(left, [(1, Phase::Body), (2, Phase::Answer)]);
}

#[test]
fn refusals_and_deeds_are_kept_with_their_reasons() {
    let rig = traced();
    let ask = Ask {
        tasks: Tasks::EMBEDDING,
        body_bytes: Some(5000),
        inputs_max: None,
    };
    assert!(now_or_never(rig.engine.admit(ask)).is_err());
    let Step::Refused { why, .. } = steps(&rig)[0].step else {
        panic!("a refusal is told")
    };
    assert_eq!(REFUSALS[why as usize], "body too large");
    rig.engine.request_reclaim();
    while rig.engine.governor_stats().cycles == 0 {
        rig.engine.govern();
        rig.clock.advance(Nanos::from_ms(100));
    }
    let mut deeds = Vec::new();
    let next = rig.engine.deeds(0, |_, deed| deeds.push(deed));
    assert!(
        matches!(deeds[..], [Deed::Cycle(cycle)] if cycle.number == 1),
        "{deeds:?}"
    );
    assert_eq!(rig.engine.deeds(next, |_, _| panic!("told twice")), next);
}

#[test]
fn without_the_setting_nothing_is_kept_and_the_bill_has_no_line() {
    let mut off = rig();
    drop(off.answer("a", JobOptions::new(Tasks::EMBEDDING)));
    assert!(steps(&off).is_empty() && !off.engine.is_traced());
    let lines = |rig: &Rig| {
        let line = rig.engine.plan().lines.iter().find(|line| line.owner == "trace");
        line.map(|line| line.total_bytes())
    };
    assert_eq!(lines(&off), None);
    assert!(lines(&traced()).is_some_and(|bytes| bytes > 0));
}
