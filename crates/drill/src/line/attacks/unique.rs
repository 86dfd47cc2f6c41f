//! Why: a cache that is bounded in entries and not in bytes, or not at all, grows by every text that nobody sends twice; a cold scan at night
//! is nothing else.

use std::rc::Rc;

use crate::line::client::post;
use crate::line::corpus;
use crate::line::field::{Field, pause};
use crate::rng::Rng;

const CLIENTS: usize = 24;
const TOKENS: usize = 12;
const TEXTS: usize = 8;

pub(super) async fn run(field: Rc<Field>, mut rng: Rng) {
    field
        .crowd(CLIENTS, &mut rng, |field, mut rng| async move {
            let mut client = None;
            loop {
                let texts: Vec<String> = (0..TEXTS).map(|_| corpus::unique(&mut rng, TOKENS)).collect();
                let request = post("/v1/analyze", &corpus::analyze_all(&texts));
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
