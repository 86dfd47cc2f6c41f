//! Layers that are switched off do not work, and all else goes on: what the ablation measures is what it says.

mod common;

use common::{Rig, all_tasks, rig, rig_with};
use plimsoll_engine::*;

const BODY: &str = "abc def ghi jkl mno pqr stu vwx";

fn without(change: impl FnOnce(&mut Layers)) -> Rig {
    rig_with(|config| change(&mut config.layers))
}

fn answer(rig: &mut Rig) {
    drop(rig.answer(BODY, JobOptions::new(all_tasks())).unwrap());
}

fn sum(rig: &Rig, of: impl Fn(&KindStats) -> u64) -> u64 {
    rig.engine.pool_stats().iter().map(of).sum()
}

/// Governs until nothing recent is remembered.
fn forget(rig: &Rig) {
    for _ in 0..100 {
        rig.clock.advance(Nanos::from_ms(200));
        rig.engine.govern();
    }
}

#[test]
fn without_reuse_no_slot_is_kept_and_answers_are_the_same() {
    let mut rig = without(|layers| layers.reuse = false);
    for _ in 0..3 {
        answer(&mut rig);
        assert_eq!(rig.engine.committed_bytes(), 0);
    }
    assert_eq!(sum(&rig, |kind| kind.stats.hits), 0);
    rig.assert_all_back();
    let mut with = common::rig();
    (0..3).for_each(|_| answer(&mut with));
    assert!(sum(&with, |kind| kind.stats.hits) > 0 && with.engine.committed_bytes() > 0);
}

#[test]
fn without_give_back_the_most_that_was_held_stays() {
    let burst = |rig: &mut Rig| {
        let jobs: Vec<Job> = (0..8)
            .map(|_| rig.job(BODY, JobOptions::new(all_tasks())))
            .collect();
        rig.work();
        jobs.into_iter()
            .for_each(|job| drop(common::now_or_never(job).unwrap()));
        let held = rig.engine.committed_bytes();
        forget(rig);
        (held, rig.engine.committed_bytes())
    };
    let (held, later) = burst(&mut without(|layers| layers.give_back = false));
    assert_eq!(held, later);
    let (held, later) = burst(&mut rig());
    assert!(later < held, "{later} of {held}");
}

#[test]
fn without_waiting_the_door_does_not_make_anyone_wait() {
    let rig = without(|layers| layers.waiting = false);
    assert_eq!(rig.engine.limits().admission_wait, Nanos(0));
    assert!(common::rig().engine.limits().admission_wait > Nanos(0));
}
