//! Drills and the rules of the house.
//!
//! What ARCHITECTURE.md states about the crates is checked by this crate's tests, so that a wall which somebody moves by accident is
//! noticed the same day. Loads and scenarios will live here too.
#![forbid(unsafe_code)]
