//! The Plimsoll server: wire formats, HTTP, metrics and the command line around `plimsoll-engine`.
#![forbid(unsafe_code)]

pub mod json;
