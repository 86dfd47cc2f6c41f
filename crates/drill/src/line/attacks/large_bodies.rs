//! Why: 1.9 MB bodies killed three ordinary services at twice their idle size; what a text becomes on its way (tokens, offsets, words,
//! vectors, JSON) is many times its bytes.
//!
//! One text of nearly the whole limit, or as many texts as a request may carry.

use std::rc::Rc;

use crate::line::client::post;
use crate::line::corpus;
use crate::line::field::{Field, pause};
use crate::rng::Rng;

const CLIENTS: usize = 12;

pub(super) async fn run(field: Rc<Field>, mut rng: Rng) {
    field
        .crowd(CLIENTS, &mut rng, |field, mut rng| async move {
            let mut client = None;
            loop {
                let request = request(&field, &mut rng);
                match field.ask(&mut client, &request).await {
                    Some(reply) if reply.status == 200 => {}
                    _ => pause(50).await,
                }
            }
        })
        .await;
}

/// A body of just less than the limit.
fn request(field: &Field, rng: &mut Rng) -> Vec<u8> {
    let bytes = field.bill.body_bytes_max;
    let tasks = *rng.pick(&["words", "words\", \"embedding", "embedding"]);
    let frame_bytes = 64;
    let texts = if rng.percent(50) {
        1
    } else {
        field.bill.inputs_max.min(bytes / 64)
    };
    let each = (bytes - frame_bytes) / texts - 4;
    let one = corpus::text(rng, each / 3);
    let cut = one.floor_char_boundary(each.min(one.len()));
    let list = vec![format!("\"{}\"", &one[..cut]); texts].join(", ");
    post(
        "/v1/analyze",
        &format!("{{\"tasks\": [\"{tasks}\"], \"text\": [{list}]}}"),
    )
}
