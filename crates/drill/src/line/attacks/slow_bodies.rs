//! Why: a declared length is a promise that costs the client nothing; a server that sets memory aside for it, or reads without a deadline, is
//! held by 1,000 clients that send a byte now and then.

use std::rc::Rc;

use super::idle::Open;
use crate::line::client;
use crate::line::field::{Field, pause};
use crate::rng::Rng;

const CLIENTS: usize = 1000;
/// Lengths that nobody can mean, beside those that fit.
const ABSURD: [usize; 3] = [1 << 30, 1 << 40, usize::MAX / 2];

pub(super) async fn run(field: Rc<Field>, mut rng: Rng) {
    let open = Open::default();
    field
        .crowd(CLIENTS, &mut rng, move |field, mut rng| {
            let open = open.clone();
            async move {
                loop {
                    pause(rng.below(300) as u64).await;
                    let Ok(mut client) = field.connect().await else {
                        continue;
                    };
                    let _open = open.enter(&field);
                    let bytes = if rng.percent(20) {
                        *rng.pick(&ABSURD)
                    } else {
                        field.bill.body_bytes_max - rng.below(field.bill.body_bytes_max / 4)
                    };
                    let head = client::head("/v1/analyze", &format!("content-length: {bytes}"));
                    if client.send(&head).await.is_err() {
                        continue;
                    }
                    while client.send(b" ").await.is_ok() {
                        pause(100 + rng.below(300) as u64).await;
                    }
                }
            }
        })
        .await;
}
