//! Tokens to words, words to entities, in one pass and without memory of its own.

use std::ops::Range;

use super::labels::Position;
use super::{Aggregation, EntitySpan, Labels, SpanError, TokenLabels};

/// Writes the entities of one sequence into `out`, in text order and without those labelled `O`; returns how many.
///
/// # Errors
/// [`SpanError::Shape`] and [`SpanError::UnknownLabel`] for input that does not fit together, [`SpanError::OutputTooSmall`]
/// when there are more entities than `out` is long.
pub fn entities(
    labels: &Labels,
    tokens: &TokenLabels<'_>,
    aggregation: Aggregation,
    out: &mut [EntitySpan],
) -> Result<usize, SpanError> {
    check(labels, tokens, aggregation)?;
    let mut groups = Groups {
        labels,
        open: None,
        out,
        count: 0,
    };
    let mut word: Option<Range<usize>> = None;
    for token in 0..tokens.labels.len() {
        if tokens.starts[token] == tokens.ends[token] {
            continue;
        }
        match aggregation {
            Aggregation::None => {
                groups.close()?;
                groups.push(tokens.unit(token))?;
            }
            Aggregation::Simple => groups.push(tokens.unit(token))?,
            Aggregation::First | Aggregation::Average | Aggregation::Max => match &mut word {
                Some(word) if tokens.subwords[token] => word.end = token + 1,
                _ => {
                    if let Some(word) = word.replace(token..token + 1) {
                        groups.push(tokens.word(word, labels.len(), aggregation))?;
                    }
                }
            },
        }
    }
    if let Some(word) = word {
        groups.push(tokens.word(word, labels.len(), aggregation))?;
    }
    groups.close()?;
    Ok(groups.count)
}

/// As [`entities`] for parts of a text that are labelled one by one, as characters are: each an [`EntitySpan`] with the index
/// of its own label.
///
/// # Errors
/// [`SpanError::OutputTooSmall`] when there are more entities than `out` is long.
///
/// # Panics
/// When a label is not among `labels`.
pub fn join(
    labels: &Labels,
    parts: impl IntoIterator<Item = EntitySpan>,
    out: &mut [EntitySpan],
) -> Result<usize, SpanError> {
    let mut groups = Groups {
        labels,
        open: None,
        out,
        count: 0,
    };
    for part in parts {
        groups.push(Unit {
            label: part.label as usize,
            score: part.score,
            start: part.start,
            end: part.end,
        })?;
    }
    groups.close()?;
    Ok(groups.count)
}

fn check(labels: &Labels, tokens: &TokenLabels<'_>, aggregation: Aggregation) -> Result<(), SpanError> {
    let count = tokens.labels.len();
    let by_words = !matches!(aggregation, Aggregation::None | Aggregation::Simple);
    let average = aggregation == Aggregation::Average;
    let fields = [
        ("scores", tokens.scores.len(), count, true),
        ("starts", tokens.starts.len(), count, true),
        ("ends", tokens.ends.len(), count, true),
        ("subwords", tokens.subwords.len(), count, by_words),
        (
            "probabilities",
            tokens.probabilities.len(),
            count * labels.len(),
            average,
        ),
    ];
    for (field, found, expected, needed) in fields {
        if needed && found != expected {
            return Err(SpanError::Shape {
                field,
                tokens: count,
                found,
                expected,
            });
        }
    }
    match tokens
        .labels
        .iter()
        .position(|&label| usize::from(label) >= labels.len())
    {
        None => Ok(()),
        Some(token) => {
            let label = tokens.labels[token].into();
            Err(SpanError::UnknownLabel {
                token,
                label,
                labels: labels.len(),
            })
        }
    }
}

/// A token or a word with its label.
#[derive(Clone, Copy)]
struct Unit {
    label: usize,
    score: f32,
    start: u32,
    end: u32,
}

impl TokenLabels<'_> {
    fn unit(&self, token: usize) -> Unit {
        Unit {
            label: self.labels[token].into(),
            score: self.scores[token],
            start: self.starts[token],
            end: self.ends[token],
        }
    }

    fn word(&self, tokens: Range<usize>, labels: usize, aggregation: Aggregation) -> Unit {
        let mut unit = self.unit(tokens.start);
        unit.end = self.ends[tokens.end - 1];
        match aggregation {
            Aggregation::Max => {
                // The first of equals, as Python's max.
                for token in tokens {
                    if self.scores[token] > unit.score {
                        (unit.label, unit.score) = (self.labels[token].into(), self.scores[token]);
                    }
                }
            }
            Aggregation::Average => {
                // Tokens without text inside a word do not count, as the pipeline never sees them.
                let counted = || tokens.clone().filter(|&t| self.starts[t] != self.ends[t]);
                let count = counted().count() as f32;
                let mean = |label| {
                    counted()
                        .map(|t| self.probabilities[t * labels + label])
                        .sum::<f32>()
                        / count
                };
                (unit.label, unit.score) = (0, mean(0));
                for label in 1..labels {
                    let score = mean(label);
                    if score > unit.score {
                        (unit.label, unit.score) = (label, score);
                    }
                }
            }
            Aggregation::None | Aggregation::Simple | Aggregation::First => {}
        }
        unit
    }
}

/// Units of one kind in a row.
struct Group {
    first: Unit,
    last: Unit,
    score_sum: f32,
    units: usize,
}

struct Groups<'a> {
    labels: &'a Labels,
    open: Option<Group>,
    out: &'a mut [EntitySpan],
    count: usize,
}

impl Groups<'_> {
    fn push(&mut self, unit: Unit) -> Result<(), SpanError> {
        let labels = self.labels;
        match &mut self.open {
            Some(group) if continues(labels, group.last.label, unit.label) => {
                group.last = unit;
                group.score_sum += unit.score;
                group.units += 1;
                Ok(())
            }
            _ => {
                self.close()?;
                self.open = Some(Group {
                    first: unit,
                    last: unit,
                    score_sum: unit.score,
                    units: 1,
                });
                Ok(())
            }
        }
    }

    fn close(&mut self) -> Result<(), SpanError> {
        let Some(group) = self.open.take() else {
            return Ok(());
        };
        if self.labels.is_outside(group.first.label) {
            return Ok(());
        }
        let available = self.out.len();
        let slot = self
            .out
            .get_mut(self.count)
            .ok_or(SpanError::OutputTooSmall { available })?;
        *slot = EntitySpan {
            label: group.first.label as u32,
            start: group.first.start,
            end: group.last.end,
            score: group.score_sum / group.units as f32,
        };
        self.count += 1;
        Ok(())
    }
}

/// Whether `label` goes on with the entity whose last unit is labelled `last`.
fn continues(labels: &Labels, last: usize, label: usize) -> bool {
    let opens = matches!(labels.position(label), Position::Begin | Position::Single);
    let closed = matches!(labels.position(last), Position::End | Position::Single);
    !opens && !closed && labels.same_kind(last, label)
}
