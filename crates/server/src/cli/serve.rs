//! `plimsoll serve`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use plimsoll_engine::govern::{Marks, Order, PaceConfig};
use plimsoll_engine::{BillLine, Layers, Tasks};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::start::{RUNTIME_STACK_BYTES, RUNTIME_THREADS};
use super::telemetry::{TelemetryArgs, TelemetryError};
use super::{ModelArgs, StartUp, StartUpError, plan};
use crate::app::{App, Settings};
use crate::debug::{self, DebugError};
use crate::http::grpc;
use crate::log::{Format, LogWriter, Severity};
use crate::net::{self, ListenError, NetSettings};
use crate::otlp::Exporter;
use crate::page::Live;
use crate::warm_up::WarmUp;
use crate::wire::analyze;
use crate::workers::{self, WorkerError, Workers};

/// Flags of `serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    net: NetArgs,
    /// Keep all that is used in memory: nothing is swapped, and weights do not leave the page cache. Needs CAP_IPC_LOCK, or `ulimit -l unlimited`.
    #[arg(long, env)]
    lock_memory: bool,
    /// Address to listen on. A name that is no address (as containers set HOSTNAME) means all of them.
    #[arg(long, env, default_value = "0.0.0.0")]
    hostname: String,
    /// Port to listen on.
    #[arg(long, short, env, default_value_t = 3000)]
    port: u16,
    /// Clients must send this as `Authorization: Bearer KEY`.
    #[arg(long, env, hide_env_values = true)]
    api_key: Option<String>,
    /// From a body's first byte to its last, in milliseconds.
    #[arg(long, env, default_value_t = 10_000)]
    body_timeout_ms: u64,
    /// After its first 2 seconds a body must have come at this rate, or its client is told that it is too slow.
    #[arg(long, env, default_value_t = 8 * 1024)]
    body_bytes_per_second_min: usize,
    /// What /v1/analyze leaves out first when memory is short, in this order; what is not named is never left out. Answers say what they leave out.
    #[arg(long, env, value_delimiter = ',', default_value = "words,entities,sentiment", value_parser = task_name)]
    drop_order: Vec<Tasks>,
    /// Growth of live bytes in percent that starts a reclaim cycle; 0 switches the reclaimer off.
    #[arg(long, env, default_value_t = 100)]
    reclaim_growth: u32,
    /// Layers that do not work, for measuring what they are worth.
    #[arg(long, value_delimiter = ',', hide = true)]
    without: Vec<Layer>,
    /// Embed the texts of this file, one a line, before /health says that the server is ready.
    #[arg(long, env)]
    warm_up: Option<PathBuf>,
    /// The warm-up takes at most so many seconds.
    #[arg(long, env, default_value_t = 60)]
    warm_up_seconds_max: u64,
    /// From a body's last byte to its answer, in milliseconds.
    #[arg(long, env, default_value_t = 30_000)]
    request_timeout_ms: u64,
    /// A newcomer that would wait longer for workers is refused with 429, in milliseconds.
    #[arg(long, env, default_value_t = 2_000)]
    queue_ms_max: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Layer {
    Reuse,
    GiveBack,
    Waiting,
    Levels,
}

fn task_name(name: &str) -> Result<Tasks, String> {
    analyze::task(name).ok_or_else(|| {
        let names: Vec<_> = analyze::names(analyze::ALL).collect();
        format!("there are {}", names.join(", "))
    })
}

/// Connections take at most this part of the limit where nobody says how many there may be.
const CONNECTIONS_SHARE: usize = 8;
/// Under such a limit sockets get small buffers where nobody says.
const SMALL_LIMIT_BYTES: usize = 256 << 20;
const SMALL_SOCKET_BUFFER_BYTES: usize = 16 * 1024;
/// The least and the most connections where nobody says.
const CONNECTIONS_DEFAULT: (usize, usize) = (16, 256);

/// Flags of connections.
#[derive(Args, Clone, Debug)]
pub struct NetArgs {
    /// Connections at the same time; by default as many as an eighth of the memory limit pays for, from 16 to 256.
    #[arg(long, env, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=65_536))]
    max_connections: Option<usize>,
    /// Address, or port of the loopback address, for a diagnosis of the running server: profiles, traces, who holds what. They show how it works inside: keep it off public
    /// networks. Off by default; its bytes are in the bill.
    #[arg(long, env = "PLIMSOLL_DEBUG_LISTEN", value_parser = debug::parse_address)]
    pub(super) debug_listen: Option<SocketAddr>,
    /// Bytes asked of the kernel for each direction of a connection; by default 32 KiB, 16 KiB where the memory limit is below 256 MiB.
    #[arg(long, env)]
    socket_buffer_bytes: Option<usize>,
    /// Seconds from SIGTERM until no more connections are taken; a second SIGTERM ends them. Meanwhile /health says 503 and all else is served: as long as your balancer takes to notice.
    #[arg(long, env, default_value_t = 0)]
    drain_delay_seconds: u32,
    #[command(flatten)]
    pub(super) telemetry: TelemetryArgs,
}

impl NetArgs {
    fn settings(&self, limit_bytes: usize) -> NetSettings {
        let settings = NetSettings {
            socket_buffer_bytes: self.socket_buffer_bytes.unwrap_or(match limit_bytes {
                ..SMALL_LIMIT_BYTES => SMALL_SOCKET_BUFFER_BYTES,
                _ => NetSettings::default().socket_buffer_bytes,
            }),
            drain_delay: Duration::from_secs(self.drain_delay_seconds.into()),
            ..NetSettings::default()
        };
        // Below the least limit of any model there is nothing to share out.
        let sharable = limit_bytes.saturating_sub(SMALL_LIMIT_BYTES / 4);
        let affordable = sharable / CONNECTIONS_SHARE / net::connection_bytes(&settings);
        let (least, most) = CONNECTIONS_DEFAULT;
        let connections_max = self.max_connections.unwrap_or(affordable.clamp(least, most));
        NetSettings {
            connections_max,
            ..settings
        }
    }

    /// The lines of the bill for connections, and for telling of them.
    pub(super) fn lines(&self, limit_bytes: usize) -> Vec<BillLine> {
        let settings = self.settings(limit_bytes);
        let line = |owner, count, each_bytes| BillLine {
            owner,
            count,
            each_bytes,
        };
        let count = settings.connections_max + settings.connections_reserved;
        let mut lines = vec![
            line("connections", count, net::connection_bytes(&settings)),
            line("silent connections", 1, net::placeless_bytes(&settings)),
            line("live page", 1, Live::BYTES),
            line("small grpc calls", 1, grpc::CALLS_BYTES),
        ];
        if self.telemetry.prometheus_port.is_some() {
            let each_bytes = net::connection_bytes(&settings);
            lines.push(line("scrapers", net::SCRAPERS_MAX, each_bytes));
        }
        lines.extend(self.telemetry.lines());
        lines.extend(self.debug_listen.iter().flat_map(|_| debug::lines()));
        lines
    }
}

/// Why `serve` ended badly. One line each.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It did not start.
    #[error(transparent)]
    StartUp(#[from] StartUpError),
    /// The address.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The address for diagnosis.
    #[error(transparent)]
    Debug(#[from] DebugError),
    /// The workers.
    #[error(transparent)]
    Workers(#[from] WorkerError),
    /// The texts to begin with.
    #[error("--warm-up {}: {source}", path.display())]
    WarmUp {
        /// The file.
        path: PathBuf,
        /// Why it cannot be read.
        source: std::io::Error,
    },
    /// The kernel does not lock.
    #[error("--lock-memory: {0}; it takes CAP_IPC_LOCK, or RLIMIT_MEMLOCK as `unlimited` (ulimit -l)")]
    Lock(std::io::Error),
    /// Logs, traces and metrics.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The runtime or its signals.
    #[error("the runtime cannot be started: {0}")]
    Runtime(#[from] std::io::Error),
    /// Some requests did not finish in time.
    #[error("stopped with requests unfinished after {seconds} s")]
    Unfinished {
        /// How long they were waited for.
        seconds: u64,
    },
}

/// Serves until SIGTERM or SIGINT, then drains.
///
/// # Errors
/// [`ServeError`].
pub fn run(args: &ServeArgs) -> Result<(), ServeError> {
    let settings = Settings {
        body_timeout: Duration::from_millis(args.body_timeout_ms),
        request_timeout: Duration::from_millis(args.request_timeout_ms),
        queue_time_max: Duration::from_millis(args.queue_ms_max),
        body_bytes_per_s_min: args.body_bytes_per_second_min,
        api_key: args.api_key.clone(),
        drop_order: Order::new(&args.drop_order),
        pace: PaceConfig {
            growth_percent: (args.reclaim_growth > 0).then_some(args.reclaim_growth),
            ..PaceConfig::default()
        },
        layers: Layers {
            reuse: !args.without.contains(&Layer::Reuse),
            give_back: !args.without.contains(&Layer::GiveBack),
            waiting: !args.without.contains(&Layer::Waiting),
        },
        marks: match args.without.contains(&Layer::Levels) {
            true => Marks::OFF,
            false => Marks::default(),
        },
        ..Settings::default()
    };
    if args.lock_memory {
        plimsoll_memory::process::lock_memory().map_err(ServeError::Lock)?;
    }
    let StartUp { app, workers } = StartUp::new(&args.model, settings, Some(&args.net))?;
    let net = NetSettings {
        read_idle: Duration::from_millis(args.body_timeout_ms + args.request_timeout_ms)
            .max(NetSettings::default().read_idle),
        ..args.net.settings(app.engine.plan().limit_bytes)
    };
    let telemetry = &args.net.telemetry;
    let warm_up = args.warm_up.as_deref().map(|path| {
        let time_max = Duration::from_secs(args.warm_up_seconds_max);
        WarmUp::open(path, time_max).map_err(|source| ServeError::WarmUp {
            path: path.to_owned(),
            source,
        })
    });
    let warm_up = warm_up.transpose()?;
    let (place, otlp) = (telemetry.place()?, telemetry.otlp()?);
    let log_writer = LogWriter::start(&app.observer, place)?;
    let log = &app.observer.log;
    match log.format() {
        Format::Plain => eprint!("{}", plan::as_text(app.engine.plan())),
        Format::Json => log.say_with(Severity::Info, "plan", "plan", plan::as_json(app.engine.plan())),
    }
    let runtime = runtime()?;
    let finished = runtime.block_on(async {
        let listener = net::listen(address(args), &net)?;
        let scrapes = telemetry.prometheus_port.map(|port| {
            let address = SocketAddr::new(address(args).ip(), port);
            net::listen(address, &net)
        });
        let scrapes = scrapes.transpose()?;
        let local = listener.local_addr()?;
        let stops = stop_signals()?;
        let threads = Workers::start(&app.engine, workers, workers::recorder(&app))?;
        (0..workers).for_each(|_| app.metrics.worker_started());
        if let Some(address) = args.net.debug_listen {
            let local = debug::start(Arc::clone(&app), address)?;
            eprintln!("diagnosis on http://{local}/debug/");
        }
        if let Some(listener) = scrapes {
            let listener = TcpListener::from_std(listener)?;
            tokio::spawn(net::scrape(Arc::clone(&app), listener, net));
        }
        if let Some(warm_up) = warm_up {
            warm_up.start(&app);
        }
        let exporter = otlp.map(|otlp| Exporter::start(&app, otlp));
        if telemetry.has_file() {
            tokio::spawn(rotate_on_signal(Arc::clone(&app), signal(SignalKind::hangup())?));
        }
        let serving = format!("serving {} on http://{local}", app.model_name);
        match log.format() {
            Format::Plain => eprintln!("{serving}"),
            Format::Json => log.say(Severity::Info, serving),
        }
        take_short_turns();
        let finished = net::serve(Arc::clone(&app), listener, net, stops).await?;
        drop(threads);
        if let Some(exporter) = exporter {
            exporter.finish().await;
        }
        Ok::<bool, ServeError>(finished)
    })?;
    runtime.shutdown_timeout(Duration::from_millis(100));
    drop(log_writer);
    if finished {
        Ok(())
    } else {
        Err(ServeError::Unfinished {
            seconds: net.drain_timeout.as_secs(),
        })
    }
}

/// A small runtime: the model runs on threads of its own.
fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .max_blocking_threads(1)
        .thread_stack_size(RUNTIME_STACK_BYTES)
        .on_thread_start(take_short_turns)
        .enable_all()
        .build()
}

/// A thread that moves bytes runs soon after it wakes: an answer or a refusal must not wait for a worker's turn to end.
fn take_short_turns() {
    // A system that knows nothing of this has turns of one length.
    let _ = plimsoll_memory::process::take_short_turns();
}

fn address(args: &ServeArgs) -> SocketAddr {
    let host = match args.hostname.as_str() {
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        name => name.parse().unwrap_or_else(|_| {
            eprintln!("{name} is no address: listening on all");
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        }),
    };
    SocketAddr::new(host, args.port)
}

/// Puts the log file aside at each SIGHUP.
async fn rotate_on_signal(app: Arc<App>, mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        app.observer.log.rotate();
    }
}

/// Each SIGTERM and SIGINT.
fn stop_signals() -> std::io::Result<mpsc::Receiver<()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, stops) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if sender.send(()).await.is_err() {
                return;
            }
        }
    });
    Ok(stops)
}
