//! The work inside, by the size of the requests that brought it.

/// Sizes of one class are within a factor of two.
const CLASSES: usize = usize::BITS as usize;

/// Bytes of requests that workers have not finished.
pub(crate) struct Backlog {
    bytes: [usize; CLASSES],
}

fn class(bytes: usize) -> usize {
    bytes.max(1).ilog2() as usize
}

impl Backlog {
    pub(super) fn new() -> Backlog {
        Backlog { bytes: [0; CLASSES] }
    }

    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes[class(bytes)] += bytes;
    }

    pub(super) fn take(&mut self, bytes: usize) {
        self.bytes[class(bytes)] -= bytes;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.iter().all(|&bytes| bytes == 0)
    }

    /// What is worked off before a newcomer of `bytes` is: half of the work goes to whoever came first, the other to the shortest (see
    /// [`Line`](crate::line::Line)), so it waits for twice what is no longer than itself, and never for more than all.
    pub(super) fn before(&self, bytes: usize) -> usize {
        let all: usize = self.bytes.iter().sum();
        let shorter: usize = self.bytes[..=class(bytes)].iter().sum();
        all.min(2 * shorter)
    }
}

#[cfg(test)]
mod tests {
    use super::Backlog;

    #[test]
    fn a_short_newcomer_does_not_wait_for_long_ones() {
        let (mut backlog, inside) = (Backlog::new(), [100, 120, 5000, 90_000]);
        inside.into_iter().for_each(|bytes| backlog.add(bytes));
        assert_eq!(backlog.before(50), 0);
        assert_eq!(backlog.before(110), 440);
        assert_eq!(backlog.before(8000), 2 * 5220);
        assert_eq!(backlog.before(70_000), 95_220, "never more than all");
        inside.into_iter().for_each(|bytes| backlog.take(bytes));
        assert!(backlog.is_empty() && backlog.before(usize::MAX) == 0);
    }
}
