//! The JSON reader over any bytes: it accepts what a strict parser accepts, and never panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll::json::Reader;

fuzz_target!(|data: &[u8]| {
    let mut body = data.to_vec();
    let mut reader = Reader::new(&mut body);
    let read = reader.skip_value().and_then(|()| reader.end());
    if read.is_ok() {
        assert!(std::str::from_utf8(data).is_ok(), "accepted what is not UTF-8");
    }
});
