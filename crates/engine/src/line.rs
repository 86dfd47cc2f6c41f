//! A line of jobs in which neither the short nor the long ones wait for ever.
//!
//! First come, first served lets one long text hold up a hundred short ones; shortest first lets the short ones hold up a long one without end. Here half of
//! the work goes to whoever came first and the other half to whoever has least left to do: a short text waits for about one pass whatever stands before it,
//! and a long one gets at least half of the machine once it is the oldest.

use std::collections::VecDeque;

/// A job and what is left to do for it, in the unit of its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiting {
    job: u32,
    size: usize,
}

/// Jobs in the order in which they came, each at most once, in room reserved at start.
#[derive(Debug)]
pub(crate) struct Line {
    jobs: VecDeque<Waiting>,
    /// The sum of all sizes.
    size: usize,
    /// Whose turn it is in [`Line::next`].
    oldest_is_next: bool,
    /// How much more was done for the oldest than for the shortest, as far as both waited.
    oldest_is_ahead_by: isize,
}

impl Line {
    /// What a place in the line takes.
    pub(crate) const PLACE_BYTES: usize = size_of::<Waiting>();

    pub(crate) fn new(jobs_max: usize) -> Line {
        Line {
            jobs: VecDeque::with_capacity(jobs_max),
            size: 0,
            oldest_is_next: true,
            oldest_is_ahead_by: 0,
        }
    }

    pub(crate) fn push(&mut self, job: u32, size: usize) {
        self.jobs.push_back(Waiting { job, size });
        self.size += size;
    }

    pub(crate) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// What is left to do for all jobs together.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// The job that came first.
    pub(crate) fn oldest(&self) -> Option<u32> {
        self.jobs.front().map(|waiting| waiting.job)
    }

    /// The job with least left to do, counted in powers of two: of two that differ by less, the one that came first.
    pub(crate) fn shortest(&self) -> Option<u32> {
        self.least().map(|waiting| waiting.job)
    }

    fn least(&self) -> Option<Waiting> {
        let magnitude = |waiting: &&Waiting| waiting.size.next_power_of_two();
        self.jobs.iter().min_by_key(magnitude).copied()
    }

    /// Takes a job out: the oldest and the shortest by turns.
    pub(crate) fn next(&mut self) -> Option<u32> {
        let job = match self.oldest_is_next {
            true => self.oldest(),
            false => self.shortest(),
        }?;
        self.oldest_is_next = !self.oldest_is_next;
        self.remove(job);
        Some(job)
    }

    /// Takes the job out that came first.
    pub(crate) fn next_oldest(&mut self) -> Option<u32> {
        let job = self.oldest()?;
        self.remove(job);
        Some(job)
    }

    /// Takes the shortest job out, if it is no longer than `size_max`.
    pub(crate) fn next_within(&mut self, size_max: usize) -> Option<u32> {
        let Waiting { job, size } = self.least()?;
        (size <= size_max && self.remove(job)).then_some(job)
    }

    /// Whether the oldest job has had no more than its half.
    pub(crate) fn oldest_is_due(&self) -> bool {
        self.oldest_is_ahead_by <= 0
    }

    /// So much of a job is done.
    pub(crate) fn shrink(&mut self, job: u32, by: usize) {
        self.oldest_is_ahead_by = match self.oldest() {
            // Alone, it takes nothing from anybody.
            _ if self.jobs.len() < 2 => 0,
            Some(oldest) if oldest == job => self.oldest_is_ahead_by + by as isize,
            // What nobody wanted is not owed later.
            _ => (self.oldest_is_ahead_by - by as isize).max(0),
        };
        if let Some(waiting) = self.jobs.iter_mut().find(|waiting| waiting.job == job) {
            let by = by.min(waiting.size);
            waiting.size -= by;
            self.size -= by;
        }
    }

    /// Takes a job out; false when it does not stand here.
    pub(crate) fn remove(&mut self, job: u32) -> bool {
        let place = self.jobs.iter().position(|waiting| waiting.job == job);
        let gone = place.and_then(|place| self.jobs.remove(place));
        self.size -= gone.map_or(0, |waiting| waiting.size);
        gone.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::Line;

    fn line(sizes: &[usize]) -> Line {
        let mut line = Line::new(sizes.len());
        for (job, &size) in sizes.iter().enumerate() {
            line.push(job as u32, size);
        }
        line
    }

    #[test]
    fn the_oldest_and_the_shortest_go_by_turns() {
        let mut line = line(&[900, 800, 5, 700, 5, 1]);
        let order: Vec<u32> = std::iter::from_fn(|| line.next()).collect();
        assert_eq!(order, [0, 5, 1, 2, 3, 4]);
        assert_eq!((line.size(), line.len()), (0, 0));
    }

    #[test]
    fn a_long_job_is_not_overtaken_for_ever() {
        let mut line = line(&[900]);
        let mut turns = 0;
        loop {
            turns += 1;
            line.push(turns, 1);
            if line.next() == Some(0) {
                break;
            }
        }
        assert!(turns <= 2, "{turns}");
    }

    #[test]
    fn a_little_shorter_does_not_overtake() {
        let line = line(&[900, 60, 40, 33]);
        assert_eq!(line.shortest(), Some(1));
    }

    #[test]
    fn the_oldest_gets_half_of_the_work() {
        let mut line = line(&[2000, 30, 30]);
        assert!(line.oldest_is_due());
        line.shrink(0, 50);
        assert!(!line.oldest_is_due());
        line.shrink(1, 30);
        assert!(!line.oldest_is_due());
        line.shrink(2, 30);
        assert!(line.oldest_is_due());
        // It was not owed the ten that the others had more.
        line.shrink(0, 5);
        assert!(!line.oldest_is_due());
        assert!(line.remove(1) && line.remove(2));
        line.shrink(0, 500);
        assert!(line.oldest_is_due());
    }

    #[test]
    fn only_what_is_short_is_taken_where_only_that_may_be() {
        let mut line = line(&[900, 30, 10]);
        let order: Vec<u32> = std::iter::from_fn(|| line.next_within(30)).collect();
        assert_eq!((order, line.len()), (vec![2, 1], 1));
    }

    #[test]
    fn what_is_done_counts_no_more() {
        let mut line = line(&[40, 20]);
        assert_eq!(
            (line.oldest(), line.shortest(), line.size()),
            (Some(0), Some(1), 60)
        );
        line.shrink(0, 35);
        assert_eq!(
            (line.oldest(), line.shortest(), line.size()),
            (Some(0), Some(0), 25)
        );
        line.shrink(0, 35);
        assert_eq!(line.size(), 20);
        assert!(line.remove(0) && !line.remove(0) && !line.is_empty());
        assert_eq!((line.oldest(), line.size()), (Some(1), 20));
    }
}
