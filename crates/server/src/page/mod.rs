//! The page at `/`: how deep the ship lies, at a glance, and a box to try a text.
//!
//! Whoever runs a server looks here first, at any hour and from a phone, so the page needs nothing but the server: no build step, no request to
//! elsewhere, nothing to log in to where there is no key. With a key, the files are open (they hold nothing) and what they show is not: the page
//! asks for the key and sends it like any client.
//!
//! The figures are those of `/metrics`, read by the same functions.

pub(crate) mod assets;
mod live;
mod past;
mod snapshot;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::{HeaderMap, Method};

pub use live::Live;
pub(crate) use live::run;
pub(crate) use past::Totals;

use crate::app::App;
use assets::ASSETS;

/// `GET /`, its files, and `/live`.
pub fn pages() -> Router<Arc<App>> {
    let live = get(|State(app): State<Arc<App>>| async { live::watch(app) });
    ASSETS
        .into_iter()
        .fold(Router::new().route("/live", live), |router, asset| {
            router.route(
                asset.path,
                get(move |headers: HeaderMap| async move { asset.response(&headers) }),
            )
        })
}

/// Whether this is a file of the page, for which no key is asked.
pub fn is_file(method: &Method, path: &str) -> bool {
    [Method::GET, Method::HEAD].contains(method) && ASSETS.iter().any(|asset| asset.path == path)
}
