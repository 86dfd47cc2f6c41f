//! Why: nights do not come one trouble at a time. Each attack is survivable alone by a server that spends its whole budget on it; together they
//! must share one.

use std::rc::Rc;

use tokio::task::JoinSet;

use super::ALL;
use crate::line::field::Field;
use crate::rng::Rng;

pub(super) async fn run(field: Rc<Field>, mut rng: Rng) {
    let mut attacks = JoinSet::new();
    for (index, attack) in ALL
        .iter()
        .filter(|attack| attack.name != "everything")
        .enumerate()
    {
        attacks.spawn_local((attack.run)(Rc::clone(&field), rng.fork(index as u64)));
    }
    while attacks.join_next().await.is_some() {}
    // Its figures are the overload's only where it is alone.
    field.tally.borrow_mut().overload = None;
}
