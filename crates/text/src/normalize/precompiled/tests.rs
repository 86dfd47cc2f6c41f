use super::*;
use proptest::prelude::*;
use serde::Deserialize;

/// Made by `tools/unigram_golden.py` with the Python package `tokenizers`.
#[derive(Deserialize)]
struct Golden {
    charsmap: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    normalized: String,
    /// For each normalised character, where it comes from in characters of the text.
    sources: Vec<(usize, usize)>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden.json")).unwrap()
}

fn map() -> Precompiled {
    Precompiled::from_json(
        &serde_json::json!({"type": "Precompiled", "precompiled_charsmap": golden().charsmap}),
    )
    .unwrap()
}

fn rewrite(map: &Precompiled, text: &str) -> Vec<(char, isize)> {
    let mut entries = Vec::new();
    map.transform(text, &mut |char, change| {
        entries.extend(char.map(|char| (char, change)))
    });
    entries
}

fn string(entries: &[(char, isize)]) -> String {
    entries.iter().map(|entry| entry.0).collect()
}

/// What `NormalizedString::transform` makes of the entries.
fn sources(entries: &[(char, isize)]) -> Vec<(usize, usize)> {
    let mut next: usize = 0;
    entries
        .iter()
        .map(|&(_, change)| {
            if change > 0 {
                return (next.saturating_sub(1), next);
            }
            let source = (next, next + 1);
            next += 1 + change.unsigned_abs();
            source
        })
        .collect()
}

#[test]
fn equals_the_tokenizers_crate() {
    let map = map();
    for case in golden().cases {
        let entries = rewrite(&map, &case.text);
        assert_eq!(string(&entries), case.normalized, "{:?}", case.text);
        assert_eq!(sources(&entries), case.sources, "{:?}", case.text);
    }
}

/// Without the shortcut for plain characters.
fn rewrite_by_graphemes(map: &Precompiled, text: &str) -> Vec<(char, isize)> {
    let mut entries: Vec<(char, isize)> = Vec::new();
    let mut replace = |old: &str, new: Option<&str>| {
        let Some(new) = new else {
            return entries.push((old.chars().next().unwrap(), 0));
        };
        let (old, count) = (old.chars().count(), new.chars().count());
        entries.extend(
            new.chars()
                .enumerate()
                .map(|(i, char)| (char, isize::from(i >= old))),
        );
        if let Some(last) = entries.last_mut().filter(|_| count < old) {
            last.1 -= (old - count) as isize;
        }
    };
    for grapheme in text.graphemes(true) {
        match map.lookup(grapheme.as_bytes()).filter(|_| grapheme.len() < 6) {
            Some(new) => replace(grapheme, Some(new)),
            None => grapheme
                .split("")
                .filter(|part| !part.is_empty())
                .for_each(|part| replace(part, map.lookup(part.as_bytes()))),
        }
    }
    entries
}

proptest! {
    #[test]
    fn the_shortcut_changes_nothing(
        text in "([a-e ]|[\u{300}-\u{345}]|[ -\u{ff}]|\r|\n|[\u{1100}-\u{1200}]|[\u{ac00}-\u{ac20}]|[中文字]|[ｱ-ﾟ]|[\u{1f1e6}-\u{1f1ff}]|[👨👩\u{200d}\u{fe0f}©]|[\u{600}-\u{605}]|[\u{915}-\u{94d}]|[Ａ-Ｚ]|\\PC){0,12}"
    ) {
        let map = map();
        prop_assert_eq!(rewrite(&map, &text), rewrite_by_graphemes(&map, &text));
    }

    #[test]
    fn any_bytes_load_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,20}") {
        if let Ok(map) = Precompiled::from_bytes(&bytes) {
            prop_assert!(rewrite(&map, &text).len() <= bytes.len() * (text.len() + 1));
        }
    }
}

#[test]
fn plain_characters_never_join() {
    for char in ('\0'..=char::MAX).filter(|&char| is_plain(char)) {
        for other in ['a', '©', '中', 'か', '각', 'é'] {
            assert!(is_plain(other));
            assert_eq!(
                format!("{other}{char}{other}").graphemes(true).count(),
                3,
                "{char:?}"
            );
        }
    }
}

#[test]
fn base64_both_ways() {
    assert_eq!(decode_base64("").unwrap(), b"");
    assert_eq!(decode_base64("TQ==").unwrap(), b"M");
    assert_eq!(decode_base64("TWE=").unwrap(), b"Ma");
    assert_eq!(decode_base64("TWFu").unwrap(), b"Man");
    assert_eq!(decode_base64("+/8=").unwrap(), [0xfb, 0xff]);
    assert!(
        ["T", "TQ", "TQ=", "T===", "=", "T!==", "TWFuT"]
            .iter()
            .all(|text| decode_base64(text).is_none())
    );
}

#[test]
fn broken_maps_are_refused() {
    let unit = |value: u32| value.to_le_bytes();
    let leaf_outside = [
        unit(8),
        unit(1 << 8 | 1 << 10),
        unit(VALUE | 9),
        unit(u32::from(b'a')),
    ]
    .concat();
    for bytes in [
        &b""[..],
        &[9, 0, 0, 0, 1],
        &[0, 0, 0, 0, b'a'],
        &[4, 0, 0, 0, 0, 0, 0, 0, 0xff],
        &leaf_outside,
    ] {
        let refused = Precompiled::from_bytes(bytes);
        assert!(matches!(refused, Err(TokenizerError::Malformed(_))), "{bytes:?}");
    }
}
