//! Why: a stack that allocates per shape keeps a buffer for every length it ever saw; all lengths in random order is what grew three
//! ordinary services until they were killed.

use std::rc::Rc;

use crate::line::client::post;
use crate::line::corpus;
use crate::line::field::{Field, pause};
use crate::rng::Rng;

const CLIENTS: usize = 16;

pub(super) async fn run(field: Rc<Field>, mut rng: Rng) {
    field
        .crowd(CLIENTS, &mut rng, |field, mut rng| async move {
            let mut client = None;
            loop {
                let tokens = 1 + rng.below(field.bill.tokens_max);
                let request = post("/v1/analyze", &corpus::analyze(&corpus::text(&mut rng, tokens)));
                if field
                    .ask(&mut client, &request)
                    .await
                    .is_none_or(|reply| reply.status != 200)
                {
                    pause(20).await;
                }
            }
        })
        .await;
}
