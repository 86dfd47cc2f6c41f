use super::*;
use proptest::prelude::*;
use serde::Deserialize;
use std::collections::HashMap;

/// Id, start and end of a piece.
type Cut = (u32, usize, usize);

/// Made by `tools/unigram_golden.py` with the Python package `tokenizers`.
#[derive(Deserialize)]
struct Golden {
    model: ModelJson,
    cases: Vec<(String, Vec<Cut>)>,
}

#[derive(Default)]
struct Pieces {
    all: Vec<Cut>,
}

impl PieceSink for Pieces {
    fn piece(&mut self, id: u32, end: usize) {
        let (start, before) = self.all.last().map_or((0, 0), |last| (last.1, last.2));
        self.all
            .push((id, if before == end { start } else { before }, end));
    }
}

fn encode(model: &Unigram, word: &str) -> Result<Vec<Cut>, EncodeError> {
    let mut scratch = vec![0xa5; model.scratch_bytes(word.len())];
    let mut pieces = Pieces::default();
    model.encode_word(word, &mut scratch, &mut pieces)?;
    Ok(pieces.all)
}

#[test]
fn equals_the_tokenizers_crate() {
    let groups: Vec<Golden> = serde_json::from_str(include_str!("golden.json")).unwrap();
    for golden in groups {
        let model = Unigram::from_json(&golden.model).unwrap();
        for (word, expected) in golden.cases {
            assert_eq!(encode(&model, &word).unwrap(), expected, "{word:?}");
        }
    }
}

/// The crate's `encode_optimized` and `tokenize`, without cleverness: a node for each byte, a hash map for the pieces.
fn naive(pieces: &[(&str, f64)], unknown_id: Option<u32>, word: &str) -> Result<Vec<Cut>, EncodeError> {
    let ids: HashMap<&str, u32> = pieces
        .iter()
        .enumerate()
        .map(|(id, piece)| (piece.0, id as u32))
        .collect();
    let unknown_score = pieces.iter().map(|piece| piece.1).fold(f64::INFINITY, f64::min) - 10.0;
    let mut nodes: Vec<Option<(f64, usize, Option<u32>)>> = vec![None; word.len() + 1];
    let relax =
        |nodes: &mut Vec<Option<(f64, usize, Option<u32>)>>, start: usize, end: usize, score: f64, id| {
            let score = score + nodes[start].map_or(0.0, |node| node.0);
            if nodes[end].is_none_or(|node| score > node.0) {
                nodes[end] = Some((score, start, id));
            }
        };
    for (start, char) in word.char_indices() {
        let mut single = false;
        for end in (start + 1..=word.len()).filter(|&end| word.is_char_boundary(end)) {
            if let Some(&id) = ids.get(&word[start..end]) {
                relax(&mut nodes, start, end, pieces[id as usize].1, Some(id));
                single |= end == start + char.len_utf8();
            }
        }
        if !single {
            relax(
                &mut nodes,
                start,
                start + char.len_utf8(),
                unknown_score,
                unknown_id,
            );
        }
    }
    let mut path = Vec::new();
    let mut end = word.len();
    while end > 0 {
        let (_, start, id) = nodes[end].unwrap();
        path.push((id.ok_or(EncodeError::NoUnknownToken)?, start, end));
        end = start;
    }
    path.reverse();
    let mut fused: Vec<Cut> = Vec::new();
    for (id, start, end) in path {
        match fused.last_mut() {
            Some(last) if Some(id) == unknown_id && Some(last.0) == unknown_id => last.2 = end,
            _ => fused.push((id, start, end)),
        }
    }
    for piece in &mut fused {
        piece.0 = ids.get(&word[piece.1..piece.2]).copied().unwrap_or(piece.0);
    }
    Ok(fused)
}

fn build(pieces: &[(String, i32)]) -> Vec<(&str, f64)> {
    pieces
        .iter()
        .map(|(piece, score)| (piece.as_str(), f64::from(*score) / 4.0))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Few letters and coarse scores, so that ties, unknown runs and repeated pieces are common.
    #[test]
    fn equals_the_naive_oracle(
        pieces in prop::collection::vec(("▁?[ab中é\u{1f600}\0]{0,4}", -20..8i32), 1..24),
        unknown in any::<prop::sample::Index>(),
        word in "▁?[abc中文é\u{1f600}\0]{0,5}|[abc▁中文é\u{1f600}\0]{0,90}",
    ) {
        let pieces = build(&pieces);
        let unknown = unknown.index(pieces.len()) as u32;
        let model = Unigram::new(&pieces, Some(unknown.into()), false).unwrap();
        prop_assert_eq!(encode(&model, &word), naive(&pieces, Some(unknown), &word));
    }

    #[test]
    fn long_words_equal_the_oracle(
        pieces in prop::collection::vec(("[ab]{1,3}|a{60,80}|[ab]{200,255}|中{60,85}", -200..0i32), 1..24),
        words in prop::collection::vec("[ab]{1,5}|a{60,300}|中{1,100}|c", 1..12),
    ) {
        let pieces = build(&pieces);
        let model = Unigram::new(&pieces, Some(0), false).unwrap();
        prop_assert_eq!(encode(&model, &words.concat()), naive(&pieces, Some(0), &words.concat()));
    }

    #[test]
    fn pieces_are_found_both_ways(pieces in prop::collection::vec("\\PC{0,6}", 1..40)) {
        let pieces: Vec<(&str, f64)> = pieces.iter().map(|piece| (piece.as_str(), -1.0)).collect();
        let model = Unigram::new(&pieces, None, false).unwrap();
        prop_assert_eq!(model.vocab_size(), pieces.len());
        for (id, (piece, _)) in pieces.iter().enumerate() {
            prop_assert_eq!(model.token_text(id as u32), Some(*piece));
            let last = pieces.iter().rposition(|other| other.0 == *piece).unwrap();
            prop_assert_eq!(model.token_to_id(piece), Some(last as u32));
        }
        prop_assert_eq!(model.token_text(pieces.len() as u32), None);
    }
}

#[test]
fn a_word_without_unknown_piece_is_an_error() {
    let model = Unigram::new(&[("a", -1.0)], None, false).unwrap();
    assert_eq!(encode(&model, "aaa").unwrap().len(), 3);
    assert_eq!(encode(&model, "aba"), Err(EncodeError::NoUnknownToken));
}

#[test]
fn ten_megabytes_without_a_space_need_one_byte_each() {
    let model = Unigram::new(
        &[("<unk>", 0.0), ("ab", -1.0), ("a", -2.0), ("b", -2.0)],
        Some(0),
        false,
    )
    .unwrap();
    let word = "ab".repeat(5 << 20);
    assert_eq!(model.scratch_bytes(word.len()), word.len() + 1);
    assert_eq!(encode(&model, &word).unwrap().len(), 5 << 20);
}

#[test]
fn broken_models_are_refused() {
    let json = |text: &str| {
        let model = serde_json::from_str(text).map_err(|e| TokenizerError::Malformed(e.to_string()))?;
        Unigram::from_json(&model)
    };
    for text in [
        "{}",
        r#"{"vocab": 1}"#,
        r#"{"vocab": [["a"]]}"#,
        r#"{"vocab": [["a", "b"]]}"#,
        r#"{"vocab": [["a", 0]], "unk_id": "a"}"#,
        r#"{"vocab": [["a", 0]], "byte_fallback": 1}"#,
    ] {
        assert!(matches!(json(text), Err(TokenizerError::Malformed(_))), "{text}");
    }
    assert!(matches!(
        json(r#"{"vocab": [["a", 0]], "unk_id": 1}"#),
        Err(TokenizerError::MissingToken { part: "model", .. })
    ));
    let long = "a".repeat(PIECE_BYTES_MAX + 1);
    let refused = Unigram::new(&[(&long, 0.0)], None, false);
    assert!(matches!(
        refused,
        Err(TokenizerError::TooLarge {
            found: 256,
            max: 255,
            ..
        })
    ));
}
