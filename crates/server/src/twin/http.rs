//! The twin's routes: of ours, those that the drill asks.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use plimsoll_memory::{alloc, process};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::Twin;
use super::worker::{Done, Job, Word};

const SESSION: &str = "x-plimsoll-session";
const CACHE: HeaderName = HeaderName::from_static("x-plimsoll-cache");

#[derive(Deserialize)]
#[serde(untagged)]
enum Texts {
    One(String),
    Many(Vec<String>),
}

impl Texts {
    fn into_vec(self) -> Vec<String> {
        match self {
            Texts::One(text) => vec![text],
            Texts::Many(texts) => texts,
        }
    }
}

#[derive(Deserialize)]
struct Embed {
    inputs: Texts,
}

#[derive(Deserialize)]
struct Analyze {
    text: Texts,
}

#[derive(Serialize)]
struct Analysis<'a> {
    words: &'a [Word],
    embedding: &'a [f32],
}

impl<'a> Analysis<'a> {
    fn of(done: &'a Done) -> Analysis<'a> {
        Analysis {
            words: done.words.as_deref().unwrap_or_default(),
            embedding: &done.vector,
        }
    }
}

pub(super) fn router(twin: Arc<Twin>) -> Router {
    Router::new()
        .route("/health", get(|| async { StatusCode::OK }))
        .route("/metrics", get(metrics))
        .route("/embed", post(embed))
        .route("/v1/analyze", post(analyze))
        .with_state(twin)
}

async fn embed(State(twin): State<Arc<Twin>>, headers: HeaderMap, body: Bytes) -> Response {
    let request: Embed = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => return problem(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
    };
    let session = session(&headers);
    let texts = request.inputs.into_vec();
    let (count, mut hits, mut vectors) = (texts.len(), 0, Vec::new());
    let mut pending = Vec::new();
    for text in texts {
        let known = twin.remembered(&session, &text);
        hits += usize::from(known.is_some());
        let waits = match known {
            Some(_) => None,
            None => Some(submit(&twin, text.clone(), false)),
        };
        pending.push((text, known, waits));
    }
    for (text, known, waits) in pending {
        let vector = match (known, waits) {
            (Some(vector), _) => vector,
            (None, Some(waits)) => match answer(waits).await {
                Ok(done) => {
                    twin.remember(&session, text, Arc::clone(&done.vector));
                    done.vector
                }
                Err(error) => return problem(StatusCode::INTERNAL_SERVER_ERROR, &error),
            },
            (None, None) => unreachable!("what is not known was submitted"),
        };
        vectors.push(vector);
    }
    twin.hits.fetch_add(hits as u64, Relaxed);
    twin.misses.fetch_add((count - hits) as u64, Relaxed);
    twin.log(&format!("embed {count} texts, {hits} known"));
    let said = match hits {
        0 => "miss",
        hits if hits == count => "hit",
        _ => "partial",
    };
    let vectors: Vec<&[f32]> = vectors.iter().map(|vector| &vector[..]).collect();
    let mut response = json(&vectors);
    response
        .headers_mut()
        .insert(CACHE, HeaderValue::from_static(said));
    response
}

async fn analyze(State(twin): State<Arc<Twin>>, headers: HeaderMap, body: Bytes) -> Response {
    let request: Analyze = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => return problem(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
    };
    let session = session(&headers);
    let single = matches!(request.text, Texts::One(_));
    let texts = request.text.into_vec();
    let count = texts.len();
    let pending: Vec<_> = texts
        .into_iter()
        .map(|text| (text.clone(), submit(&twin, text, true)))
        .collect();
    let mut all = Vec::new();
    for (text, waits) in pending {
        match answer(waits).await {
            Ok(done) => {
                twin.remember(&session, text, Arc::clone(&done.vector));
                all.push(done);
            }
            Err(error) => return problem(StatusCode::INTERNAL_SERVER_ERROR, &error),
        }
    }
    twin.log(&format!("analyze {count} texts"));
    match &all[..] {
        [only] if single => json(&Analysis::of(only)),
        all => json(&all.iter().map(Analysis::of).collect::<Vec<_>>()),
    }
}

fn submit(twin: &Twin, text: String, words: bool) -> oneshot::Receiver<Result<Done, String>> {
    let (reply, waits) = oneshot::channel();
    twin.queued.fetch_add(1, Relaxed);
    // The workers live as long as the process; if they did not, the receiver says so.
    let _ = twin.queue.send(Job { text, words, reply });
    waits
}

async fn answer(waits: oneshot::Receiver<Result<Done, String>>) -> Result<Done, String> {
    waits.await.unwrap_or_else(|_| Err("the worker ended".to_owned()))
}

fn session(headers: &HeaderMap) -> String {
    let named = headers.get(SESSION).and_then(|value| value.to_str().ok());
    named.unwrap_or_default().to_owned()
}

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => ([(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn problem(status: StatusCode, error: &str) -> Response {
    (status, serde_json::json!({"error": error}).to_string()).into_response()
}

/// What the drill and the ablation compare, under the names that the server has for them.
async fn metrics(State(twin): State<Arc<Twin>>) -> String {
    let counts = alloc::total_counts();
    let sessions = twin
        .vectors
        .as_ref()
        .map(|vectors| vectors.lock().expect("nobody panics with it"));
    let entries: usize = sessions
        .iter()
        .flat_map(|vectors| vectors.values())
        .map(|session| session.len())
        .sum();
    drop(sessions);
    let values = [
        ("plimsoll_heap_live_bytes", counts.live_bytes()),
        ("plimsoll_heap_allocations_total", counts.allocations),
        ("plimsoll_cache_entries", entries as u64),
        ("plimsoll_cache_hits_total", twin.hits.load(Relaxed)),
        ("plimsoll_cache_misses_total", twin.misses.load(Relaxed)),
        ("te_queue_size", twin.queued.load(Relaxed) as u64),
        (
            "process_resident_memory_bytes",
            process::resident_bytes().unwrap_or(0) as u64,
        ),
    ];
    let mut text = String::new();
    for (name, value) in values {
        writeln!(text, "{name} {value}").expect("a String takes all that is written to it");
    }
    text
}
