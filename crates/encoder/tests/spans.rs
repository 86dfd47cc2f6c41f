//! Entities against the answers of `transformers`' own pipeline, and the schemes that it does not know by hand.

mod fixtures;

use plimsoll_encoder::spans::{
    Aggregation, EntitySpan, Labels, SpanError, TokenLabels, entities, is_subword_by_length,
    is_subword_by_space,
};
use proptest::prelude::*;
use serde::Deserialize;

const AGGREGATIONS: [(&str, Aggregation); 5] = [
    ("none", Aggregation::None),
    ("simple", Aggregation::Simple),
    ("first", Aggregation::First),
    ("average", Aggregation::Average),
    ("max", Aggregation::Max),
];

#[derive(Deserialize)]
struct Case {
    text: String,
    labels: Vec<String>,
    prefixed: bool,
    tokens: Vec<String>,
    starts: Vec<u32>,
    ends: Vec<u32>,
    subwords: Vec<bool>,
    probabilities: Vec<Vec<f32>>,
    entities: std::collections::BTreeMap<String, Vec<(String, u32, u32, f32)>>,
}

fn cases() -> Vec<Case> {
    serde_json::from_slice(&std::fs::read(fixtures::directory("spans.json")).unwrap()).unwrap()
}

/// The most probable label of each token, the first of equals, and its probability.
fn best(probabilities: &[Vec<f32>]) -> (Vec<u16>, Vec<f32>) {
    let first_best = |row: &Vec<f32>| {
        let best = (0..row.len())
            .rev()
            .max_by(|&a, &b| row[a].total_cmp(&row[b]))
            .unwrap();
        (best as u16, row[best])
    };
    probabilities.iter().map(first_best).unzip()
}

#[test]
fn entities_equal_the_pipelines() {
    for (number, case) in cases().iter().enumerate() {
        let labels = Labels::new(case.labels.clone());
        let (best_labels, scores) = best(&case.probabilities);
        let tokens = TokenLabels {
            labels: &best_labels,
            scores: &scores,
            starts: &case.starts,
            ends: &case.ends,
            subwords: &case.subwords,
            probabilities: &case.probabilities.concat(),
        };
        for (name, aggregation) in AGGREGATIONS {
            assert_eq!(name.parse(), Ok(aggregation));
            let mut out = vec![EntitySpan::default(); case.tokens.len()];
            let count = entities(&labels, &tokens, aggregation, &mut out).unwrap();
            let expected = &case.entities[name];
            assert_eq!(count, expected.len(), "case {number} {name}: {:?}", case.text);
            for (span, (label, start, end, score)) in out.iter().zip(expected) {
                let index = span.label as usize;
                let found = if aggregation == Aggregation::None {
                    labels.name(index)
                } else {
                    labels.entity(index)
                };
                assert_eq!(
                    (found, span.start, span.end),
                    (label.as_str(), *start, *end),
                    "case {number} {name}"
                );
                assert!(
                    (span.score - score).abs() < 2e-6,
                    "case {number} {name}: {} {score}",
                    span.score
                );
            }
        }
    }
}

#[test]
fn subwords_equal_the_pipelines() {
    let mut continuing = 0;
    for case in cases() {
        for (i, token) in case
            .tokens
            .iter()
            .enumerate()
            .filter(|(i, _)| case.starts[*i] != case.ends[*i])
        {
            let covered = case.starts[i] as usize..case.ends[i] as usize;
            let is_unknown = token == "[UNK]";
            let found = if case.prefixed {
                is_subword_by_length(token, &case.text[covered], is_unknown)
            } else {
                is_subword_by_space(&case.text, covered.start, is_unknown)
            };
            assert_eq!(found, case.subwords[i], "{token} in {:?}", case.text);
            continuing += usize::from(found);
        }
    }
    assert!(continuing > 100);
}

/// Labels by name, one token a byte, and what should come of them as `LABEL start..end`.
#[track_caller]
fn check(scheme: &[&str], tokens: &[&str], expected: &[&str]) {
    let labels = Labels::new(scheme.iter().map(|name| name.to_string()).collect());
    let indices: Vec<u16> = tokens
        .iter()
        .map(|name| labels.index(name).unwrap() as u16)
        .collect();
    let starts: Vec<u32> = (0..tokens.len() as u32).collect();
    let ends: Vec<u32> = starts.iter().map(|start| start + 1).collect();
    let scores = vec![0.5; tokens.len()];
    let (subwords, probabilities) = (&[][..], &[][..]);
    let tokens = TokenLabels {
        labels: &indices,
        scores: &scores,
        starts: &starts,
        ends: &ends,
        subwords,
        probabilities,
    };
    let mut out = vec![EntitySpan::default(); indices.len()];
    let count = entities(&labels, &tokens, Aggregation::Simple, &mut out).unwrap();
    let show = |s: &EntitySpan| format!("{} {}..{}", labels.entity(s.label as usize), s.start, s.end);
    assert_eq!(out[..count].iter().map(show).collect::<Vec<_>>(), expected);
}

#[test]
fn bioes() {
    let scheme = &[
        "O", "B-PER", "I-PER", "E-PER", "S-PER", "B-LOC", "I-LOC", "E-LOC", "S-LOC",
    ];
    check(
        scheme,
        &["B-PER", "I-PER", "E-PER", "O", "S-LOC"],
        &["PER 0..3", "LOC 4..5"],
    );
    check(
        scheme,
        &["S-PER", "S-PER", "B-PER", "E-PER", "B-PER", "E-PER"],
        &["PER 0..1", "PER 1..2", "PER 2..4", "PER 4..6"],
    );
    // What no annotator writes but a model may say: an inside without beginning, and behind an end.
    check(
        scheme,
        &["I-PER", "E-PER", "I-PER", "O", "E-LOC"],
        &["PER 0..2", "PER 2..3", "LOC 4..5"],
    );
    check(scheme, &["B-PER", "I-LOC", "E-LOC"], &["PER 0..1", "LOC 1..3"]);
}

#[test]
fn bmes() {
    let scheme = &[
        "O", "B-LOC", "M-LOC", "E-LOC", "S-LOC", "B-ORG", "M-ORG", "E-ORG", "S-ORG",
    ];
    check(
        scheme,
        &["B-LOC", "M-LOC", "M-LOC", "E-LOC", "B-ORG", "E-ORG"],
        &["LOC 0..4", "ORG 4..6"],
    );
    check(
        scheme,
        &["S-LOC", "M-LOC", "O", "S-ORG"],
        &["LOC 0..1", "LOC 1..2", "ORG 3..4"],
    );
}

#[test]
fn letters_that_are_no_scheme() {
    // Without B- these are names, as the pipeline takes them; the group's name is what follows the first dash.
    check(
        &["O", "E-MAIL", "S-CLASS"],
        &["E-MAIL", "E-MAIL", "S-CLASS"],
        &["MAIL 0..2", "CLASS 2..3"],
    );
    check(
        &["O", "PER"],
        &["PER", "PER", "O", "PER"],
        &["PER 0..2", "PER 3..4"],
    );
}

#[test]
fn input_that_does_not_fit_is_an_error() {
    let labels = Labels::new(vec!["O".into(), "B-X".into()]);
    let good = TokenLabels {
        labels: &[1, 1],
        scores: &[0.5, 0.5],
        starts: &[0, 1],
        ends: &[1, 2],
        subwords: &[false, false],
        probabilities: &[0.4, 0.6, 0.4, 0.6],
    };
    let run = |tokens: &TokenLabels<'_>, aggregation, room| {
        entities(
            &labels,
            tokens,
            aggregation,
            &mut vec![EntitySpan::default(); room],
        )
    };
    assert_eq!(run(&good, Aggregation::Average, 2), Ok(2));
    assert_eq!(
        run(&good, Aggregation::Simple, 1),
        Err(SpanError::OutputTooSmall { available: 1 })
    );
    let bad = TokenLabels {
        labels: &[1, 2],
        ..good
    };
    let unknown = SpanError::UnknownLabel {
        token: 1,
        label: 2,
        labels: 2,
    };
    assert_eq!(run(&bad, Aggregation::Simple, 2), Err(unknown));
    let bad = TokenLabels { ends: &[1], ..good };
    let shape = |field, found, expected| {
        Err(SpanError::Shape {
            field,
            tokens: 2,
            found,
            expected,
        })
    };
    assert_eq!(run(&bad, Aggregation::None, 2), shape("ends", 1, 2));
    let lean = TokenLabels {
        subwords: &[],
        probabilities: &[],
        ..good
    };
    assert_eq!(run(&lean, Aggregation::Simple, 2), Ok(2));
    assert_eq!(run(&lean, Aggregation::First, 2), shape("subwords", 0, 2));
    let lean = TokenLabels {
        probabilities: &[],
        ..good
    };
    assert_eq!(run(&lean, Aggregation::Max, 2), Ok(2));
    assert_eq!(run(&lean, Aggregation::Average, 2), shape("probabilities", 0, 4));
    assert_eq!("avg".parse::<Aggregation>(), Err(SpanError::UnknownAggregation));
}

proptest! {
    /// Whatever the labels: spans are in order, disjoint, made of whole tokens, and cover every labelled token.
    #[test]
    fn spans_tile_the_labelled_tokens(
        tokens in prop::collection::vec((0..9_u16, any::<bool>(), any::<bool>()), 0..40),
        aggregation in 0..5_usize,
    ) {
        let names = ["O", "B-A", "M-A", "E-A", "S-A", "B-B", "I-B", "E-B", "S-B"];
        let labels = Labels::new(names.map(String::from).to_vec());
        let indices: Vec<u16> = tokens.iter().map(|t| t.0).collect();
        let starts: Vec<u32> = (0..tokens.len() as u32).map(|i| i * 2).collect();
        // Some tokens have no text, as specials.
        let ends: Vec<u32> = tokens.iter().zip(&starts).map(|(t, start)| start + 2 * u32::from(t.1)).collect();
        let subwords: Vec<bool> = tokens.iter().map(|t| t.2).collect();
        let probabilities: Vec<f32> =
            indices.iter().flat_map(|&best| (0..9).map(move |l| if l == best { 0.6 } else { 0.05 })).collect();
        let scores = vec![0.6; tokens.len()];
        let input = TokenLabels {
            labels: &indices, scores: &scores, starts: &starts, ends: &ends, subwords: &subwords,
            probabilities: &probabilities,
        };
        let mut out = vec![EntitySpan::default(); tokens.len()];
        let count = entities(&labels, &input, AGGREGATIONS[aggregation].1, &mut out).unwrap();
        for pair in out[..count].windows(2) {
            prop_assert!(pair[0].end <= pair[1].start);
        }
        for span in &out[..count] {
            prop_assert!(starts.contains(&span.start) && ends.contains(&span.end) && span.start < span.end);
            prop_assert!((0.04..0.61).contains(&span.score));
        }
        if aggregation < 2 {
            for (token, &label) in indices.iter().enumerate().filter(|(t, _)| starts[*t] != ends[*t]) {
                let covered = out[..count].iter().any(|s| s.start <= starts[token] && ends[token] <= s.end);
                prop_assert_eq!(covered, label != 0);
            }
        }
    }
}
