//! Segmenting allocates nothing, in any mode. One test: the counter sees every thread of the process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use plimsoll_text::segment::{SegmentMode, Segmenter};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps GlobalAlloc's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps GlobalAlloc's contract.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

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
    let before = ALLOCATIONS.load(Ordering::Relaxed);
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
    let after = ALLOCATIONS.load(Ordering::Relaxed);
    assert!(words > 1000);
    assert_eq!(after - before, 0);
}
