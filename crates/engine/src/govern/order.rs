//! What is dropped first when memory is short.

use super::level::Pressure;
use crate::request::Tasks;

/// Tasks that may be dropped, first to last: the operator's order. What is not named is at the core and never dropped.
///
/// The first task goes at the least pressure, the last at the greatest, evenly between. A request keeps at least one of the tasks that it wants.
///
/// ```
/// use plimsoll_engine::{Tasks, govern::{Order, Pressure}};
/// let order = Order::default();
/// let asked = Tasks::WORDS.with(Tasks::EMBEDDING);
/// assert_eq!(order.dropped(asked, asked, Pressure::NONE), Tasks::NONE);
/// assert_eq!(order.dropped(asked, asked, Pressure::FULL), Tasks::WORDS);
/// assert_eq!(order.dropped(Tasks::WORDS, Tasks::WORDS, Pressure::FULL), Tasks::NONE, "it is all that is wanted");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    tasks: [Tasks; Order::LEN_MAX],
    len: usize,
}

impl Default for Order {
    /// Words first, which a client can make itself; then entities, then classes. Vectors are the core.
    fn default() -> Self {
        Order::new(&[Tasks::WORDS, Tasks::ENTITIES, Tasks::CLASSES])
    }
}

impl Order {
    /// The most tasks in an order.
    pub const LEN_MAX: usize = 8;

    /// Drops `tasks` in this order; those after the eighth are never dropped.
    pub fn new(tasks: &[Tasks]) -> Order {
        let len = tasks.len().min(Order::LEN_MAX);
        let mut order = Order {
            tasks: [Tasks::NONE; Order::LEN_MAX],
            len,
        };
        order.tasks[..len].copy_from_slice(&tasks[..len]);
        order
    }

    /// What of `tasks` is dropped at `pressure`. Those that are not `wanted` are there for the sake of these, and none of them is the one that stays.
    pub fn dropped(&self, tasks: Tasks, wanted: Tasks, pressure: Pressure) -> Tasks {
        let count = (self.len * pressure.permille()).div_ceil(1000);
        self.tasks[..count].iter().fold(Tasks::NONE, |dropped, task| {
            let kept = wanted.without(dropped.with(*task));
            if tasks.any(*task) && kept != Tasks::NONE {
                dropped.with(*task)
            } else {
                dropped
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Nanos;
    use crate::govern::{Marks, Watermarks};

    #[test]
    fn tasks_go_one_by_one_as_pressure_rises() {
        let mut marks = Watermarks::new(Marks::default());
        marks.observe(600, 1000, Nanos(1));
        let all = Tasks::WORDS
            .with(Tasks::ENTITIES)
            .with(Tasks::CLASSES)
            .with(Tasks::EMBEDDING);
        let dropped = |in_use| Order::default().dropped(all, all, marks.pressure(in_use, 1000));
        assert_eq!(dropped(600), Tasks::NONE);
        assert_eq!(dropped(601), Tasks::WORDS);
        assert_eq!(dropped(690), Tasks::WORDS.with(Tasks::ENTITIES));
        assert_eq!(
            dropped(850),
            Tasks::WORDS.with(Tasks::ENTITIES).with(Tasks::CLASSES)
        );
    }

    #[test]
    fn the_last_task_stays_even_when_all_may_go() {
        let order = Order::new(&[Tasks::CLASSES, Tasks::WORDS]);
        let wanted = Tasks::CLASSES.with(Tasks::WORDS);
        let tasks = wanted.with(Tasks::TOKEN_COUNT);
        assert_eq!(order.dropped(tasks, wanted, Pressure::FULL), Tasks::CLASSES);
    }

    #[test]
    fn what_is_done_for_the_sake_of_a_task_does_not_stay_in_its_place() {
        let (wanted, tasks) = (Tasks::ENTITIES, Tasks::ENTITIES.with(Tasks::WORDS));
        let dropped = |order: &[Tasks]| Order::new(order).dropped(tasks, wanted, Pressure::FULL);
        assert_eq!(dropped(&[Tasks::ENTITIES]), Tasks::NONE);
        assert_eq!(dropped(&[Tasks::ENTITIES, Tasks::WORDS]), Tasks::WORDS);
    }
}
