//! A worker: one thread's worth of the text stage and the encoder, with an arena and tables of its own.
//!
//! A panic in a stage costs the jobs that the stage held, nobody else: their slots are discarded, not reused, and their tasks
//! are told. Everything a turn uses was made when the worker was.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use plimsoll_encoder::spans::{Aggregation, Labels, TokenLabels, entities};
use plimsoll_memory::{Scratch, ScratchError, ScratchReq};

use crate::berth::Cell;
use crate::characters;
use crate::config::Stage;
use crate::engine::{Engine, content};
use crate::error::{JobError, StartError};
use crate::heads::{self, Staging};
use crate::inputs::Input;
use crate::pass::{self, Pass};
use crate::queue::{Lines, Next};
use crate::request::{Span, Tasks};
use crate::text_stage;
use crate::trace::Step;
use crate::work::Work;

/// What a turn did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There was nothing to do.
    Idle,
    /// The text of one request was read.
    Text,
    /// One pass of the encoder.
    Pass {
        /// Its sequences.
        sequences: usize,
        /// Its tokens.
        tokens: usize,
    },
}

/// A worker. Call [`Worker::turn`] in a loop on a thread of its own; sleep with [`Engine::wait_for_work`] when it is idle.
pub struct Worker {
    engine: Arc<Engine>,
    /// Which crew it leads.
    index: usize,
    scratch: Scratch,
    /// Whether all of `scratch` was made resident since it was made or given back.
    is_warm: bool,
    pass: Pass,
    staging: Staging,
    /// Read and written within one text stage only.
    text_scratch: Scratch,
}

impl Worker {
    pub(crate) fn new(engine: Arc<Engine>, index: usize) -> Result<Worker, StartError> {
        let memory = |error: ScratchError| StartError::Memory(error.to_string());
        let scratch = Scratch::new(engine.arena_bytes()).map_err(memory)?;
        let text_scratch = Scratch::new(text_arena(&engine).bytes()).map_err(memory)?;
        let pass = Pass::new(engine.limits());
        let staging = Staging::new(engine.limits(), engine.model().info());
        Ok(Worker {
            engine,
            index,
            scratch,
            is_warm: false,
            pass,
            staging,
            text_scratch,
        })
    }

    /// Makes the arena of passes resident, so that no length of text, however late it comes first, makes the process grow. Passes do this after a
    /// [rest](Worker::rest); a thread does well to do it as it starts.
    pub fn warm(&mut self) {
        if !self.is_warm {
            // Where the system refuses, pages come as they are used: they were committed and billed from the start.
            let _ = self.scratch.populate();
            self.is_warm = true;
        }
    }

    /// Gives the memory of its arenas back to the system until the next piece of work; for when there has been none for a while.
    pub fn rest(&mut self) {
        self.is_warm = false;
        for arena in [&mut self.scratch, &mut self.text_scratch] {
            // Pages that cannot be given back stay what they are: the worker's.
            let _ = arena.give_back_beyond(0);
        }
    }

    /// Does the next piece of work, if there is any.
    pub fn turn(&mut self) -> Turn {
        // Before the look into the lines: what comes after it is then not missed.
        let arrivals = self.engine.queue().arrivals();
        match self.engine.queue().next() {
            Next::Nothing => {
                self.help(arrivals);
                Turn::Idle
            }
            Next::Text(job) => {
                self.read_text(job);
                self.engine.ends(self.index);
                Turn::Text
            }
            Next::Pass => {
                self.warm();
                let turn = self.run_pass();
                self.engine.ends(self.index);
                turn
            }
        }
    }

    /// Takes part in another worker's pass, if one is under way, until that is over or something comes into a line that had seen so many `arrivals`.
    fn help(&self, arrivals: u32) {
        let queue = self.engine.queue();
        if let Some(crew) = self.engine.crew_in_need() {
            // A panic in a helper's part reaches the leader, whose pass it is; this worker goes on.
            let _ = catch_unwind(AssertUnwindSafe(|| {
                crew.serve_while(|| queue.arrivals() == arrivals)
            }));
        }
    }

    fn read_text(&mut self, job: u32) {
        let engine = Arc::clone(&self.engine);
        let Some((number, mut work)) = take_work(&engine, job) else {
            return;
        };
        work.times.text_begun = engine.now();
        engine.begins(self.index, Stage::Text, number);
        if let Err(late) = work.in_time(engine.now()) {
            return put_back(&engine, job, work, Some(Err(late)));
        }
        // The work moves into the closure: should the stage panic, unwinding drops it there, and its slots are discarded.
        let read = catch_unwind(AssertUnwindSafe(|| {
            engine.probe(Stage::Text);
            let frame = self.text_scratch.frame();
            let scratch = frame
                .take(engine.text_scratch_bytes())
                .expect("the arena was made for it");
            let waiting = text_stage::run(&engine, &mut work, scratch);
            (waiting, work)
        }));
        match read {
            Err(_) => fail(&engine, job, Stage::Text),
            Ok((Err(error), work)) => put_back(&engine, job, work, Some(Err(error))),
            Ok((Ok(waiting), mut work)) => {
                work.times.text_done = engine.now();
                engine.tell(number, |_| Step::Text {
                    worker: self.index as u32,
                    began: work.times.text_begun,
                    tokens: waiting as u32,
                });
                let done = work.progress.total == 0;
                if done {
                    work.times.done = work.times.text_done;
                }
                if done {
                    put_back(&engine, job, work, Some(Ok(())));
                } else {
                    line_up(&engine, job, work, waiting);
                }
            }
        }
    }

    fn run_pass(&mut self) -> Turn {
        let engine = Arc::clone(&self.engine);
        let (mut stage, number) = (Stage::Batch, engine.number_pass());
        engine.begins(self.index, stage, number);
        let ran = catch_unwind(AssertUnwindSafe(|| {
            self.gather();
            if !self.pass.parts.is_empty() {
                self.forward(&mut stage, number);
            }
        }));
        if ran.is_err() && stage == Stage::Batch {
            // The job that was being gathered, or would have been, must not be tried for ever.
            let gathering = self.pass.gathering;
            let gathering = gathering.or_else(|| engine.queue().lock().ready.oldest());
            gathering
                .into_iter()
                .filter(|job| !self.pass.jobs.contains(job))
                .for_each(|job| fail_in_line(&engine, job));
        }
        for &job in &self.pass.jobs {
            match ran {
                Ok(()) => leave_pass(&engine, job, number),
                Err(_) => fail(&engine, job, stage),
            }
        }
        match self.pass.parts.len() {
            0 => Turn::Idle,
            sequences => Turn::Pass {
                sequences,
                tokens: self.pass.ids.len(),
            },
        }
    }

    /// Runs the encoder over the pass, then every head over every sequence.
    fn forward(&mut self, stage: &mut Stage, number: u64) {
        let engine = &self.engine;
        let began = engine.now();
        *stage = Stage::Forward;
        engine.begins(self.index, *stage, number);
        engine.probe(Stage::Forward);
        let frame = self.scratch.frame();
        let crew = engine.muster(self.index);
        let hidden = engine
            .model()
            .forward_with(&self.pass.batch(), &frame, crew.crew());
        drop(crew);
        let hidden = hidden.unwrap_or_else(|error| panic!("the batch was checked: {error}"));
        *stage = Stage::Heads;
        let heads_began = engine.now();
        engine.begins(self.index, *stage, number);
        for part in &self.pass.parts {
            engine.probe(Stage::Heads);
            let mut cell = engine.berths().lock(part.job);
            if cell.cancelled {
                continue;
            }
            if let Some(work) = &mut cell.work {
                heads::run(engine, &hidden, part, work, &mut self.staging);
                work.progress.done += 1;
            }
        }
        engine.tell(number, |_| Step::Pass {
            worker: self.index as u32,
            began,
            heads_began,
            sequences: self.pass.parts.len() as u32,
            tokens: self.pass.ids.len() as u32,
        });
    }

    /// Fills the pass from the line: half of it from the job that came first unless that had more than its half before, the rest from those that have least
    /// left.
    fn gather(&mut self) {
        self.pass.clear();
        let engine = Arc::clone(&self.engine);
        engine.probe(Stage::Batch);
        let mut lines = engine.queue().lock();
        let Some(oldest) = lines.ready.oldest() else {
            return;
        };
        let fill_tokens = pass::fill_tokens(lines.ready.size(), engine.workers(), self.pass.tokens_max);
        if lines.ready.oldest_is_due() {
            self.take(&mut lines, oldest, fill_tokens / 2);
        }
        while let Some(shortest) = lines.ready.shortest() {
            if !self.take(&mut lines, shortest, fill_tokens) {
                break;
            }
        }
    }

    /// Takes sequences of a job into the pass. Returns true when the job has left the line.
    fn take(&mut self, lines: &mut Lines, job: u32, tokens_max: usize) -> bool {
        let engine = &self.engine;
        self.pass.gathering = Some(job);
        let mut guard = engine.berths().lock(job);
        let cell = &mut *guard;
        let Some(work) = &mut cell.work else {
            return lines.ready.remove(job);
        };
        if let Err(late) = work.in_time(engine.now()) {
            cell.finish(Err(late));
            return lines.ready.remove(job);
        }
        if work.times.pass_begun.0 == 0 {
            work.times.pass_begun = engine.now();
        }
        let (jobs, tokens) = (self.pass.jobs.len(), self.pass.ids.len());
        let whole = self.pass.gather(engine, job, work, tokens_max);
        cell.busy += (self.pass.jobs.len() - jobs) as u32;
        lines.ready.shrink(job, self.pass.ids.len() - tokens);
        whole && lines.ready.remove(job)
    }
}

/// The arena that texts are read with.
fn text_arena(engine: &Engine) -> ScratchReq {
    ScratchReq::of::<u8>(engine.text_scratch_bytes())
}

/// Takes a job's work out of its place, to work on it without the lock. Between the line and this lock the job may have been
/// cancelled and its place given to another, which then stands in the line itself: each text is taken once.
fn take_work(engine: &Engine, job: u32) -> Option<(u64, Work)> {
    let mut cell = engine.berths().lock(job);
    let mut work = cell.work.take_if(|work| !work.text_taken)?;
    work.text_taken = true;
    cell.busy += 1;
    Some((cell.owner.number, work))
}

/// Puts a job's work back, with its outcome when it is over.
fn put_back(engine: &Engine, job: u32, work: Work, outcome: Option<Result<(), JobError>>) {
    let mut cell = engine.berths().lock(job);
    cell.work = Some(work);
    settle(engine, job, cell, outcome);
}

/// Puts a job's work back and the job in line for a pass, in one, so that nobody sees one without the other; not when it was given up meanwhile,
/// as its place may be another's before its turn comes.
fn line_up(engine: &Engine, job: u32, work: Work, waiting_tokens: usize) {
    let mut lines = engine.queue().lock();
    let mut cell = engine.berths().lock(job);
    cell.work = Some(work);
    if !cell.cancelled {
        engine.queue().push_ready(&mut lines, job, waiting_tokens);
    }
    drop(lines);
    settle(engine, job, cell, None);
}

/// This worker is done with a job: whoever comes last gives everything back.
fn settle(
    engine: &Engine,
    job: u32,
    mut cell: std::sync::MutexGuard<'_, Cell>,
    outcome: Option<Result<(), JobError>>,
) {
    cell.busy -= 1;
    if cell.cancelled {
        let last = cell.busy == 0;
        drop(cell);
        if last {
            engine.queue().remove(job);
            engine.vacate(job);
        }
        return;
    }
    if let Some(outcome) = outcome {
        cell.finish(outcome);
    }
    if cell.busy == 0 && cell.outcome.is_some() {
        cell.wake();
    }
}

/// A job's part in a pass is over; the job is, too, when this was its last sequence.
fn leave_pass(engine: &Engine, job: u32, pass: u64) {
    let mut cell = engine.berths().lock(job);
    engine.tell(cell.owner.number, |_| Step::InPass { pass });
    let all_read = cell
        .work
        .as_ref()
        .is_some_and(|work| work.progress.done == work.progress.total);
    let over = all_read && !cell.cancelled && cell.outcome.is_none();
    if !over {
        return settle(engine, job, cell, None);
    }
    let Some(mut work) = cell.work.take() else { return };
    drop(cell);
    let finished = catch_unwind(AssertUnwindSafe(|| {
        engine.probe(Stage::Finish);
        let outcome = join_entities(engine, &mut work);
        work.times.done = engine.now();
        (outcome, work)
    }));
    match finished {
        Ok((outcome, work)) => put_back(engine, job, work, Some(outcome)),
        Err(_) => fail(engine, job, Stage::Finish),
    }
}

/// A stage panicked while it held this job: its slots are discarded.
fn fail(engine: &Engine, job: u32, stage: Stage) {
    let mut cell = engine.berths().lock(job);
    if let Some(work) = cell.work.take() {
        work.discard();
    }
    drop(cell);
    engine.queue().remove(job);
    settle(
        engine,
        job,
        engine.berths().lock(job),
        Some(Err(JobError::Internal { stage: stage.name() })),
    );
}

/// A panic while the job stood in line.
fn fail_in_line(engine: &Engine, job: u32) {
    engine.berths().lock(job).busy += 1;
    fail(engine, job, Stage::Batch);
}

/// Labels become entity spans, text by text.
fn join_entities(engine: &Engine, work: &mut Work) -> Result<(), JobError> {
    let info = engine.model().info();
    let asked = work.options.tasks.has(Tasks::ENTITIES);
    let Some(names) = info.token_head.as_ref().filter(|_| asked) else {
        return Ok(());
    };
    let mut used = 0;
    for index in 0..work.inputs.len() {
        let mut input = work.inputs.get(index);
        let count = match &info.character_labels {
            Some(rules) => characters::entities(work, &input, names, rules, used)?,
            None => join_tokens(engine, work, &input, names, used)?,
        };
        input.entities = Span {
            start: used as u32,
            len: count as u32,
        };
        used += count;
        work.inputs.set(index, input);
    }
    Ok(())
}

/// Writes the entities of an input whose tokens have labels behind the `used` ones of those before it; returns how many.
fn join_tokens(
    engine: &Engine,
    work: &mut Work,
    input: &Input,
    names: &Labels,
    used: usize,
) -> Result<usize, JobError> {
    let range = content(engine.specials(), input, work.options.add_special_tokens);
    let all = work.labels.all_mut();
    let tokens = TokenLabels {
        labels: &all.labels[range.clone()],
        scores: &all.scores[range.clone()],
        starts: &work.tokens.starts()[range.clone()],
        ends: &work.tokens.ends()[range],
        subwords: &[],
        probabilities: &[],
    };
    let found = entities(names, &tokens, Aggregation::Simple, &mut all.entities[used..]);
    found.map_err(|_| JobError::Internal {
        stage: Stage::Finish.name(),
    })
}
