//! The accept loop and its end.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::{NetSettings, connection};
use crate::app::App;
use crate::http::router;

/// What a connection over the cap is told.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-type: application/json\r\n\
connection: close\r\ncontent-length: 64\r\n\r\n\
{\"error\":\"all connections are in use\",\"error_type\":\"Overloaded\"}";

/// Serves until `stop`; then takes no more connections and lets those inside finish, at most [`NetSettings::drain_timeout`] long. Returns
/// whether all of them did.
pub async fn serve(
    app: Arc<App>,
    listener: TcpListener,
    settings: NetSettings,
    stop: impl Future<Output = ()>,
) -> bool {
    let places = Arc::new(Semaphore::new(settings.connections_max));
    let builder = Arc::new(connection::builder(&settings));
    let router = router(Arc::clone(&app));
    let (drain, draining) = watch::channel(false);
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((tcp, _)) = accepted else {
            // Out of descriptors, or the client is gone already: neither is cured by trying again at once.
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            refuse(&app, &tcp);
            continue;
        };
        let run = connection::run(
            Arc::clone(&builder),
            router.clone(),
            nodelay(tcp),
            settings,
            draining.clone(),
        );
        let open = Open::new(Arc::clone(&app), place);
        tokio::spawn(async move {
            run.await;
            drop(open);
        });
    }
    drop(listener);
    app.drain();
    drain.send_replace(true);
    let all = u32::try_from(settings.connections_max).unwrap_or(u32::MAX);
    timeout(settings.drain_timeout, places.acquire_many(all))
        .await
        .is_ok()
}

/// An open connection: counted, and in its place until it is dropped.
struct Open {
    app: Arc<App>,
    _place: OwnedSemaphorePermit,
}

impl Open {
    fn new(app: Arc<App>, place: OwnedSemaphorePermit) -> Self {
        app.metrics.connections.fetch_add(1, Relaxed);
        Open { app, _place: place }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.app.metrics.connections.fetch_sub(1, Relaxed);
    }
}

/// Answers are written whole; waiting for more of them would only delay them.
fn nodelay(tcp: TcpStream) -> TcpStream {
    // A socket that refuses is slower, not wrong.
    let _ = tcp.set_nodelay(true);
    tcp
}

fn refuse(app: &App, tcp: &TcpStream) {
    app.metrics.connections_refused.fetch_add(1, Relaxed);
    // Fits the empty send buffer of a new socket, or the client is gone.
    let _ = tcp.try_write(FULL);
}

#[cfg(test)]
mod tests {
    use super::FULL;

    #[test]
    fn the_refusal_has_the_length_it_declares() {
        let text = std::str::from_utf8(FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())));
    }
}
