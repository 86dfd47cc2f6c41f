//! Why: a server that admits all it is offered serves nobody in time, and one that spends itself on refusing serves few.
//!
//! First of two small counts of clients in a closed loop the one that is answered more often: the peak is theirs. Then they and ten times as many take turns,
//! so that what else the machine does hits both alike. A refused client comes back after as long as a request takes at the peak, so what is offered is ten
//! times what can be served. The server has cores of its own where there are two or more: what the clients spend is not its loss.

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
/// Of the few, and of the many.
const TURNS: u32 = 4;

pub(super) async fn run(field: Rc<Field>, mut rng: Rng) {
    let whole = field.until - Instant::now();
    let (at_once, choosing) = (Duration::from_millis(1), whole / 10);
    let mut best = (FEW[0], 0.0);
    for clients in FEW {
        let rate = rate(&field, choosing, clients, at_once, &mut rng).await;
        if rate.served > best.1 {
            best = (clients, rate.served);
        }
    }
    let (clients, served) = best;
    let comes_back = Duration::from_secs_f64((clients as f64 / served.max(1.0)).min(1.0));
    let (mut peak, mut overload) = (Rate::default(), Rate::default());
    for turns_left in (1..=TURNS).rev() {
        let turn = (field.until - Instant::now()) / (2 * turns_left);
        peak.add(&rate(&field, turn, clients, at_once, &mut rng).await);
        overload.add(&rate(&field, turn, TIMES * clients, comes_back, &mut rng).await);
    }
    let turns = f64::from(TURNS);
    field.tally.borrow_mut().overload = Some(Overload {
        clients,
        peak_per_second: peak.served / turns,
        overload_per_second: overload.served / turns,
        offered_per_second: overload.offered / turns,
    });
}

/// How many a second.
#[derive(Default)]
struct Rate {
    served: f64,
    offered: f64,
}

impl Rate {
    fn add(&mut self, other: &Rate) {
        self.served += other.served;
        self.offered += other.offered;
    }
}

/// What is answered and asked a second with so many clients for `time`, less its first tenth, in which they arrive one after the other: as a herd, in every
/// turn, they would be a sixteenth of all that are refused, and what is asked for is a load that lasts.
async fn rate(
    field: &Rc<Field>,
    time: Duration,
    clients: usize,
    comes_back: Duration,
    rng: &mut Rng,
) -> Rate {
    let until = Instant::now() + time;
    let counted_from = Instant::now() + time / 10;
    let (served, offered) = (Rc::new(Cell::new(0u64)), Rc::new(Cell::new(0u64)));
    let counters = (Rc::clone(&served), Rc::clone(&offered));
    let asked = Rc::new(Cell::new(0));
    let arrived = Cell::new(0);
    field
        .crowd_until(until, clients, rng, move |field, mut rng| {
            let (served, offered) = counters.clone();
            let asked = Rc::clone(&asked);
            let arrives = time / 10 * arrived.replace(arrived.get() + 1) / clients as u32;
            async move {
                sleep(arrives).await;
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
