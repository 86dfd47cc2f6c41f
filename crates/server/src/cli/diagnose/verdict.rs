//! The verdict: what is wrong, who did it, and what says so.
//!
//! Each rule looks for one fault by what only that fault shows, and names the culprit by the stack that made it, or by the requests that hold it. A rule that finds
//! nothing says nothing.

use serde::Serialize;

use super::held::held;
use super::readers::{is_slow, rate, readers, taken_per_s};
use super::reading::{Reading, Request, State, Worker};
use super::series::Series;
use super::stacks::{Stack, by_place, stacks};

/// A worker that began so lately is not judged.
const YOUNG_MS: u64 = 1000;
/// A stage that takes so many times as long as half of its kind is stuck.
const STUCK_TIMES: f64 = 50.0;
/// Growth of the heap that is not worth a word.
const GROWTH_BYTES: i64 = 1 << 20;
/// A share of a sum that makes one place the culprit.
const CULPRIT_PERCENT: i64 = 40;

/// One sentence of the verdict.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    /// Which rule: `refusing`, `readers`, `held`, `growth`, `allocation`, `blocked`.
    pub(super) rule: &'static str,
    /// The culprit and what it does.
    pub(super) says: String,
    /// What says so.
    pub(super) evidence: Vec<String>,
}

/// All findings, gravest first.
pub(super) fn findings(reading: &Reading, series: &Series) -> Vec<Finding> {
    let readers = readers(reading);
    let mut all = Vec::new();
    all.extend(refusing(reading, series));
    all.extend(blocked(reading, series));
    all.extend(readers);
    all.extend(held(reading));
    all.extend(growth(reading));
    all.extend(allocation(reading));
    all
}

/// Bytes for people.
pub(super) fn bytes(count: u64) -> String {
    match count {
        0..10_240 => format!("{count} B"),
        10_240..1_048_576 => format!("{:.1} KiB", count as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", count as f64 / f64::from(1 << 20)),
        _ => format!("{:.1} GiB", count as f64 / f64::from(1 << 30)),
    }
}

/// Time for people.
pub(super) fn span(ms: f64) -> String {
    match ms {
        ..10.0 => format!("{ms:.2} ms"),
        ..1000.0 => format!("{ms:.0} ms"),
        ..120_000.0 => format!("{:.1} s", ms / 1000.0),
        _ => format!("{:.0} min", ms / 60_000.0),
    }
}

/// The time of day, in UTC.
pub(super) fn clock(unix_ms: u64) -> String {
    let s = unix_ms / 1000 % 86_400;
    format!("{:02}:{:02}:{:02} UTC", s / 3600, s / 60 % 60, s % 60)
}

/// A number of things, one or many.
pub(super) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Requests are turned away: who holds what they would need?
fn refusing(reading: &Reading, series: &Series) -> Option<Finding> {
    let (state, refused) = (&reading.after, series.refusals());
    let for_now =
        |reason: &&(String, u64)| !["too large", "body too large", "draining"].contains(&reason.0.as_str());
    let reasons: Vec<_> = series.reasons.iter().filter(for_now).collect();
    if reasons.is_empty() && state.level != "refusing" {
        return None;
    }
    let since = match (state.level.as_str(), state.level_since_ms) {
        ("refusing", Some(since)) => format!("Refusing since {}", clock(state.unix_ms(since))),
        _ => "Refusing now and then".to_owned(),
    };
    let why = reasons.first().map_or("bytes", |reason| reason.0.as_str());
    let groups = groups(reading);
    let holder = groups.first().map(|group| group.says(reading));
    // Who holds most is named once: here, or below with the others.
    let mut named = 0;
    let because = match (why, holder) {
        ("time", _) => format!(
            "because workers cannot keep up with what comes in: {} in line or in work",
            count(working(&state.requests), "request is", "requests are")
        ),
        _ if is_over(reading, series) => while_it_lasted(reading, series),
        (_, Some(holder)) => {
            named = 1;
            format!("because {holder}")
        }
        (_, None) => "although nothing is inside now".to_owned(),
    };
    let shares = reasons.iter().map(|(reason, n)| format!("{n} for {reason}"));
    let mut evidence = vec![format!(
        "{refused} refused in {:.1} s: {}",
        reading.seconds(),
        shares.collect::<Vec<_>>().join(", ")
    )];
    evidence.push(format!(
        "level {}: {} of the {} that requests share are debited, to {}",
        state.level,
        bytes(state.ledger.requests_bytes),
        bytes(state.ledger.limit_bytes),
        count(state.requests_inside, "request", "requests"),
    ));
    evidence.extend(groups.iter().skip(named).map(|group| group.says(reading)));
    let leases = stacks(&reading.pools);
    if let Some((place, held)) = by_place(&leases, |stack| stack.value).first() {
        evidence.push(format!(
            "most of the sampled leases ({}) were born in {place}",
            bytes(*held as u64)
        ));
    }
    Some(Finding {
        rule: "refusing",
        says: format!("{since}, {because}."),
        evidence,
    })
}

/// Whether those who held what others would have needed have left: who is inside at the end is not to blame then.
fn is_over(reading: &Reading, series: &Series) -> bool {
    let state = &reading.after;
    let most_bytes = series.most("ledger", "requests").unwrap_or(0.0);
    state.level != "refusing" && (state.ledger.requests_bytes as f64) < most_bytes / 2.0
}

fn while_it_lasted(reading: &Reading, series: &Series) -> String {
    let state = &reading.after;
    let most = |group, name| series.most(group, name).unwrap_or(0.0) as u64;
    format!(
        "while up to {} held up to {} of the {} that requests share; it is over: {} {} now",
        count(most("requests", "inside"), "request", "requests"),
        bytes(most("ledger", "requests")),
        bytes(state.ledger.limit_bytes),
        count(state.requests_inside, "holds", "hold"),
        bytes(state.ledger.requests_bytes),
    )
}

fn working(requests: &[Request]) -> u64 {
    requests
        .iter()
        .filter(|request| ["line", "work"].contains(&request.phase.as_str()))
        .count() as u64
}

/// Requests that stand at the same place.
struct Group<'a> {
    phase: &'static str,
    slow: bool,
    requests: Vec<&'a Request>,
}

impl Group<'_> {
    fn held_bytes(&self) -> u64 {
        self.requests.iter().map(|request| request.held_bytes).sum()
    }

    fn says(&self, reading: &Reading) -> String {
        let n = self.requests.len() as u64;
        let who = match (self.phase, self.slow) {
            ("answer", true) => format!(
                "{} that take {} each",
                count(n, "reader", "readers"),
                rate(self.requests.iter().map(|request| taken_per_s(reading, request)))
            ),
            ("answer", false) => count(n, "answer on its way out", "answers on their way out"),
            ("body", _) => count(
                n,
                "request whose body still comes in",
                "requests whose bodies still come in",
            ),
            ("line", _) => count(
                n,
                "request that waits for a worker",
                "requests that wait for a worker",
            ),
            _ => count(n, "request in work", "requests in work"),
        };
        format!(
            "{} of the request slots are held by {who}",
            bytes(self.held_bytes())
        )
    }
}

/// Who holds the request slots, most bytes first.
fn groups(reading: &Reading) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for request in &reading.after.requests {
        let phase = match request.phase.as_str() {
            "answer" => "answer",
            "body" => "body",
            "line" => "line",
            _ => "work",
        };
        let slow = is_slow(reading, request);
        let known = groups
            .iter()
            .position(|group| (group.phase, group.slow) == (phase, slow));
        match known {
            Some(place) => groups[place].requests.push(request),
            None => groups.push(Group {
                phase,
                slow,
                requests: vec![request],
            }),
        }
    }
    groups.sort_by_key(|group| std::cmp::Reverse(group.held_bytes()));
    groups
}

/// The heap grows, and one place makes it grow.
fn growth(reading: &Reading) -> Option<Finding> {
    let live = |state: &State| state.heap.live_bytes as i64;
    let grown = live(&reading.after) - live(&reading.before);
    let (before, after) = (stacks(&reading.heap_before), stacks(&reading.heap));
    let was = by_place(&before, |stack| stack.value);
    let mut places: Vec<(&str, i64)> = by_place(&after, |stack| stack.value)
        .into_iter()
        // The diagnosis itself is not the patient.
        .filter(|(place, _)| !place.contains("plimsoll::debug::"))
        .map(|(place, now)| {
            let then = was.iter().find(|old| old.0 == place).map_or(0, |old| old.1);
            (place, now - then)
        })
        .collect();
    places.sort_by_key(|place| std::cmp::Reverse(place.1));
    let (place, more) = *places.first()?;
    if grown - of_new_connections(reading) < GROWTH_BYTES || more * 100 < grown * CULPRIT_PERCENT {
        return None;
    }
    let an_hour = grown as f64 / reading.seconds() * 3600.0;
    let mut evidence = vec![format!(
        "live heap: {} before, {} after",
        bytes(live(&reading.before) as u64),
        bytes(live(&reading.after) as u64)
    )];
    let mut makers: Vec<&Stack<'_>> = after.iter().filter(|stack| stack.place() == place).collect();
    makers.sort_by_key(|stack| std::cmp::Reverse(stack.value));
    evidence.push(format!(
        "of its objects that live now, about {} were made while this was read",
        makers
            .iter()
            .filter(|stack| stack.number("born") >= reading.before.now_ms as i64)
            .map(|stack| stack.count)
            .sum::<i64>()
    ));
    evidence.extend(makers.first().map(|stack| path("made", stack)));
    Some(Finding {
        rule: "growth",
        says: format!(
            "The heap grew by {} in {:.1} s ({} an hour), about {}% of it made in {place}, and nothing bounds it.",
            bytes(grown as u64),
            reading.seconds(),
            bytes(an_hour as u64),
            (more * 100 / grown).min(100),
        ),
        evidence,
    })
}

/// What connections that came meanwhile may hold: their number is bounded, and the bill pays for each.
fn of_new_connections(reading: &Reading) -> i64 {
    let (before, after) = (&reading.before, &reading.after);
    let more = after.connections.saturating_sub(before.connections);
    (more * after.connection_bytes().unwrap_or(0)) as i64
}

/// Something is allocated on the road of requests.
fn allocation(reading: &Reading) -> Option<Finding> {
    let (before, after) = (&reading.before.heap, &reading.after.heap);
    let sealed = after.sealed_allocations - before.sealed_allocations;
    let pipeline = after.pipeline_allocations - before.pipeline_allocations;
    if sealed + pipeline == 0 {
        return None;
    }
    let found = stacks(&reading.forbidden);
    let places = by_place(&found, |stack| stack.count);
    let place = places.first().map_or("an unknown place", |place| place.0);
    let mut evidence = vec![format!(
        "{sealed} by sealed worker threads, {pipeline} in the pipeline, where there must be none"
    )];
    evidence.extend(
        found
            .iter()
            .max_by_key(|stack| stack.count)
            .map(|stack| format!("on thread {}: {}", stack.text("thread"), path("made", stack))),
    );
    Some(Finding {
        rule: "allocation",
        says: format!(
            "The hot path allocates: {} in {:.1} s, made in {place}.",
            count(sealed.max(pipeline), "time", "times"),
            reading.seconds()
        ),
        evidence,
    })
}

/// A worker that stands in one stage.
fn blocked(reading: &Reading, series: &Series) -> Vec<Finding> {
    let threads = stacks(&reading.threads);
    let now_ms = reading.after.now_ms;
    let found = reading.after.workers.iter().filter_map(|worker: &Worker| {
        let ms = now_ms.saturating_sub(worker.since_ms);
        let name = if worker.stage == "forward" {
            "encoder"
        } else {
            worker.stage.as_str()
        };
        let usual = series.stages.iter().find(|stage| stage.name == name);
        if ms < YOUNG_MS || usual.is_some_and(|usual| (ms as f64) < STUCK_TIMES * usual.p50_ms) {
            return None;
        }
        let what = match worker.stage.as_str() {
            "text" => format!("the text stage of request {}", worker.number),
            stage => format!("the {stage} stage of pass {}", worker.number),
        };
        let thread = format!("worker-{}", worker.worker);
        let stack = threads.iter().find(|stack| stack.text("thread") == thread);
        let place = stack.map_or("an unknown place", Stack::place);
        let mut evidence: Vec<String> = stack.map(|stack| path("it stands", stack)).into_iter().collect();
        evidence.extend(usual.map(|usual| {
            format!(
                "half of {} such stages ended within {}, 99 of 100 within {}",
                usual.count,
                span(usual.p50_ms),
                span(usual.p99_ms)
            )
        }));
        evidence.push(format!(
            "{} behind it",
            count(
                working(&reading.after.requests),
                "request stands",
                "requests stand"
            )
        ));
        Some(Finding {
            rule: "blocked",
            says: format!(
                "{thread} has stood in {what} for {}: it is in {place}.",
                span(ms as f64)
            ),
            evidence,
        })
    });
    found.collect()
}

/// A stack in a line, from the place outwards.
pub(super) fn path(what: &str, stack: &Stack<'_>) -> String {
    let frames: Vec<&str> = stack.meant().take(6).collect();
    format!("{what} in {}", frames.join(" ← "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::reading::tests::{reading, request};
    use super::super::series::Counter;
    use super::*;

    /// What was read of a server that has refused, with one request in work that holds so much.
    fn refused(held_bytes: u64) -> Reading {
        let state = json!({
            "ledger": {"limit_bytes": 6 << 20, "requests_bytes": held_bytes},
            "requests_inside": 1,
            "requests": [request(0, held_bytes)],
        });
        reading(state.clone(), state.clone(), state)
    }

    #[test]
    fn who_is_inside_at_the_end_is_blamed_only_for_what_is_not_over() {
        let counter = |group: &str, name: &str, most| Counter {
            group: group.to_owned(),
            name: name.to_owned(),
            values: vec![None, Some(most), Some(1.0)],
        };
        let series = Series {
            reasons: vec![("bytes".to_owned(), 7)],
            counters: vec![
                counter("ledger", "requests", f64::from(5 << 20)),
                counter("requests", "inside", 40.0),
            ],
            ..Series::default()
        };
        let says = |held_bytes| refusing(&refused(held_bytes), &series).unwrap().says;
        assert_eq!(
            says(100 << 10),
            "Refusing now and then, while up to 40 requests held up to 5.0 MiB of the 6.0 MiB that requests share; it is over: 1 holds 100.0 KiB now."
        );
        assert_eq!(
            says(4 << 20),
            "Refusing now and then, because 4.0 MiB of the request slots are held by 1 request in work."
        );
    }

    #[test]
    fn what_new_connections_hold_is_no_growth() {
        let state = |connections: u64| {
            json!({
                "connections": connections,
                "plan": {"lines": [{"owner": "log", "each_bytes": 1}, {"owner": "connections", "each_bytes": 1000}]},
            })
        };
        let of = |before, after| of_new_connections(&reading(state(before), state(before), state(after)));
        assert_eq!([of(3, 43), of(43, 3), of(5, 5)], [40_000, 0, 0]);
    }

    #[test]
    fn figures_are_for_people() {
        assert_eq!(bytes(9000), "9000 B");
        assert_eq!(bytes(50 << 10), "50.0 KiB");
        assert_eq!(bytes(50 << 20), "50.0 MiB");
        assert_eq!(
            (span(0.4), span(200.0), span(12_100.0)),
            ("0.40 ms".into(), "200 ms".into(), "12.1 s".into())
        );
        assert_eq!(clock(3 * 3_600_000 + 12_345), "03:00:12 UTC");
    }
}
