//! Class scores, and orders without a sort buffer.

use plimsoll_encoder::Problem;

/// A sequence head's scores as the caller asked for them.
pub(super) struct Scores<'a> {
    logits: &'a [f32],
    reading: Reading,
}

enum Reading {
    AsTheyAre,
    Sigmoid,
    /// Largest logit, and the sum of the exponentials of the differences from it.
    Softmax(f32, f32),
}

impl<'a> Scores<'a> {
    /// Raw scores, or probabilities: of one label among several (softmax) or of each label for itself (sigmoid).
    pub(super) fn new(logits: &'a [f32], problem: Problem, raw: bool) -> Self {
        let reading = match problem {
            _ if raw => Reading::AsTheyAre,
            Problem::Regression => Reading::AsTheyAre,
            Problem::Relevance | Problem::MultiLabel => Reading::Sigmoid,
            Problem::SingleLabel => {
                let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                Reading::Softmax(largest, logits.iter().map(|logit| (logit - largest).exp()).sum())
            }
        };
        Scores { logits, reading }
    }

    /// The score of a class.
    pub(super) fn at(&self, class: usize) -> f32 {
        let logit = self.logits[class];
        match self.reading {
            Reading::AsTheyAre => logit,
            Reading::Sigmoid => 1.0 / (1.0 + (-logit).exp()),
            Reading::Softmax(largest, sum) => (logit - largest).exp() / sum,
        }
    }

    /// Its classes, best first.
    pub(super) fn best_first(&self) -> BestFirst<impl Fn(usize) -> f32> {
        BestFirst::new(self.logits.len(), |class| self.logits[class])
    }
}

/// Indices by descending score, equal ones in order. Looks for the next best each time: quadratic, but the number of classes and of a
/// request's texts is small and bounded, and nothing has to be stored.
pub(super) struct BestFirst<F> {
    count: usize,
    score: F,
    last: Option<(f32, usize)>,
}

impl<F: Fn(usize) -> f32> BestFirst<F> {
    pub(super) fn new(count: usize, score: F) -> Self {
        BestFirst {
            count,
            score,
            last: None,
        }
    }
}

impl<F: Fn(usize) -> f32> Iterator for BestFirst<F> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let before = |a: (f32, usize), b: (f32, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).is_lt();
        let all = (0..self.count).map(|index| ((self.score)(index), index));
        let left = all.filter(|&item| self.last.is_none_or(|last| before(last, item)));
        self.last = left.reduce(|best, item| if before(item, best) { item } else { best });
        self.last.map(|(_, index)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_comes_first_and_each_once() {
        let scores = [0.5, f32::NAN, 2.0, 0.5, -1.0];
        let order: Vec<usize> = BestFirst::new(scores.len(), |index| scores[index]).collect();
        assert_eq!(order, [1, 2, 0, 3, 4]);
    }

    #[test]
    fn probabilities_follow_the_problem() {
        let logits = [1.0, 3.0];
        let read = |problem, raw| Scores::new(&logits, problem, raw).at(1);
        assert!((read(Problem::SingleLabel, false) - 0.880_797).abs() < 1e-6);
        assert!((read(Problem::MultiLabel, false) - 0.952_574).abs() < 1e-6);
        assert_eq!(read(Problem::Regression, false), 3.0);
        assert_eq!(read(Problem::SingleLabel, true), 3.0);
    }

    #[test]
    fn large_logits_do_not_overflow() {
        let scores = Scores::new(&[1000.0, 999.0], Problem::SingleLabel, false);
        assert!((scores.at(0) - 0.731_058).abs() < 1e-5);
    }
}
