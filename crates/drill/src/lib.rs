//! Drills: what the promise of the line is tested with, and the rules of the house.
//!
//! [`mod@line`] attacks a real server in a memory cgroup of its own and lets the kernel judge; [`sim`] runs the engine under schedules, clocks and faults
//! from a seed. What ARCHITECTURE.md states about the crates is
//! checked by this crate's tests, so that a wall which somebody moves by accident is noticed the same day.
#![forbid(unsafe_code)]

pub mod ablation;
pub mod line;
pub mod night;
pub mod process;
pub mod rng;
pub mod sim;
pub mod soak;
