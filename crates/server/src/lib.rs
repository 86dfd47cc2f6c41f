//! The Plimsoll server: the wire, HTTP, metrics and the command line around `plimsoll-engine`.
//!
//! Only this crate knows a wire format, opens sockets and starts threads. A request's road: [`net`] accepts its connection, [`http`] admits,
//! receives and submits it, [`wire`] reads its body by means of [`json`], [`answer`] writes what comes back.
#![forbid(unsafe_code)]

pub mod answer;
pub mod app;
pub mod cli;
pub mod debug;
mod governor;
pub mod http;
pub mod json;
pub mod log;
pub mod metrics;
pub mod model;
pub mod net;
pub mod observe;
pub mod openapi;
pub mod otlp;
pub mod page;
pub mod tune;
pub mod twin;
mod warm_up;
pub mod wire;
pub mod workers;
