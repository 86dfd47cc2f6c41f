//! Added tokens that are looked for in the normalised text, and files whose ids cannot be told apart.

mod tokenizer_common;

use std::time::{Duration, Instant};

use plimsoll_text::Tokenizer;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokenizer_common::{Buffers, text_of};

fn file(name: &str) -> Value {
    serde_json::from_str(&text_of(name)).unwrap()
}

fn load(file: &Value) -> Tokenizer {
    Tokenizer::from_json(file.to_string().as_bytes()).expect("loads")
}

/// The fixture with `<x>` as such a token.
fn with_added(name: &str) -> Tokenizer {
    let mut file = file(name);
    file["added_tokens"].as_array_mut().unwrap().push(json!({
        "id": 0, "content": "<x>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": true, "special": false,
    }));
    load(&file)
}

fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<(u32, u32, u32)> {
    let mut buffers = Buffers::default();
    let count = buffers.encode_bare(tokenizer, text);
    let offsets = buffers.starts.iter().zip(&buffers.ends);
    let tokens = buffers.ids[..count].iter().zip(offsets);
    tokens.map(|(&id, (&start, &end))| (id, start, end)).collect()
}

/// Each part between two tokens by itself.
fn naive(tokenizer: &Tokenizer, text: &str) -> Vec<(u32, u32, u32)> {
    let added = tokenizer.token_to_id("<x>").unwrap();
    let (mut all, mut at) = (Vec::new(), 0);
    for part in text.split("<x>") {
        let moved = |(id, start, end)| (id, at + start, at + end);
        all.extend(ids(tokenizer, part).into_iter().map(moved));
        at += part.len() as u32;
        all.push((added, at, at + 3));
        at += 3;
    }
    all.pop();
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]
    /// Long enough to go round in what is held of a text.
    #[test]
    fn tokens_are_found_as_in_parts(parts in prop::collection::vec("[a-dé中.]{0,9}", 1..60), repeat in 1usize..400) {
        let tokenizer = with_added("wordpiece.json");
        let text = parts.join("<x>").repeat(repeat);
        prop_assert!(ids(&tokenizer, &text) == naive(&tokenizer, &text), "{:?} {}", parts, repeat);
    }
}

/// A text of nothing but such tokens takes no more than some times what a text of words takes.
#[test]
fn the_time_does_not_depend_on_what_is_held_behind_a_token() {
    let tokenizer = with_added("wordpiece.json");
    let time = |unit: &str| {
        let text = unit.repeat((1 << 20) / unit.len());
        let mut buffers = Buffers::default();
        buffers.reserve(&tokenizer, text.len());
        let begun = Instant::now();
        buffers.encode(&tokenizer, &text).expect("encodes");
        begun.elapsed()
    };
    let (words, tokens) = (time("abc "), time("<x>a"));
    assert!(
        tokens < 10 * words + Duration::from_millis(500),
        "{tokens:?} for tokens, {words:?} for words"
    );
}

#[test]
fn two_tokens_with_one_id_are_refused() {
    for (name, other) in [("wordpiece.json", "zzqqzz"), ("bpe.json", "zzqqzz")] {
        let mut file = file(name);
        let vocab = file["model"]["vocab"].as_object_mut().unwrap();
        let id = vocab["a"].clone();
        vocab.insert(other.into(), id.clone());
        let error = Tokenizer::from_json(file.to_string().as_bytes())
            .map(drop)
            .expect_err("is refused");
        assert_eq!(
            error.to_string(),
            format!("tokenizer file is malformed: two tokens have the id {id}: a and zzqqzz")
        );
    }
}
