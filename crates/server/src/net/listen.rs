//! The listening socket.

use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use super::NetSettings;

/// Connections that the kernel holds before they are accepted: a burst of them waits a moment here instead of a second for its next try. Until then they
/// are on no process's account: Linux charges a connection and what its buffers hold to a memory cgroup when it is accepted.
const BACKLOG: i32 = 512;

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// Why not.
    pub source: std::io::Error,
}

/// Listens, and never blocks; accepted connections inherit the socket's buffer sizes.
///
/// # Errors
/// [`ListenError`], as when the port is taken.
pub fn listen(address: SocketAddr, settings: &NetSettings) -> Result<TcpListener, ListenError> {
    let listener = || -> std::io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_recv_buffer_size(settings.socket_buffer_bytes)?;
        socket.set_send_buffer_size(settings.socket_buffer_bytes)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    listener().map_err(|source| ListenError { address, source })
}
