//! The families of metrics as OTLP has them: `ExportMetricsServiceRequest`.

use bytes::{BufMut, BytesMut};

use super::protobuf::{Open, Writer};
use crate::app::App;
use crate::metrics::{Kind, Sink, collect};

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: u64 = 2;

/// Writes all families, as they are now.
pub(super) fn encode(app: &App, service_name: &str, now_unix_ns: u64, buffer: &mut BytesMut) {
    let mut writer = Writer(buffer);
    let all = writer.open(1);
    writer.resource(service_name);
    let ours = writer.open(2);
    writer.scope();
    let mut sink = OtlpSink {
        writer,
        began_unix_ns: app.metrics.started_unix_s() * 1_000_000_000,
        now_unix_ns,
        family: None,
    };
    collect(app, &mut sink);
    sink.close_family();
    sink.writer.close(ours);
    sink.writer.close(all);
}

struct OtlpSink<'a> {
    writer: Writer<'a>,
    began_unix_ns: u64,
    now_unix_ns: u64,
    /// The open metric, and in it its kind.
    family: Option<(Open, Open)>,
}

impl OtlpSink<'_> {
    fn close_family(&mut self) {
        if let Some((metric, kind)) = self.family.take() {
            self.writer.close(kind);
            self.writer.close(metric);
        }
    }

    fn times(&mut self) {
        self.writer.fixed64(2, self.began_unix_ns);
        self.writer.fixed64(3, self.now_unix_ns);
    }
}

/// The unit, in UCUM, that a name of ours ends with.
fn unit(name: &str) -> &'static str {
    let name = name.trim_end_matches("_total");
    match name.rsplit('_').next() {
        Some("bytes") => "By",
        Some("seconds" | "duration") => "s",
        _ => "1",
    }
}

impl Sink for OtlpSink<'_> {
    fn family(&mut self, name: &'static str, kind: Kind, help: &'static str) {
        self.close_family();
        let writer = &mut self.writer;
        let metric = writer.open(2);
        writer.text(1, name);
        writer.text(2, help);
        writer.text(3, unit(name));
        let data = match kind {
            Kind::Gauge => writer.open(5),
            Kind::Counter => {
                let sum = writer.open(7);
                writer.varint(2, CUMULATIVE);
                writer.varint(3, 1);
                sum
            }
            Kind::Histogram => {
                let histogram = writer.open(9);
                writer.varint(2, CUMULATIVE);
                histogram
            }
        };
        self.family = Some((metric, data));
    }

    fn value(&mut self, labels: &[(&'static str, &str)], value: f64) {
        let point = self.writer.open(1);
        self.times();
        self.writer.double(4, value);
        for (name, value) in labels {
            self.writer.text_attribute(7, name, value);
        }
        self.writer.close(point);
    }

    fn histogram(&mut self, bounds: &'static [f64], counts: &[u64], sum: f64) {
        let point = self.writer.open(1);
        self.times();
        let writer = &mut self.writer;
        writer.fixed64(4, counts.iter().sum());
        writer.double(5, sum);
        writer.nest(6, |packed| {
            counts.iter().for_each(|&count| packed.0.put_u64_le(count))
        });
        writer.nest(7, |packed| {
            bounds.iter().for_each(|&bound| packed.0.put_f64_le(bound))
        });
        writer.close(point);
    }
}
