//! The attacks. Each is a file of its own that says why it is made.
//!
//! An attack is a crowd of clients on one thread, let loose until its time is up and then dropped where they are, which is an attack of its own:
//! whatever they held at that moment must come back.

mod bombs;
mod disconnects;
mod endless_chunks;
mod every_length;
mod everything;
mod http2;
mod idle;
mod large_bodies;
mod logs;
mod never_read;
mod overload;
mod slow_bodies;
mod slow_headers;
mod unique;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use super::field::Field;
use crate::rng::Rng;

/// An attack under way.
pub type Running = Pin<Box<dyn Future<Output = ()>>>;

/// An attack.
#[derive(Clone, Copy)]
pub struct Attack {
    /// What the command line calls it.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// Whether the server gets cores of its own for it, because its rate is judged.
    pub is_apart: bool,
    /// Makes it.
    pub run: fn(Rc<Field>, Rng) -> Running,
}

macro_rules! attack {
    ($name:literal, $module:ident, $about:literal) => {
        Attack {
            name: $name,
            about: $about,
            is_apart: false,
            run: |field, rng| Box::pin($module::run(field, rng)),
        }
    };
}

/// All of them, in the order in which they are run.
pub const ALL: [Attack; 14] = [
    Attack {
        is_apart: true,
        ..attack!(
            "overload",
            overload,
            "ten times the clients of the peak, in a closed loop"
        )
    },
    attack!(
        "large-bodies",
        large_bodies,
        "bodies just under the payload limit"
    ),
    attack!("every-length", every_length, "every length in random order"),
    attack!("unique", unique, "texts that nobody has sent before"),
    attack!(
        "slow-headers",
        slow_headers,
        "2,000 clients that send a header byte by byte"
    ),
    attack!(
        "slow-bodies",
        slow_bodies,
        "1,000 bodies of large declared length, byte by byte"
    ),
    attack!("endless-chunks", endless_chunks, "chunked bodies without an end"),
    attack!(
        "never-read",
        never_read,
        "1,000 clients that ask for much and never read"
    ),
    attack!("disconnects", disconnects, "clients that hang up at any point"),
    attack!("idle", idle, "10,000 connections that say nothing"),
    attack!(
        "http2",
        http2,
        "floods of frames, headers and answers that no window lets out"
    ),
    attack!("bombs", bombs, "megabytes without a space, chains of emoji"),
    attack!("logs", logs, "1 GiB of log writes in the same cgroup"),
    attack!("everything", everything, "all of them at once"),
];

/// The attack called `name`.
pub fn find(name: &str) -> Option<&'static Attack> {
    ALL.iter().find(|attack| attack.name == name)
}
