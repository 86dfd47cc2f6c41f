//! Why: one connection of HTTP/2 is many requests, and most of what they cost lies outside of any request: tables of headers, frames in pieces, answers
//! that no window lets out. Servers have died of each of these floods.
//!
//! Each client makes one kind of trouble until the server ends its connection, then the next kind.

use std::rc::Rc;

use crate::line::client::Client;
use crate::line::corpus;
use crate::line::field::{Field, pause};
use crate::rng::Rng;

const CLIENTS: usize = 96;
/// Streams that a client opens at once, more than a careful server takes.
const STREAMS: u32 = 32;
/// How often a flood is repeated while the server takes it.
const ROUNDS: u32 = 400;

const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// Streams start with windows of 0: nothing of an answer may be sent.
const NO_WINDOWS: &[u8] = &[0, 4, 0, 0, 0, 0];

pub(super) async fn run(field: Rc<Field>, mut rng: Rng) {
    field
        .crowd(CLIENTS, &mut rng, |field, mut rng| async move {
            loop {
                pause(rng.below(100) as u64).await;
                let Ok(mut client) = field.connect_with(Some(4096)).await else {
                    continue;
                };
                // The server ends what it does not like: that is what is wanted of it.
                let _ = trouble(&mut client, &mut rng).await;
            }
        })
        .await;
}

async fn trouble(client: &mut Client, rng: &mut Rng) -> std::io::Result<()> {
    let kind = rng.below(7);
    let settings = if kind < 2 { NO_WINDOWS } else { &[] };
    client
        .send(&[HELLO, &frame(SETTINGS, 0, 0, settings)].concat())
        .await?;
    let streams = |first: u32| (0..STREAMS).map(move |nth| first + 2 * nth);
    let all = |first, one: &dyn Fn(u32) -> Vec<u8>| streams(first).flat_map(one).collect::<Vec<u8>>();
    let body = corpus::analyze(&corpus::text(rng, 600));
    let length = body.len().to_string();
    match kind {
        // Answers without a window.
        0 => {
            let ask = |stream| {
                [
                    post(stream, &length, 0),
                    frame(DATA, END_STREAM, stream, body.as_bytes()),
                ]
                .concat()
            };
            client.send(&all(1, &ask)).await?;
            pause(3000).await;
        }
        // Pages without a window.
        1 => {
            let ask = |stream| {
                frame(
                    HEADERS,
                    END_HEADERS | END_STREAM,
                    stream,
                    &headers("GET", "/metrics", &[]),
                )
            };
            client.send(&all(1, &ask)).await?;
            pause(3000).await;
        }
        // As many headers as are read, under bodies that never come.
        2 => {
            for round in 0..ROUNDS {
                let first = 1 + 2 * STREAMS * round;
                client
                    .send(&all(first, &|stream| post(stream, "1000", 110)))
                    .await?;
                pause(20).await;
                client.send(&all(first, &reset)).await?;
            }
        }
        // Opened and taken back.
        3 => {
            for round in 0..ROUNDS {
                let both = |stream| [post(stream, "1000", 0), reset(stream)].concat();
                client.send(&all(1 + 2 * STREAMS * round, &both)).await?;
            }
        }
        // Headers without an end.
        4 => {
            client
                .send(&frame(HEADERS, 0, 1, &headers("GET", "/health", &[])))
                .await?;
            let more = frame(CONTINUATION, 0, 1, &many(100));
            for _ in 0..ROUNDS {
                client.send(&more).await?;
            }
        }
        // Bodies in frames of a byte.
        5 => {
            client.send(&all(1, &|stream| post(stream, "100000", 0))).await?;
            let byte = |stream| frame(DATA, 0, stream, b"a").repeat(50);
            for _ in 0..ROUNDS {
                client.send(&all(1, &byte)).await?;
            }
        }
        // Questions whose answers nobody reads.
        _ => {
            let both = [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[])].concat();
            for _ in 0..ROUNDS {
                client.send(&both.repeat(50)).await?;
            }
        }
    }
    Ok(())
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The head of a `POST`, with so many more headers.
fn post(stream: u32, length: &str, more: usize) -> Vec<u8> {
    let block = [
        headers("POST", "/v1/analyze", &[("content-length", length)]),
        many(more),
    ]
    .concat();
    frame(HEADERS, END_HEADERS, stream, &block)
}

fn reset(stream: u32) -> Vec<u8> {
    const CANCEL: u32 = 8;
    frame(RESET, 0, stream, &CANCEL.to_be_bytes())
}

/// A block of headers, all of them literals.
fn headers(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let first = [
        (":method", method),
        (":path", path),
        (":scheme", "http"),
        (":authority", "drill"),
    ];
    first
        .iter()
        .chain(more)
        .flat_map(|(name, value)| literal(name, value))
        .collect()
}

/// So many small headers, each of another name.
fn many(count: usize) -> Vec<u8> {
    (0..count)
        .flat_map(|nth| literal(&format!("x{nth}"), "v"))
        .collect()
}

/// Shorter than 127 bytes each.
fn literal(name: &str, value: &str) -> Vec<u8> {
    [
        &[0, name.len() as u8],
        name.as_bytes(),
        &[value.len() as u8],
        value.as_bytes(),
    ]
    .concat()
}
