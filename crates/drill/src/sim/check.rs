//! What must hold after every step.

use plimsoll_engine::Engine;

/// Bytes that are known from outside to be held.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// By tickets, exactly.
    pub(super) exact_bytes: usize,
    /// By jobs and answers, at most.
    pub(super) most_bytes: usize,
    /// Clients that are inside.
    pub(super) inside: usize,
    /// Clients that wait at the door.
    pub(super) waiting: usize,
    /// Clients that wait for a worker, or for its result.
    pub(super) jobs: usize,
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

/// The ledger, the places and the pools agree with what clients hold.
pub(super) fn safety(engine: &Engine, known: Known) -> Result<(), String> {
    // The ledger's own limit may have been lowered below what was debited before; the budget is the line.
    let (debited, budget) = (engine.ledger().in_use(), engine.plan().request_slots_bytes);
    ensure(debited <= budget, || {
        format!("{debited} bytes are debited of {budget}")
    })?;
    let in_use = engine.requests_bytes();
    let (least, most) = (known.exact_bytes, known.exact_bytes + known.most_bytes);
    ensure((least..=most).contains(&in_use), || {
        format!("{in_use} bytes are debited; clients hold between {least} and {most}")
    })?;
    let (inside, waiting) = (engine.requests_inside(), engine.requests_waiting());
    ensure(inside == known.inside, || {
        format!("{inside} places are taken by {} clients", known.inside)
    })?;
    ensure(waiting == known.waiting, || {
        format!("{waiting} stand in line; {} clients wait", known.waiting)
    })?;
    let queued = engine.queue_len();
    ensure(queued <= known.jobs, || {
        format!("{queued} jobs stand in line; {} clients wait for one", known.jobs)
    })?;
    pools(engine, in_use)
}

fn pools(engine: &Engine, in_use: usize) -> Result<(), String> {
    let stats = engine.pool_stats();
    let leased: usize = stats.iter().map(|kind| kind.stats.leased_bytes).sum();
    let idle: usize = stats.iter().map(|kind| kind.stats.idle_bytes).sum();
    let budget = engine.plan().request_slots_bytes;
    ensure(leased <= in_use, || {
        format!("{leased} bytes are leased, {in_use} debited: a lease outlived its debit")
    })?;
    ensure(leased + idle <= budget, || {
        format!("{leased} bytes leased and {idle} idle of {budget}")
    })?;
    let refused = stats.iter().find(|kind| kind.stats.refused > 0);
    ensure(refused.is_none(), || {
        format!(
            "a slot of {} was returned twice",
            refused.map_or("", |kind| kind.kind)
        )
    })
}

/// Nothing is held by anyone.
pub(super) fn baseline(engine: &Engine) -> Result<(), String> {
    safety(engine, Known::default())?;
    let leased = engine
        .pool_stats()
        .into_iter()
        .find(|kind| kind.stats.leased_slots > 0);
    ensure(leased.is_none(), || {
        format!("{} are still leased", leased.map_or("", |kind| kind.kind))
    })
}
