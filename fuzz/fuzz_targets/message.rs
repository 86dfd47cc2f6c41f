//! Inference requests of protobuf, from the reader to the written answer.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use plimsoll_fuzz::Road;

thread_local! {
    static ROAD: RefCell<Road> = RefCell::new(Road::new(|route| route.path.ends_with("ModelInfer")));
}

fuzz_target!(|data: &[u8]| ROAD.with_borrow_mut(|road| road.travel(0, data, None)));
