//! `drill soak`: steady mixed traffic for as long as is asked, and whether memory grows meanwhile.
//!
//! A leak too small for any drill of minutes shows as a slope over many of them. What counts is anonymous memory by the kernel; it is read once a second,
//! and as it goes up and down with what is inside at that moment, the least of each half minute is fitted: a leak lifts the floor.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::runtime::Builder;
use tokio::task::{JoinSet, LocalSet};

use crate::line::client::{Client, post};
use crate::line::scrape::Metrics;
use crate::line::server::{Program, Scratch, Server};
use crate::line::{RigError, corpus};
use crate::night::plan::{Ask, Clock, Plan};
use crate::night::steady::{self, request};
use crate::night::texts::{Texts, document};
use crate::process::anonymous_bytes;
use crate::rng::Rng;

/// Of the whole time, what is not fitted: caches fill, pools find their size, and a slot's pages are touched by the longest text that it has had, which goes
/// up ever more slowly until the slot is full.
const WARM_UP_SHARE: f64 = 0.5;
/// Between two readings.
const EVERY: Duration = Duration::from_secs(1);
/// The least of so many readings is one point of the fit.
const READINGS_A_POINT: usize = 30;
/// Clients.
const CLIENTS: usize = 4;
/// Bytes of a long document.
const DOCUMENT_BYTES: usize = 64 * 1024;
/// Beyond it, the correlation of neighbours cannot be told from a slope.
const CORRELATION_MAX: f64 = 0.9;
/// A slope within so many of its standard errors is none ...
const ERRORS: f64 = 2.0;
/// ... where a leak of so many bytes an hour would show.
const ERROR_MAX: f64 = 512.0 * 1024.0;

/// What to soak.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server.
    pub program: Program,
    /// N.
    pub limit_bytes: u64,
    /// Where all random choices come from.
    pub seed: u64,
    /// How long.
    pub time: Duration,
    /// Requests a second.
    pub rate: f64,
}

/// A line through points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// Its slope.
    pub slope: f64,
    /// The standard error of the slope.
    pub error: f64,
}

/// Least squares; `None` of fewer than three points or of points at one place. What is high stays high for a while, so points say less than their number:
/// the error is that of points whose scatter has the first autocorrelation `r` of this one, `sqrt((1 + r) / (1 - r))` times that of independent ones.
pub fn fit(points: &[(f64, f64)]) -> Option<Fit> {
    let count = points.len() as f64;
    let (mean_x, mean_y) = (
        points.iter().map(|point| point.0).sum::<f64>() / count,
        points.iter().map(|point| point.1).sum::<f64>() / count,
    );
    let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    if points.len() < 3 || spread == 0.0 {
        return None;
    }
    let product: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let slope = product / spread;
    let scatter: Vec<f64> = points
        .iter()
        .map(|(x, y)| y - mean_y - slope * (x - mean_x))
        .collect();
    let squares: f64 = scatter.iter().map(|rest| rest.powi(2)).sum();
    let neighbours: f64 = scatter.windows(2).map(|pair| pair[0] * pair[1]).sum();
    let correlation = match squares > 0.0 {
        true => (neighbours / squares).clamp(0.0, CORRELATION_MAX),
        false => 0.0,
    };
    let independent = (squares / (count - 2.0) / spread).sqrt();
    Some(Fit {
        slope,
        error: independent * ((1.0 + correlation) / (1.0 - correlation)).sqrt(),
    })
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Report {
    /// N.
    pub limit_bytes: u64,
    /// The seed.
    pub seed: u64,
    /// How long.
    pub time: Duration,
    /// Requests that were answered, refused, broken off by us on purpose, and failed.
    pub requests: Requests,
    /// Anonymous bytes, at these seconds.
    pub readings: Vec<(f64, u64)>,
    /// Growth of the floor, in bytes an hour.
    pub growth: Fit,
    /// Heap bytes that were live after the warm-up, and at the end.
    pub heap_bytes: (u64, u64),
}

/// How requests ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Answered.
    pub served: u64,
    /// 429 and 503.
    pub refused: u64,
    /// Left by their client before the answer.
    pub left: u64,
    /// Anything else.
    pub failed: u64,
}

impl Report {
    /// Whether memory stood still: no growth that its own scatter would not explain, and little enough scatter to see one.
    pub fn holds(&self) -> bool {
        self.stands_still() && self.is_sharp() && self.requests.failed == 0
    }

    fn stands_still(&self) -> bool {
        self.growth.slope <= ERRORS * self.growth.error
    }

    fn is_sharp(&self) -> bool {
        self.growth.error <= ERROR_MAX
    }

    /// In words.
    pub fn as_text(&self) -> String {
        let floor = floors(&self.readings);
        let ends = [floor.first(), floor.last()].map(|point| point.map_or(0.0, |point| point.1 / 1048576.0));
        format!(
            "{} s, N = {} bytes, seed {}: {} answered, {} refused, {} left by their clients, {} failed\n\
             anonymous memory after the warm-up {:.2} MiB, at the end {:.2} MiB; live on the heap {} and {} bytes\n\
             growth {:.0} bytes an hour, standard error {:.0}, over {} floors of {READINGS_A_POINT} s: {}\n",
            self.time.as_secs(),
            self.limit_bytes,
            self.seed,
            self.requests.served,
            self.requests.refused,
            self.requests.left,
            self.requests.failed,
            ends[0],
            ends[1],
            self.heap_bytes.0,
            self.heap_bytes.1,
            self.growth.slope,
            self.growth.error,
            floor.len(),
            if !self.stands_still() {
                "IT GROWS"
            } else if self.requests.failed > 0 {
                "it stands still, BUT REQUESTS FAILED"
            } else if !self.is_sharp() {
                "WHETHER IT STANDS STILL CANNOT BE TOLD: soak for longer"
            } else {
                "it stands still"
            },
        )
    }

    /// As JSON.
    pub fn as_json(&self) -> Value {
        json!({
            "holds": self.holds(),
            "memory_limit_bytes": self.limit_bytes,
            "seed": self.seed,
            "seconds": self.time.as_secs_f64(),
            "served": self.requests.served,
            "refused": self.requests.refused,
            "left": self.requests.left,
            "failed": self.requests.failed,
            "growth_bytes_per_hour": self.growth.slope,
            "growth_standard_error": self.growth.error,
            "heap_live_bytes": [self.heap_bytes.0, self.heap_bytes.1],
            "anonymous_bytes": self.readings,
        })
    }
}

/// The least of each half minute, in hours and bytes.
fn floors(readings: &[(f64, u64)]) -> Vec<(f64, f64)> {
    let whole = readings.chunks_exact(READINGS_A_POINT);
    whole
        .filter_map(|chunk| {
            let (second, _) = chunk[chunk.len() / 2];
            let least = chunk.iter().map(|(_, bytes)| *bytes).min()?;
            Some((second / 3600.0, least as f64))
        })
        .collect()
}

/// Soaks. Progress goes to standard error.
///
/// # Errors
/// [`RigError`] when the server does not start or dies, or when the time is too short to fit anything.
pub fn run(options: &Options) -> Result<Report, RigError> {
    let scratch = Scratch::new(&options.program.path)?;
    let arguments = options.program.serve(options.limit_bytes);
    let server = Server::start_as(&options.program, &scratch, None, &arguments)?;
    let texts = Arc::new(Texts::from_seed(options.seed));
    steady::warm(server.address, &texts)?;
    fill(server.address, &texts)?;
    let clock = Clock::new(Duration::from_secs(1));
    let plan = Plan::new(options.seed, clock, options.limit_bytes, DOCUMENT_BYTES);
    let crowd = Rc::new(Crowd {
        address: server.address,
        texts,
        until: Instant::now() + options.time,
        gap: Duration::from_secs_f64(CLIENTS as f64 / options.rate),
        asks: RefCell::new(Box::new(plan.steady())),
        requests: RefCell::default(),
    });
    let pid = server.pid();
    let warm = options.time.mul_f64(WARM_UP_SHARE);
    let began = Instant::now();
    let mut readings = Vec::new();
    let mut heap_at_warm = 0;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let mut clients = JoinSet::new();
        let mut rng = Rng::new(options.seed);
        for number in 0..CLIENTS {
            clients.spawn_local(visit(Rc::clone(&crowd), rng.fork(number as u64)));
        }
        while began.elapsed() < options.time {
            tokio::time::sleep(EVERY).await;
            let Some(bytes) = anonymous_bytes(pid) else { break };
            if began.elapsed() < warm {
                continue;
            }
            if heap_at_warm == 0 {
                heap_at_warm = heap_bytes(server.address);
            }
            readings.push((began.elapsed().as_secs_f64(), bytes));
        }
        while clients.join_next().await.is_some() {}
    });
    let growth = fit(&floors(&readings)).ok_or_else(|| {
        RigError::Program("the server ended early, or the time is too short: three floors of 30 s are needed after the warm-up".to_owned())
    })?;
    let requests = *crowd.requests.borrow();
    Ok(Report {
        limit_bytes: options.limit_bytes,
        seed: options.seed,
        time: options.time,
        requests,
        readings,
        growth,
        heap_bytes: (heap_at_warm, heap_bytes(server.address)),
    })
}

/// Asks for new texts until the cache has no room for more: filling it is no leak.
fn fill(address: SocketAddr, texts: &Texts) -> Result<(), RigError> {
    const TEXTS: u64 = 32;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    for number in (0..).step_by(TEXTS as usize) {
        let metrics = Metrics::of(address)?;
        let evicted = metrics.sum("plimsoll_cache_evictions_total").unwrap_or(0.0);
        if evicted > 0.0 || metrics.value("plimsoll_cache_target_bytes").unwrap_or(0.0) == 0.0 {
            break;
        }
        let new: Vec<String> = (number..number + TEXTS)
            .map(|number| texts.fresh(!number))
            .collect();
        let new: Vec<&str> = new.iter().map(String::as_str).collect();
        // In sessions of their own, as one may not have it all. Who is refused here asks again with the next texts.
        runtime.block_on(async {
            let mut client = Client::connect(address, 0, None).await?;
            client
                .ask(&steady::embed(&format!("fill {number}"), &new))
                .await
                .map(|_| ())
        })?;
    }
    Ok(())
}

fn heap_bytes(address: SocketAddr) -> u64 {
    let metrics = Metrics::of(address).unwrap_or_default();
    metrics.value("plimsoll_heap_live_bytes").unwrap_or(0.0) as u64
}

struct Crowd {
    address: SocketAddr,
    texts: Arc<Texts>,
    until: Instant,
    gap: Duration,
    asks: RefCell<Box<dyn Iterator<Item = Ask>>>,
    requests: RefCell<Requests>,
}

/// One client: mostly reviews in sessions, sometimes many texts of mixed length, a long document, or an answer that it does not wait for.
async fn visit(crowd: Rc<Crowd>, mut rng: Rng) {
    let mut client = None;
    let mut due = Instant::now();
    while Instant::now() < crowd.until {
        due += crowd.gap;
        tokio::time::sleep_until(due.into()).await;
        let (request, leaves) = match rng.below(100) {
            0..84 => {
                let ask = crowd.asks.borrow_mut().next();
                let Some(ask) = ask else { return };
                (request(&crowd.texts, &ask), false)
            }
            84..94 => {
                let texts: Vec<String> = (0..4)
                    .map(|_| {
                        let words = 1 + rng.below(200);
                        corpus::unique(&mut rng, words)
                    })
                    .collect();
                (post("/v1/analyze", &corpus::analyze_all(&texts)), false)
            }
            94..97 => {
                let text = document(rng.next(), DOCUMENT_BYTES / 2 + rng.below(DOCUMENT_BYTES / 4));
                let body = format!("{{\"tasks\": [\"words\", \"embedding\"], \"text\": \"{text}\"}}");
                (post("/v1/analyze", &body), false)
            }
            _ => {
                let text = corpus::unique(&mut rng, 100);
                (post("/v1/analyze", &corpus::analyze(&text)), true)
            }
        };
        let ended = ask(&crowd, &mut client, &request, leaves).await;
        let mut requests = crowd.requests.borrow_mut();
        match ended {
            Ok(None) => requests.left += 1,
            Ok(Some(200)) => requests.served += 1,
            Ok(Some(429 | 503)) => requests.refused += 1,
            Ok(Some(_)) | Err(_) => requests.failed += 1,
        }
    }
}

/// The status; `None` when the client left before it came.
async fn ask(
    crowd: &Crowd,
    client: &mut Option<Client>,
    request: &[u8],
    leaves: bool,
) -> std::io::Result<Option<u16>> {
    let mut open = match client.take() {
        Some(open) => open,
        None => Client::connect(crowd.address, 0, None).await?,
    };
    if leaves {
        open.send(request).await?;
        open.reset();
        return Ok(None);
    }
    let reply = open.ask(request).await?;
    if !reply.closes {
        *client = Some(open);
    }
    Ok(Some(reply.status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_with_its_error() {
        let line: Vec<(f64, f64)> = (0..10)
            .map(|x| (f64::from(x), 3.0 * f64::from(x) + 1.0))
            .collect();
        let found = fit(&line).unwrap();
        assert!(
            (found.slope - 3.0).abs() < 1e-9 && found.error < 1e-6,
            "{found:?}"
        );
        // Scatter without a slope: the error covers what is found.
        let flat: Vec<(f64, f64)> = (0..40).map(|x| (f64::from(x), f64::from(x * 7 % 5))).collect();
        let found = fit(&flat).unwrap();
        assert!(found.slope.abs() < ERRORS * found.error, "{found:?}");
        // The same scatter, each point four times: no more is known.
        let slow: Vec<(f64, f64)> = (0..160)
            .map(|x| (f64::from(x) / 4.0, f64::from(x / 4 * 7 % 5)))
            .collect();
        assert!(fit(&slow).unwrap().error > 0.9 * found.error);
        assert_eq!(fit(&[(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)]), None);
        assert_eq!(fit(&line[..2]), None);
    }

    fn report(growth: Fit, failed: u64) -> Report {
        Report {
            limit_bytes: 1,
            seed: 1,
            time: Duration::from_secs(60),
            requests: Requests {
                failed,
                ..Requests::default()
            },
            readings: Vec::new(),
            growth,
            heap_bytes: (0, 0),
        }
    }

    #[test]
    fn growth_beyond_its_scatter_fails_and_so_does_a_failed_request() {
        let fit = |slope| Fit { slope, error: 10.0 };
        assert!(report(fit(-500.0), 0).holds() && report(fit(15.0), 0).holds());
        assert!(!report(fit(25.0), 0).holds() && !report(fit(0.0), 1).holds());
        let blurred = Fit {
            slope: 0.0,
            error: 2.0 * ERROR_MAX,
        };
        assert!(!report(blurred, 0).holds() && report(blurred, 0).as_text().contains("longer"));
    }

    #[test]
    fn floors_are_the_least_of_each_half_minute() {
        let readings: Vec<(f64, u64)> = (0..75)
            .map(|second| (f64::from(second), 100 + second as u64 % 30))
            .collect();
        let floors = floors(&readings);
        assert_eq!(floors.len(), 2);
        assert_eq!((floors[0].1, floors[1].1), (100.0, 100.0));
    }
}
