//! What holds for every text: words tile it on character boundaries, the stated scratch is exactly enough, and the route is
//! that of a direct transliteration of Python.

use plimsoll_text::segment::{SegmentError, SegmentMode, Segmenter};
use proptest::prelude::*;

const MODES: [SegmentMode; 3] = [
    SegmentMode::Jieba { hmm: true },
    SegmentMode::Jieba { hmm: false },
    SegmentMode::Auto,
];

fn segment(text: &str, mode: SegmentMode) -> Vec<u32> {
    let segmenter = Segmenter::embedded();
    let mut scratch = vec![0xA5; segmenter.scratch_bytes(text.len())];
    let mut ends = vec![0; text.chars().count()];
    let count = segmenter.segment(text, mode, &mut scratch, &mut ends).unwrap();
    ends.truncate(count);
    ends
}

fn assert_tiles(text: &str, ends: &[u32]) {
    let mut start = 0;
    for &end in ends {
        assert!(
            end > start && text.is_char_boundary(end as usize),
            "{text:?} {ends:?}"
        );
        start = end;
    }
    assert_eq!(start as usize, text.len());
}

/// Text of many kinds, with a weight on what segmentation looks at.
fn texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[\u{4E00}-\u{9FD5}]{1,8}",
        "[的一是在不了有和人这中大为上个国我以要他]{1,12}",
        "[a-zA-Z0-9+#&._%-]{1,6}",
        "\\PC{1,4}",
        "[ \t\r\n\u{3000}\u{300}-\u{305}\u{200D}\u{FE0F}👩👍🇨🇳',.:ぁ-んー]{1,5}",
        any::<String>(),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn words_tile_the_text(text in texts()) {
        for mode in MODES {
            assert_tiles(&text, &segment(&text, mode));
        }
    }

    #[test]
    fn the_stated_scratch_is_exactly_enough(text in texts()) {
        let segmenter = Segmenter::embedded();
        let mut ends = vec![0; text.chars().count()];
        let needed_bytes = segmenter.scratch_bytes(text.len());
        for mode in MODES {
            segmenter.segment(&text, mode, &mut vec![0; needed_bytes], &mut ends).unwrap();
            if let Some(available_bytes) = needed_bytes.checked_sub(1) {
                let outcome = segmenter.segment(&text, mode, &mut vec![0; available_bytes], &mut ends);
                prop_assert_eq!(outcome, Err(SegmentError::ScratchTooSmall { needed_bytes, available_bytes }));
            }
        }
    }

    #[test]
    fn one_end_too_few_names_both_numbers(text in texts()) {
        for mode in MODES {
            let needed_words = segment(&text, mode).len();
            let mut scratch = vec![0; text.len()];
            let mut ends = vec![0; needed_words];
            let segmenter = Segmenter::embedded();
            prop_assert_eq!(segmenter.segment(&text, mode, &mut scratch, &mut ends), Ok(needed_words));
            if let Some(available_words) = needed_words.checked_sub(1) {
                let outcome = segmenter.segment(&text, mode, &mut scratch, &mut ends[..available_words]);
                prop_assert_eq!(outcome, Err(SegmentError::EndsTooSmall { needed_words, available_words }));
            }
        }
    }
}

#[test]
fn long_texts_and_repetition_are_fine() {
    let longest_word = "中国人民解放军总参谋部";
    for piece in [
        "的",
        "中华人民共和国",
        longest_word,
        "a",
        "a1.",
        "一a",
        "\u{301}",
        "'",
        "👩\u{200D}",
        "🇨",
        "ー",
        "\r\n",
    ] {
        let text = piece.repeat(2_000_000 / piece.len());
        for mode in MODES {
            assert_tiles(&text, &segment(&text, mode));
        }
    }
}
