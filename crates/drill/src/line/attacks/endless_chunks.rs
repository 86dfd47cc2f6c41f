//! Why: a chunked body declares nothing, so a server that collects it first learns of its size when it is too late.

use std::rc::Rc;

use crate::line::client;
use crate::line::field::{Field, pause};
use crate::rng::Rng;

const CLIENTS: usize = 64;
const CHUNK_BYTES: usize = 16 * 1024;

pub(super) async fn run(field: Rc<Field>, mut rng: Rng) {
    field
        .crowd(CLIENTS, &mut rng, |field, mut rng| async move {
            let mut chunk = format!("{CHUNK_BYTES:x}\r\n").into_bytes();
            chunk.resize(chunk.len() + CHUNK_BYTES, b'a');
            chunk.extend_from_slice(b"\r\n");
            loop {
                pause(rng.below(50) as u64).await;
                let Ok(mut client) = field.connect().await else {
                    continue;
                };
                let head = client::head("/v1/analyze", "transfer-encoding: chunked");
                if client.send(&head).await.is_ok() {
                    while client.send(&chunk).await.is_ok() {}
                }
            }
        })
        .await;
}
