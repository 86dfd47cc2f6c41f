//! A real server on a real loopback port, and a client that writes what it is told to.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use clap::Parser;
use plimsoll::app::{App, Settings};
use plimsoll::cli::{ModelArgs, StartUp};
use plimsoll::net::{NetSettings, listen, serve};
use plimsoll::workers::{Workers, recorder};
use plimsoll_engine::Probe;
use serde_json::Value;
use tokio::sync::mpsc;

/// How long a client of a test waits for the server; reached only when something hangs.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    model: ModelArgs,
}

/// The flags of a command line.
pub(crate) fn flags(flags: &[&str]) -> ModelArgs {
    let always = [
        "test",
        "--memory-limit",
        "1GiB",
        "--workers",
        "1",
        "--max-batch-tokens",
        "2048",
    ];
    Flags::parse_from(always.iter().chain(flags)).model
}

/// A directory with one of the tiny models of `testdata/encoder`, and a vocabulary of letters for it.
pub(crate) struct TinyModel(PathBuf);

impl TinyModel {
    pub(crate) fn new(name: &str) -> TinyModel {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let to = std::env::temp_dir().join(format!("plimsoll-{}-{number}", std::process::id()));
        let from = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../testdata/encoder")
            .join(name);
        fs::create_dir(&to).expect("a new directory");
        for file in ["config.json", "model.safetensors"] {
            fs::copy(from.join(file), to.join(file)).expect("the model's file");
        }
        let specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", "!"].map(str::to_owned);
        let letters = ('a'..='z')
            .map(String::from)
            .chain(('a'..='z').map(|c| format!("##{c}")));
        let vocab: Vec<String> = specials.into_iter().chain(letters).collect();
        fs::write(to.join("vocab.txt"), vocab.join("\n")).expect("the vocabulary");
        TinyModel(to)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().expect("a UTF-8 path")
    }
}

impl Drop for TinyModel {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running server; dropping it drains it.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) app: Arc<App>,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<bool>>,
}

impl Server {
    /// Serves with these flags and the usual settings.
    pub(crate) fn start(model_flags: &[&str]) -> Server {
        Server::with(model_flags, Settings::default(), NetSettings::default(), None)
    }

    /// A tiny BERT with a head of each kind.
    pub(crate) fn tiny() -> Server {
        let model = TinyModel::new("bert-q4-heads");
        Server::start(&["--model-id", model.path()])
    }

    pub(crate) fn with(
        model_flags: &[&str],
        settings: Settings,
        net: NetSettings,
        probe: Option<Probe>,
    ) -> Server {
        let started =
            StartUp::with_probe(&flags(model_flags), settings, None, probe).expect("the server starts");
        let app = Arc::clone(&started.app);
        let (stop, stops) = mpsc::channel(1);
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = listen(([127, 0, 0, 1], 0).into(), &net).unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                let app = started.app;
                let _workers = Workers::start(&app.engine, started.workers, recorder(&app)).unwrap();
                serve(app, listener, net, stops).await.unwrap()
            })
        });
        Server {
            address: told.recv().expect("the server listens"),
            app,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    pub(crate) fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Reply {
        self.connect().post(path, body)
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        let mut client = self.connect();
        client.write(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
        client.reply()
    }

    /// Tells the server to stop; whether all requests finished.
    pub(crate) fn stop(mut self) -> bool {
        self.end().expect("the server ran")
    }

    /// Asks the server once to stop.
    pub(crate) fn ask_to_stop(&self) {
        let stop = self.stop.as_ref().expect("it was not told yet");
        stop.blocking_send(()).expect("the server runs");
    }

    /// Begins the drain without waiting for its end.
    pub(crate) fn begin_stop(&mut self) {
        drop(self.stop.take());
    }

    fn end(&mut self) -> Option<bool> {
        self.begin_stop();
        self.thread
            .take()
            .map(|thread| thread.join().expect("the server does not panic"))
    }

    /// Waits until no request holds anything, and checks that all pools say so.
    pub(crate) fn assert_empty(&self) {
        let engine = &self.app.engine;
        let began = std::time::Instant::now();
        while engine.requests_inside() > 0 || engine.requests_bytes() > 0 {
            assert!(
                began.elapsed() < PATIENCE,
                "{} bytes stay in use",
                engine.requests_bytes()
            );
            std::thread::yield_now();
        }
        for pool in engine.pool_stats() {
            assert_eq!(
                (pool.stats.leased_bytes, pool.stats.refused),
                (0, 0),
                "{}",
                pool.kind
            );
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.end();
        if !std::thread::panicking() {
            assert_ne!(ended, Some(false), "requests were left unfinished");
        }
    }
}

/// One connection.
pub(crate) struct Client {
    tcp: TcpStream,
    read: Vec<u8>,
}

/// A response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let tcp = TcpStream::connect(address).expect("a connection");
        tcp.set_nodelay(true).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp.set_write_timeout(Some(PATIENCE)).unwrap();
        Client {
            tcp,
            read: Vec::new(),
        }
    }

    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.tcp.write_all(bytes.as_ref()).expect("the server reads");
    }

    /// Writes what the server may no longer want to read.
    pub(crate) fn try_write(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.tcp.write_all(bytes.as_ref());
    }

    pub(crate) fn post(&mut self, path: &str, body: impl AsRef<[u8]>) -> Reply {
        let body = body.as_ref();
        self.write(head(path, body.len()));
        self.try_write(body);
        self.reply()
    }

    /// No more will be sent.
    pub(crate) fn end_sending(&mut self) {
        self.tcp
            .shutdown(std::net::Shutdown::Write)
            .expect("an open connection");
    }

    /// Whether the server closes the connection without another byte.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        self.read.is_empty() && !matches!(self.tcp.read(&mut byte), Ok(1))
    }

    /// Reads one response.
    pub(crate) fn reply(&mut self) -> Reply {
        let end = self.read_until(|bytes| bytes.windows(4).position(|four| four == b"\r\n\r\n"));
        let head: Vec<u8> = self.read.drain(..end + 4).collect();
        let head = String::from_utf8(head).expect("headers are text");
        let mut lines = head.trim_end().split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1))
            .expect("a status line");
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").expect("a header"))
            .map(|(n, v)| (n.into(), v.into()))
            .collect();
        let mut reply = Reply {
            status: status.parse().expect("a status"),
            headers,
            body: Vec::new(),
        };
        if reply.header("transfer-encoding") == Some("chunked") {
            reply.body = self.chunks();
        } else if let Some(length) = reply.header("content-length") {
            reply.body = self.take(length.parse().expect("a length"));
        }
        reply
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let end = self.read_until(|bytes| bytes.windows(2).position(|two| two == b"\r\n"));
            let line: Vec<u8> = self.read.drain(..end + 2).collect();
            let length = std::str::from_utf8(&line).expect("hexadecimal").trim();
            let length = usize::from_str_radix(length, 16).expect("hexadecimal");
            let piece = self.take(length + 2);
            if length == 0 {
                return body;
            }
            body.extend_from_slice(&piece[..length]);
        }
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        self.read_until(|bytes| (bytes.len() >= length).then_some(0));
        self.read.drain(..length).collect()
    }

    fn read_until(&mut self, found: impl Fn(&[u8]) -> Option<usize>) -> usize {
        loop {
            if let Some(place) = found(&self.read) {
                return place;
            }
            let mut bytes = [0; 16 * 1024];
            let count = match self.tcp.read(&mut bytes) {
                // A profile of this process asks its threads where they stand.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read.expect("the server answers"),
            };
            assert!(
                count > 0,
                "the server closed the connection after {:?}",
                String::from_utf8_lossy(&self.read)
            );
            self.read.extend_from_slice(&bytes[..count]);
        }
    }
}

/// The head of a `POST` of JSON.
pub(crate) fn head(path: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    )
}
