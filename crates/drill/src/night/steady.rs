//! The steady traffic: on a thread of its own, so that what the causes cost their clients does not show in its times.
//!
//! Requests come at their times whether or not earlier ones were answered, and a request's time begins when it was due, so a server that stands still is
//! seen by all who would have come meanwhile.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use plimsoll_memory::process;
use tokio::runtime::Builder;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinSet, LocalSet};

use super::plan::{Ask, HOT_TEXTS, Plan, SESSIONS, Steady, Text};
use super::texts::Texts;
use crate::line::client::{Client, head};

/// Connections of the steady traffic.
const CONNECTIONS: usize = 32;
/// A request that is not answered by then is given up.
const PATIENCE: Duration = Duration::from_secs(5);
/// Clients in a closed loop that find the most a server can do.
const PEAK_CLIENTS: usize = 4;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Answered; whether from the cache.
    Served {
        /// The vector was known.
        hit: bool,
    },
    /// 429 or 503.
    Refused,
    /// No answer, or another.
    Failed,
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When it was due, since the traffic began.
    pub due: Duration,
    /// From then to its end.
    pub took: Duration,
    /// Whether its session had asked for it before.
    pub hot: bool,
    /// How it ended.
    pub ending: Ending,
}

/// The body and head of a request.
pub(crate) fn request(texts: &Texts, ask: &Ask) -> Vec<u8> {
    let fresh;
    let text = match ask.text {
        Text::Hot(number) => texts.hot(ask.session, number),
        Text::Fresh(number) => {
            fresh = texts.fresh(number);
            &fresh
        }
    };
    embed(&format!("s{}", ask.session), &[text])
}

/// An `/embed` request of a session.
pub(crate) fn embed(session: &str, texts: &[&str]) -> Vec<u8> {
    let body = serde_json::json!({ "inputs": texts }).to_string();
    let headers = format!("x-plimsoll-session: {session}\r\ncontent-length: {}", body.len());
    let mut request = head("/embed", &headers);
    request.extend_from_slice(body.as_bytes());
    request
}

/// Traffic that comes until it is stopped.
pub struct Traffic {
    began: Instant,
    samples: Arc<Mutex<Vec<Sample>>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<()>>,
}

impl Traffic {
    /// Begins, with `rate` requests a second.
    pub fn start(address: SocketAddr, plan: &Plan, texts: &Arc<Texts>, rate: f64) -> Traffic {
        let (began, samples, stop) = (Instant::now(), Arc::default(), Arc::default());
        let driver = Driver {
            address,
            texts: Arc::clone(texts),
            began,
            samples: Arc::clone(&samples),
            places: Semaphore::new(CONNECTIONS),
            idle: RefCell::default(),
        };
        let (stopped, asks) = (Arc::clone(&stop), plan.steady());
        let (sender, due_now) = unbounded_channel();
        std::thread::spawn(move || pace(asks, rate, began, &stopped, &sender));
        let thread = std::thread::spawn(move || {
            // Where it shares its cores with the server, a client must not wait for a worker's turn to end before it may look at the clock.
            let _ = process::take_short_turns();
            let runtime = Builder::new_current_thread().enable_all().build()?;
            LocalSet::new().block_on(&runtime, drive(Rc::new(driver), due_now));
            Ok(())
        });
        Traffic {
            began,
            samples,
            stop,
            thread,
        }
    }

    /// What has ended so far.
    pub fn look<T>(&self, look: impl FnOnce(&[Sample]) -> T) -> T {
        look(&self.samples.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Since it began.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Ends it.
    pub fn finish(self) -> std::io::Result<Vec<Sample>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| std::io::Error::other("the steady traffic panicked"))??;
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let mut samples = std::mem::take(&mut *samples);
        samples.sort_by_key(|sample| sample.due);
        Ok(samples)
    }
}

struct Driver {
    address: SocketAddr,
    texts: Arc<Texts>,
    began: Instant,
    samples: Arc<Mutex<Vec<Sample>>>,
    places: Semaphore,
    idle: RefCell<Vec<Client>>,
}

/// Hands out requests when they are due, on a thread that only sleeps: a runtime's timer is late by up to 2 ms, which would be counted as the server's.
fn pace(
    asks: Steady,
    rate: f64,
    began: Instant,
    stopped: &AtomicBool,
    due_now: &UnboundedSender<(Ask, Duration)>,
) {
    let _ = process::take_short_turns();
    let mut due = Duration::ZERO;
    for ask in asks {
        due += Duration::from_secs_f64(ask.gap / rate);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        if stopped.load(Ordering::Relaxed) || due_now.send((ask, due)).is_err() {
            return;
        }
    }
}

/// Sends what is due until no more will be.
async fn drive(driver: Rc<Driver>, mut due_now: UnboundedReceiver<(Ask, Duration)>) {
    let mut tasks = JoinSet::new();
    while let Some((ask, due)) = due_now.recv().await {
        tasks.spawn_local(Rc::clone(&driver).one(ask, due));
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
}

impl Driver {
    async fn one(self: Rc<Self>, ask: Ask, due: Duration) {
        let until = self.began + due + PATIENCE;
        let ending = tokio::time::timeout_at(until.into(), self.ask(&ask)).await;
        let sample = Sample {
            due,
            took: self.began.elapsed().saturating_sub(due),
            hot: matches!(ask.text, Text::Hot(_)),
            ending: ending.unwrap_or(Ending::Failed),
        };
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push(sample);
    }

    async fn ask(&self, ask: &Ask) -> Ending {
        let Ok(_place) = self.places.acquire().await else {
            return Ending::Failed;
        };
        let request = request(&self.texts, ask);
        let idle = self.idle.borrow_mut().pop();
        let kept = idle.is_some();
        let mut ended = self.over(idle, &request).await;
        // A connection that was idle may have been closed meanwhile; every HTTP client tries once more.
        if ended.is_none() && kept {
            ended = self.over(None, &request).await;
        }
        ended.unwrap_or(Ending::Failed)
    }

    async fn over(&self, client: Option<Client>, request: &[u8]) -> Option<Ending> {
        let mut client = match client {
            Some(client) => client,
            None => Client::connect(self.address, 0, None).await.ok()?,
        };
        let reply = client.ask(request).await.ok()?;
        if !reply.closes {
            self.idle.borrow_mut().push(client);
        }
        Some(match reply.status {
            200 => Ending::Served { hit: reply.hit },
            429 | 503 => Ending::Refused,
            _ => Ending::Failed,
        })
    }
}

/// Asks for each hot text once, so that each was asked for before.
pub fn warm(address: SocketAddr, texts: &Texts) -> std::io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut client = Client::connect(address, 0, None).await?;
        for session in 0..SESSIONS {
            for number in 0..HOT_TEXTS {
                let text = Text::Hot(number);
                let ask = Ask {
                    gap: 0.0,
                    session,
                    text,
                };
                let reply = client.ask(&request(texts, &ask)).await?;
                if reply.status != 200 {
                    let status = reply.status;
                    return Err(std::io::Error::other(format!(
                        "the first requests were answered with {status}"
                    )));
                }
            }
        }
        Ok(())
    })
}

/// Answers a second to the steady mix with a few clients in a closed loop.
pub fn peak(address: SocketAddr, plan: &Plan, texts: &Arc<Texts>, time: Duration) -> std::io::Result<f64> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let asks = Rc::new(RefCell::new(plan.steady()));
    let served = Rc::new(Cell::new(0u32));
    LocalSet::new().block_on(&runtime, async {
        let mut clients = JoinSet::new();
        for _ in 0..PEAK_CLIENTS {
            clients.spawn_local(ask_on(
                address,
                Rc::clone(&asks),
                Arc::clone(texts),
                Rc::clone(&served),
            ));
        }
        tokio::time::sleep(time).await;
    });
    Ok(f64::from(served.get()) / time.as_secs_f64())
}

/// Asks one request after the other; ends only when the server does.
async fn ask_on(
    address: SocketAddr,
    asks: Rc<RefCell<Steady>>,
    texts: Arc<Texts>,
    served: Rc<Cell<u32>>,
) -> Option<Infallible> {
    let mut client = Client::connect(address, 0, None).await.ok()?;
    loop {
        let mut ask = asks.borrow_mut().next()?;
        // Not a text that will come again: it must not be known by then.
        if let Text::Fresh(number) = &mut ask.text {
            *number = !*number;
        }
        let reply = client.ask(&request(&texts, &ask)).await.ok()?;
        served.set(served.get() + u32::from(reply.status == 200));
    }
}
