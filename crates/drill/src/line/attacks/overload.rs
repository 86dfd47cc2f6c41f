//! Why: a server that admits all it is offered serves nobody in time, and one that spends itself on refusing serves few.
//!
//! First the peak: answers a second with a few clients in a closed loop, the best of two counts of clients. Then ten times as many. A refused
//! client comes back after as long as a request takes at the peak, so what is offered is ten times what can be served. The server has cores of its own
//! where there are two or more: what the clients spend is not its loss.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::line::client::post;
use crate::line::corpus;
use crate::line::field::{Field, Overload, pause};
use crate::rng::Rng;

/// Texts are as long as reviews are, in tokens: so many at least, and so many lengths from there, all of them equally often in any stretch of time. Lengths
/// drawn at random would move each rate by more than a hundredth.
const TOKENS_MIN: usize = 8;
const LENGTHS: usize = 113;
/// From one length to the next, modulo [`LENGTHS`]: by the golden ratio, so that they are spread evenly.
const LENGTH_STEP: usize = 70;
const FEW: [usize; 2] = [8, 16];
const TIMES: usize = 10;

pub(super) async fn run(field: Rc<Field>, mut rng: Rng) {
    let whole = field.until - Instant::now();
    let mut best = (FEW[0], 0.0);
    for clients in FEW {
        let rate = rate(
            &field,
            Instant::now() + whole / 5,
            clients,
            Duration::from_millis(1),
            &mut rng,
        )
        .await;
        if rate.served > best.1 {
            best = (clients, rate.served);
        }
    }
    let (clients, peak_per_second) = best;
    let comes_back = Duration::from_secs_f64((clients as f64 / peak_per_second.max(1.0)).min(1.0));
    let overload = rate(&field, field.until, TIMES * clients, comes_back, &mut rng).await;
    field.tally.borrow_mut().overload = Some(Overload {
        clients,
        peak_per_second,
        overload_per_second: overload.served,
        offered_per_second: overload.offered,
    });
}

/// How many a second.
struct Rate {
    served: f64,
    offered: f64,
}

/// What is answered and asked a second with so many clients until `until`, less the first tenth of the time, in which they all arrive.
async fn rate(
    field: &Rc<Field>,
    until: Instant,
    clients: usize,
    comes_back: Duration,
    rng: &mut Rng,
) -> Rate {
    let counted_from = Instant::now() + (until - Instant::now()) / 10;
    let (served, offered) = (Rc::new(Cell::new(0u64)), Rc::new(Cell::new(0u64)));
    let counters = (Rc::clone(&served), Rc::clone(&offered));
    let asked = Rc::new(Cell::new(0));
    field
        .crowd_until(until, clients, rng, move |field, mut rng| {
            let (served, offered) = counters.clone();
            let asked = Rc::clone(&asked);
            async move {
                let mut client = None;
                loop {
                    let text = corpus::text(&mut rng, TOKENS_MIN + asked.get() * LENGTH_STEP % LENGTHS);
                    asked.set(asked.get() + 1);
                    let request = post("/embed", &format!("{{\"inputs\": \"{text}\"}}"));
                    let reply = field.ask(&mut client, &request).await;
                    let counts = u64::from(Instant::now() >= counted_from);
                    offered.set(offered.get() + counts);
                    match reply {
                        Some(reply) if reply.status == 200 => served.set(served.get() + counts),
                        Some(_) => sleep(comes_back).await,
                        None => pause(20).await,
                    }
                }
            }
        })
        .await;
    let seconds = (until - counted_from).as_secs_f64();
    Rate {
        served: served.get() as f64 / seconds,
        offered: offered.get() as f64 / seconds,
    }
}
