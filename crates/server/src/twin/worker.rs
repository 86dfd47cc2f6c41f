//! The twin's workers: take what waits, make one batch of it, answer.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use plimsoll_encoder::{Batch, BatchShape};
use plimsoll_memory::Scratch;
use plimsoll_text::segment::{SegmentMode, word_is_blank};
use plimsoll_text::{EncodeOptions, TokenSlots};
use serde::Serialize;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use super::Twin;

/// Texts in a batch.
const BATCH_TEXTS: usize = 32;

/// One text to read.
pub(super) struct Job {
    pub(super) text: String,
    pub(super) words: bool,
    pub(super) reply: oneshot::Sender<Result<Done, String>>,
}

/// What was read.
pub(super) struct Done {
    pub(super) vector: Arc<[f32]>,
    pub(super) words: Option<Vec<Word>>,
}

#[derive(Serialize)]
pub(super) struct Word {
    text: String,
    start: usize,
    end: usize,
}

/// Tokens of one text.
struct Tokens {
    ids: Vec<u32>,
    types: Vec<u8>,
}

/// Works until the queue ends.
pub(super) fn run(twin: &Twin, jobs: &Mutex<UnboundedReceiver<Job>>) {
    loop {
        let mut batch = Vec::new();
        {
            let mut jobs = jobs.lock().expect("nobody panics with it");
            let Some(first) = jobs.blocking_recv() else {
                return;
            };
            batch.push(first);
            while let Some(next) = (batch.len() < BATCH_TEXTS)
                .then(|| jobs.try_recv().ok())
                .flatten()
            {
                batch.push(next);
            }
        }
        twin.queued.fetch_sub(batch.len(), Relaxed);
        let read = read(twin, &batch);
        match read {
            Ok(done) => {
                for (job, done) in batch.into_iter().zip(done) {
                    // A client that has gone wants nothing.
                    let _ = job.reply.send(Ok(done));
                }
            }
            Err(error) => batch.into_iter().for_each(|job| {
                let _ = job.reply.send(Err(error.clone()));
            }),
        }
    }
}

fn read(twin: &Twin, jobs: &[Job]) -> Result<Vec<Done>, String> {
    let tokens: Vec<Tokens> = jobs
        .iter()
        .map(|job| tokenize(twin, &format!("{}{}", twin.prompt, job.text)))
        .collect::<Result<_, _>>()?;
    let vectors = forward(twin, &tokens)?;
    jobs.iter()
        .zip(vectors)
        .map(|(job, vector)| {
            Ok(Done {
                vector,
                words: job.words.then(|| segment(twin, &job.text)).transpose()?,
            })
        })
        .collect()
}

fn tokenize(twin: &Twin, text: &str) -> Result<Tokens, String> {
    let tokens_max = twin.model.info().tokens_max;
    let options = EncodeOptions {
        tokens_max,
        count_all: false,
        ..EncodeOptions::default()
    };
    let mut scratch = vec![0; twin.tokenizer.scratch_bytes(text.len())];
    let (mut ids, mut starts, mut ends, mut types) = (
        vec![0; tokens_max],
        vec![0; tokens_max],
        vec![0; tokens_max],
        vec![0; tokens_max],
    );
    let mut slots = TokenSlots {
        ids: &mut ids,
        starts: &mut starts,
        ends: &mut ends,
        types: &mut types,
    };
    let encoded = twin.tokenizer.encode(text, &options, &mut scratch, &mut slots);
    let count = encoded.map_err(|error| error.to_string())?.count;
    ids.truncate(count);
    types.truncate(count);
    Ok(Tokens { ids, types })
}

/// One pass over the batch, its activations allocated for it.
fn forward(twin: &Twin, tokens: &[Tokens]) -> Result<Vec<Arc<[f32]>>, String> {
    let model = &twin.model;
    let ids: Vec<u32> = tokens.iter().flat_map(|text| text.ids.iter().copied()).collect();
    let types: Vec<u8> = tokens
        .iter()
        .flat_map(|text| text.types.iter().copied())
        .collect();
    let lens: Vec<u32> = tokens.iter().map(|text| text.ids.len() as u32).collect();
    let batch = Batch {
        ids: &ids,
        types: &types,
        lens: &lens,
    };
    let shape: BatchShape = batch.shape();
    let mut scratch =
        Scratch::new(model.forward_scratch(shape).bytes()).map_err(|error| error.to_string())?;
    let frame = scratch.frame();
    let hidden = model.forward(&batch, &frame).map_err(|error| error.to_string())?;
    let mut start = 0;
    let vectors = lens.iter().map(|&len| {
        let mut vector = vec![0.0; model.info().hidden];
        model.pool(&hidden, start..start + len as usize, true, &mut vector);
        start += len as usize;
        vector.into()
    });
    Ok(vectors.collect())
}

fn segment(twin: &Twin, text: &str) -> Result<Vec<Word>, String> {
    let mut scratch = vec![0; twin.segmenter.scratch_bytes(text.len())];
    let mut ends = vec![0; text.chars().count()];
    let count = twin
        .segmenter
        .segment(text, SegmentMode::Auto, &mut scratch, &mut ends)
        .map_err(|error| error.to_string())?;
    let (mut words, mut byte, mut character) = (Vec::new(), 0, 0);
    for &end in &ends[..count] {
        let word = &text[byte..end as usize];
        let start = character;
        character += word.chars().count();
        byte = end as usize;
        if !word_is_blank(word) {
            words.push(Word {
                text: word.to_owned(),
                start,
                end: character,
            });
        }
    }
    Ok(words)
}
