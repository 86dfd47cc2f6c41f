//! Connections with bounds.
//!
//! Transport libraries grow their buffers to suit the fastest client; here each connection is a line of the bill
//! ([`connection_bytes`]), so every buffer of it is set: the socket's two, hyper's, HTTP/2's windows and streams. A connection that
//! neither reads nor writes is closed, and so is one that reads its answer too slowly.

mod connection;
mod listen;
mod place;
mod scrape;
mod serve;
mod silent;
mod stream;

use std::time::Duration;

pub use listen::{ListenError, listen};
pub use scrape::{SCRAPERS_MAX, scrape};
pub use serve::serve;

/// What one connection may take.
#[derive(Clone, Copy, Debug)]
pub struct NetSettings {
    /// Connections at the same time.
    pub connections_max: usize,
    /// Connections on top of them, on which only health, metrics and diagnosis answer.
    pub connections_reserved: usize,
    /// Where all are in use, a newcomer takes the place of the one that has waited longest for a request, if it has waited so long.
    pub evict_after: Duration,
    /// Asked of the kernel for each direction of a socket; it sets aside twice as much.
    pub socket_buffer_bytes: usize,
    /// From a connection's start, or the last answer's end, to the end of a request's headers.
    pub header_timeout: Duration,
    /// How long a connection may give nothing to read.
    pub read_idle: Duration,
    /// In this time a client must take [`WRITE_PROGRESS_BYTES`] of what waits for it, or all of it.
    pub write_stall: Duration,
    /// From the signal to end until no more connections are taken: balancers go by probes, and notice after a while.
    pub drain_delay: Duration,
    /// How long a drain waits for those inside.
    pub drain_timeout: Duration,
}

impl Default for NetSettings {
    fn default() -> Self {
        NetSettings {
            connections_max: 256,
            connections_reserved: 8,
            evict_after: Duration::from_secs(1),
            socket_buffer_bytes: 32 * 1024,
            header_timeout: Duration::from_secs(30),
            read_idle: Duration::from_secs(75),
            write_stall: Duration::from_secs(10),
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(25),
        }
    }
}

/// Hyper's buffer of a connection, each way.
pub const HYPER_BUFFER_BYTES: usize = 16 * 1024;
/// What a client must take in [`NetSettings::write_stall`].
pub const WRITE_PROGRESS_BYTES: usize = 16 * 1024;
/// Headers of a request.
pub const HEADERS_MAX: usize = 64;
/// Streams of an HTTP/2 connection.
pub const STREAMS_MAX: u32 = 8;
/// Headers of an HTTP/2 request, as the protocol counts them: with 32 bytes a field. A field of one letter takes six times its part of this, and all
/// streams of a connection may open at once.
pub const STREAM_HEADER_BYTES_MAX: usize = 4 * 1024;
/// What a connection's tasks, parsed headers and boxes take at most.
const STATE_BYTES: usize = 24 * 1024;

/// The same of one without a place, of which nothing was read.
const PLACELESS_STATE_BYTES: usize = 4 * 1024;

/// The most that a connection takes: the kernel's two socket buffers (doubled by it), hyper's two, and state.
pub fn connection_bytes(settings: &NetSettings) -> usize {
    4 * settings.socket_buffer_bytes + 2 * HYPER_BUFFER_BYTES + STATE_BYTES
}

/// The most that connections take while they have no place: those that have not spoken, and those that the runtime was handed and has not done with.
pub fn placeless_bytes(settings: &NetSettings) -> usize {
    serve::PLACELESS_MAX * (2 * settings.socket_buffer_bytes + PLACELESS_STATE_BYTES)
}
