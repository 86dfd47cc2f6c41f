//! Why: a connection that says nothing still costs: a descriptor, a task, buffers, 4 KiB in the kernel. Ten thousand of them are one
//! misconfigured pool of clients.

use std::cell::Cell;
use std::rc::Rc;

use crate::line::field::{Field, pause};
use crate::rng::Rng;

const CLIENTS: usize = 10_000;

/// Counts the connections of a crowd that are open.
#[derive(Clone, Default)]
pub(super) struct Open(Rc<Cell<u64>>);

/// One that is open.
pub(super) struct Entered(Open);

impl Open {
    pub(super) fn enter(&self, field: &Field) -> Entered {
        self.0.set(self.0.get() + 1);
        field.saw_open(self.0.get());
        Entered(self.clone())
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.0.set(self.0.0.get() - 1);
    }
}

pub(super) async fn run(field: Rc<Field>, mut rng: Rng) {
    let open = Open::default();
    field
        .crowd(CLIENTS, &mut rng, move |field, mut rng| {
            let open = open.clone();
            async move {
                // They come within the first second, and those that are sent away come again a second later.
                pause(rng.below(1000) as u64).await;
                loop {
                    if let Ok(mut client) = field.connect().await {
                        let _open = open.enter(&field);
                        // Says nothing; ends when the server ends it.
                        while client.reply().await.is_ok() {}
                    }
                    pause(1000).await;
                }
            }
        })
        .await;
}
