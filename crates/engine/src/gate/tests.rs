use super::*;
use crate::clock::ManualClock;
use std::task::Waker;

fn gate(limit_bytes: usize, requests_max: usize, waiting_max: usize) -> (Arc<Gate>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::default());
    let limits = GateLimits {
        requests_max,
        waiting_max,
        wait: Nanos::from_ms(10),
        line_max: Some(Nanos::from_ms(1000)),
        marks: Marks::default(),
    };
    (Gate::new(Ledger::new(limit_bytes), clock.clone(), limits), clock)
}

fn inside(entry: Result<Entry, Refusal>) -> Grant {
    match entry {
        Ok(Entry::Inside(grant)) => grant,
        Ok(Entry::InLine(id)) => panic!("in line as {id}"),
        Err(refusal) => panic!("{refusal}"),
    }
}

fn in_line(entry: Result<Entry, Refusal>) -> u64 {
    match entry {
        Ok(Entry::InLine(id)) => id,
        _ => panic!("not in line"),
    }
}

fn poll(gate: &Arc<Gate>, id: u64) -> Poll<Result<Grant, Refusal>> {
    gate.poll_line(id, &mut Context::from_waker(Waker::noop()))
}

fn leave(gate: &Gate, grant: Grant) {
    gate.leave(grant.berth);
    drop(grant.held);
}

/// 448 bytes in 100 ms, time after time: 4.48 bytes a millisecond.
fn measure(gate: &Arc<Gate>, clock: &ManualClock) {
    clock.advance(Nanos::from_ms(5000));
    for _ in 0..20 {
        let grants: Vec<_> = (0..8).map(|_| inside(gate.enter(56))).collect();
        clock.advance(Nanos::from_ms(100));
        grants.into_iter().for_each(|grant| leave(gate, grant));
    }
}

#[test]
fn nobody_overtakes_a_large_request_that_waits() {
    let (gate, _) = gate(100, 8, 8);
    let first = inside(gate.enter(50));
    let large = in_line(gate.enter(80));
    let small = in_line(gate.enter(10));
    assert!(
        poll(&gate, small).is_pending(),
        "10 bytes are free, but 80 were asked for before"
    );
    leave(&gate, first);
    assert!(poll(&gate, small).is_pending());
    assert!(matches!(poll(&gate, large), Poll::Ready(Ok(_))));
    assert_eq!(gate.waiting(), 1);
}

#[test]
fn giving_up_lets_the_next_one_through() {
    let (gate, _) = gate(100, 8, 8);
    let _first = inside(gate.enter(50));
    let large = in_line(gate.enter(80));
    let small = in_line(gate.enter(10));
    gate.give_up(large);
    assert!(matches!(poll(&gate, small), Poll::Ready(Ok(_))));
}

#[test]
fn small_requests_go_past_into_their_own_part_and_no_further() {
    let (gate, _) = gate(1000, 64, 64);
    let _large = inside(gate.enter(900));
    let _waits = in_line(gate.enter(500));
    let small: Vec<_> = (0..4).map(|_| inside(gate.enter(25))).collect();
    in_line(gate.enter(25));
    assert_eq!(gate.ledger().in_use(), 1000);
    assert_eq!(small.len(), 4);
}

#[test]
fn a_full_line_and_a_full_table_are_named() {
    let (gate, _) = gate(100, 1, 1);
    let grant = inside(gate.enter(10));
    let waiting = in_line(gate.enter(10));
    let reason = Shortage::Requests { requests_max: 1 };
    assert!(matches!(gate.enter(10), Err(Refusal::Overloaded { reason: r, .. }) if r == reason));
    assert!(matches!(gate.waited_in_vain(10), Refusal::Overloaded { reason: r, .. } if r == reason));
    gate.leave(grant.berth);
    let reason = Shortage::Waiting { waiting_max: 1 };
    assert!(matches!(gate.enter(10), Err(Refusal::Overloaded { reason: r, .. }) if r == reason));
    gate.give_up(waiting);
    drop(grant.held);
    assert_eq!((gate.ledger().in_use(), gate.inside(), gate.waiting()), (0, 0, 0));
}

#[test]
fn retry_after_follows_the_measured_drain() {
    let (gate, clock) = gate(1000, 8, 8);
    measure(&gate, &clock);
    let _full = inside(gate.enter(550));
    let Refusal::Overloaded { retry_after_ms, .. } = gate.waited_in_vain(460) else {
        panic!("refused for another reason")
    };
    // 350 are free for a large one, 110 are missing, at 4.48 bytes a millisecond.
    assert_eq!(retry_after_ms, 25);
}

#[test]
fn who_cannot_get_in_within_the_wait_is_told_at_once() {
    let (gate, clock) = gate(1000, 8, 8);
    measure(&gate, &clock);
    let _full = inside(gate.enter(550));
    let refused = gate.enter(460);
    assert!(matches!(
        refused,
        Err(Refusal::Overloaded {
            reason: Shortage::Bytes {
                needed_bytes: 460,
                free_bytes: 350,
                ..
            },
            ..
        })
    ));
    in_line(gate.enter(390));
}

#[test]
fn a_high_level_lets_newcomers_in_up_to_the_resume_mark() {
    let (gate, clock) = gate(1000, 8, 8);
    let first = inside(gate.enter(450));
    let second = inside(gate.enter(410));
    let change = gate.look().change.unwrap();
    assert_eq!((change.from, change.to), (Level::Normal, Level::Refusing));
    assert!(gate.look().change.is_none(), "told once");
    clock.advance(Nanos::from_ms(10));
    leave(&gate, second);
    assert_eq!(gate.level().0, Level::Refusing, "not within a second");
    let third = inside(gate.enter(300));
    in_line(gate.enter(26));
    leave(&gate, third);
    clock.advance(Nanos::from_ms(1000));
    assert_eq!(gate.look().change.unwrap().to, Level::Normal);
    leave(&gate, first);
}

#[test]
fn who_would_wait_too_long_for_workers_is_refused() {
    let (gate, clock) = gate(1000, 64, 8);
    let job = || gate.job(1).expect("it does not wait too long");
    let mut jobs: Vec<_> = (0..24).map(|_| job()).collect();
    clock.advance(Nanos::from_ms(400));
    // Who goes away was not done.
    (0..100).for_each(|_| drop(job()));
    jobs.drain(16..).for_each(|mut job| job.is_done = true);
    // 16 jobs, 8 in 400 ms: 800 ms.
    jobs.extend((0..5).map(|_| job()));
    let Err(Refusal::Overloaded {
        reason,
        retry_after_ms,
    }) = gate.job(1)
    else {
        panic!("let in")
    };
    let expected = Shortage::Time {
        line_ms: 1050,
        line_ms_max: 1000,
    };
    assert_eq!((reason, retry_after_ms), (expected, 50));
    assert!(gate.enter(1).is_ok(), "it may be small enough to need no worker");
    assert!(matches!(gate.enter(30), Err(Refusal::Overloaded { .. })));
    drop(jobs);
    assert!(gate.job(1).is_ok() && gate.enter(30).is_ok());
}

#[test]
fn the_smallest_who_was_turned_away_is_told_once() {
    let (gate, clock) = gate(1000, 8, 8);
    measure(&gate, &clock);
    let _full = inside(gate.enter(550));
    assert_eq!(gate.look().turned_away_bytes, None);
    for bytes in [900, 800, 850] {
        assert!(gate.enter(bytes).is_err());
    }
    let look = gate.look();
    assert_eq!((look.turned_away_bytes, look.inside), (Some(800), 1));
    assert_eq!(gate.look().turned_away_bytes, None);
}

#[test]
fn a_draining_gate_refuses_those_in_line_too() {
    let (gate, _) = gate(100, 8, 8);
    let _first = inside(gate.enter(90));
    let waiting = in_line(gate.enter(10));
    gate.drain();
    assert!(matches!(
        poll(&gate, waiting),
        Poll::Ready(Err(Refusal::Draining))
    ));
    assert!(matches!(gate.enter(1), Err(Refusal::Draining)));
}

/// A cache that borrowed from the ledger.
struct Borrower(Mutex<plimsoll_memory::Debit>);

impl Reclaim for Borrower {
    fn name(&self) -> &'static str {
        "borrower"
    }
    fn capacity_bytes(&self) -> usize {
        500
    }
    fn live_bytes(&self) -> usize {
        self.0.lock().unwrap().bytes()
    }
    fn marked_bytes(&self) -> usize {
        0
    }
    fn reclaim(&self, goal_bytes: usize, _step_bytes: usize) -> usize {
        let mut debit = self.0.lock().unwrap();
        let before = debit.bytes();
        debit.shrink_to(goal_bytes);
        before - debit.bytes()
    }
}

#[test]
fn what_a_cache_borrowed_is_taken_back_before_anyone_is_refused() {
    let (gate, _) = gate(1000, 8, 8);
    let borrowed = gate.ledger().try_debit(Owner::new(9, "cache"), 500).unwrap();
    let cache = Arc::new(Borrower(Mutex::new(borrowed)));
    gate.register(cache.clone());
    let first = inside(gate.enter(400));
    assert_eq!((cache.live_bytes(), gate.level().0), (500, Level::Normal));
    let second = inside(gate.enter(180));
    assert_eq!((cache.live_bytes(), gate.requests_bytes()), (420, 580));
    assert_eq!(gate.level().0, Level::Normal, "borrowed bytes press nobody");
    leave(&gate, first);
    leave(&gate, second);
}

#[test]
fn after_a_wait_in_vain_nobody_is_kept_waiting_for_a_while() {
    let (gate, clock) = gate(1000, 8, 8);
    let _full = inside(gate.enter(550));
    let first = in_line(gate.enter(460));
    clock.advance(Nanos::from_ms(10));
    gate.waited_in_vain(460);
    gate.give_up(first);
    assert!(gate.enter(460).is_err());
    let _small = inside(gate.enter(20));
    clock.advance(super::VAIN_WAIT);
    in_line(gate.enter(460));
}

#[test]
fn what_is_inside_grows_by_what_it_lacks_or_is_told() {
    let (gate, _clock) = gate(1000, 8, 8);
    let mut first = inside(gate.enter(300));
    assert_eq!(gate.grow(&mut first.held, 500), Ok(()));
    assert_eq!((first.held.bytes(), gate.requests_bytes()), (500, 500));
    let refused = gate.grow(&mut first.held, 990);
    assert!(
        matches!(
            refused,
            Err(Refusal::Overloaded {
                reason: Shortage::Bytes {
                    needed_bytes: 490,
                    ..
                },
                ..
            })
        ),
        "{refused:?}"
    );
    assert_eq!((first.held.bytes(), gate.requests_bytes()), (500, 500));
    leave(&gate, first);
    assert_eq!(gate.requests_bytes(), 0);
}
