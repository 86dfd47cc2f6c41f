//! Texts longer than a window that offer no good place to cut them.

use super::*;
use serde_json::{Value, json};

/// The normalised characters of `text` with their sources.
fn walk(normalizer: &Value, text: &str) -> Vec<(char, u32, u32)> {
    let chain = Chain::from_json(normalizer).expect("the normalizer loads");
    let words = chain.walk_words(text.len()) / 2;
    let (mut a, mut b) = (vec![0; words], vec![0; words]);
    let mut walk = Walk::new(
        &chain,
        text,
        0..text.len(),
        Chars::new(&mut a),
        Chars::new(&mut b),
        true,
    );
    let mut out = Vec::new();
    while walk.next_window() {
        out.extend(walk.window().iter().map(|s| (s.c, s.start, s.end)));
    }
    out
}

fn precompiled() -> Value {
    let golden: Value = serde_json::from_str(include_str!("precompiled/golden.json")).expect("is JSON");
    json!({"type": "Precompiled", "precompiled_charsmap": golden["charsmap"]})
}

#[test]
fn a_mark_is_not_cut_from_its_letter() {
    // Marks at odd distances, so that a cut at any fixed place would part some pair.
    let text = format!("a{}", "e\u{301}".repeat(3000));
    for normalizer in [precompiled(), json!({"type": "NFC"})] {
        let found = walk(&normalizer, &text);
        let expected = (0..3000).map(|i| ('é', 1 + 3 * i, 2 + 3 * i));
        assert_eq!(
            found,
            [('a', 0, 1)].into_iter().chain(expected).collect::<Vec<_>>()
        );
    }
}

#[test]
fn emoji_of_several_characters_stay_whole() {
    let text = "👩‍👩‍👧‍👦".repeat(500);
    let chain = Chain::default();
    let cuts: Vec<usize> =
        std::iter::successors(Some(0), |&at| (at < text.len()).then(|| chain.cut(&text, at))).collect();
    assert!(
        cuts.len() > 3 && cuts.iter().all(|at| at % "👩‍👩‍👧‍👦".len() == 0),
        "{cuts:?}"
    );
}

#[test]
fn characters_that_are_removed_in_the_middle_of_a_text_keep_their_place() {
    let text = format!("a{}b", "\u{1}".repeat(3000));
    assert_eq!(walk(&precompiled(), &text), [('a', 0, 1), ('b', 3001, 3002)]);
}

#[test]
fn white_space_at_both_ends_is_stripped_whatever_its_length() {
    let strip = json!({"type": "Strip", "strip_left": true, "strip_right": true});
    for space in [" ", "\t\u{3000}"] {
        let space = space.repeat(2000);
        let text = format!("{space}a{space}b{space}");
        let found: String = walk(&strip, &text).iter().map(|s| s.0).collect();
        assert_eq!(found, format!("a{space}b"));
        assert!(walk(&strip, &space).is_empty());
    }
}

/// What is inserted takes the source of a removed character behind it, which must therefore be in the same window.
#[test]
fn a_removed_character_is_not_cut_from_what_it_changes() {
    for lead in ["", "!"] {
        let text = format!("{lead}{}", "™\u{1}".repeat(3000));
        let pairs = (0..3000).map(|i| lead.len() as u32 + 4 * i);
        let expected = pairs.flat_map(|at| [('T', at, at + 3), ('M', at + 3, at + 4)]);
        let found = walk(&precompiled(), &text);
        assert_eq!(found[lead.len()..], expected.collect::<Vec<_>>());
    }
}

/// As in the `tokenizers` crate, which forgets them: all that follows is said to come from further ahead.
#[test]
fn characters_that_are_removed_at_the_start_shift_all_sources() {
    for removed in [1, 2, 1500] {
        let text = format!("{}{}", "\u{1}".repeat(removed), "b中".repeat(2000));
        let starts: Vec<u32> = text.char_indices().map(|(at, _)| at as u32).collect();
        let found = walk(&precompiled(), &text);
        assert_eq!(found.len(), 4000);
        assert!(
            found.iter().zip(starts).all(|(found, start)| found.1 == start),
            "{removed}"
        );
    }
}

#[test]
fn a_run_of_spaces_longer_than_a_window_is_one_run() {
    let replace =
        |content: &str| json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": content});
    let chain = json!({"type": "Sequence", "normalizers": [precompiled(), replace(" ")]});
    let text = format!("a{}b{}", " ".repeat(3000), " ".repeat(3000));
    for (normalizer, content) in [(chain, " "), (replace("▁▁"), "▁▁"), (replace(""), "")] {
        let gap = |end: u32| content.chars().map(move |c| (c, end - 1, end));
        let mut expected = vec![('a', 0, 1)];
        expected.extend(gap(3001));
        expected.push(('b', 3001, 3002));
        expected.extend(gap(6002));
        assert_eq!(walk(&normalizer, &text), expected);
    }
    let single = "! ".repeat(3000);
    let found: String = walk(&replace("_"), &single).iter().map(|s| s.0).collect();
    assert_eq!(found, single);
}
