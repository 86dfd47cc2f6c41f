//! What is shown while the night passes.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::judge::{Facts, Part, Who};
use super::plan::Causes;
use super::report::{HEAD, row};
use super::steady::Traffic;
use super::watch::Moment;

/// The steady traffic of so long is summed up.
const LATELY: Duration = Duration::from_secs(2);

/// Two lines: how far the drill is, and how the server is.
pub(super) struct Screen {
    nights: ProgressBar,
    memory: ProgressBar,
    all: MultiProgress,
}

impl Screen {
    pub(super) fn new(nights: usize, line_bytes: u64) -> Screen {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let bar = |len: u64, template| {
            let style = ProgressStyle::with_template(template).expect("the template is a constant");
            all.add(ProgressBar::new(len).with_style(style))
        };
        let nights = bar(nights as u64, "{bar:30} {pos}/{len} {elapsed} {msg}");
        let memory = bar(line_bytes, "{bar:30} {bytes} of {total_bytes} held; {msg}");
        eprint!("{HEAD}");
        Screen { nights, memory, all }
    }

    pub(super) fn begin(&self, who: Who, causes: Causes) {
        self.nights.set_message(format!("{}: {causes}", who.name()));
    }

    pub(super) fn show(&self, moment: &Moment, traffic: &Traffic) {
        let now = traffic.elapsed();
        let part = traffic.look(|samples| Part::of(samples, now.saturating_sub(LATELY), now));
        let level = match moment.level {
            Some(0) => "normal",
            Some(1) => "strained",
            Some(_) => "refusing",
            None => "no levels",
        };
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
        self.memory.set_position(moment.reading.held_bytes());
        self.memory.set_message(format!(
            "{level}, {} refused, {} waiting; p99 {} ms, {}% of hot texts known",
            moment.refusals.unwrap_or(0),
            moment.queue.unwrap_or(0),
            number(part.p99_ms),
            number(part.hot_share.map(|share| 100.0 * share)),
        ));
    }

    pub(super) fn end(&self, facts: &Facts) {
        self.nights.inc(1);
        self.all.suspend(|| eprint!("{}", row(facts)));
    }

    pub(super) fn finish(&self) {
        self.nights.finish_and_clear();
        self.memory.finish_and_clear();
    }
}
