//! Why: tokenizers are priced by ordinary text. A megabyte without a space is one word, a chain of joined emoji one grapheme, and some
//! characters become eighteen; each has been a way to a crash or to minutes of work somewhere.

use std::rc::Rc;

use crate::line::client::post;
use crate::line::corpus;
use crate::line::field::{Field, pause};
use crate::rng::Rng;

const CLIENTS: usize = 8;
const BYTES: usize = 1 << 20;

pub(super) async fn run(field: Rc<Field>, mut rng: Rng) {
    field
        .crowd(CLIENTS, &mut rng, |field, mut rng| async move {
            let mut client = None;
            loop {
                let bytes = BYTES.min(field.bill.body_bytes_max - 100);
                let bomb = corpus::bomb(&mut rng, bytes);
                let request = if rng.percent(30) {
                    post("/tokenize", &format!("{{\"inputs\": \"{bomb}\"}}"))
                } else {
                    post("/v1/analyze", &corpus::analyze(&bomb))
                };
                if field
                    .ask(&mut client, &request)
                    .await
                    .is_none_or(|reply| reply.status != 200)
                {
                    pause(50).await;
                }
            }
        })
        .await;
}
