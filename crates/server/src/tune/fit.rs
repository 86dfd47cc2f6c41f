//! From features and labels to a head with its figures.

use super::regression::{Linear, Rows, log_softmax};
use super::report::{Balance, Report};
use super::{Features, Random, Table};

/// How strongly weights may be held back, strongest first: each search begins where the one before ended.
const STRENGTHS: [f64; 7] = [3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003];
/// Parts of the examples that are not held out: each is judged once by what the others taught.
const FOLDS: usize = 5;
/// The path ends after so many strengths in a row that made it worse.
const PATIENCE: usize = 2;

/// A trained head.
#[derive(Debug)]
pub struct Tuned {
    /// `[classes, width]`
    pub weight: Vec<f32>,
    /// One a class.
    pub bias: Vec<f32>,
    /// What it is worth.
    pub report: Report,
}

/// Holds out a share of each class, chooses strength and temperature by cross-validation on the rest, learns from the rest.
pub fn tune(features: &Features, table: &Table, held_out: f64, seed: u64) -> Tuned {
    let (width, class_count) = (features.width, table.labels.len());
    let (learnt, held) = split(&table.classes, class_count, held_out, seed);
    let scale = Scale::of(features, &learnt);
    let values = scale.apply(&features.values, width);
    let rows = Rows {
        values: &values,
        width,
        classes: &table.classes,
        class_count,
    };
    let (strength, logits) = choose(&rows, &learnt);
    let temperature = temperature(
        &logits,
        &learnt.iter().map(|&i| table.classes[i]).collect::<Vec<_>>(),
        class_count,
    );
    let mut linear = Linear::zero(width, class_count);
    linear.learn(&rows, &learnt, strength);
    let (weight, bias) = scale.fold(&linear, class_count, temperature);
    let held_logits = apply(&weight, &bias, features, &held);
    let truth: Vec<usize> = held.iter().map(|&index| table.classes[index]).collect();
    let count =
        |chosen: &[usize], class: usize| chosen.iter().filter(|&&i| table.classes[i] == class).count();
    let balance = |(class, label): (usize, &String)| Balance {
        label: label.clone(),
        learnt: count(&learnt, class),
        held_out: count(&held, class),
    };
    let balance = table.labels.iter().enumerate().map(balance).collect();
    let report = Report::new(balance, held_logits, &truth, strength, temperature);
    Tuned { weight, bias, report }
}

/// (what is learnt from, what is held out), the same share of each class, at least one text of each.
fn split(classes: &[usize], class_count: usize, held_out: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let mut random = Random(seed);
    let (mut learnt, mut held) = (Vec::new(), Vec::new());
    for class in 0..class_count {
        let mut own: Vec<usize> = (0..classes.len())
            .filter(|&index| classes[index] == class)
            .collect();
        random.shuffle(&mut own);
        let count = ((own.len() as f64 * held_out).round() as usize).clamp(1, own.len() - 2);
        held.extend(own.drain(..count));
        learnt.extend(own);
    }
    random.shuffle(&mut learnt);
    (learnt, held)
}

/// Mean and deviation of each column.
struct Scale {
    means: Vec<f64>,
    deviations: Vec<f64>,
}

impl Scale {
    fn of(features: &Features, chosen: &[usize]) -> Scale {
        let (width, count) = (features.width, chosen.len() as f64);
        let rows = || {
            chosen
                .iter()
                .map(|&index| &features.values[index * width..][..width])
        };
        let mut means = vec![0.0; width];
        for row in rows() {
            means
                .iter_mut()
                .zip(row)
                .for_each(|(mean, &x)| *mean += f64::from(x) / count);
        }
        let mut squares = vec![0.0; width];
        for row in rows() {
            let off = means.iter().zip(row).map(|(mean, &x)| f64::from(x) - mean);
            squares
                .iter_mut()
                .zip(off)
                .for_each(|(square, off)| *square += off * off / count);
        }
        // A column that never changes says nothing, whatever its scale.
        let deviations = squares
            .iter()
            .map(|square: &f64| if *square > 1e-12 { square.sqrt() } else { 1.0 });
        Scale {
            deviations: deviations.collect(),
            means,
        }
    }

    fn apply(&self, values: &[f32], width: usize) -> Vec<f32> {
        let scaled = |row: &[f32]| {
            let columns = row.iter().zip(&self.means).zip(&self.deviations);
            columns
                .map(|((&x, mean), deviation)| ((f64::from(x) - mean) / deviation) as f32)
                .collect::<Vec<_>>()
        };
        values.chunks_exact(width).flat_map(scaled).collect()
    }

    /// Weights and biases for features as the encoder gives them, divided by the temperature.
    fn fold(&self, linear: &Linear, classes: usize, temperature: f64) -> (Vec<f32>, Vec<f32>) {
        let (weights, biases) = linear.parameters.split_at(linear.width * classes);
        let (mut weight, mut bias) = (Vec::with_capacity(weights.len()), Vec::with_capacity(classes));
        for (row, own) in weights.chunks_exact(linear.width).zip(biases) {
            let columns = row
                .iter()
                .zip(&self.deviations)
                .map(|(w, deviation)| w / deviation);
            let shift: f64 = columns.clone().zip(&self.means).map(|(w, mean)| w * mean).sum();
            weight.extend(columns.map(|w| (w / temperature) as f32));
            bias.push(((own - shift) / temperature) as f32);
        }
        (weight, bias)
    }
}

/// The strength with the least loss on what each fold did not see, and the logits `[rows, classes]` that it gave there.
fn choose(rows: &Rows<'_>, learnt: &[usize]) -> (f64, Vec<f64>) {
    let classes = rows.class_count;
    let mut folds: Vec<(Linear, Vec<usize>)> = (0..FOLDS)
        .map(|fold| {
            let others = learnt
                .iter()
                .enumerate()
                .filter(|(place, _)| place % FOLDS != fold);
            (
                Linear::zero(rows.width, classes),
                others.map(|(_, &index)| index).collect(),
            )
        })
        .collect();
    let mut best = (f64::INFINITY, STRENGTHS[0], Vec::new());
    let mut worse = 0;
    for strength in STRENGTHS {
        std::thread::scope(|scope| {
            for (linear, others) in &mut folds {
                scope.spawn(|| linear.learn(rows, others, strength));
            }
        });
        let mut logits = vec![0.0; learnt.len() * classes];
        for (place, (&index, out)) in learnt.iter().zip(logits.chunks_exact_mut(classes)).enumerate() {
            folds[place % FOLDS].0.logits(rows.row(index), out);
        }
        let truth: Vec<usize> = learnt.iter().map(|&index| rows.classes[index]).collect();
        let loss = loss(&logits, &truth, classes, 1.0);
        if loss < best.0 {
            best = (loss, strength, logits);
            worse = 0;
        } else {
            worse += 1;
        }
        if worse == PATIENCE {
            break;
        }
    }
    (best.1, best.2)
}

/// Mean log loss of logits `[rows, classes]` at a temperature.
fn loss(logits: &[f64], truth: &[usize], classes: usize, temperature: f64) -> f64 {
    let rows = logits.chunks_exact(classes).zip(truth);
    let losses = rows.map(|(row, &class)| {
        let mut row: Vec<f64> = row.iter().map(|logit| logit / temperature).collect();
        -log_softmax(&mut row, class)
    });
    losses.sum::<f64>() / truth.len() as f64
}

/// The temperature with the least loss: it has one minimum, so thirds of the range are cut off. Answers are made at most twice as
/// certain: where all of a few examples are right, any certainty would seem too little.
fn temperature(logits: &[f64], truth: &[usize], classes: usize) -> f64 {
    let (mut low, mut high) = (0.5_f64.ln(), 10_f64.ln());
    let at = |log: f64| loss(logits, truth, classes, log.exp());
    while high - low > 1e-3 {
        let (left, right) = (low + (high - low) / 3.0, high - (high - low) / 3.0);
        if at(left) < at(right) {
            high = right;
        } else {
            low = left;
        }
    }
    f64::midpoint(low, high).exp()
}

/// Logits `[chosen, classes]` by the head as it will be served.
fn apply(weight: &[f32], bias: &[f32], features: &Features, chosen: &[usize]) -> Vec<f64> {
    let width = features.width;
    let rows = chosen
        .iter()
        .map(|&index| &features.values[index * width..][..width]);
    let logits = |row: &[f32]| {
        let products = weight.chunks_exact(width).zip(bias);
        let dot = |weights: &[f32]| {
            weights
                .iter()
                .zip(row)
                .map(|(w, x)| f64::from(w * x))
                .sum::<f64>()
        };
        products
            .map(|(weights, &bias)| dot(weights) + f64::from(bias))
            .collect::<Vec<_>>()
    };
    rows.flat_map(logits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts whose class shows in one column, but for every tenth, in columns of very different scales.
    fn examples(count: usize) -> (Features, Table) {
        let mut random = Random(3);
        let classes: Vec<usize> = (0..count).map(|index| index % 2).collect();
        let mut values = Vec::new();
        for (index, &class) in classes.iter().enumerate() {
            let told = if index % 10 == 0 { 1 - class } else { class };
            values.push(500.0 + told as f32 * 0.25 + random.below(100) as f32 / 1000.0);
            values.push(random.below(1000) as f32);
            values.push(7.0);
        }
        let table = Table {
            texts: vec![String::new(); count],
            classes,
            labels: vec!["a".into(), "b".into()],
            repeated: 0,
            contradicted: 0,
        };
        (Features { width: 3, values }, table)
    }

    #[test]
    fn it_learns_what_there_is_and_is_as_certain_as_it_is_right() {
        let (features, table) = examples(400);
        let tuned = tune(&features, &table, 0.25, 0);
        let report = &tuned.report;
        assert!((0.8..=1.0).contains(&report.accuracy), "{}", report.accuracy);
        assert!(report.calibration_error < 0.08, "{}", report.calibration_error);
        assert_eq!((report.balance[0].learnt, report.balance[0].held_out), (150, 50));
        assert!(tuned.weight[2].abs() < 1e-6, "a constant column says nothing");
    }

    #[test]
    fn the_same_seed_gives_the_same_head() {
        let (features, table) = examples(60);
        let [a, b] = [0, 0].map(|seed| tune(&features, &table, 0.2, seed));
        assert_eq!((a.weight, a.bias), (b.weight, b.bias));
        assert_ne!(split(&table.classes, 2, 0.2, 1), split(&table.classes, 2, 0.2, 0));
    }

    #[test]
    fn parts_do_not_overlap_and_hold_every_class() {
        let classes = [0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2];
        for share in [0.0, 0.2, 0.9, 1.0] {
            let (learnt, held) = split(&classes, 3, share, 5);
            let mut all = [learnt.clone(), held.clone()].concat();
            all.sort_unstable();
            assert_eq!(all, (0..classes.len()).collect::<Vec<_>>());
            for class in 0..3 {
                let has = |part: &[usize]| part.iter().filter(|&&i| classes[i] == class).count();
                assert!(has(&held) >= 1 && has(&learnt) >= 2);
            }
        }
    }

    #[test]
    fn a_temperature_makes_the_confident_modest() {
        // Right in three of four, and certain of it.
        let logits: Vec<f64> = (0..40).flat_map(|_| [5.0, -5.0]).collect();
        let truth: Vec<usize> = (0..40).map(|index| usize::from(index % 4 == 0)).collect();
        let expected = 10.0 / 3f64.ln();
        assert!((temperature(&logits, &truth, 2) - expected).abs() < 0.02);
    }
}
