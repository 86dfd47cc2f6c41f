//! Diagnosis of a running server, on a listener of its own.
//!
//! | path | what | format |
//! |---|---|---|
//! | `/debug/pprof/profile?seconds=` | where CPU time goes | pprof |
//! | `/debug/pprof/heap` | live heap bytes, sampled, by who made them | pprof |
//! | `/debug/pprof/pools` | live leases, sampled, by kind and by who leased them | pprof |
//! | `/debug/pprof/threads` | where each thread stands now | pprof |
//! | `/debug/pprof/forbidden?seconds=` | allocations where there must be none | pprof |
//! | `/debug/trace?seconds=` | requests, stages, passes, reclaim cycles, levels, evictions, refusals | Chrome's trace events, as Perfetto opens |
//! | `POST /debug/reclaim` | runs a reclaim cycle that takes all that is idle, and says what it gave back | JSON |
//! | `/debug/state?mark=` | who is inside, what workers do, all counts | JSON |
//!
//! It is off unless the operator names an address, and has a thread of its own, so that reading a profile, which takes time, holds up no request and is held up by none. All
//! that it may take is in the bill ([`lines`]): samples and events lie in tables of fixed size, connections are few, what is read is written piece by piece or bounded.

mod chrome;
mod digits;
mod names;
mod pprof;
mod profiles;
mod reclaim;
mod state;
mod stream;
mod symbols;
mod trace;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{StatusCode, Uri, header};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use plimsoll_engine::BillLine;
use plimsoll_memory::profile;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::app::App;

pub use pprof::{Function, Label, Line, Location, Profile, Sample, ValueType};

/// Connections at the same time: a diagnosis uses four.
const CONNECTIONS_MAX: usize = 8;
/// The kernel's buffers and hyper's, of one of them.
const CONNECTION_BYTES: usize = 96 * 1024;
/// Stack of the thread.
const STACK_BYTES: usize = 512 * 1024;
/// What a profile takes while it is collected, named and written.
const READING_BYTES: usize = 3 << 20;
/// Hyper's buffer, each way.
const BUFFER_BYTES: usize = 16 * 1024;
/// The longest that anything is collected.
const SECONDS_MAX: u64 = 300;
/// How long a client may take beyond that to read it.
const READ_PATIENCE: Duration = Duration::from_secs(60);
/// How long headers may take.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Where to listen: an address, or a port of the loopback address.
///
/// # Errors
/// What was expected.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<u16>() {
        Ok(port) => Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
        Err(_) => text
            .parse()
            .map_err(|_| "expected an address with a port, as 127.0.0.1:6060, or a port".to_owned()),
    }
}

/// The lines of the bill.
pub fn lines() -> [BillLine; 4] {
    let line = |owner, count, each_bytes| BillLine {
        owner,
        count,
        each_bytes,
    };
    [
        line("profile samples", 1, profile::BYTES),
        line("debug connections", CONNECTIONS_MAX, CONNECTION_BYTES),
        line("debug stack", 1, STACK_BYTES),
        line("debug reading", 1, READING_BYTES),
    ]
}

/// Why diagnosis cannot be listened for.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on --debug-listen {address}: {source}")]
pub struct DebugError {
    address: SocketAddr,
    source: io::Error,
}

/// Listens on a thread of its own, for the life of the process; returns the address.
///
/// # Errors
/// [`DebugError`], as when the port is taken.
pub fn start(app: Arc<App>, address: SocketAddr) -> Result<SocketAddr, DebugError> {
    let listen = || -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let local = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name("debug".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || runtime.block_on(serve(listener, app)))?;
        Ok(local)
    };
    listen().map_err(|source| DebugError { address, source })
}

async fn serve(listener: TcpListener, app: Arc<App>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return eprintln!("alarm: the debug listener cannot be polled");
    };
    let (router, places) = (router(app), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(BUFFER_BYTES)
        .keep_alive(false);
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let Ok((tcp, _)) = listener.accept().await else {
            // Out of descriptors, or the client is gone: neither is cured by trying again at once.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = builder.serve_connection(TokioIo::new(tcp), service);
        tokio::spawn(async move {
            let patience = Duration::from_secs(SECONDS_MAX) + READ_PATIENCE;
            // How a connection ends is its client's affair.
            let _ended = timeout(patience, connection).await;
            drop(place);
        });
    }
}

fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/debug/pprof/profile", get(profiles::cpu))
        .route("/debug/pprof/heap", get(profiles::heap))
        .route("/debug/pprof/pools", get(profiles::pools))
        .route("/debug/pprof/threads", get(profiles::threads))
        .route("/debug/pprof/forbidden", get(profiles::forbidden))
        .route("/debug/trace", get(trace::trace))
        .route("/debug/state", get(state::state))
        .route("/debug/reclaim", post(reclaim::reclaim))
        .fallback(|| async {
            Problem::new(
                StatusCode::NOT_FOUND,
                "there are /debug/pprof/profile?seconds=, /debug/pprof/heap, /debug/pprof/pools, /debug/pprof/threads, \
                 /debug/pprof/forbidden?seconds=, /debug/trace?seconds=, /debug/state and POST /debug/reclaim",
            )
        })
        .with_state(app)
}

/// Why there is no answer, in a line.
#[derive(Debug)]
struct Problem {
    status: StatusCode,
    what: String,
}

impl Problem {
    fn new(status: StatusCode, what: impl Into<String>) -> Problem {
        Problem {
            status,
            what: what.into(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
        (self.status, kind, self.what + "\n").into_response()
    }
}

/// A number of the query.
fn number(uri: &Uri, name: &str, absent: u64, range: std::ops::RangeInclusive<u64>) -> Result<u64, Problem> {
    let pairs = uri.query().unwrap_or_default().split('&');
    let mut values = pairs.filter_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let Some(value) = values.next() else {
        return Ok(absent);
    };
    let number = value.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| {
        let what = format!(
            "{name}: expected a number from {} to {}",
            range.start(),
            range.end()
        );
        Problem::new(StatusCode::BAD_REQUEST, what)
    })
}

/// How long to collect.
fn seconds(uri: &Uri) -> Result<Duration, Problem> {
    number(uri, "seconds", 10, 1..=SECONDS_MAX).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_of_the_loopback_address() {
        assert_eq!(parse_address("6060").unwrap().to_string(), "127.0.0.1:6060");
        assert_eq!(parse_address("0.0.0.0:1").unwrap().to_string(), "0.0.0.0:1");
        assert_eq!(parse_address("[::1]:7").unwrap().to_string(), "[::1]:7");
        for wrong in ["", "localhost", "70000", "127.0.0.1"] {
            assert!(parse_address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_of_the_query_have_bounds() {
        let uri = |text: &str| text.parse::<Uri>().unwrap();
        assert_eq!(seconds(&uri("/x")).unwrap(), Duration::from_secs(10));
        assert_eq!(seconds(&uri("/x?a=1&seconds=3")).unwrap(), Duration::from_secs(3));
        for wrong in ["/x?seconds=", "/x?seconds=0", "/x?seconds=1e9", "/x?seconds=-1"] {
            let problem = seconds(&uri(wrong)).unwrap_err();
            assert_eq!(problem.status, StatusCode::BAD_REQUEST, "{wrong}");
        }
    }
}
