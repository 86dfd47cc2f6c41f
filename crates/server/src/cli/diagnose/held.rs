//! Leases that are held past their requests.
//!
//! How many leases there are says nothing: between two counts of a busy server all of them are others. So the reading marks those that are out as it begins; what is
//! still counted at its end are the same leases, each as old as the reading. Their requests were admitted before the mark, so those that may own them stand in any later
//! list of requests. The list is taken a while before the end: what a request that ends meanwhile gives back has come back by then. Beyond what the listed ones may
//! own, every marked lease has outlived its request by that while.

use super::reading::{Pool, Reading, Request};
use super::stacks::{Stack, by_place, stacks};
use super::verdict::{Finding, bytes, count, path, span};

/// Leases that no request can own.
pub(super) fn held(reading: &Reading) -> Vec<Finding> {
    // Another diagnosis may have marked anew, after the list: then nothing is known.
    let (after, listed_ms) = (&reading.after, reading.meanwhile.now_ms);
    let marked_ms = after.leases_marked_ms.filter(|&marked_ms| marked_ms < listed_ms);
    let Some(marked_ms) = marked_ms else {
        return Vec::new();
    };
    let requests = reading.meanwhile.requests.iter();
    let owners: Vec<&Request> = requests
        .filter(|request| request.admitted_ms <= marked_ms)
        .collect();
    let pools = after.pools.iter();
    pools
        .filter_map(|pool| of_kind(reading, marked_ms, &owners, pool))
        .collect()
}

/// Slots of a kind that a request leases at most.
fn each(kind: &str) -> u64 {
    if kind == "answer chunks" { 2 } else { 1 }
}

fn of_kind(reading: &Reading, marked_ms: u64, owners: &[&Request], pool: &Pool) -> Option<Finding> {
    let owned = owners.len() as u64 * each(&pool.kind);
    let slots = pool.marked_slots.saturating_sub(owned);
    if slots == 0 {
        return None;
    }
    let leases = stacks(&reading.pools);
    let old = sampled(&leases, &pool.kind, marked_ms, owners);
    let places = by_place(&old, |lease| lease.count);
    let born = places.first().map_or_else(
        || "none of them was sampled at its birth".to_owned(),
        |(place, _)| format!("born in {place}"),
    );
    let (now_ms, listed_ms) = (reading.after.now_ms, reading.meanwhile.now_ms);
    let mut evidence = vec![format!(
        "{} of {} ({}) were leased {} ago and still are; of the requests from before then, {} inside {} ago",
        count(pool.marked_slots, "slot", "slots"),
        pool.kind,
        bytes(pool.marked_bytes),
        span((now_ms - marked_ms) as f64),
        count(owners.len() as u64, "was", "were"),
        span((now_ms - listed_ms) as f64),
    )];
    let oldest_ms = old.iter().map(|lease| lease.number("age")).max();
    if let (Some(oldest), Some(p999)) = (oldest_ms, pool.ages.p999_ms) {
        evidence.push(format!(
            "the oldest is {} old; 999 of 1,000 of its kind ({} seen) end within {}",
            span(oldest as f64),
            pool.ages.died.unwrap_or(0),
            span(p999)
        ));
    }
    evidence.extend(old.first().map(|lease| path("born", lease)));
    let past = match slots {
        1 => "lease is held of {} past the end of its request",
        _ => "leases are held of {} past the end of their requests",
    };
    Some(Finding {
        rule: "held",
        says: format!("{slots} {}: {born}.", past.replace("{}", &pool.kind)),
        evidence,
    })
}

/// Sampled leases of the kind that were marked: those that are older than every request that may own one, if there are such, else all.
fn sampled<'a>(leases: &[Stack<'a>], kind: &str, marked_ms: u64, owners: &[&Request]) -> Vec<Stack<'a>> {
    let born_before = |ms: u64| -> Vec<Stack<'a>> {
        let of_kind = leases.iter().filter(|lease| lease.text("kind") == kind);
        of_kind
            .filter(|lease| lease.number("born") < ms as i64)
            .cloned()
            .collect()
    };
    let first_owner_ms = owners.iter().map(|request| request.admitted_ms).min();
    let ownerless = born_before(first_owner_ms.unwrap_or(marked_ms));
    match ownerless.is_empty() {
        true => born_before(marked_ms),
        false => ownerless,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::reading::tests::{reading, request};
    use super::*;

    const MARKED_MS: u64 = 10_000;

    /// The verdict on a reading from 10 s to 40 s, whose list of 39 s has requests that were admitted then, with so many leases of each kind from before the mark.
    fn verdict(marked_ms: Option<u64>, admitted_ms: &[u64], bodies: u64, chunks: u64) -> Vec<String> {
        let pool = |kind: &str, slots: u64| {
            json!({
                "kind": kind, "leased_slots": 500, "marked_slots": slots, "marked_bytes": slots * 4096, "ages": {"died": 0, "p999_ms": null},
            })
        };
        let requests = admitted_ms.iter().map(|&ms| request(ms, 4096));
        let reading = reading(
            json!({"now_ms": MARKED_MS}),
            json!({"now_ms": 39_000, "requests": requests.collect::<Vec<_>>()}),
            json!({"now_ms": 40_000, "leases_marked_ms": marked_ms, "pools": [pool("bodies", bodies), pool("answer chunks", chunks)]}),
        );
        held(&reading).into_iter().map(|finding| finding.says).collect()
    }

    #[test]
    fn what_is_leased_at_both_ends_is_not_held_where_it_is_not_the_same() {
        assert!(
            verdict(Some(MARKED_MS), &[], 0, 0).is_empty(),
            "500 are out, none of them is old"
        );
    }

    #[test]
    fn a_lease_is_not_held_while_its_request_may_be_inside() {
        assert!(verdict(Some(MARKED_MS), &[9000, MARKED_MS], 2, 4).is_empty());
        assert_eq!(
            verdict(Some(MARKED_MS), &[9000, MARKED_MS], 3, 6),
            [
                "1 lease is held of bodies past the end of its request: none of them was sampled at its birth.",
                "2 leases are held of answer chunks past the end of their requests: none of them was sampled at its birth.",
            ]
        );
    }

    #[test]
    fn who_came_after_the_mark_owns_none_of_what_is_marked() {
        assert_eq!(verdict(Some(MARKED_MS), &[MARKED_MS + 1; 40], 1, 0).len(), 1);
    }

    #[test]
    fn a_mark_after_the_list_says_nothing() {
        assert!(verdict(Some(39_000), &[], 7, 7).is_empty());
        assert!(verdict(None, &[], 7, 7).is_empty());
    }
}
