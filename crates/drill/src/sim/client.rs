//! A client and the task that serves it, as the server's road has it: at the door, in the body, waiting, reading.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use plimsoll_engine::{Admission, Answer, Chunk, Inputs, Job, Nanos, Span, Tasks, Ticket, TooManyInputs};

use crate::rng::Rng;

/// Set by a waker; a task that is not woken is not polled.
#[derive(Default)]
pub(super) struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Flag {
    /// Whether it was woken since it was last asked.
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }
}

/// Where its task is.
pub(super) enum Phase {
    /// In the line before the door.
    Door { admission: Admission, asked: Nanos },
    /// Sending its body.
    Body { ticket: Ticket, begun: Nanos },
    /// Waiting for its answer.
    Job { job: Job },
    /// Reading its answer, of which so many chunks are still to be written.
    Reading { answer: Box<Answer>, left: usize },
    /// Served, refused, failed or gone.
    Over,
}

/// A client.
pub(super) struct Client {
    /// Order of arrival.
    pub(super) number: u64,
    pub(super) phase: Phase,
    pub(super) body: String,
    pub(super) sent_bytes: usize,
    pub(super) declared_bytes: Option<usize>,
    pub(super) tasks: Tasks,
    /// What it held when it was let in; it can only have become less.
    pub(super) held_bytes_max: usize,
    /// Chunks that it has not read yet.
    pub(super) chunks: Vec<Chunk>,
    pub(super) flag: Arc<Flag>,
    /// It has been to the door before.
    pub(super) polled: bool,
    /// Does nothing more by itself.
    pub(super) stalled: bool,
}

impl Client {
    /// A client with a body and tasks of its own; honest ones declare what they send.
    pub(super) fn new(number: u64, rng: &mut Rng, body_bytes_max: usize, honest: bool) -> Client {
        let body = body(rng, body_bytes_max);
        let declared_bytes = match rng.below(10) {
            _ if honest => Some(body.len()),
            0 => None,
            1 => Some(body.len() + rng.below(body_bytes_max)),
            2 => Some(rng.below(body.len())),
            _ => Some(body.len()),
        };
        Client {
            number,
            phase: Phase::Over,
            tasks: tasks(rng),
            sent_bytes: 0,
            held_bytes_max: 0,
            chunks: Vec::new(),
            flag: Arc::default(),
            polled: false,
            stalled: !honest && rng.percent(5),
            body,
            declared_bytes,
        }
    }

    /// A waker of its task.
    pub(super) fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.flag))
    }
}

fn tasks(rng: &mut Rng) -> Tasks {
    const ALL: [Tasks; 7] = [
        Tasks::WORDS,
        Tasks::TOKENS,
        Tasks::EMBEDDING,
        Tasks::TOKEN_EMBEDDINGS,
        Tasks::CLASSES,
        Tasks::ENTITIES,
        Tasks::TOKEN_COUNT,
    ];
    let one = *rng.pick(&ALL);
    ALL.into_iter().fold(
        one,
        |tasks, task| if rng.percent(25) { tasks.with(task) } else { tasks },
    )
}

/// Lines of letters, Han and blanks. Most bodies are short.
fn body(rng: &mut Rng, bytes_max: usize) -> String {
    const PIECES: [&str; 12] = ["a", "b", "c", "z", "1", " ", " ", "，", "我", "在", "北", "\n"];
    let bytes = 1 + if rng.percent(75) {
        rng.below(bytes_max.min(64))
    } else {
        rng.below(bytes_max)
    };
    let mut body = String::with_capacity(bytes);
    loop {
        let piece = rng.pick(&PIECES);
        if body.len() + piece.len() > bytes {
            break if body.is_empty() { "a".to_owned() } else { body };
        }
        body.push_str(piece);
    }
}

/// Inputs are the lines of the body.
pub(super) fn read(body: &mut [u8], inputs: &mut Inputs<'_>) -> Result<(), TooManyInputs> {
    let mut start = 0;
    for line in body.split(|&byte| byte == b'\n') {
        inputs.push_text(Span {
            start: start as u32,
            len: line.len() as u32,
        })?;
        start += line.len() + 1;
    }
    Ok(())
}
