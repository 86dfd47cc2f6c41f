//! Why: at 3 a.m. the logs are rotated in the same container. Page cache counts against the same limit, and a kernel that cannot write it back
//! as fast as it is dirtied kills instead.

use std::rc::Rc;

use crate::line::field::{Field, pause};
use crate::rng::Rng;

const BYTES: u64 = 1 << 30;

pub(super) async fn run(field: Rc<Field>, _rng: Rng) {
    let rotates = async {
        let mut before_bytes = 0;
        loop {
            let Ok(mut writer) = field.logs.write(BYTES) else {
                field.tally.borrow_mut().broken += 1;
                return;
            };
            while writer.is_writing() {
                pause(20).await;
                field.tally.borrow_mut().log_bytes = before_bytes + writer.written_bytes();
            }
            before_bytes += writer.written_bytes();
        }
    };
    // Out of time is how it is meant to end.
    let _ = tokio::time::timeout_at(field.until, rotates).await;
}
