//! `/debug/trace`: what happens, as Chrome's trace events, which Perfetto opens.
//!
//! Requests are asynchronous spans with their phases inside; each worker has a track of text stages and passes; the governor one of reclaim cycles; the door one of
//! refusals. Counters of memory and of pools are read four times a second. What the governor did before is told first, as far back as it is known. A request is told as it
//! leaves, from its beginning on, which may lie before the trace; who is still inside at the end has beginnings without ends. Phases shorter than 10 us are not drawn. Times are
//! microseconds of the engine's clock.

use std::fmt::{Error, Result as Written, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, Uri, header};
use plimsoll_engine::Nanos;
use plimsoll_engine::trace::{Deed, Inside, REFUSALS, STEPS, Step, Told};
use plimsoll_memory::{alloc, process};
use tokio::sync::mpsc::Sender;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until};

use super::chrome::{Events, Left, Us};
use super::stream::stream;
use super::{Problem, seconds};
use crate::app::App;

/// Between two readings of counters and steps: whoever wakes takes time from those who work.
const READING: Duration = Duration::from_millis(250);
/// Where steps come so fast that half of their ring would be filled by then, it is so much less, but no less than this.
const READING_LEAST: Duration = Duration::from_millis(10);
/// A step is told a moment after it is taken: so long after a list of requests, all that were taken before it are told.
const TOLD: Duration = Duration::from_millis(10);
/// Steps that are written at once, and what they take: the longest has eight events of a hundred bytes.
const PIECE_STEPS: usize = 256;
const PIECE_BYTES: usize = PIECE_STEPS * 1024;
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
    let (mut reading, mut pause) = (began, READING);
    while reading < began + time {
        let from = trace.next_step;
        if trace.fetch(&sender).await.is_err() {
            return;
        }
        pause = pause_after(pause, trace.next_step - from);
        reading = (reading + pause).min(began + time);
        sleep_until(reading).await;
    }
    // Whoever left since the list was made is told whole, and not once more.
    trace.inside = app.engine.inside().collect();
    sleep(TOLD).await;
    if trace.fetch(&sender).await.is_ok() && trace.end().is_ok() {
        // Who has gone needs no end.
        let _sent = trace.send(&sender).await;
    }
}

/// How long to wait after so many steps came in a pause.
fn pause_after(pause: Duration, steps: u64) -> Duration {
    let most = pause.mul_f64(STEPS as f64 / 2.0 / steps.max(1) as f64);
    most.clamp(READING_LEAST, READING)
}

struct Trace<'a> {
    app: &'a App,
    events: Events,
    next_step: u64,
    next_deed: u64,
    lost: u64,
    /// Who is inside as the trace ends.
    inside: Vec<Inside>,
}

impl<'a> Trace<'a> {
    fn new(app: &'a App) -> Trace<'a> {
        let mut events = Events::in_pieces(PIECE_BYTES);
        begin(&mut events, app).expect("text in memory takes all that is written");
        Trace {
            app,
            events,
            next_step: app.engine.steps_end(),
            next_deed: 0,
            lost: 0,
            inside: Vec::new(),
        }
    }

    /// Sends what was written, unless nobody reads it.
    async fn send(&mut self, sender: &Sender<Bytes>) -> Written {
        let sent = sender.send(self.events.take()).await;
        // To whoever carries it to the socket, so that its bytes are free for the next piece.
        yield_now().await;
        self.events.make_room();
        sent.map_err(|_| Error)
    }

    /// Writes and sends what happened since it was called last, and the counters.
    async fn fetch(&mut self, sender: &Sender<Bytes>) -> Written {
        let end = self.app.engine.steps_end();
        self.deeds()?;
        loop {
            let from = self.next_step;
            self.steps()?;
            if self.next_step >= end || self.next_step == from {
                break;
            }
            self.send(sender).await?;
        }
        write_counters(&mut self.events, self.app)?;
        self.send(sender).await
    }

    fn deeds(&mut self) -> Written {
        let (events, mut written) = (&mut self.events, Ok(()));
        self.next_deed = self.app.engine.deeds(self.next_deed, |at, deed| {
            written = written.and_then(|()| write_deed(events, at, &deed));
        });
        written
    }

    /// Writes the steps of a piece.
    fn steps(&mut self) -> Written {
        let (events, inside, mut written) = (&mut self.events, &mut self.inside, Ok(()));
        let (next, lost) = self.app.engine.steps(self.next_step, PIECE_STEPS, |told| {
            if let Step::Left { .. } = told.step {
                inside.retain(|one| one.number != told.number);
            }
            written = written.and_then(|()| write_step(events, &told));
        });
        (self.next_step, self.lost) = (next, self.lost + lost);
        written
    }

    fn end(&mut self) -> Written {
        for one in &self.inside {
            self.events.stay(one.number, &one.stay, None);
        }
        let (now, lost) = (Us(self.app.engine.now()), self.lost);
        write!(
            self.events,
            ",\n{{\"ph\":\"i\",\"s\":\"g\",\"pid\":1,\"tid\":{GOVERNOR},\"ts\":{now},\"name\":\"end of trace\",\"args\":{{\"lost\":{lost}}}}}\n]}}\n"
        )
    }
}

/// The beginning of the text, with the names of all tracks.
fn begin(events: &mut Events, app: &App) -> Written {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let zero_us = unix
        .as_micros()
        .saturating_sub(u128::from(app.engine.now().0 / 1000));
    let tracks = [(DOOR, "door".to_owned()), (GOVERNOR, "governor".to_owned())]
        .into_iter()
        .chain((0..app.metrics.workers()).map(|worker| (WORKERS + worker, format!("worker-{worker}"))));
    write!(
        events,
        "{{\"displayTimeUnit\":\"ms\",\"otherData\":{{\"version\":\"{}\",\"clock_zero_unix_us\":\"{zero_us}\"}},\"traceEvents\":[\n\
         {{\"ph\":\"M\",\"pid\":1,\"name\":\"process_name\",\"args\":{{\"name\":\"plimsoll\"}}}}",
        env!("CARGO_PKG_VERSION")
    )?;
    for (track, name) in tracks {
        write!(
            events,
            ",\n{{\"ph\":\"M\",\"pid\":1,\"tid\":{track},\"name\":\"thread_name\",\"args\":{{\"name\":\"{name}\"}}}}"
        )?;
    }
    Ok(())
}

fn write_step(events: &mut Events, &Told { at, number, step }: &Told) -> Written {
    match step {
        Step::Refused { why, bytes } => {
            let name = REFUSALS.get(why as usize).unwrap_or(&"unknown");
            let args = format_args!("\"reason\":\"{name}\",\"bytes\":{bytes}");
            events.moment(DOOR, at, "refused", args)
        }
        Step::Text {
            worker,
            began,
            tokens,
        } => {
            let args = format_args!("\"request\":{number},\"tokens\":{tokens}");
            events.span(WORKERS + worker as usize, began, at, "text", args)
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
            events.span(track, began, at, "pass", args)?;
            // Readers add up beginnings and durations, whose sums are not exact: what ends as its parent does may end behind it, and is lost. So it ends before.
            let before = |end: Nanos| Nanos(end.0.saturating_sub(1));
            events.span(track, began, before(heads_began), "encoder", "")?;
            events.span(track, heads_began, before(at), "heads", "")
        }
        Step::InPass { pass } => {
            events.in_pass(at, number, pass);
            Ok(())
        }
        Step::Left {
            phase,
            flushed_bytes,
            stay,
        } => {
            let left = Left {
                at,
                phase,
                flushed_bytes,
            };
            events.stay(number, &stay, Some(&left));
            Ok(())
        }
    }
}

fn write_deed(events: &mut Events, at: Nanos, deed: &Deed) -> Written {
    match deed {
        Deed::Level(change) => {
            let args = format_args!(
                "\"from\":\"{}\",\"to\":\"{}\",\"in_use\":{},\"limit\":{}",
                change.from.name(),
                change.to.name(),
                change.in_use_bytes,
                change.limit_bytes
            );
            events.moment(GOVERNOR, at, "level", args)
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
            events.span(GOVERNOR, cycle.began, ended, "reclaim", args)
        }
        Deed::Returned(requests) => {
            events.moment(GOVERNOR, at, "returned", format_args!("\"requests\":{requests}"))
        }
        Deed::Evicted {
            for_room,
            to_shrink,
            aged,
        } => {
            let args = format_args!("\"for_room\":{for_room},\"to_shrink\":{to_shrink},\"aged\":{aged}");
            events.moment(GOVERNOR, at, "evicted", args)
        }
    }
}

fn write_counters(events: &mut Events, app: &App) -> Written {
    let (engine, now) = (&app.engine, app.engine.now());
    let (ledger, requests) = (engine.ledger(), engine.requests_bytes());
    let cached = ledger.in_use().saturating_sub(requests);
    let limit = ledger.limit_bytes();
    let ledger = format!("\"requests\":{requests},\"cached vectors\":{cached},\"limit\":{limit}");
    events.counter(now, "ledger", ledger)?;
    events.counter(now, "level", format_args!("\"level\":{}", engine.level() as u8))?;
    let pools = engine.pool_stats();
    let leased = pools
        .iter()
        .map(|pool| format!("\"{}\":{}", pool.kind, pool.stats.leased_bytes));
    events.counter(now, "leased", leased.collect::<Vec<_>>().join(","))?;
    let idle: usize = pools.iter().map(|pool| pool.stats.idle_bytes).sum();
    let heap = alloc::total_counts().live_bytes();
    let resident = process::resident_bytes().unwrap_or(0);
    let memory = format!("\"idle slots\":{idle},\"heap\":{heap},\"resident\":{resident}");
    events.counter(now, "memory", memory)?;
    let inside = format!(
        "\"inside\":{},\"waiting\":{},\"in line\":{},\"connections\":{}",
        engine.requests_inside(),
        engine.requests_waiting(),
        engine.queue_len(),
        app.metrics.connections.load(Relaxed)
    );
    events.counter(now, "requests", inside)
}

#[cfg(test)]
mod tests {
    use plimsoll_engine::trace::{Moment, Phase, Stay};
    use serde_json::Value;

    use super::*;

    fn moment(at: u64) -> Moment {
        Moment {
            at: Nanos(at),
            bytes: 8,
        }
    }

    fn read(mut events: Events) -> Vec<Value> {
        let text = [b"[0".as_slice(), &events.take(), b"]"].concat();
        serde_json::from_slice(&text).unwrap()
    }

    #[test]
    fn a_request_that_left_has_an_end_for_each_beginning_and_one_that_is_inside_has_none_for_some() {
        let stays = [
            (None, None),
            (Some(moment(20_000)), None),
            (Some(moment(20_000)), Some(moment(30_000))),
        ];
        for (submitted, writing) in stays {
            let stay = Stay {
                admitted: moment(10_000),
                submitted,
                writing,
                inputs: 1,
            };
            let left = Left {
                at: Nanos(40_000),
                phase: Phase::Answer,
                flushed_bytes: 3,
            };
            for left in [None, Some(&left)] {
                let mut events = Events::in_pieces(0);
                events.stay(5, &stay, left);
                let mut open = Vec::new();
                for event in &read(events)[1..] {
                    assert_eq!(event["id"], 5);
                    match event["ph"].as_str() {
                        Some("b") => open.push(event["name"].clone()),
                        _ => assert_eq!(open.pop().as_ref(), Some(&event["name"])),
                    }
                }
                let phases = ["request", "answer", "work", "body"];
                assert_eq!(open.len(), if left.is_some() { 0 } else { 2 });
                assert!(open.iter().all(|name| phases.contains(&name.as_str().unwrap())));
            }
        }
    }

    #[test]
    fn the_pause_follows_the_rate() {
        let half = STEPS as u64 / 2;
        assert_eq!(pause_after(READING, 0), READING);
        assert_eq!(pause_after(READING, half), READING);
        assert_eq!(pause_after(READING, 2 * half), READING / 2);
        assert_eq!(pause_after(READING / 2, half / 4), READING);
        assert_eq!(pause_after(READING, 1 << 40), READING_LEAST);
    }

    #[test]
    fn every_event_is_json() {
        let steps = [
            Step::Refused { why: 2, bytes: 3 },
            Step::Refused { why: 200, bytes: 3 },
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
            Step::Left {
                phase: Phase::Line,
                flushed_bytes: 9,
                stay: Stay {
                    admitted: moment(1_234_005),
                    ..Stay::default()
                },
            },
        ];
        let mut events = Events::in_pieces(0);
        for step in steps {
            let told = Told {
                at: Nanos(1500),
                number: 11,
                step,
            };
            write_step(&mut events, &told).unwrap();
        }
        let evicted = Deed::Evicted {
            for_room: 1,
            to_shrink: 2,
            aged: 3,
        };
        for deed in [Deed::Returned(2), evicted] {
            write_deed(&mut events, Nanos(9), &deed).unwrap();
        }
        let events = read(events);
        let spans = events.iter().filter(|event| event["ph"] == "X").count();
        assert_eq!((events.len(), spans), (12, 4));
        assert_eq!(
            (&events[1]["ts"], &events[8]["ts"]),
            (&1.5.into(), &1234.005.into())
        );
    }

    #[test]
    fn the_longest_step_fits_its_part_of_a_piece() {
        let longest = moment_of_any_length();
        let step = Step::Left {
            phase: Phase::Answer,
            flushed_bytes: u64::MAX,
            stay: Stay {
                admitted: longest,
                submitted: Some(longest),
                writing: Some(longest),
                inputs: u32::MAX,
            },
        };
        let told = Told {
            at: Nanos(u64::MAX),
            number: u64::MAX,
            step,
        };
        let mut events = Events::in_pieces(0);
        write_step(&mut events, &told).unwrap();
        assert!(events.take().len() <= PIECE_BYTES / PIECE_STEPS);
    }

    fn moment_of_any_length() -> Moment {
        Moment {
            at: Nanos(u64::MAX),
            bytes: u64::MAX,
        }
    }
}
