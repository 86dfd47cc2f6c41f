//! Why: a connection costs buffers before its request exists; 2,000 clients that never finish a header hold them without ever meeting admission.

use std::rc::Rc;

use super::idle::Open;
use crate::line::client;
use crate::line::field::{Field, pause};
use crate::rng::Rng;

const CLIENTS: usize = 2000;

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
                    let head = client::head("/embed", &format!("content-length: {}", 1 + rng.below(100_000)));
                    for byte in head {
                        if client.send(&[byte]).await.is_err() {
                            break;
                        }
                        pause(100 + rng.below(200) as u64).await;
                    }
                }
            }
        })
        .await;
}
