//! The traffic that all variants get alike.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinSet, LocalSet};

use crate::line::client::{Client, post};
use crate::line::{RigError, corpus};
use crate::night::plan::{Plan, Steady, Text};
use crate::night::steady::request;
use crate::night::texts::Texts;
use crate::rng::Rng;

/// Texts whose tasks are asked for together and one by one.
const TASK_TEXTS: usize = 40;
/// Clients of the burst, requests of each, texts of each request.
const BURST: (usize, usize, usize) = (16, 4, 8);
/// A text of the burst has up to so many words.
const BURST_WORDS_MAX: usize = 500;

/// A slice of the steady traffic.
pub(super) struct Slice {
    pub(super) times_us: Vec<u32>,
    /// Hits, of requests for texts that were asked for before.
    pub(super) hot: (u64, u64),
}

/// A client with its own copy of the traffic.
pub(super) struct Visitor {
    address: SocketAddr,
    asks: Steady,
    texts: Arc<Texts>,
    seed: u64,
    runtime: Runtime,
}

impl Visitor {
    pub(super) fn new(
        address: SocketAddr,
        plan: &Plan,
        texts: &Arc<Texts>,
        seed: u64,
    ) -> Result<Visitor, RigError> {
        Ok(Visitor {
            address,
            asks: plan.steady(),
            texts: Arc::clone(texts),
            seed,
            runtime: Builder::new_current_thread().enable_all().build()?,
        })
    }

    /// One request after the other.
    pub(super) fn steady(&mut self, requests: usize) -> Result<Slice, RigError> {
        let mut slice = Slice {
            times_us: Vec::with_capacity(requests),
            hot: (0, 0),
        };
        let (address, texts, asks) = (self.address, &self.texts, &mut self.asks);
        self.runtime.block_on(async {
            let mut client = Client::connect(address, 0, None).await?;
            for ask in asks.take(requests) {
                let request = request(texts, &ask);
                let began = Instant::now();
                let reply = client.ask(&request).await?;
                slice.times_us.push(micros(began));
                served(reply.status)?;
                if matches!(ask.text, Text::Hot(_)) {
                    slice.hot.0 += u64::from(reply.hit);
                    slice.hot.1 += 1;
                }
            }
            Ok(slice)
        })
    }

    /// The same texts for all tasks at once, and for each of them by itself.
    pub(super) fn tasks(&mut self) -> Result<(Vec<u32>, Vec<u32>), RigError> {
        let mut rng = Rng::new(self.seed);
        let (mut together, mut apart) = (Vec::new(), Vec::new());
        let address = self.address;
        self.runtime.block_on(async {
            let mut client = Client::connect(address, 0, None).await?;
            let names = abilities(&mut client).await?;
            for _ in 0..TASK_TEXTS {
                let text = corpus::unique(&mut rng, 30);
                let began = Instant::now();
                served(client.ask(&analyze(&text, &names)).await?.status)?;
                together.push(micros(began));
                // Another text, so that the cache cannot know it.
                let text = corpus::unique(&mut rng, 30);
                let began = Instant::now();
                for name in &names {
                    served(client.ask(&analyze(&text, &[name])).await?.status)?;
                }
                apart.push(micros(began));
            }
            Ok((together, apart))
        })
    }

    /// Many clients with long and short texts at once; times of what was answered, and how many were refused.
    pub(super) fn burst(&mut self) -> Result<(Vec<u32>, u64), RigError> {
        let (clients, requests, texts) = BURST;
        let mut rng = Rng::new(self.seed);
        let address = self.address;
        let ended = LocalSet::new().block_on(&self.runtime, async {
            let mut tasks = JoinSet::new();
            for number in 0..clients {
                let mut rng = rng.fork(number as u64);
                tasks.spawn_local(async move {
                    let (mut times_us, mut refused) = (Vec::new(), 0);
                    for _ in 0..requests {
                        let all: Vec<String> = (0..texts)
                            .map(|_| {
                                let words = 1 + rng.below(BURST_WORDS_MAX);
                                corpus::unique(&mut rng, words)
                            })
                            .collect();
                        let request = post("/v1/analyze", &corpus::analyze_all(&all));
                        let began = Instant::now();
                        let mut client = Client::connect(address, number as u32, None).await?;
                        let status = client.ask(&request).await?.status;
                        match status {
                            429 | 503 => refused += 1,
                            _ => {
                                served(status)?;
                                times_us.push(micros(began));
                            }
                        }
                    }
                    Ok::<_, std::io::Error>((times_us, refused))
                });
            }
            tasks.join_all().await
        });
        let mut sum = (Vec::new(), 0);
        for one in ended {
            let (times_us, refused) = one?;
            sum.0.extend(times_us);
            sum.1 += refused;
        }
        Ok(sum)
    }
}

/// The tasks that the server answers.
async fn abilities(client: &mut Client) -> std::io::Result<Vec<&'static str>> {
    let mut names = Vec::new();
    for name in ["words", "entities", "sentiment", "embedding"] {
        let status = client.ask(&analyze("a", &[name])).await?.status;
        if status == 200 {
            names.push(name);
        }
    }
    Ok(names)
}

fn analyze(text: &str, tasks: &[&str]) -> Vec<u8> {
    post(
        "/v1/analyze",
        &serde_json::json!({"text": text, "tasks": tasks}).to_string(),
    )
}

fn served(status: u16) -> std::io::Result<()> {
    match status {
        200 => Ok(()),
        other => Err(std::io::Error::other(format!(
            "a request was answered with {other}"
        ))),
    }
}

fn micros(began: Instant) -> u32 {
    u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX)
}
