//! Runs a batch of texts again and again, on one thread or several.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use plimsoll_encoder::{Batch, BatchShape, Crew, Format, ForwardError, Model};
use plimsoll_memory::{Scratch, ScratchError};

/// Why a measurement cannot be made. One line each.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// No memory for an arena.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// The encoder.
    #[error(transparent)]
    Forward(#[from] ForwardError),
}

/// What is run, and how long.
pub(super) struct Plan {
    pub(super) texts: usize,
    pub(super) tokens_each: usize,
    pub(super) threads: usize,
    pub(super) pass_tokens_max: usize,
    pub(super) time: Duration,
}

/// What came out.
pub(super) struct Times {
    /// Of each repetition of the whole batch, ascending.
    pub(super) sorted: Vec<Duration>,
    /// Bytes of all threads' arenas.
    pub(super) scratch_bytes: usize,
}

impl Times {
    pub(super) fn median(&self) -> Duration {
        self.sorted[self.sorted.len() / 2]
    }
}

/// The passes of one thread.
struct Share {
    ids: Vec<u32>,
    /// Texts of each pass.
    passes: Vec<usize>,
    lens: Vec<u32>,
}

impl Share {
    /// Texts of ids that are as good as random, packed into passes.
    fn new(texts: usize, plan: &Plan, vocabulary: usize) -> Share {
        let id = |at: usize| (at.wrapping_mul(2_654_435_761) % vocabulary) as u32;
        let pass_texts = (plan.pass_tokens_max / plan.tokens_each).max(1);
        let starts = (0..texts).step_by(pass_texts);
        Share {
            ids: (0..texts * plan.tokens_each).map(id).collect(),
            passes: starts.map(|start| pass_texts.min(texts - start)).collect(),
            lens: vec![plan.tokens_each as u32; pass_texts.min(texts)],
        }
    }

    fn shape(&self) -> BatchShape {
        let tokens_longest = self.lens.first().map_or(0, |&len| len as usize);
        BatchShape {
            tokens: self.lens.len() * tokens_longest,
            sequences: self.lens.len(),
            tokens_longest,
        }
    }

    fn run(&self, model: &Model, scratch: &mut Scratch, crew: &Crew) -> Result<(), ForwardError> {
        let mut rest = &self.ids[..];
        for &texts in &self.passes {
            let lens = &self.lens[..texts];
            let (ids, later) = rest.split_at(texts * lens[0] as usize);
            rest = later;
            let types = &[];
            let frame = scratch.frame();
            black_box(
                model
                    .forward_with(&Batch { ids, types, lens }, &frame, crew)?
                    .token(0),
            );
        }
        Ok(())
    }
}

/// Times a batch: fewer texts than threads are run by all threads together, more are shared out between them.
pub(super) fn measure(model: &Model, plan: &Plan) -> Result<Times, MeasureError> {
    if plan.texts < plan.threads {
        together(model, plan)
    } else {
        shared_out(model, plan)
    }
}

/// Repeats `run` for the plan's time, at least once; one run before that is not counted.
fn repeat(
    plan: &Plan,
    mut run: impl FnMut() -> Result<(), ForwardError>,
) -> Result<Vec<Duration>, ForwardError> {
    run()?;
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.is_empty() || start.elapsed() < plan.time {
        let before = Instant::now();
        run()?;
        times.push(before.elapsed());
    }
    times.sort();
    Ok(times)
}

/// Sends the crew away however the leader ends, or its helpers would spin for ever.
struct Dismiss<'a>(&'a Crew);

impl Drop for Dismiss<'_> {
    fn drop(&mut self) {
        self.0.dismiss();
    }
}

fn together(model: &Model, plan: &Plan) -> Result<Times, MeasureError> {
    let share = Share::new(plan.texts, plan, model.info().vocab_size);
    let scratch_bytes = model.forward_scratch_with(share.shape(), plan.threads).bytes();
    let mut scratch = Scratch::new(scratch_bytes)?;
    let crew = Crew::new(plan.threads);
    let times = thread::scope(|threads| {
        for _ in 1..plan.threads {
            threads.spawn(|| crew.serve());
        }
        let _dismiss = Dismiss(&crew);
        repeat(plan, || share.run(model, &mut scratch, &crew))
    });
    Ok(Times {
        sorted: times?,
        scratch_bytes,
    })
}

fn shared_out(model: &Model, plan: &Plan) -> Result<Times, MeasureError> {
    let mut lanes = Vec::new();
    let mut scratch_bytes = 0;
    for thread in 0..plan.threads {
        let texts = plan.texts / plan.threads + usize::from(thread < plan.texts % plan.threads);
        let share = Share::new(texts, plan, model.info().vocab_size);
        let bytes = model.forward_scratch(share.shape()).bytes();
        scratch_bytes += bytes;
        lanes.push((share, Scratch::new(bytes)?));
    }
    let (own, others) = lanes.split_first_mut().expect("at least one thread");
    let times = thread::scope(|threads| {
        let mut helpers = Vec::new();
        for (share, scratch) in others {
            let (go, starts) = channel::<()>();
            let (finish, done) = channel();
            threads.spawn(move || {
                for () in starts {
                    let sent = finish.send(share.run(model, scratch, &Crew::alone()));
                    if sent.is_err() {
                        return;
                    }
                }
            });
            helpers.push((go, done));
        }
        repeat(plan, || {
            for (go, _) in &helpers {
                go.send(()).expect("helpers wait for the next start");
            }
            let own_done = own.0.run(model, &mut own.1, &Crew::alone());
            for (_, done) in &helpers {
                done.recv().expect("a helper that panicked has said so")?;
            }
            own_done
        })
    });
    Ok(Times {
        sorted: times?,
        scratch_bytes,
    })
}

/// The most operations a second in `format`, all threads at once; `None` where there is no instruction whose peak it would be.
pub(super) fn peak(model: &Model, format: Format, threads: usize, time: Duration) -> Option<f64> {
    let gate = Barrier::new(threads);
    let one = || {
        gate.wait();
        model.kernel().peak(format, time)
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        let peaks = running
            .into_iter()
            .map(|thread| thread.join().expect("nothing panics here"));
        peaks.sum()
    })
}
