//! Word segmentation over any text: words tile it, on character boundaries.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll_text::segment::{SegmentMode, Segmenter};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let segmenter = Segmenter::embedded();
    let mut scratch = vec![0xaa; segmenter.scratch_bytes(text.len())];
    let mut ends = vec![0; text.len()];
    for mode in [SegmentMode::Auto, SegmentMode::Jieba { hmm: true }, SegmentMode::Jieba { hmm: false }] {
        let count = segmenter.segment(text, mode, &mut scratch, &mut ends).expect("there is room for every word");
        let mut start = 0;
        for &end in &ends[..count] {
            assert!(end as usize > start && text.is_char_boundary(end as usize));
            start = end as usize;
        }
        assert_eq!(start, text.len());
    }
});
