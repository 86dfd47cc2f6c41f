//! Multinomial logistic regression with squared weights held back, on standardised features.

use std::ops::Range;

use super::lbfgs;

const TOLERANCE: f64 = 1e-4;
const STEPS_MAX: usize = 300;

/// Rows of features, each with a class.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    /// `[rows, width]`
    pub(crate) values: &'a [f32],
    pub(crate) width: usize,
    /// The class of every row there is.
    pub(crate) classes: &'a [usize],
    /// How many classes.
    pub(crate) class_count: usize,
}

impl<'a> Rows<'a> {
    pub(crate) fn row(&self, index: usize) -> &'a [f32] {
        &self.values[index * self.width..][..self.width]
    }
}

/// A linear classifier: `[classes, width]` weights, then a bias for each class.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    pub(crate) parameters: Vec<f64>,
    pub(crate) width: usize,
}

impl Linear {
    pub(crate) fn zero(width: usize, classes: usize) -> Linear {
        Linear {
            parameters: vec![0.0; (width + 1) * classes],
            width,
        }
    }

    fn classes(&self) -> usize {
        self.parameters.len() / (self.width + 1)
    }

    /// Writes the logits of a row.
    pub(crate) fn logits(&self, row: &[f32], out: &mut [f64]) {
        logits(&self.parameters, row, out);
    }

    /// Learns from some of the rows, going on from the weights it has; `strength` is that of the weights' squares beside the mean loss.
    pub(crate) fn learn(&mut self, rows: &Rows<'_>, chosen: &[usize], strength: f64) {
        let classes = self.classes();
        let mut probabilities = vec![0.0; classes];
        let weights = 0..self.width * classes;
        let loss = |x: &[f64], gradient: &mut [f64]| {
            let mut sum = 0.0;
            gradient.fill(0.0);
            for &index in chosen {
                let row = rows.row(index);
                logits(x, row, &mut probabilities);
                sum -= log_softmax(&mut probabilities, rows.classes[index]);
                probabilities[rows.classes[index]] -= 1.0;
                add_row(gradient, &probabilities, row);
            }
            let count = chosen.len() as f64;
            gradient.iter_mut().for_each(|g| *g /= count);
            sum / count + hold_back(x, gradient, weights.clone(), strength)
        };
        lbfgs::minimise(&mut self.parameters, loss, TOLERANCE, STEPS_MAX);
    }
}

fn logits(parameters: &[f64], row: &[f32], out: &mut [f64]) {
    let (weights, biases) = parameters.split_at(row.len() * out.len());
    for ((out, weights), bias) in out.iter_mut().zip(weights.chunks_exact(row.len())).zip(biases) {
        // Four sums at a time, so that the processor need not wait for one of them.
        let mut sums = [0.0; 4];
        let (four_weights, _) = weights.as_chunks::<4>();
        let (four_values, rest) = row.as_chunks::<4>();
        for (w, x) in four_weights.iter().zip(four_values) {
            (0..4).for_each(|i| sums[i] += w[i] * f64::from(x[i]));
        }
        let tail = weights[row.len() - rest.len()..].iter().zip(rest);
        let tail: f64 = tail.map(|(w, &x)| w * f64::from(x)).sum();
        *out = bias + sums.iter().sum::<f64>() + tail;
    }
}

/// Adds the outer product of `errors` and a row to a gradient.
fn add_row(gradient: &mut [f64], errors: &[f64], row: &[f32]) {
    let (weights, biases) = gradient.split_at_mut(row.len() * errors.len());
    for ((weights, bias), error) in weights.chunks_exact_mut(row.len()).zip(biases).zip(errors) {
        weights
            .iter_mut()
            .zip(row)
            .for_each(|(g, &x)| *g += error * f64::from(x));
        *bias += error;
    }
}

fn hold_back(x: &[f64], gradient: &mut [f64], weights: Range<usize>, strength: f64) -> f64 {
    let squares: f64 = x[weights.clone()].iter().map(|w| w * w).sum();
    gradient[weights.clone()]
        .iter_mut()
        .zip(&x[weights])
        .for_each(|(g, w)| *g += strength * w);
    strength / 2.0 * squares
}

/// Turns logits into probabilities; returns the logarithm of one of them.
pub(crate) fn log_softmax(logits: &mut [f64], class: usize) -> f64 {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let own = logits[class] - largest;
    logits.iter_mut().for_each(|x| *x = (*x - largest).exp());
    let sum: f64 = logits.iter().sum();
    logits.iter_mut().for_each(|x| *x /= sum);
    own - sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two blobs and a third class between them, in five columns of which three say nothing.
    fn blobs() -> (Vec<f32>, Vec<usize>) {
        let mut random = super::super::Random(1);
        let mut noise = || random.below(1000) as f32 / 1000.0 - 0.5;
        let classes: Vec<usize> = (0..90).map(|i| i % 3).collect();
        let rows = classes.iter().flat_map(|&class| {
            let centre = [[-2.0, 0.0], [2.0, 0.0], [0.0, 3.0]][class];
            [
                centre[0] + noise(),
                centre[1] + noise(),
                noise(),
                noise(),
                noise(),
            ]
        });
        (rows.collect(), classes)
    }

    #[test]
    fn it_tells_blobs_apart_and_its_gradient_vanishes() {
        let (values, classes) = blobs();
        let rows = Rows {
            values: &values,
            width: 5,
            classes: &classes,
            class_count: 3,
        };
        let chosen: Vec<usize> = (0..60).collect();
        let mut linear = Linear::zero(5, 3);
        linear.learn(&rows, &chosen, 1e-3);
        let mut logits = [0.0; 3];
        for index in 60..90 {
            linear.logits(rows.row(index), &mut logits);
            assert!(
                logits.iter().all(|&x| x <= logits[classes[index]]),
                "{index}: {logits:?}"
            );
        }
        // At the least value the mean error of each column balances what holds its weight back.
        let mut gradient = vec![0.0; linear.parameters.len()];
        for &index in &chosen {
            linear.logits(rows.row(index), &mut logits);
            log_softmax(&mut logits, 0);
            logits[classes[index]] -= 1.0;
            add_row(&mut gradient, &logits, rows.row(index));
        }
        for (index, (g, w)) in gradient.iter().zip(&linear.parameters).enumerate() {
            let held = if index < 15 { 1e-3 * w } else { 0.0 };
            assert!((g / 60.0 + held).abs() < 2e-4, "{index}: {g} {w}");
        }
    }

    #[test]
    fn probabilities_sum_to_one_however_large_the_logits() {
        let mut logits = [1000.0, 999.0, -1000.0];
        let log = log_softmax(&mut logits, 1);
        assert!((logits.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!((log.exp() - logits[1]).abs() < 1e-12);
    }
}
