//! What is dropped first when memory is short.

use super::level::Pressure;
use crate::request::Tasks;

/// Tasks that may be dropped, first to last: the operator's order. What is not named is at the core and never dropped.
///
/// The first task goes at the least pressure, the last at the greatest, evenly between. A request keeps at least one of its tasks.
///
/// ```
/// use plimsoll_engine::{Tasks, govern::{Order, Pressure}};
/// let order = Order::default();
/// let asked = Tasks::WORDS.with(Tasks::EMBEDDING);
/// assert_eq!(order.dropped(asked, Pressure::NONE), Tasks::NONE);
/// assert_eq!(order.dropped(asked, Pressure::FULL), Tasks::WORDS);
/// assert_eq!(order.dropped(Tasks::WORDS, Pressure::FULL), Tasks::NONE, "it is all that was asked for");
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

    /// What of `asked` is dropped at `pressure`.
    pub fn dropped(&self, asked: Tasks, pressure: Pressure) -> Tasks {
        let count = (self.len * pressure.permille()).div_ceil(1000);
        self.tasks[..count].iter().fold(Tasks::NONE, |dropped, task| {
            let kept = asked.without(dropped.with(*task).with(Tasks::TOKEN_COUNT));
            if asked.any(*task) && kept != Tasks::NONE {
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
            .with(Tasks::EMBEDDING)
            .with(Tasks::TOKEN_COUNT);
        let dropped = |in_use| Order::default().dropped(all, marks.pressure(in_use, 1000));
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
        let asked = Tasks::CLASSES.with(Tasks::WORDS).with(Tasks::TOKEN_COUNT);
        assert_eq!(order.dropped(asked, Pressure::FULL), Tasks::CLASSES);
    }
}
