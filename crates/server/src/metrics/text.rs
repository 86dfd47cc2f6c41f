//! `/metrics`: the families in Prometheus' text format.

use std::fmt::Write;

use super::sink::{Kind, Sink};
use crate::app::App;

/// No page is longer: it is written into one buffer of this size, which does not grow.
pub const TEXT_BYTES_MAX: usize = 48 * 1024;

/// Everything.
pub fn encode(app: &App) -> String {
    let mut text = Text {
        text: String::with_capacity(TEXT_BYTES_MAX),
        family: "",
    };
    super::collect(app, &mut text);
    text.text
}

/// Prometheus' text format, version 0.0.4.
struct Text {
    text: String,
    /// The name of the family that is being written.
    family: &'static str,
}

const NEVER_FAILS: &str = "a String takes all that is written to it";

impl Text {
    fn line(&mut self, suffix: &str, labels: &[(&'static str, &str)], value: f64) {
        let text = &mut self.text;
        write!(text, "{}{suffix}", self.family).expect(NEVER_FAILS);
        for (place, (name, value)) in labels.iter().enumerate() {
            let before = if place == 0 { '{' } else { ',' };
            write!(text, "{before}{name}=\"{value}\"").expect(NEVER_FAILS);
        }
        let after = if labels.is_empty() { "" } else { "}" };
        writeln!(text, "{after} {value}").expect(NEVER_FAILS);
    }
}

impl Sink for Text {
    fn family(&mut self, name: &'static str, kind: Kind, help: &'static str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.family = name;
        writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}").expect(NEVER_FAILS);
    }

    fn value(&mut self, labels: &[(&'static str, &str)], value: f64) {
        self.line("", labels, value);
    }

    fn histogram(&mut self, bounds: &'static [f64], counts: &[u64], sum: f64) {
        let mut total = 0;
        for (place, count) in counts.iter().enumerate() {
            total += count;
            match bounds.get(place) {
                Some(bound) => {
                    let name = self.family;
                    writeln!(self.text, "{name}_bucket{{le=\"{bound}\"}} {total}").expect(NEVER_FAILS);
                }
                None => self.line("_bucket", &[("le", "+Inf")], total as f64),
            }
        }
        self.line("_sum", &[], sum);
        self.line("_count", &[], total as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Histogram;

    #[test]
    fn families_have_a_head_and_labels() {
        let mut text = Text {
            text: String::new(),
            family: "",
        };
        text.family("a_total", Kind::Counter, "A test.");
        text.value(&[("x", "1"), ("y", "2")], 3.0);
        text.gauge("b_bytes", "Another.", -1.5);
        let expected = "# HELP a_total A test.\n# TYPE a_total counter\na_total{x=\"1\",y=\"2\"} 3\n\
                        # HELP b_bytes Another.\n# TYPE b_bytes gauge\nb_bytes -1.5\n";
        assert_eq!(text.text, expected);
    }

    #[test]
    fn buckets_are_cumulative() {
        let histogram = Histogram::new(&[1.0, 10.0]);
        [0.5, 1.0, 3.0, 100.0]
            .into_iter()
            .for_each(|value| histogram.record(value));
        let mut text = Text {
            text: String::new(),
            family: "",
        };
        histogram.collect("h", "A test.", &mut text);
        let expected = "# HELP h A test.\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"10\"} 3\n\
                        h_bucket{le=\"+Inf\"} 4\nh_sum 104.5\nh_count 4\n";
        assert_eq!(text.text, expected);
    }
}
