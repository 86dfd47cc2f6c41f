//! Planted faults: `plimsoll diagnose` looks at a real server in which one thing is wrong, and must name the culprit.
//!
//! Faults are planted through the engine's probe and its public interface, by functions of this file: no switch of the product makes them.

mod common;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use clap::Parser;
use common::{Client, TinyModel, head};
use plimsoll::app::{App, Settings};
use plimsoll::cli::serve::NetArgs;
use plimsoll::cli::{ModelArgs, StartUp};
use plimsoll::debug::{self, Profile};
use plimsoll::net::{NetSettings, listen, serve};
use plimsoll::workers::{Workers, recorder};
use plimsoll_engine::{Ask, JobOptions, Nanos, Probe, Stage, Tasks};
use plimsoll_memory::CountingAllocator;
use socket2::{Domain, Socket, Type};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Faults of one process share its samples: one after the other.
static TURN: Mutex<()> = Mutex::new(());

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    net: NetArgs,
}

/// A server with a debug listener and steady traffic.
struct Patient {
    app: Arc<App>,
    address: SocketAddr,
    debug: SocketAddr,
    stop: Option<tokio::sync::mpsc::Sender<()>>,
    server: Option<JoinHandle<()>>,
    calm: Arc<AtomicBool>,
    traffic: Vec<JoinHandle<()>>,
}

impl Patient {
    fn with(probe: Option<Probe>) -> Patient {
        let model = TinyModel::new("bert-q4-heads");
        let words = [
            "test",
            "--memory-limit",
            "1GiB",
            "--workers",
            "1",
            "--model-id",
            model.path(),
        ];
        let flags = Flags::parse_from(words.iter().chain(&["--debug-listen", "127.0.0.1:0"]));
        let started = StartUp::with_probe(&flags.model, Settings::default(), Some(&flags.net), probe)
            .expect("the server starts");
        let app = Arc::clone(&started.app);
        let debug = debug::start(Arc::clone(&app), ([127, 0, 0, 1], 0).into()).expect("a free port");
        let (stop, stops) = tokio::sync::mpsc::channel(1);
        let (tell, told) = std::sync::mpsc::channel();
        let server = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let net = NetSettings {
                    socket_buffer_bytes: 8 * 1024,
                    drain_timeout: Duration::from_millis(10),
                    ..NetSettings::default()
                };
                let listener = listen(([127, 0, 0, 1], 0).into(), &net).unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                let app = started.app;
                let _workers = Workers::start(&app.engine, started.workers, recorder(&app)).unwrap();
                serve(app, listener, net, stops).await.unwrap();
            })
        });
        Patient {
            address: told.recv().expect("the server listens"),
            app,
            debug,
            stop: Some(stop),
            server: Some(server),
            calm: Arc::default(),
            traffic: Vec::new(),
        }
    }

    /// One more client that does this again and again, each time with a number that no client had, until the end.
    fn again_and_again(&mut self, mut deed: impl FnMut(u32) + Send + 'static) {
        let calm = Arc::clone(&self.calm);
        let first = (self.traffic.len() as u32) << 20;
        self.traffic.push(std::thread::spawn(move || {
            for number in first.. {
                if calm.load(Relaxed) {
                    return;
                }
                deed(number);
            }
        }));
    }

    /// Requests one after the other, until the end.
    fn keep_busy(&mut self) {
        let mut client = Client::connect(self.address);
        self.again_and_again(move |number| {
            // No text twice: the cache would answer.
            let letters = (0..6).map(|place| char::from(b'a' + (number >> (4 * place) & 15) as u8));
            let text = letters.map(|letter| format!("{letter} ")).collect::<String>();
            let reply = client.post("/embed", serde_json::json!({"inputs": text}).to_string());
            assert_eq!(reply.status, 200, "{}", reply.text());
        });
    }

    /// Clients that hang up as soon as their answers begin, one after the other, until the end.
    fn be_hung_up_on(&mut self) {
        let address = self.address;
        self.again_and_again(move |_| {
            let body = r#"{"inputs": "a b c d e f g h i j k l m n o p"}"#;
            let mut client = TcpStream::connect(address).unwrap();
            client
                .write_all((head("/embed_all", body.len()) + body).as_bytes())
                .unwrap();
            client.read_exact(&mut [0]).unwrap();
        });
    }

    /// What `plimsoll diagnose` prints, and the page that it writes.
    fn diagnose(&self) -> (String, String) {
        let report = std::env::temp_dir().join(format!("plimsoll-report-{}.html", std::process::id()));
        let output = Command::new(env!("CARGO_BIN_EXE_plimsoll"))
            .args([
                "diagnose",
                "--seconds",
                "2",
                "--url",
                &format!("http://{}", self.debug),
                "-o",
            ])
            .arg(&report)
            .stdin(Stdio::null())
            .output()
            .expect("the command runs");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let page = std::fs::read_to_string(&report).expect("the report");
        let _ = std::fs::remove_file(&report);
        (said, page)
    }
}

impl Drop for Patient {
    fn drop(&mut self) {
        self.calm.store(true, Relaxed);
        let traffic: Vec<_> = self.traffic.drain(..).map(JoinHandle::join).collect();
        drop(self.stop.take());
        let server = self.server.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(traffic.iter().all(Result::is_ok) && server.is_some_and(|ended| ended.is_ok()));
        }
    }
}

/// One rule's sentence, with its evidence.
#[track_caller]
fn finding<'a>(said: &'a str, rule: &str) -> &'a str {
    let start = said
        .find(&format!("{rule}: "))
        .unwrap_or_else(|| panic!("no {rule} in\n{said}"));
    let rest = &said[start..];
    let end = rest
        .match_indices('\n')
        .find(|(at, _)| !rest[at + 1..].starts_with("  - "));
    &rest[..end.map_or(rest.len(), |(at, _)| at)]
}

fn turn() -> std::sync::MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[test]
fn a_healthy_server_is_told_apart() {
    let _turn = turn();
    let mut patient = Patient::with(None);
    patient.keep_busy();
    let (said, page) = patient.diagnose();
    assert!(said.starts_with("Nothing stands out"), "{said}");
    assert!(page.starts_with("<!doctype html>") && page.contains("\"findings\":[]"));
    assert!(
        !page.contains("src=\"") && !page.contains("/*report.js*/"),
        "the page needs nothing else"
    );
}

#[test]
fn a_busy_server_holds_nothing_past_its_request() {
    let _turn = turn();
    let mut patient = Patient::with(None);
    for _ in 0..4 {
        patient.keep_busy();
        patient.be_hung_up_on();
    }
    // One that is there all the while, and holds what is its own.
    let ask = Ask {
        tasks: Tasks::EMBEDDING,
        body_bytes: Some(8),
        inputs_max: Some(1),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let ticket = runtime
        .block_on(patient.app.engine.admit(ask))
        .expect("there is room");
    let (said, _) = patient.diagnose();
    assert!(!said.contains("held: "), "{said}");
    drop(ticket);
}

/// What a careless transport does: it keeps a piece of an answer that is over.
#[inline(never)]
fn keep_chunks_of_answers(app: &App, kept: &mut Vec<plimsoll_engine::Chunk>, requests: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for _ in 0..requests {
        let ask = Ask {
            tasks: Tasks::EMBEDDING,
            body_bytes: Some(8),
            inputs_max: Some(1),
        };
        let chunk = runtime.block_on(async {
            let mut ticket = app.engine.admit(ask).await.expect("there is room");
            ticket.push(b"a b c d").unwrap();
            let span = plimsoll_engine::Span { start: 0, len: 7 };
            ticket.parse(|_, inputs| inputs.push_text(span)).unwrap();
            let deadline = app.engine.now().after(Nanos::from_ms(60_000));
            let answer = app
                .engine
                .submit(ticket, JobOptions::new(Tasks::EMBEDDING), deadline)
                .await;
            let answer = answer.expect("it is answered");
            std::future::poll_fn(|cx| answer.poll_chunk(cx)).await
        });
        kept.push(chunk);
    }
}

#[test]
fn a_lease_held_past_its_request_is_named_with_its_birth_place() {
    let _turn = turn();
    let mut patient = Patient::with(None);
    patient.keep_busy();
    let mut kept = Vec::new();
    // One lease in 128 is sampled: that none of so many is has a chance of 4 in a million.
    keep_chunks_of_answers(&patient.app, &mut kept, 1600);
    let (said, _) = patient.diagnose();
    let found = finding(&said, "held");
    assert!(
        found.contains("leases are held of answer chunks past the end of their requests: born in"),
        "{found}"
    );
    assert_eq!(said.matches("held: ").count(), 1, "{said}");
    assert!(
        found.contains("the oldest is") && found.contains("keep_chunks_of_answers"),
        "{found}"
    );
    drop(kept);
}

static REMEMBERED: Mutex<Option<HashMap<u64, Vec<u8>>>> = Mutex::new(None);

/// What a careless cache does: it remembers, and forgets nothing.
#[inline(never)]
fn remember_for_ever(key: u64) {
    let mut all = REMEMBERED.lock().unwrap();
    all.get_or_insert_default().insert(key, vec![1; 64 * 1024]);
}

#[test]
fn a_cache_without_bound_is_named_by_who_fills_it() {
    let _turn = turn();
    let mut patient = Patient::with(None);
    patient.keep_busy();
    let calm = Arc::clone(&patient.calm);
    let filler = std::thread::spawn(move || {
        let mut key = 0;
        while !calm.load(Relaxed) && key < 4000 {
            remember_for_ever(key);
            key += 1;
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let (said, _) = patient.diagnose();
    let found = finding(&said, "growth");
    assert!(
        found.contains("remember_for_ever, and nothing bounds it"),
        "{found}"
    );
    drop(patient);
    filler.join().unwrap();
    REMEMBERED.lock().unwrap().take();
}

static FORMATTED: AtomicU64 = AtomicU64::new(0);

/// What a careless log line does: it formats on the hot path.
#[inline(never)]
fn format_a_line(stage: Stage) {
    let line = std::hint::black_box(format!("the {} stage begins", stage.name()));
    FORMATTED.fetch_add(line.len() as u64, Relaxed);
}

#[test]
fn an_allocation_in_the_hot_path_is_named() {
    let _turn = turn();
    let mut patient = Patient::with(Some(Arc::new(|stage| {
        if stage == Stage::Text {
            format_a_line(stage);
        }
    })));
    patient.keep_busy();
    let (said, _) = patient.diagnose();
    let found = finding(&said, "allocation");
    assert!(
        found.contains("The hot path allocates") && found.contains("format_a_line."),
        "{found}"
    );
    assert!(found.contains("on thread worker-0"), "{found}");
}

/// Closed until it is opened.
#[derive(Default)]
struct Barrier(Mutex<bool>, Condvar);

/// What a careless stage does: it waits for somebody else.
#[inline(never)]
fn wait_for_somebody(Barrier(open, bell): &Barrier) {
    let open = open.lock().unwrap();
    drop(bell.wait_while(open, |open| !*open).unwrap());
}

#[test]
fn a_worker_that_blocks_is_named_with_where_it_stands() {
    let _turn = turn();
    let barrier = Arc::new(Barrier::default());
    let shut = Arc::clone(&barrier);
    let patient = Patient::with(Some(Arc::new(move |stage| {
        if stage == Stage::Text {
            wait_for_somebody(&shut);
        }
    })));
    let mut client = Client::connect(patient.address);
    let body = r#"{"inputs": "a b c"}"#;
    client.write(head("/embed", body.len()) + body);
    while patient.app.engine.doing().next().is_none() {
        std::thread::yield_now();
    }
    let (said, _) = patient.diagnose();
    *barrier.0.lock().unwrap() = true;
    barrier.1.notify_all();
    let found = finding(&said, "blocked");
    assert!(
        found.contains("worker-0 has stood in the text stage of request 1 for"),
        "{found}"
    );
    assert!(found.contains("wait_for_somebody."), "{found}");
    assert_eq!(client.reply().status, 200);
}

/// Answers to such clients that are being written.
fn unread(app: &App) -> usize {
    let inside = app.engine.inside();
    inside
        .filter(|inside| inside.stay.writing.is_some() && inside.tasks.has(Tasks::TOKEN_EMBEDDINGS))
        .count()
}

/// Clients that have asked for more than the sockets between them and the server take, and do not read it.
fn silent_clients(address: SocketAddr, app: &App) -> Vec<TcpStream> {
    // Three times what the sockets between them take.
    let texts = vec!["a b c d e f g h i j k l m n o p q r s t u v w x y z"; 32];
    let body = serde_json::json!({"inputs": texts}).to_string();
    let silent = (0..3)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            socket.connect(&address.into()).unwrap();
            let mut client = TcpStream::from(socket);
            client
                .write_all((head("/embed_all", body.len()) + &body).as_bytes())
                .unwrap();
            client
        })
        .collect();
    while unread(app) < 3 {
        std::thread::yield_now();
    }
    silent
}

#[test]
fn clients_that_never_read_are_named_with_what_they_hold() {
    let _turn = turn();
    let mut patient = Patient::with(None);
    patient.keep_busy();
    let silent = silent_clients(patient.address, &patient.app);
    let (said, page) = patient.diagnose();
    let found = finding(&said, "readers");
    assert!(found.contains("3 clients do not read their answers"), "{found}");
    assert!(found.contains("its client took"), "{found}");
    assert!(page.contains("\"rule\":\"readers\""));
    drop(silent);
}

#[test]
fn clients_that_did_not_read_and_left_are_named_too() {
    let _turn = turn();
    let mut patient = Patient::with(None);
    patient.keep_busy();
    let (app, address) = (Arc::clone(&patient.app), patient.address);
    let (over, is_over) = mpsc::channel::<()>();
    let (came, have_come) = mpsc::channel();
    let coming_and_going = std::thread::spawn(move || {
        // Shorter than the reading, longer than what is too young to be judged.
        let stay = Duration::from_millis(1500);
        while is_over.recv_timeout(Duration::ZERO) == Err(mpsc::RecvTimeoutError::Timeout) {
            let silent = silent_clients(address, &app);
            let _ = came.send(());
            std::thread::sleep(stay);
            drop(silent);
            while unread(&app) > 0 {
                std::thread::yield_now();
            }
        }
    });
    // They leave while it reads.
    have_come.recv().unwrap();
    let (said, _) = patient.diagnose();
    drop(over);
    coming_and_going.join().unwrap();
    let found = finding(&said, "readers");
    assert!(found.contains("did not read their answers and left"), "{found}");
    assert!(found.contains("and is gone"), "{found}");
}

#[test]
fn profiles_and_traces_are_in_formats_that_tools_read() {
    let _turn = turn();
    let mut patient = Patient::with(None);
    patient.keep_busy();
    let get = |path: &str| {
        let mut client = Client::connect(patient.debug);
        client.write(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
        client.reply()
    };
    let cpu = Profile::unpack(&get("/debug/pprof/profile?seconds=1").body).unwrap();
    let types: Vec<_> = cpu
        .sample_type
        .iter()
        .map(|value| cpu.string(value.r#type))
        .collect();
    assert_eq!(types, ["samples", "cpu"]);
    assert!(cpu.string_table[0].is_empty() && cpu.duration_nanos == 1_000_000_000);
    for path in ["heap", "pools", "threads"] {
        let profile = Profile::unpack(&get(&format!("/debug/pprof/{path}")).body).unwrap();
        assert!(!profile.sample.is_empty() || path == "pools", "{path}");
        let known = |id: &u64| profile.location.iter().any(|location| location.id == *id);
        assert!(
            profile
                .sample
                .iter()
                .flat_map(|sample| &sample.location_id)
                .all(known),
            "{path}"
        );
    }
    let trace = get("/debug/trace?seconds=1").json();
    let events = trace["traceEvents"].as_array().unwrap();
    for (phase, name) in [
        ("X", "text"),
        ("X", "encoder"),
        ("X", "heads"),
        ("b", "request"),
        ("e", "request"),
        ("C", "ledger"),
    ] {
        assert!(
            events
                .iter()
                .any(|event| event["ph"] == phase && event["name"] == name),
            "no {name} ({phase}) in the trace"
        );
    }
    assert_eq!(get("/debug/trace?seconds=0").status, 400);
    assert_eq!(get("/debug/none").status, 404);
    assert_eq!(
        get("/debug/state").json()["requests_inside"]
            .as_u64()
            .map(|inside| inside <= 1),
        Some(true)
    );
}
