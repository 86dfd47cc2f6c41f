//! Threads that are started once, each with an arena of its own, and the texts that each runs.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use plimsoll_encoder::{Batch, BatchShape, Crew, Model};
use plimsoll_memory::Scratch;

use crate::Fault;

/// Tokens of a pass.
const PASS_TOKENS: usize = 2048;

/// Texts of one thread, packed into passes.
#[derive(Default)]
pub(crate) struct Share {
    passes: Vec<Pass>,
}

#[derive(Default)]
struct Pass {
    ids: Vec<u32>,
    lens: Vec<u32>,
}

impl Share {
    /// Packs texts in their order.
    pub(crate) fn new<'a>(texts: impl Iterator<Item = &'a Vec<u32>>) -> Share {
        let mut passes: Vec<Pass> = Vec::new();
        for text in texts {
            match passes.last_mut() {
                Some(pass) if pass.ids.len() + text.len() <= PASS_TOKENS => pass.push(text),
                _ => {
                    passes.push(Pass::default());
                    passes.last_mut().expect("just pushed").push(text);
                }
            }
        }
        Share { passes }
    }
}

impl Pass {
    fn push(&mut self, text: &[u32]) {
        self.ids.extend(text);
        self.lens.push(text.len() as u32);
    }

    fn batch(&self) -> Batch<'_> {
        Batch {
            ids: &self.ids,
            types: &[],
            lens: &self.lens,
        }
    }
}

/// What every thread runs, in the order of threads.
pub(crate) type Shares = Arc<Vec<Share>>;

/// How threads share a cell.
pub(crate) enum Work {
    /// Each has its own texts.
    Split(Shares),
    /// All work on every pass.
    Joint(Share),
}

/// What a thread is asked to do.
enum Job {
    Run(Shares),
    Serve(Arc<Crew>),
}

/// The calling thread with its arena, and those beside it.
pub(crate) struct Lanes {
    own: Lane,
    others: Vec<Other>,
}

struct Lane {
    model: Arc<Model>,
    scratch: Scratch,
}

struct Other {
    work: Sender<Job>,
    done: Receiver<Result<(), Fault>>,
}

impl Lanes {
    /// Starts all threads but the caller's.
    pub(crate) fn start(model: &Arc<Model>, threads: usize) -> Result<Lanes, Fault> {
        let own = Lane::new(model, threads)?;
        let others = (1..threads).map(|index| Other::start(Lane::new(model, 1)?, index));
        Ok(Lanes {
            own,
            others: others.collect::<Result<_, Fault>>()?,
        })
    }

    pub(crate) fn threads(&self) -> usize {
        1 + self.others.len()
    }

    /// Bytes of all arenas.
    pub(crate) fn arena_bytes(&self) -> usize {
        arena_bytes(&self.own.model, self.threads()) + arena_bytes(&self.own.model, 1) * self.others.len()
    }

    /// Shares texts out so that threads have the same number of tokens, as far as possible.
    pub(crate) fn split(&self, texts: &[Vec<u32>]) -> Shares {
        let mut shares: Vec<(usize, Vec<&Vec<u32>>)> = vec![(0, Vec::new()); self.threads()];
        let mut ordered: Vec<&Vec<u32>> = texts.iter().collect();
        ordered.sort_by_key(|text| std::cmp::Reverse(text.len()));
        for text in ordered {
            let least = shares.iter_mut().min_by_key(|(tokens, _)| *tokens);
            let (tokens, share) = least.expect("at least one thread");
            *tokens += text.len();
            share.push(text);
        }
        Arc::new(
            shares
                .iter()
                .map(|(_, share)| Share::new(share.iter().copied()))
                .collect(),
        )
    }

    /// For every thread these of many passes of one text each, whose lengths go through 1..=512 in an order that looks random.
    pub(crate) fn every_length(&self, passes: Range<usize>, model: &Model) -> Shares {
        let longest = model.info().positions_max.min(512);
        let vocabulary = model.info().vocab_size as u32;
        let share = |thread: usize| {
            let texts = passes.clone().map(|pass| {
                // An odd factor, so that every length comes once in a run of 512.
                let length = ((pass + 1 + thread) * 211) % longest + 1;
                let ids = (0..length as u32).map(|at| (at + 1) * (pass as u32 + 7) % vocabulary);
                Share::new([ids.collect()].iter()).passes.remove(0)
            });
            Share {
                passes: texts.collect(),
            }
        };
        Arc::new((0..self.threads()).map(share).collect())
    }

    /// Runs a cell once.
    pub(crate) fn run(&mut self, work: &Work) -> Result<(), Fault> {
        match work {
            Work::Split(shares) => self.run_split(shares),
            Work::Joint(share) => self.run_joint(share),
        }
    }

    /// Runs every thread's share and waits for all.
    fn run_split(&mut self, shares: &Shares) -> Result<(), Fault> {
        for other in &self.others {
            other.work.send(Job::Run(Arc::clone(shares)))?;
        }
        let own = self.own.run(&shares[0], &Crew::alone());
        for other in &self.others {
            other.done.recv()??;
        }
        own
    }

    /// Runs passes with everybody's help; nobody waits for helpers that are on their way out.
    fn run_joint(&mut self, share: &Share) -> Result<(), Fault> {
        let crew = Arc::new(Crew::new(self.threads()));
        for other in &self.others {
            other.work.send(Job::Serve(Arc::clone(&crew)))?;
        }
        let done = self.own.run(share, &crew);
        crew.dismiss();
        done
    }

    /// Unit vectors of the texts, one after the other.
    pub(crate) fn embed(&mut self, share: Share) -> Result<Vec<f32>, Fault> {
        let Lane { model, scratch } = &mut self.own;
        let mut vectors = Vec::new();
        for pass in &share.passes {
            let frame = scratch.frame();
            let hidden = model.forward(&pass.batch(), &frame)?;
            let mut start = 0;
            for &len in &pass.lens {
                let tokens = start..start + len as usize;
                start = tokens.end;
                let at = vectors.len();
                vectors.resize(at + hidden.width(), 0.0);
                model.pool(&hidden, tokens, true, &mut vectors[at..]);
            }
        }
        Ok(vectors)
    }
}

impl Lane {
    fn new(model: &Arc<Model>, crew: usize) -> Result<Lane, Fault> {
        let scratch = Scratch::new(arena_bytes(model, crew))?;
        // As a worker does: the first text of 512 tokens must not make the process grow.
        scratch.populate()?;
        Ok(Lane {
            model: Arc::clone(model),
            scratch,
        })
    }

    fn run(&mut self, share: &Share, crew: &Crew) -> Result<(), Fault> {
        for pass in &share.passes {
            let frame = self.scratch.frame();
            std::hint::black_box(self.model.forward_with(&pass.batch(), &frame, crew)?.token(0));
        }
        Ok(())
    }
}

impl Other {
    fn start(mut lane: Lane, index: usize) -> Result<Other, Fault> {
        let (work, jobs) = channel::<Job>();
        let (finished, done) = channel();
        thread::Builder::new().spawn(move || {
            for job in jobs {
                match job {
                    Job::Serve(crew) => crew.serve(),
                    Job::Run(shares) => {
                        if finished.send(lane.run(&shares[index], &Crew::alone())).is_err() {
                            return;
                        }
                    }
                }
            }
        })?;
        Ok(Other { work, done })
    }
}

/// Bytes of the arena of a thread that leads a crew of so many.
fn arena_bytes(model: &Model, crew: usize) -> usize {
    let longest = model.info().positions_max;
    let shape = BatchShape {
        tokens: PASS_TOKENS.max(longest),
        sequences: PASS_TOKENS,
        tokens_longest: longest,
    };
    model.forward_scratch_with(shape, crew).bytes()
}
