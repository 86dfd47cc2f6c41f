//! `/debug/trace`: what happens, as Chrome's trace events, which Perfetto opens.
//!
//! Requests are asynchronous spans with their phases inside; each worker has a track of text stages and passes; the governor one of reclaim cycles; the door one of
//! refusals. Counters of memory and of pools are read ten times a second. What the governor did before is told first, as far back as it is known, and who is inside already,
//! as of when they came: an end without a beginning is an error to some readers, and who has been inside for long is whom one looks for. Times are microseconds of the
//! engine's clock.

use std::collections::HashMap;
use std::fmt::{Display, Formatter, Result as Written, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, Uri, header};
use plimsoll_engine::Nanos;
use plimsoll_engine::trace::{Deed, Inside, Phase, REFUSALS, Step, Told};
use plimsoll_memory::{alloc, process};
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep, sleep_until};

use super::stream::stream;
use super::{Problem, seconds};
use crate::app::App;

/// Between two readings of counters.
const READING: Duration = Duration::from_millis(100);
/// A step is told a moment after it is taken: so long after a list of requests, all that were taken before it are told.
const TOLD: Duration = Duration::from_millis(10);
/// A piece of the response.
const PIECE_BYTES: usize = 64 * 1024;
/// Tracks: workers come after these.
const DOOR: usize = 1;
const GOVERNOR: usize = 2;
const WORKERS: usize = 10;

pub(super) async fn trace(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    let time = seconds(&uri)?;
    let (sender, body) = stream();
    tokio::spawn(write(app, time, sender));
    let mut response = Response::new(body);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}

async fn write(app: Arc<App>, time: Duration, sender: Sender<Bytes>) {
    let (began, mut trace) = (Instant::now(), Trace::new(&app));
    let mut reading = began;
    let inside: Vec<Inside> = app.engine.inside().collect();
    sleep(TOLD).await;
    if trace.begin(&inside).is_err() {
        return;
    }
    loop {
        let over = reading >= began + time;
        let fetched = trace.fetch(over);
        if fetched.is_err() || sender.send(trace.text.split_off(0).into()).await.is_err() || over {
            return;
        }
        reading += READING;
        sleep_until(reading.min(began + time)).await;
    }
}

struct Trace<'a> {
    app: &'a App,
    text: String,
    next_step: u64,
    next_deed: u64,
    lost: u64,
}

/// A time in microseconds with its thousandths. A busy server's trace holds a million of them, and whole numbers are written faster than floats.
struct Us(Nanos);

impl Display for Us {
    fn fmt(&self, f: &mut Formatter<'_>) -> Written {
        write!(f, "{}.{:03}", self.0.0 / 1000, self.0.0 % 1000)
    }
}

impl<'a> Trace<'a> {
    fn new(app: &'a App) -> Trace<'a> {
        let mut text = String::with_capacity(PIECE_BYTES);
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let zero_us = unix
            .as_micros()
            .saturating_sub(u128::from(app.engine.now().0 / 1000));
        let tracks = [(DOOR, "door".to_owned()), (GOVERNOR, "governor".to_owned())]
            .into_iter()
            .chain((0..app.metrics.workers()).map(|worker| (WORKERS + worker, format!("worker-{worker}"))));
        text += &format!(
            "{{\"displayTimeUnit\":\"ms\",\"otherData\":{{\"version\":\"{}\",\"clock_zero_unix_us\":\"{zero_us}\"}},\"traceEvents\":[\n\
             {{\"ph\":\"M\",\"pid\":1,\"name\":\"process_name\",\"args\":{{\"name\":\"plimsoll\"}}}}",
            env!("CARGO_PKG_VERSION")
        );
        for (track, name) in tracks {
            text += &format!(
                ",\n{{\"ph\":\"M\",\"pid\":1,\"tid\":{track},\"name\":\"thread_name\",\"args\":{{\"name\":\"{name}\"}}}}"
            );
        }
        Trace {
            app,
            text,
            next_step: app.engine.steps_end(),
            next_deed: 0,
            lost: 0,
        }
    }

    /// Tells of those who are inside. Who took a step since the ring's end was read stands where that step found it.
    fn begin(&mut self, inside: &[Inside]) -> Written {
        let mut moved: HashMap<u64, Option<Phase>> = HashMap::new();
        self.app.engine.steps(self.next_step, |told| {
            if let Some(phase) = phase_before(&told.step) {
                moved.entry(told.number).or_insert(phase);
            }
        });
        for one in inside {
            let phase = moved.get(&one.number).copied().unwrap_or(Some(one.phase));
            if let Some(phase) = phase {
                write_inside(&mut self.text, one, phase)?;
            }
        }
        Ok(())
    }

    /// Writes what happened since it was called last, and the counters.
    fn fetch(&mut self, over: bool) -> Written {
        let engine = &self.app.engine;
        let text = &mut self.text;
        let mut written = Ok(());
        self.next_deed = engine.deeds(self.next_deed, |at, deed| {
            written = written.and_then(|()| write_deed(text, at, &deed));
        });
        let (next, lost) = engine.steps(self.next_step, |told| {
            written = written.and_then(|()| write_step(text, &told));
        });
        (self.next_step, self.lost) = (next, self.lost + lost);
        written.and_then(|()| write_counters(text, self.app))?;
        if over {
            write!(
                text,
                ",\n{{\"ph\":\"i\",\"s\":\"g\",\"pid\":1,\"tid\":{GOVERNOR},\"ts\":{},\"name\":\"end of trace\",\"args\":{{\"lost\":{}}}}}\n]}}\n",
                Us(engine.now()),
                self.lost
            )?;
        }
        Ok(())
    }
}

/// A span that began and ended.
fn span(
    text: &mut String,
    track: usize,
    began: Nanos,
    ended: Nanos,
    name: &str,
    args: impl Display,
) -> Written {
    write!(
        text,
        ",\n{{\"ph\":\"X\",\"pid\":1,\"tid\":{track},\"ts\":{},\"dur\":{},\"name\":\"{name}\",\"args\":{{{args}}}}}",
        Us(began),
        Us(Nanos(ended.since(began)))
    )
}

/// Something at one moment.
fn moment(text: &mut String, track: usize, at: Nanos, name: &str, args: impl Display) -> Written {
    write!(
        text,
        ",\n{{\"ph\":\"i\",\"s\":\"t\",\"pid\":1,\"tid\":{track},\"ts\":{},\"name\":\"{name}\",\"args\":{{{args}}}}}",
        Us(at)
    )
}

/// The beginning (`b`), the end (`e`) or a moment (`n`) of a request or of one of its phases.
fn request(text: &mut String, kind: char, at: Nanos, number: u64, name: &str, args: impl Display) -> Written {
    write!(
        text,
        ",\n{{\"ph\":\"{kind}\",\"cat\":\"request\",\"pid\":1,\"id\":{number},\"ts\":{},\"name\":\"{name}\",\"args\":{{{args}}}}}",
        Us(at)
    )
}

/// Where a request stood before it took this step: nowhere before it was admitted. `None` for what is no request's step.
fn phase_before(step: &Step) -> Option<Option<Phase>> {
    match *step {
        Step::Admitted { .. } => Some(None),
        Step::Submitted { .. } => Some(Some(Phase::Body)),
        Step::InPass { .. } | Step::Writing { .. } => Some(Some(Phase::Work)),
        Step::Left { phase, .. } => Some(Some(phase)),
        Step::Refused { .. } | Step::Text { .. } | Step::Pass { .. } => None,
    }
}

/// The name of a phase's span.
fn span_of(phase: Phase) -> &'static str {
    match phase {
        Phase::Body => "body",
        Phase::Line | Phase::Work => "work",
        Phase::Answer => "answer",
    }
}

/// A request that came before the trace, with the phase in which it stands. When its body had come is not known: its work is drawn from its admission.
fn write_inside(text: &mut String, one: &Inside, phase: Phase) -> Written {
    let args = format_args!("\"request\":{},\"bytes\":{}", one.number, one.held_bytes);
    request(text, 'b', one.admitted, one.number, "request", args)?;
    let since = match phase {
        Phase::Answer => one.writing.unwrap_or(one.admitted),
        _ => one.admitted,
    };
    let args = format_args!("\"bytes\":{}", one.held_bytes);
    request(text, 'b', since, one.number, span_of(phase), args)
}

fn write_step(text: &mut String, &Told { at, number, step }: &Told) -> Written {
    match step {
        Step::Admitted { bytes } => {
            let args = format_args!("\"request\":{number},\"bytes\":{bytes}");
            request(text, 'b', at, number, "request", args)?;
            request(text, 'b', at, number, "body", "")
        }
        Step::Refused { why, bytes } => {
            let name = REFUSALS.get(why as usize).unwrap_or(&"unknown");
            let args = format_args!("\"reason\":\"{name}\",\"bytes\":{bytes}");
            moment(text, DOOR, at, "refused", args)
        }
        Step::Submitted { bytes, inputs } => {
            request(text, 'e', at, number, "body", "")?;
            let args = format_args!("\"bytes\":{bytes},\"inputs\":{inputs}");
            request(text, 'b', at, number, "work", args)
        }
        Step::Text {
            worker,
            began,
            tokens,
        } => {
            let args = format_args!("\"request\":{number},\"tokens\":{tokens}");
            span(text, WORKERS + worker as usize, began, at, "text", args)
        }
        Step::Pass {
            worker,
            began,
            heads_began,
            sequences,
            tokens,
        } => {
            let track = WORKERS + worker as usize;
            let args = format_args!("\"pass\":{number},\"sequences\":{sequences},\"tokens\":{tokens}");
            span(text, track, began, at, "pass", args)?;
            // Readers add up beginnings and durations, whose sums are not exact: what ends as its parent does may end behind it, and is lost. So it ends before.
            let before = |end: Nanos| Nanos(end.0.saturating_sub(1));
            span(text, track, began, before(heads_began), "encoder", "")?;
            span(text, track, heads_began, before(at), "heads", "")
        }
        Step::InPass { pass } => request(text, 'n', at, number, "pass", format_args!("\"pass\":{pass}")),
        Step::Writing { bytes } => {
            request(text, 'e', at, number, "work", "")?;
            request(text, 'b', at, number, "answer", format_args!("\"bytes\":{bytes}"))
        }
        Step::Left { phase, flushed_bytes } => {
            request(text, 'e', at, number, span_of(phase), "")?;
            let args = format_args!("\"from\":\"{}\",\"flushed\":{flushed_bytes}", phase.name());
            request(text, 'e', at, number, "request", args)
        }
    }
}

fn write_deed(text: &mut String, at: Nanos, deed: &Deed) -> Written {
    match deed {
        Deed::Level(change) => {
            let args = format_args!(
                "\"from\":\"{}\",\"to\":\"{}\",\"in_use\":{},\"limit\":{}",
                change.from.name(),
                change.to.name(),
                change.in_use_bytes,
                change.limit_bytes
            );
            moment(text, GOVERNOR, at, "level", args)
        }
        Deed::Cycle(cycle) => {
            let args = format_args!(
                "\"number\":{},\"cause\":\"{}\",\"worked_us\":{},\"live_before\":{},\"marked\":{},\"live_after\":{},\"goal\":{}",
                cycle.number,
                cycle.cause.name(),
                cycle.worked_ns / 1000,
                cycle.live_before_bytes,
                cycle.marked_bytes,
                cycle.live_after_bytes,
                cycle.goal_bytes
            );
            let ended = cycle.began.after(Nanos(cycle.took_ns));
            span(text, GOVERNOR, cycle.began, ended, "reclaim", args)
        }
        Deed::Returned(requests) => moment(
            text,
            GOVERNOR,
            at,
            "returned",
            format_args!("\"requests\":{requests}"),
        ),
        Deed::Evicted {
            for_room,
            to_shrink,
            aged,
        } => {
            let args = format_args!("\"for_room\":{for_room},\"to_shrink\":{to_shrink},\"aged\":{aged}");
            moment(text, GOVERNOR, at, "evicted", args)
        }
    }
}

fn counter(text: &mut String, at: Nanos, name: &str, args: impl Display) -> Written {
    write!(
        text,
        ",\n{{\"ph\":\"C\",\"pid\":1,\"ts\":{},\"name\":\"{name}\",\"args\":{{{args}}}}}",
        Us(at)
    )
}

fn write_counters(text: &mut String, app: &App) -> Written {
    let (engine, now) = (&app.engine, app.engine.now());
    let (ledger, requests) = (engine.ledger(), engine.requests_bytes());
    let cached = ledger.in_use().saturating_sub(requests);
    let limit = ledger.limit_bytes();
    let ledger = format!("\"requests\":{requests},\"cached vectors\":{cached},\"limit\":{limit}");
    counter(text, now, "ledger", ledger)?;
    counter(
        text,
        now,
        "level",
        format_args!("\"level\":{}", engine.level() as u8),
    )?;
    let pools = engine.pool_stats();
    let leased = pools
        .iter()
        .map(|pool| format!("\"{}\":{}", pool.kind, pool.stats.leased_bytes));
    counter(text, now, "leased", leased.collect::<Vec<_>>().join(","))?;
    let idle: usize = pools.iter().map(|pool| pool.stats.idle_bytes).sum();
    let heap = alloc::total_counts().live_bytes();
    let resident = process::resident_bytes().unwrap_or(0);
    let memory = format!("\"idle slots\":{idle},\"heap\":{heap},\"resident\":{resident}");
    counter(text, now, "memory", memory)?;
    let inside = format!(
        "\"inside\":{},\"waiting\":{},\"in line\":{},\"connections\":{}",
        engine.requests_inside(),
        engine.requests_waiting(),
        engine.queue_len(),
        app.metrics.connections.load(Relaxed)
    );
    counter(text, now, "requests", inside)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn who_came_before_the_trace_has_a_beginning_for_each_end() {
        let told = |step| Told {
            at: Nanos(9000),
            number: 5,
            step,
        };
        let one = Inside {
            number: 5,
            phase: Phase::Answer,
            admitted: Nanos(1000),
            writing: Some(Nanos(4000)),
            held_bytes: 8,
            flushed_bytes: 0,
            tasks: plimsoll_engine::Tasks::EMBEDDING,
        };
        let rest = [
            Step::Submitted { bytes: 8, inputs: 1 },
            Step::InPass { pass: 1 },
            Step::Writing { bytes: 8 },
            Step::Left {
                phase: Phase::Answer,
                flushed_bytes: 3,
            },
        ];
        for first in 0..rest.len() {
            let phase = phase_before(&rest[first]).flatten().unwrap();
            let mut text = String::from("[0");
            write_inside(&mut text, &one, phase).unwrap();
            rest[first..]
                .iter()
                .for_each(|&step| write_step(&mut text, &told(step)).unwrap());
            let events: Vec<Value> = serde_json::from_str(&(text + "]")).unwrap();
            let mut open = Vec::new();
            for event in &events[1..] {
                match event["ph"].as_str() {
                    Some("b") => open.push(&event["name"]),
                    Some("e") => assert_eq!(open.pop(), Some(&event["name"]), "{first}"),
                    _ => {}
                }
            }
            assert!(open.is_empty(), "{first}");
        }
        assert_eq!(phase_before(&Step::Admitted { bytes: 1 }), Some(None));
    }

    #[test]
    fn every_event_is_json() {
        let steps = [
            Step::Admitted { bytes: 1 },
            Step::Refused { why: 2, bytes: 3 },
            Step::Refused { why: 200, bytes: 3 },
            Step::Submitted { bytes: 4, inputs: 5 },
            Step::Text {
                worker: 0,
                began: Nanos(500),
                tokens: 6,
            },
            Step::Pass {
                worker: 1,
                began: Nanos(1),
                heads_began: Nanos(2),
                sequences: 3,
                tokens: 4,
            },
            Step::InPass { pass: 7 },
            Step::Writing { bytes: 8 },
            Step::Left {
                phase: Phase::Line,
                flushed_bytes: 9,
            },
        ];
        let mut text = String::from("[0");
        for step in steps {
            let told = Told {
                at: Nanos(1500),
                number: 11,
                step,
            };
            write_step(&mut text, &told).unwrap();
        }
        let evicted = Deed::Evicted {
            for_room: 1,
            to_shrink: 2,
            aged: 3,
        };
        for deed in [Deed::Returned(2), evicted] {
            write_deed(&mut text, Nanos(9), &deed).unwrap();
        }
        let events: Vec<Value> = serde_json::from_str(&(text + "]")).unwrap();
        let spans = events.iter().filter(|event| event["ph"] == "X").count();
        assert_eq!((events.len(), spans), (18, 4));
        assert_eq!(events[1]["ts"], 1.5);
    }
}
