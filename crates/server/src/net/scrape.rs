//! A listener of its own for what scrapes metrics, as operators have it who keep that port inside.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;

use super::place::Roster;
use super::{NetSettings, connection};
use crate::app::App;
use crate::http::scrape_router;

/// Connections at the same time; more wait in the kernel.
pub const SCRAPERS_MAX: usize = 4;
/// A scraper asks at once.
const HEADER_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves `/metrics`, `/health` and `/info`, one request a connection, until it is dropped.
pub async fn scrape(app: Arc<App>, listener: TcpListener, settings: NetSettings) {
    let settings = NetSettings {
        header_timeout: HEADER_TIMEOUT,
        read_idle: HEADER_TIMEOUT,
        ..settings
    };
    let (_never, draining) = watch::channel(false);
    let mut builder = connection::builder(&settings);
    builder.http1().keep_alive(false);
    let (builder, router) = (Arc::new(builder), scrape_router(app));
    let places = Arc::new(Semaphore::new(SCRAPERS_MAX));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Ok((tcp, _)) = listener.accept().await else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        let (builder, router, draining) = (Arc::clone(&builder), router.clone(), draining.clone());
        tokio::spawn(async move {
            let entered = Arc::new(Roster::new()).enter();
            connection::run(builder, router, tcp, settings, entered, draining).await;
            drop(place);
        });
    }
}
