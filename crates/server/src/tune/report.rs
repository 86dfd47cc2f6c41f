//! What a head is worth, on texts that it has not seen.

use std::fmt;

use super::regression::log_softmax;

/// Steps of certainty over which calibration is measured.
const BINS: usize = 10;

/// How many texts of a class there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balance {
    /// The class.
    pub label: String,
    /// Texts learnt from.
    pub learnt: usize,
    /// Texts held out.
    pub held_out: usize,
}

/// Figures on the texts held out.
#[derive(Clone, Debug)]
pub struct Report {
    /// Class by class.
    pub balance: Vec<Balance>,
    /// Share of texts whose most probable class is theirs.
    pub accuracy: f64,
    /// What always answering the most frequent class would reach.
    pub majority: f64,
    /// Mean over the classes of the harmonic mean of precision and recall.
    pub macro_f1: f64,
    /// Mean of minus the logarithm of the true class's probability.
    pub log_loss: f64,
    /// Mean distance of certainty from accuracy, over ten steps of certainty.
    pub calibration_error: f64,
    /// `[true class][answered class]`
    pub confusion: Vec<Vec<usize>>,
    /// How strongly weights were held back.
    pub strength: f64,
    /// What logits were divided by.
    pub temperature: f64,
}

impl Report {
    pub(super) fn new(
        balance: Vec<Balance>,
        mut logits: Vec<f64>,
        truth: &[usize],
        strength: f64,
        temperature: f64,
    ) -> Report {
        let classes = balance.len();
        let mut confusion = vec![vec![0; classes]; classes];
        let mut bins = [(0.0, 0usize); BINS];
        let mut log_loss = 0.0;
        for (row, &class) in logits.chunks_exact_mut(classes).zip(truth) {
            log_loss -= log_softmax(row, class);
            let best = (0..classes).fold(0, |best, other| if row[other] > row[best] { other } else { best });
            confusion[class][best] += 1;
            let bin = ((row[best] * BINS as f64) as usize).min(BINS - 1);
            bins[bin].0 += row[best] - f64::from(u8::from(best == class));
            bins[bin].1 += 1;
        }
        let count = truth.len() as f64;
        let right: usize = (0..classes).map(|class| confusion[class][class]).sum();
        Report {
            accuracy: right as f64 / count,
            majority: balance.iter().map(|one| one.held_out).max().unwrap_or(0) as f64 / count,
            macro_f1: macro_f1(&confusion),
            log_loss: log_loss / count,
            calibration_error: bins.iter().map(|(gap, _): &(f64, usize)| gap.abs()).sum::<f64>() / count,
            balance,
            confusion,
            strength,
            temperature,
        }
    }
}

fn macro_f1(confusion: &[Vec<usize>]) -> f64 {
    let classes = confusion.len();
    let f1 = |class: usize| {
        let truly: usize = confusion[class].iter().sum();
        let answered: usize = confusion.iter().map(|row| row[class]).sum();
        2.0 * confusion[class][class] as f64 / ((truly + answered) as f64).max(1.0)
    };
    (0..classes).map(f1).sum::<f64>() / classes as f64
}

/// Classes whose confusion is printed; more would not fit a screen.
const SHOWN_MAX: usize = 12;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held: usize = self.balance.iter().map(|one| one.held_out).sum();
        writeln!(f, "on {held} texts held out:")?;
        writeln!(
            f,
            "  accuracy           {:.4} (always the most frequent class: {:.4})",
            self.accuracy, self.majority
        )?;
        writeln!(f, "  macro F1           {:.4}", self.macro_f1)?;
        writeln!(f, "  log loss           {:.4}", self.log_loss)?;
        writeln!(
            f,
            "  calibration error  {:.4} (temperature {:.2}, weights held back by {})",
            self.calibration_error, self.temperature, self.strength
        )?;
        writeln!(f, "class                      learnt   held out   answered right")?;
        for (class, one) in self.balance.iter().enumerate() {
            let label: String = one.label.chars().take(24).collect();
            writeln!(
                f,
                "  {label:<24} {:>6} {:>10} {:>16}",
                one.learnt, one.held_out, self.confusion[class][class]
            )?;
        }
        if self.balance.len() <= SHOWN_MAX {
            writeln!(
                f,
                "confusion (rows: true class, columns: answered, in the same order):"
            )?;
            for row in &self.confusion {
                writeln!(
                    f,
                    "  {}",
                    row.iter().map(|count| format!("{count:>6}")).collect::<String>()
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_by_hand() {
        let class = |label: &str, held_out| Balance {
            label: label.into(),
            learnt: 9,
            held_out,
        };
        // Certain at 0.8: right, right, wrong, right.
        let logits = [4f64.ln(), 0.0, 4f64.ln(), 0.0, 4f64.ln(), 0.0, 0.0, 4f64.ln()].to_vec();
        let report = Report::new(
            vec![class("a", 2), class("b", 2)],
            logits,
            &[0, 0, 1, 1],
            0.1,
            1.0,
        );
        assert_eq!(report.confusion, [[2, 0], [1, 1]]);
        assert_eq!((report.accuracy, report.majority), (0.75, 0.5));
        assert!((report.macro_f1 - (0.8 + 2.0 / 3.0) / 2.0).abs() < 1e-12);
        assert!((report.calibration_error - 0.05).abs() < 1e-9);
        assert!((report.log_loss + (3.0 * 0.8f64.ln() + 0.2f64.ln()) / 4.0).abs() < 1e-9);
        assert!(report.to_string().contains("accuracy           0.7500"));
    }
}
