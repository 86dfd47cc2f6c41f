//! Why: what a client does not read stays with the server, in its own buffers and in the kernel's: 1,000 such clients took a careful server of
//! 18 MB to 342 MB, 324 of it in sockets.
//!
//! Each has the smallest receive buffer, asks for answers of megabytes, one behind the other, and never reads.

use std::rc::Rc;

use super::idle::Open;
use crate::line::client::post;
use crate::line::corpus;
use crate::line::field::{Field, pause};
use crate::rng::Rng;

const CLIENTS: usize = 1000;
const TEXT_TOKENS: usize = 2000;

pub(super) async fn run(field: Rc<Field>, mut rng: Rng) {
    let open = Open::default();
    let body = format!(
        "{{\"tasks\": [\"words\"], \"text\": \"{}\"}}",
        corpus::text(&mut rng, TEXT_TOKENS)
    );
    let request: Rc<[u8]> = post("/v1/analyze", &body).into();
    field
        .crowd(CLIENTS, &mut rng, move |field, mut rng| {
            let (open, request) = (open.clone(), Rc::clone(&request));
            async move {
                loop {
                    pause(rng.below(300) as u64).await;
                    let Ok(mut client) = field.connect_with(Some(1024)).await else {
                        continue;
                    };
                    let _open = open.enter(&field);
                    while client.send(&request).await.is_ok() {}
                }
            }
        })
        .await;
}
