//! Encoding allocates nothing: a counting allocator says so for every text of the golden files.

mod tokenizer_common;

use plimsoll_memory::alloc::{CountingAllocator, thread_counts};
use plimsoll_text::{EncodeOptions, Truncation};
use tokenizer_common::{Buffers, NAMES, fixture, golden_texts};

#[global_allocator]
static COUNTING: CountingAllocator = CountingAllocator;

fn allocations() -> u64 {
    thread_counts().allocations
}

#[test]
fn the_counter_counts() {
    let before = allocations();
    let boxed = std::hint::black_box(Box::new(1));
    assert_eq!(allocations() - before, u64::from(*boxed == 1));
}

#[test]
fn encoding_allocates_nothing() {
    for name in NAMES {
        let tokenizer = fixture(name);
        let texts = golden_texts(name);
        let mut buffers = Buffers::default();
        buffers.reserve(&tokenizer, 2 * texts.iter().map(String::len).max().unwrap_or(0));
        let mut decoded = vec![0; 1 << 16];
        let before = allocations();
        for pair in texts.windows(2) {
            for truncation in [Truncation::Left, Truncation::Right] {
                let options = EncodeOptions {
                    tokens_max: 15,
                    truncation,
                    ..EncodeOptions::default()
                };
                let (mut out, scratch) = buffers.slots();
                let alone = tokenizer.encode(&pair[0], &EncodeOptions::default(), scratch, &mut out);
                assert!(alone.is_ok());
                assert!(
                    tokenizer
                        .encode_pair(&pair[0], &pair[1], &options, scratch, &mut out)
                        .is_ok()
                );
                let count = out.ids.len().min(15);
                assert!(tokenizer.decode(&out.ids[..count], true, &mut decoded).is_ok());
            }
        }
        assert_eq!(allocations() - before, 0, "{name}");
    }
}
