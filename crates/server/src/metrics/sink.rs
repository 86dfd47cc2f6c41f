//! Where the families of metrics go: one walk over all of them serves every format.

/// What a family's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by bound.
    Histogram,
}

/// A format in which metrics leave the process.
pub(crate) trait Sink {
    /// The values that follow belong to this family.
    fn family(&mut self, name: &'static str, kind: Kind, help: &'static str);

    /// One value of the family. Labels are words of ours: they need no escapes.
    fn value(&mut self, labels: &[(&'static str, &str)], value: f64);

    /// All of a histogram without labels: counts by bound, not cumulative, the last for what is above all bounds.
    fn histogram(&mut self, bounds: &'static [f64], counts: &[u64], sum: f64);

    /// A gauge without labels.
    fn gauge(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.family(name, Kind::Gauge, help);
        self.value(&[], value);
    }

    /// A counter without labels.
    fn counter(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.family(name, Kind::Counter, help);
        self.value(&[], value);
    }
}
