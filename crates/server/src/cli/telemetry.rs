//! Flags of logs, traces and metrics, and their lines of the bill. Beside variables of their own, those of OpenTelemetry's specification are read where it has them.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use plimsoll_engine::BillLine;

use super::bytes::parse_bytes;
use crate::log::{DIRTY_BYTES_MAX, Format, Log, LogFile, Place, QUEUE_BYTES};
use crate::observe::Observer;
use crate::otlp::{EXPORT_BYTES, OtlpSettings, Protocol, SettingError, Spans};

/// Flags of logs, traces and metrics.
#[derive(Args, Clone, Debug)]
pub(super) struct TelemetryArgs {
    /// Log lines are JSON objects.
    #[arg(long, env, default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    json_output: bool,
    /// A line of log for each request but good probes: ids, status, reason, tokens and times, nothing of its text.
    #[arg(long, env, default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    access_log: bool,
    /// Log lines go into this file instead of standard error. SIGHUP puts it aside, or opens it again if it was moved.
    #[arg(long, env)]
    log_file: Option<PathBuf>,
    /// The file is put aside before it holds more than this.
    #[arg(long, env, default_value = "64MiB", value_parser = parse_bytes)]
    log_file_bytes: usize,
    /// So many files that were put aside are kept, as NAME.1 and so on.
    #[arg(long, env, default_value_t = 5, value_parser = RangedU64ValueParser::<u32>::new().range(0..=1000))]
    log_files_kept: u32,
    /// Bytes of lines that may wait for the disk or terminal; beyond, lines are dropped and counted. By default 16 KiB, with --access-log 256 KiB.
    #[arg(long, env, value_parser = parse_bytes)]
    log_queue_bytes: Option<usize>,
    /// Traces and metrics go to this OpenTelemetry collector, as http://HOST:4317 (also OTEL_EXPORTER_OTLP_ENDPOINT). Without TLS: a collector on this host or in
    /// this pod can add it.
    #[arg(long, env)]
    otlp_endpoint: Option<String>,
    /// How they get there; collectors listen for gRPC on 4317 and for HTTP on 4318.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_PROTOCOL", value_enum, default_value_t)]
    otlp_protocol: Protocol,
    /// Headers that are sent along, as NAME=VALUE,NAME=VALUE.
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_HEADERS",
        default_value = "",
        hide_env_values = true
    )]
    otlp_headers: String,
    /// What the service calls itself in traces and metrics.
    #[arg(long, env = "OTEL_SERVICE_NAME", default_value = "plimsoll")]
    otlp_service_name: String,
    /// The share of requests that are traced, 0 to 1; a request that comes with a traceparent keeps its caller's decision.
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", default_value_t = 1.0, value_parser = ratio)]
    otlp_sampling_ratio: f64,
    /// Bytes that may wait for the collector; beyond, spans are dropped and counted.
    #[arg(long, env, default_value = "1MiB", value_parser = parse_bytes)]
    otlp_queue_bytes: usize,
    /// Also serve /metrics, /health and /info on this port, on the same address.
    #[arg(long, env)]
    pub(super) prometheus_port: Option<u16>,
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

/// What telemetry cannot start for. One line each.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The file.
    #[error("--log-file {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The exporter.
    #[error(transparent)]
    Otlp(#[from] SettingError),
}

impl TelemetryArgs {
    fn endpoint(&self) -> Option<String> {
        let standard = || std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").ok();
        let endpoint = self.otlp_endpoint.clone().or_else(standard);
        endpoint.filter(|endpoint| !endpoint.is_empty())
    }

    fn log_queue_bytes(&self) -> usize {
        let (usual, many) = QUEUE_BYTES;
        self.log_queue_bytes
            .unwrap_or(if self.access_log { many } else { usual })
    }

    /// Who is told of requests, as the flags have it.
    pub(super) fn observer(&self) -> Arc<Observer> {
        let format = if self.json_output {
            Format::Json
        } else {
            Format::Plain
        };
        let log = Log::new(format, self.log_queue_bytes());
        let spans = |_| Spans::new(self.otlp_queue_bytes, self.otlp_sampling_ratio);
        Arc::new(Observer::new(log, self.access_log, self.endpoint().map(spans)))
    }

    /// Where log lines go.
    pub(super) fn place(&self) -> Result<Place, TelemetryError> {
        let Some(path) = &self.log_file else {
            return Ok(Place::Stderr);
        };
        let file = LogFile::open(path, self.log_file_bytes as u64, self.log_files_kept);
        file.map(Place::File).map_err(|source| TelemetryError::File {
            path: path.clone(),
            source,
        })
    }

    /// Whether there is a file to be put aside.
    pub(super) fn has_file(&self) -> bool {
        self.log_file.is_some()
    }

    /// Where to export to, if anywhere.
    pub(super) fn otlp(&self) -> Result<Option<OtlpSettings>, TelemetryError> {
        let settings = self.endpoint().map(|endpoint| {
            let name = self.otlp_service_name.clone();
            OtlpSettings::new(&endpoint, self.otlp_protocol, &self.otlp_headers, name)
        });
        Ok(settings.transpose()?)
    }

    /// The lines of the bill.
    pub(super) fn lines(&self) -> impl Iterator<Item = BillLine> {
        let line = |owner, each_bytes| BillLine {
            owner,
            count: 1,
            each_bytes,
        };
        let exports = self.endpoint().is_some();
        let spans_bytes = EXPORT_BYTES + Spans::bytes(self.otlp_queue_bytes);
        [
            Some(line("log", Log::bytes(self.log_queue_bytes()))),
            self.has_file()
                .then(|| line("log file's dirty pages", DIRTY_BYTES_MAX + self.log_queue_bytes())),
            exports.then(|| line("trace export", spans_bytes)),
        ]
        .into_iter()
        .flatten()
    }
}
