//! Why: what a request holds must come back however it ends, and most leaks sit on the ways that are walked least: a client that is gone before
//! its header, in its body, in the queue, in the pass, in the answer.

use std::rc::Rc;

use crate::line::client::post;
use crate::line::corpus;
use crate::line::field::{Field, pause};
use crate::rng::Rng;

const CLIENTS: usize = 64;

pub(super) async fn run(field: Rc<Field>, mut rng: Rng) {
    field
        .crowd(CLIENTS, &mut rng, |field, mut rng| async move {
            loop {
                let Ok(mut client) = field.connect().await else {
                    pause(50).await;
                    continue;
                };
                let tokens = 1 + rng.below(2000);
                let request = post("/v1/analyze", &corpus::analyze(&corpus::text(&mut rng, tokens)));
                let sent = if rng.percent(50) {
                    request.len()
                } else {
                    rng.below(request.len())
                };
                // A server that has closed already ends the client as well as the client itself would.
                let _ = client.send(&request[..sent]).await;
                pause(rng.below(40) as u64).await;
                if rng.percent(50) {
                    client.reset();
                }
            }
        })
        .await;
}
