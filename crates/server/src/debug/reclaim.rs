//! `POST /debug/reclaim`: a reclaim cycle on request, as before a snapshot of the machine or to see what idle memory is worth. It takes what recent traffic would have found
//! warm, too; the next requests pay for fresh pages.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::Problem;
use crate::app::App;

/// Between two looks whether it is over.
const LOOK: Duration = Duration::from_millis(5);
/// A cycle works at most a tenth of the time, and needs no more than this for all that a machine may hold.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn reclaim(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let engine = &app.engine;
    let before = engine.governor_stats();
    let number = engine.request_reclaim();
    let until = Instant::now() + PATIENCE;
    loop {
        sleep(LOOK).await;
        let after = engine.governor_stats();
        if after.cycles >= number {
            let answer = json!({
                "cycle": number,
                "live_bytes_before": before.live_bytes,
                "live_bytes_after": after.live_bytes,
            });
            let kind = [(header::CONTENT_TYPE, "application/json")];
            return Ok((kind, answer.to_string()).into_response());
        }
        if Instant::now() > until {
            return Err(Problem::new(
                StatusCode::GATEWAY_TIMEOUT,
                format!("the cycle has not ended within {} s", PATIENCE.as_secs()),
            ));
        }
    }
}
