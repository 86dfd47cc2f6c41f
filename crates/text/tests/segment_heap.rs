//! Segmenting allocates nothing, in any mode.

use plimsoll_memory::alloc::{CountingAllocator, thread_counts};
use plimsoll_text::segment::{SegmentMode, Segmenter};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn segment_allocates_nothing() {
    let texts = [
        "我来到北京清华大学，他来到了网易杭研大厦。".repeat(40),
        "don't panic, it's 3.14% of naïve Привет カタカナ ひらがな 한국어 ภาษาไทย 👩‍👩‍👧‍👦🇨🇳".repeat(20),
        "中文don't C++程序，TD-8型\r\n\t葛󠄀城".repeat(20),
    ];
    let segmenter = Segmenter::embedded();
    let longest = texts.iter().map(String::len).max().unwrap();
    let mut scratch = vec![0; segmenter.scratch_bytes(longest)];
    let mut ends = vec![0; longest];
    let before = thread_counts().allocations;
    let mut words = 0;
    for text in &texts {
        for mode in [
            SegmentMode::Jieba { hmm: true },
            SegmentMode::Jieba { hmm: false },
            SegmentMode::Auto,
        ] {
            words += segmenter
                .segment(text, mode, &mut scratch, &mut ends)
                .unwrap_or(0);
        }
    }
    let after = thread_counts().allocations;
    assert!(words > 1000);
    assert_eq!(after - before, 0);
}
