//! Labels of the characters inside pieces: against the training code's own decoding, and against a naive search.

mod fixtures;

use fixtures::{directory, forward, load};
use plimsoll_encoder::Batch;
use plimsoll_encoder::spans::{
    Character, CharacterLabels, Characters, EntitySpan, Labels, Pieces, Step, Taken, join,
};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    /// In characters.
    offsets: Vec<(usize, usize)>,
    rows: Vec<u32>,
    labels: Vec<u32>,
    spans: Vec<(usize, usize, String, f32)>,
}

impl Case {
    /// Character offsets as bytes.
    fn bytes(&self, at: usize) -> u32 {
        let ends = self
            .text
            .char_indices()
            .map(|(at, _)| at)
            .chain([self.text.len()]);
        ends.clone().nth(at).unwrap() as u32
    }

    fn starts_and_ends(&self) -> (Vec<u32>, Vec<u32>) {
        let bytes = |&(start, end): &(usize, usize)| (self.bytes(start), self.bytes(end));
        self.offsets.iter().map(bytes).unzip()
    }
}

fn cases() -> Vec<Case> {
    let json = std::fs::read(directory("bert-characters").join("expected.json")).unwrap();
    serde_json::from_slice(&json).unwrap()
}

fn steps(characters: &[Character]) -> Vec<Step> {
    characters.iter().map(|c| Step { row: c.row, label: 0 }).collect()
}

#[test]
fn labels_and_entities_equal_the_training_codes() {
    let model = load("bert-characters");
    let rules = model.info().character_labels.as_ref().unwrap();
    let labels = model.info().token_head.as_ref().unwrap();
    for case in cases() {
        let (starts, ends) = case.starts_and_ends();
        let pieces = Pieces {
            text: &case.text,
            text_start: 0,
            starts: &starts,
            ends: &ends,
        };
        let characters: Vec<Character> = Characters::new(pieces, Taken::default(), rules).collect();
        let rows: Vec<u32> = characters.iter().map(|c| c.row).collect();
        assert_eq!(rows, case.rows, "{:?}", case.text);
        let batch = Batch {
            ids: &case.ids,
            types: &[],
            lens: &[case.ids.len() as u32],
        };
        let mut log_probabilities = vec![f32::NAN; case.ids.len() * rules.slots() * labels.len()];
        forward(&model, &batch, |hidden| {
            model.label_characters(hidden, 0..case.ids.len(), &mut log_probabilities);
        });
        let mut steps = steps(&characters);
        rules.decode(&log_probabilities, &mut steps);
        assert_eq!(
            steps.iter().map(|s| s.label).collect::<Vec<_>>(),
            case.labels,
            "{:?}",
            case.text
        );
        let parts = characters.iter().zip(&steps).map(|(c, s)| EntitySpan {
            label: s.label,
            start: c.start,
            end: c.end,
            score: log_probabilities[s.row as usize * labels.len() + s.label as usize].exp(),
        });
        let mut found = vec![EntitySpan::default(); characters.len()];
        let count = join(labels, parts, &mut found).unwrap();
        assert_eq!(count, case.spans.len(), "{:?}", case.text);
        for (span, (start, end, kind, score)) in found.iter().zip(&case.spans) {
            assert_eq!((span.start, span.end), (case.bytes(*start), case.bytes(*end)));
            assert_eq!(labels.entity(span.label as usize), kind);
            assert!((span.score - score).abs() < 1e-4, "{} {score}", span.score);
        }
    }
}

#[test]
fn a_walk_may_stop_and_go_on_at_any_piece() {
    let model = load("bert-characters");
    let rules = model.info().character_labels.as_ref().unwrap();
    for case in cases() {
        let (starts, ends) = case.starts_and_ends();
        let walk = |pieces: std::ops::Range<usize>, taken| {
            let pieces = Pieces {
                text: &case.text,
                text_start: 0,
                starts: &starts[pieces.clone()],
                ends: &ends[pieces],
            };
            Characters::new(pieces, taken, rules)
        };
        let whole: Vec<Character> = walk(0..starts.len(), Taken::default()).collect();
        for middle in 0..starts.len() {
            let taken = walk(0..middle, Taken::default()).taken();
            let first = walk(0..middle, Taken::default());
            let shift = (middle * rules.slots()) as u32;
            let second = walk(middle..starts.len(), taken).map(|c| Character {
                row: c.row + shift,
                ..c
            });
            assert_eq!(taken.characters as usize, first.clone().count());
            assert_eq!(first.chain(second).collect::<Vec<_>>(), whole);
        }
    }
}

#[test]
fn only_complete_sets_of_labels_can_have_slots() {
    let rules = |names: &[&str], slots| {
        let labels = Labels::new(names.iter().map(|name| name.to_string()).collect());
        CharacterLabels::new(&labels, slots).is_some()
    };
    let whole = ["S-X", "O", "E-X", "M-X", "B-X"];
    assert!(rules(&whole, 2) && rules(&whole, 16));
    assert!(!rules(&whole, 1) && !rules(&whole, 17) && !rules(&whole[..4], 4) && !rules(&["O"], 4));
    assert!(!rules(&["O", "B-X", "M-X", "E-X", "S-X", "S-X"], 4));
}

/// Whether `right` may stand behind `left`; `None` is the text's edge.
fn follows(left: Option<&str>, right: Option<&str>) -> bool {
    let split = |label: Option<&str>| {
        label
            .unwrap_or("O")
            .split_once('-')
            .map_or(('O', String::new()), |(p, k)| {
                (p.chars().next().unwrap(), k.to_owned())
            })
    };
    let ((place, kind), (next, next_kind)) = (split(left), split(right));
    match place {
        'B' | 'M' => matches!(next, 'M' | 'E') && kind == next_kind,
        _ => matches!(next, 'O' | 'B' | 'S'),
    }
}

/// The largest sum of any legal sequence, by trying all of them.
fn best_sum(names: &[String], rows: &[&[f32]], last: Option<&str>) -> f32 {
    let Some((row, rest)) = rows.split_first() else {
        return if follows(last, None) {
            0.0
        } else {
            f32::NEG_INFINITY
        };
    };
    let through = names
        .iter()
        .zip(*row)
        .filter(|(name, _)| follows(last, Some(name)));
    through
        .map(|(name, score)| score + best_sum(names, rest, Some(name)))
        .fold(f32::NEG_INFINITY, f32::max)
}

fn kinds(count: usize) -> Vec<String> {
    let of = |kind: usize| ["E", "B", "S", "M"].map(move |place| format!("{place}-K{kind}"));
    (0..count).flat_map(of).chain(["O".to_owned()]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_sequence_is_legal_and_none_is_better(
        count in 1usize..3,
        table in prop::collection::vec(prop::collection::vec(-9i8..0, 9), 1..4),
        rows in prop::collection::vec(0usize..4, 0..6),
    ) {
        let names = kinds(count);
        let labels = Labels::new(names.clone());
        let rules = CharacterLabels::new(&labels, 4).unwrap();
        // Small whole numbers: sums are exact and often equal.
        let scores: Vec<f32> = table.iter().flat_map(|row| row[..names.len()].iter().map(|&x| f32::from(x))).collect();
        let mut steps: Vec<Step> = rows.iter().map(|&row| Step { row: (row % table.len()) as u32, label: 99 }).collect();
        rules.decode(&scores, &mut steps);
        let row = |step: &Step| &scores[step.row as usize * names.len()..][..names.len()];
        let found: f32 = steps.iter().map(|step| row(step)[step.label as usize]).sum();
        let all: Vec<&[f32]> = steps.iter().map(row).collect();
        prop_assert_eq!(found, best_sum(&names, &all, None));
        let path: Vec<&str> = steps.iter().map(|step| names[step.label as usize].as_str()).collect();
        let edges = std::iter::once(None).chain(path.iter().copied().map(Some));
        prop_assert!(edges.zip(path.iter().copied().map(Some).chain([None])).all(|(a, b)| follows(a, b)), "{:?}", path);
    }

    #[test]
    fn every_covered_character_has_one_row(text in "[a-c京 \t]{0,12}", cuts in prop::collection::vec((0usize..13, 0usize..13), 0..6), slots in 2usize..6) {
        let labels = Labels::new(kinds(1));
        let rules = CharacterLabels::new(&labels, slots).unwrap();
        let bounds: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let at = |cut: usize| bounds[cut.min(bounds.len() - 1)] as u32;
        // Pieces in order that may overlap and leave gaps.
        let mut pieces: Vec<(u32, u32)> = cuts.iter().map(|&(a, b)| (at(a.min(b)), at(a.max(b)))).collect();
        pieces.sort_unstable();
        let (starts, ends): (Vec<u32>, Vec<u32>) = pieces.iter().copied().unzip();
        let whole = Pieces { text: &text, text_start: 0, starts: &starts, ends: &ends };
        let found: Vec<Character> = Characters::new(whole, Taken::default(), &rules).collect();
        let expected = naive(&text, &pieces, slots);
        prop_assert_eq!(found, expected);
    }
}

/// The rule of train/README.md, character by character.
fn naive(text: &str, pieces: &[(u32, u32)], slots: usize) -> Vec<Character> {
    let (mut all, mut done) = (Vec::new(), 0);
    for (piece, &(start, end)) in pieces.iter().enumerate() {
        let covered = text
            .char_indices()
            .filter(|&(at, c)| at >= start.max(done) as usize && at < end as usize && !c.is_whitespace());
        let own: Vec<(usize, char)> = covered.collect();
        for (j, &(at, c)) in own.iter().enumerate() {
            let n = own.len();
            let slot = match j {
                j if j < slots - 1 || n <= slots => j,
                j if j + 1 == n => slots - 1,
                _ => slots - 2,
            };
            let start = at as u32;
            all.push(Character {
                row: (piece * slots + slot) as u32,
                start,
                end: start + c.len_utf8() as u32,
            });
        }
        done = done.max(end);
    }
    all
}
