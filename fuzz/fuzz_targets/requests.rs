//! Bodies of JSON for every route that takes them, from the reader to the written answer.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use plimsoll_fuzz::Road;

thread_local! {
    static ROAD: RefCell<Road> = RefCell::new(Road::new(|route| !route.path.contains("nfer")));
}

fuzz_target!(|data: &[u8]| {
    let Some((route, body)) = data.split_first() else { return };
    ROAD.with_borrow_mut(|road| road.travel(*route, body, None));
});
