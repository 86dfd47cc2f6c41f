//! Inference requests of JSON with raw bytes behind it, from the reader to the written answer.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use plimsoll_fuzz::Road;

thread_local! {
    static ROAD: RefCell<Road> = RefCell::new(Road::new(|route| route.path.ends_with("infer")));
}

// The first two bytes say where the JSON ends, counted from the end of the body; 65535: no header says so.
fuzz_target!(|data: &[u8]| {
    let Some((behind, body)) = data.split_first_chunk() else { return };
    let json_length = match u16::from_le_bytes(*behind) {
        u16::MAX => None,
        behind => Some(body.len().wrapping_sub(usize::from(behind))),
    };
    ROAD.with_borrow_mut(|road| road.travel(0, body, json_length));
});
