//! Closed-loop load on a running server: so many clients, each with one connection and the next request as soon as the last was answered. Prints what was
//! served and refused, and how long refusals took.
//!
//! ```sh
//! cargo run --release -p plimsoll --example overload -- 127.0.0.1:3000 CLIENTS SECONDS [TEXTS.txt]
//! ```
//!
//! Each line of the file is a text; without one, texts of 8 to 400 words are made up. A client that is refused comes back after a tenth of a second, whatever
//! it was told: a patient one would be no overload.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// How long a refused client waits.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Default)]
struct Tally {
    statuses: BTreeMap<u16, usize>,
    served: Vec<Duration>,
    refused: Vec<Duration>,
    without_retry_after: usize,
    reconnects: usize,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, clients, seconds, ..] = &args[..] else {
        panic!("ADDRESS CLIENTS SECONDS [TEXTS]");
    };
    let (clients, seconds): (usize, f64) = (clients.parse().unwrap(), seconds.parse().unwrap());
    let texts = Arc::new(texts(args.get(3)));
    let (until, next) = (
        Instant::now() + Duration::from_secs_f64(seconds),
        Arc::new(AtomicUsize::new(0)),
    );
    let threads: Vec<_> = (0..clients)
        .map(|_| {
            let (address, texts, next) = (address.clone(), Arc::clone(&texts), Arc::clone(&next));
            let client = move || client(&address, &texts, &next, until);
            thread::Builder::new()
                .stack_size(128 * 1024)
                .spawn(client)
                .unwrap()
        })
        .collect();
    let mut sum = Tally::default();
    for tally in threads.into_iter().map(|thread| thread.join().unwrap()) {
        for (status, count) in tally.statuses {
            *sum.statuses.entry(status).or_default() += count;
        }
        sum.served.extend(tally.served);
        sum.refused.extend(tally.refused);
        sum.without_retry_after += tally.without_retry_after;
        sum.reconnects += tally.reconnects;
    }
    report(sum, seconds);
}

fn texts(file: Option<&String>) -> Vec<String> {
    if let Some(file) = file {
        let text = std::fs::read_to_string(file).unwrap();
        return text
            .lines()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect();
    }
    let words = [
        "memory",
        "line",
        "ship",
        "我在北京",
        "water",
        "rust",
        "很好",
        "service",
    ];
    let text = |nth: usize| {
        (0..8 + nth * 37 % 393)
            .map(|word| words[(nth + word * word) % 8])
            .collect::<Vec<_>>()
    };
    (0..512).map(|nth| text(nth).join(" ")).collect()
}

fn client(address: &str, texts: &[String], next: &AtomicUsize, until: Instant) -> Tally {
    let mut tally = Tally::default();
    let mut connection = None;
    while Instant::now() < until {
        let text = &texts[next.fetch_add(1, Relaxed) % texts.len()];
        let body = format!(
            "{{\"text\":\"{}\",\"tasks\":[\"words\",\"embedding\"]}}",
            text.replace(['"', '\\'], " ")
        );
        let began = Instant::now();
        match ask(&mut connection, address, &body) {
            Some((status, has_retry_after)) => {
                *tally.statuses.entry(status).or_default() += 1;
                if status == 200 {
                    tally.served.push(began.elapsed());
                } else {
                    tally.refused.push(began.elapsed());
                    tally.without_retry_after += usize::from(!has_retry_after);
                    thread::sleep(PAUSE);
                }
            }
            None => {
                tally.reconnects += 1;
                connection = None;
                thread::sleep(PAUSE);
            }
        }
    }
    tally
}

/// Sends a request and reads its answer; `None` when the connection broke.
fn ask(connection: &mut Option<TcpStream>, address: &str, body: &str) -> Option<(u16, bool)> {
    if connection.is_none() {
        let tcp = TcpStream::connect(address).ok()?;
        tcp.set_nodelay(true).ok()?;
        *connection = Some(tcp);
    }
    let tcp = connection.as_mut()?;
    let head = format!(
        "POST /v1/analyze HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    tcp.write_all((head + body).as_bytes()).ok()?;
    let (mut got, mut chunk) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let count = tcp.read(&mut chunk).ok().filter(|count| *count > 0)?;
        got.extend_from_slice(&chunk[..count]);
        let Some(end) = got.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&got[..end]).to_lowercase();
        let value = |name: &str| {
            head.lines()
                .find_map(|line| line.strip_prefix(name).map(|v| v.trim().to_owned()))
        };
        let whole = match value("content-length:") {
            Some(length) => got.len() >= end + 4 + length.parse::<usize>().ok()?,
            None => got.ends_with(b"0\r\n\r\n"),
        };
        if whole {
            if value("connection:").is_some_and(|value| value == "close") {
                *connection = None;
            }
            return Some((head[9..12].parse().ok()?, value("retry-after:").is_some()));
        }
    }
}

fn report(mut tally: Tally, seconds: f64) {
    tally.served.sort();
    tally.refused.sort();
    let at = |times: &[Duration], percent: usize| {
        times
            .get((times.len() * percent / 100).min(times.len().max(1) - 1))
            .map_or(0.0, |t| t.as_secs_f64() * 1e3)
    };
    println!(
        "statuses {:?}, connections broken {}",
        tally.statuses, tally.reconnects
    );
    println!(
        "served {:.1}/s, p50 {:.1} ms, p99 {:.1} ms",
        tally.served.len() as f64 / seconds,
        at(&tally.served, 50),
        at(&tally.served, 99)
    );
    println!(
        "refused {:.1}/s, p50 {:.2} ms, p99 {:.2} ms, without Retry-After {}",
        tally.refused.len() as f64 / seconds,
        at(&tally.refused, 50),
        at(&tally.refused, 99),
        tally.without_retry_after
    );
}
