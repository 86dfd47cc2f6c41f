//! One connection.

use std::sync::Arc;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::place::Entered;
use super::stream::Guarded;
use super::{HEADERS_MAX, HYPER_BUFFER_BYTES, NetSettings, STREAM_HEADER_BYTES_MAX, STREAMS_MAX};

/// The protocol with all its buffers bounded.
pub(super) fn builder(settings: &NetSettings) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_timeout)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HYPER_BUFFER_BYTES)
        .writev(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(HYPER_BUFFER_BYTES as u32)
        .initial_connection_window_size(2 * HYPER_BUFFER_BYTES as u32)
        .max_frame_size(HYPER_BUFFER_BYTES as u32)
        .max_header_list_size(STREAM_HEADER_BYTES_MAX as u32)
        .max_send_buf_size(HYPER_BUFFER_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(STREAMS_MAX as usize)
        .keep_alive_interval(settings.header_timeout)
        .keep_alive_timeout(settings.write_stall);
    builder
}

/// Serves a connection to its end, or to the end of what is under way once `drain` turns true; then, a client that does not take its answer, or does not say goodbye, is not
/// waited for longer than [`NetSettings::write_stall`].
pub(super) async fn run(
    builder: Arc<Builder<TokioExecutor>>,
    router: Router,
    tcp: TcpStream,
    settings: NetSettings,
    place: Entered,
    mut drain: watch::Receiver<bool>,
) {
    let io = TokioIo::new(Guarded::new(tcp, &settings));
    let connection = builder.serve_connection(io, place.watch(router));
    let mut connection = std::pin::pin!(connection);
    // How a connection ends (the client left, was too slow, sent no HTTP) is its own affair: what it held has returned by then.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = place.evicted() => {}
        () = place.stalled(2 * settings.write_stall) => {}
        () = async { drop(drain.wait_for(|drain| *drain).await) } => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                _ = connection => {}
                () = place.silent(settings.write_stall) => {}
            }
        }
    }
}
