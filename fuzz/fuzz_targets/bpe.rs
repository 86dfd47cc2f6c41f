//! The bpe tokenizer over any text.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use plimsoll_fuzz::{drive, tokenizer};
use plimsoll_text::Tokenizer;

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| tokenizer("testdata/tokenizer/bpe.json"));

fuzz_target!(|data: &[u8]| drive(&TOKENIZER, data));
