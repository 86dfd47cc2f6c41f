//! Whether `/health` answers, asked from outside all through an attack.
//!
//! On a thread and with sockets of its own, apart from the attackers. It asks in two ways: over one connection that it keeps, as a load balancer
//! does, and over a new one each time, as an orchestrator's probe does; the second must get past every client that sits on a connection.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(50);
/// An answer later than this is none.
const PATIENCE: Duration = Duration::from_secs(5);
const ASK: &[u8] = b"GET /health HTTP/1.1\r\nhost: drill\r\n\r\n";

/// What came of asking.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Answers over new connections.
    pub fresh: u64,
    /// Answers over the one that is kept.
    pub kept: u64,
    /// Questions without an answer of 200, over new connections.
    pub fresh_failed: u64,
    /// The same over the kept one.
    pub kept_failed: u64,
    /// The slowest answer.
    pub slowest: Duration,
    /// What the first failure was.
    pub first_failure: Option<String>,
}

impl Health {
    /// Questions without an answer.
    pub fn failed(&self) -> u64 {
        self.fresh_failed + self.kept_failed
    }
}

/// A thread that asks until it is told to end.
pub struct Prober {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Health>,
}

impl Prober {
    /// Begins.
    pub fn start(address: SocketAddr) -> Prober {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut health = Health::default();
            let mut kept = None;
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                match over_kept(address, &mut kept) {
                    Ok(()) => health.kept += 1,
                    Err(error) => {
                        health.kept_failed += 1;
                        health.first_failure.get_or_insert(format!("kept: {error}"));
                    }
                }
                health.slowest = health.slowest.max(began.elapsed());
                let began = Instant::now();
                match connect(address).and_then(|mut tcp| ask(&mut tcp)) {
                    Ok(()) => health.fresh += 1,
                    Err(error) => {
                        health.fresh_failed += 1;
                        health.first_failure.get_or_insert(format!("fresh: {error}"));
                    }
                }
                health.slowest = health.slowest.max(began.elapsed());
                std::thread::sleep(EVERY);
            }
            health
        });
        Prober { stop, thread }
    }

    /// Ends, with what came of it.
    pub fn finish(self) -> Health {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let tcp = TcpStream::connect_timeout(&address, PATIENCE)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    tcp.set_write_timeout(Some(PATIENCE))?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// Asks over the kept connection. One that the server has closed while it was idle is opened anew, as every HTTP client does.
fn over_kept(address: SocketAddr, kept: &mut Option<TcpStream>) -> Result<()> {
    if let Some(mut tcp) = kept.take()
        && ask(&mut tcp).is_ok()
    {
        *kept = Some(tcp);
        return Ok(());
    }
    let mut tcp = connect(address)?;
    ask(&mut tcp)?;
    *kept = Some(tcp);
    Ok(())
}

/// Asks once; an answer that is not 200 is an error.
fn ask(tcp: &mut TcpStream) -> Result<()> {
    tcp.write_all(ASK)?;
    let mut reply = Vec::new();
    let mut bytes = [0; 2048];
    while !reply.windows(4).any(|four| four == b"\r\n\r\n") {
        match tcp.read(&mut bytes)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => reply.extend_from_slice(&bytes[..count]),
        }
    }
    match reply.starts_with(b"HTTP/1.1 200 ") {
        true => Ok(()),
        false => Err(Error::other(
            String::from_utf8_lossy(&reply[..reply.len().min(32)]).into_owned(),
        )),
    }
}
