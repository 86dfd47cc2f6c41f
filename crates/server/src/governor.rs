//! The governor's hands: calls the engine's governor when it asks to be called, reads what the kernel says once a second, has the
//! allocator give back what it does not need, and writes the lines.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_memory::{alloc, limits, process};
use tokio::time::{Instant, sleep};

use crate::app::App;
use crate::log::Severity;

/// Between two readings of the process's size.
const READING: Duration = Duration::from_secs(1);
/// An alarm is written once in this time.
const ALARM_PAUSE: Duration = Duration::from_secs(60);
/// After so much was allocated and freed the allocator is asked for the pages that it has no use for, if a reading is due ...
const CHURN_BYTES: u64 = 1 << 20;
/// ... and after anything at all once less than this moves between two readings: what a pause begins with stays as long as that lasts.
const QUIET_BYTES: u64 = 64 << 10;
/// A process above this percentage of its limit raises an alarm.
const ALARM_PERCENT: usize = 98;
/// A group that stands still for memory so much of the time raises one, too.
const STALL_PERCENT: f64 = 10.0;

/// Governs until it is dropped.
pub(crate) async fn run(app: Arc<App>) {
    let mut next_reading = Instant::now();
    let mut quiet_until = Instant::now();
    let (mut moved_bytes, mut moved_before) = (0, 0);
    loop {
        let governed = app.engine.govern();
        let log = &app.observer.log;
        if let Some(change) = governed.change {
            log.say(Severity::Info, change);
        }
        if let Some(cycle) = governed.cycle {
            log.say(Severity::Info, cycle);
            app.live.reclaimed(cycle);
        }
        app.live.observe(app.engine.requests_bytes());
        if governed.returned_requests > 0 {
            let count = governed.returned_requests;
            log.say(
                Severity::Warn,
                format_args!("returned {count} requests that had not started"),
            );
        }
        let now = Instant::now();
        if now >= next_reading {
            next_reading = now + READING;
            let counts = alloc::total_counts();
            // Frees count by themselves: when a crowd leaves, nothing else comes after them.
            let moved = counts.allocated_bytes + counts.freed_bytes;
            let is_quiet = moved - moved_before < QUIET_BYTES;
            let since_bytes = moved - moved_bytes;
            if since_bytes >= CHURN_BYTES || since_bytes > 0 && is_quiet {
                moved_bytes = moved;
                alloc::give_back();
            }
            moved_before = moved;
            if let Some(alarm) = read(&app) {
                app.metrics.alarmed();
                if now >= quiet_until {
                    quiet_until = now + ALARM_PAUSE;
                    log.say(Severity::Warn, format_args!("alarm: {alarm}"));
                }
            }
        }
        sleep(Duration::from_nanos(governed.next.since(app.engine.now()))).await;
    }
}

/// Weighs the process; says what is wrong.
fn read(app: &App) -> Option<String> {
    let limit_bytes = app.engine.plan().limit_bytes;
    let resident_bytes = process::resident_bytes()?;
    app.engine.weigh(resident_bytes);
    if resident_bytes > limit_bytes / 100 * ALARM_PERCENT {
        return Some(format!("{resident_bytes} of {limit_bytes} bytes are resident"));
    }
    let stalled = limits::memory_pressure_percent().filter(|percent| *percent > STALL_PERCENT)?;
    Some(format!(
        "{stalled}% of the last 10 s something stood still for memory"
    ))
}
