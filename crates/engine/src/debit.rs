//! What a request is debited: at the door by its length, and once its body was read by what it told.

use crate::engine::Engine;
use crate::error::Refusal;
use crate::govern::Door;
use crate::need::{Known, need};
use crate::pools;
use crate::request::Tasks;
use crate::work::{TOKEN_BYTES, Work};

impl Engine {
    /// Bytes to debit for `tasks` over what is known.
    pub(crate) fn price(&self, tasks: Tasks, known: Known) -> usize {
        pools::bytes(
            &need(self.limits(), self.rates(), tasks, known),
            self.limits().chunk_bytes,
        )
    }

    /// Refuses what could never fit.
    pub(crate) fn check_size(&self, body_bytes: usize, needed_bytes: usize) -> Result<(), Refusal> {
        let body_bytes_max = self.limits().body_bytes_max;
        let available_bytes =
            Door::new(self.plan().request_slots_bytes, &self.gate().marks()).longest_bytes();
        if body_bytes > body_bytes_max {
            return Err(Refusal::BodyTooLarge {
                body_bytes,
                body_bytes_max,
            });
        }
        if needed_bytes > available_bytes {
            return Err(Refusal::TooLarge {
                body_bytes,
                needed_bytes,
                available_bytes,
            });
        }
        Ok(())
    }

    /// Has `work` hold what it may come to need now that its body was read. That is less than its length told, as a rule; where inputs share a text it may be more.
    pub(crate) fn settle_debit(&self, work: &mut Work) -> Result<(), Refusal> {
        let needed_bytes = work.bytes_worst(self);
        if needed_bytes <= work.held.bytes() {
            work.held.shrink_to(needed_bytes);
            return Ok(());
        }
        self.check_size(work.body.len(), needed_bytes)?;
        let (tokens, tokens_max) = (
            work.tokens_worst(self),
            self.pools().tokens.len_max() / TOKEN_BYTES,
        );
        if tokens > tokens_max {
            return Err(Refusal::TooLarge {
                body_bytes: work.body.len(),
                needed_bytes,
                available_bytes: needed_bytes - (tokens - tokens_max) * TOKEN_BYTES,
            });
        }
        self.gate().grow(&mut work.held, needed_bytes)
    }
}
