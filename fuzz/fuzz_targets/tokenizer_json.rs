//! Loading any bytes as `tokenizer.json`: an error or a tokenizer that works.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll_text::Tokenizer;

fuzz_target!(|data: &[u8]| {
    if let Ok(tokenizer) = Tokenizer::from_json(data) {
        let _ = tokenizer.id_end();
    }
});
