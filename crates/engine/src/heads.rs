//! The heads: every task reads the same hidden states, where the encoder left them.

use std::ops::Range;

use plimsoll_encoder::{Hidden, Model, ModelInfo};

use crate::cached::{Keep, shorten};
use crate::characters;
use crate::config::Limits;
use crate::engine::Engine;
use crate::pass::Part;
use crate::request::Tasks;
use crate::work::Work;

/// Room for the labels of one sequence and for one vector before it is cut to fewer dimensions.
pub(crate) struct Staging {
    vector: Vec<f32>,
    labels: Vec<u16>,
    scores: Vec<f32>,
    /// Of the characters inside tokens, for models that label those.
    log_probabilities: Vec<f32>,
}

impl Staging {
    pub(crate) fn new(limits: &Limits, info: &ModelInfo) -> Staging {
        let tokens = limits.tokens_max;
        Staging {
            vector: vec![0.0; info.hidden],
            labels: vec![0; tokens],
            scores: vec![0.0; tokens],
            log_probabilities: vec![0.0; tokens * character_floats(info)],
        }
    }

    pub(crate) fn bytes(limits: &Limits, info: &ModelInfo) -> usize {
        let token_bytes = size_of::<u16>() + size_of::<f32>() * (1 + character_floats(info));
        info.hidden * size_of::<f32>() + limits.tokens_max * token_bytes
    }
}

/// Log-probabilities that one token has.
fn character_floats(info: &ModelInfo) -> usize {
    info.character_labels
        .as_ref()
        .map_or(0, |rules| rules.slots() * rules.labels())
}

/// Runs the heads that `work` asks for over one of its sequences.
pub(crate) fn run(engine: &Engine, hidden: &Hidden<'_>, part: &Part, work: &mut Work, staging: &mut Staging) {
    let (model, tasks) = (engine.model(), work.options.tasks);
    let rows = part.rows.clone();
    if part.nth == 0 {
        if tasks.has(Tasks::EMBEDDING) {
            embed(engine, hidden, part, work, &mut staging.vector);
        }
        if tasks.has(Tasks::CLASSES) {
            model.classify(hidden, rows.clone(), work.features.logits_mut(part.input));
        }
        if tasks.has(Tasks::TOKEN_EMBEDDINGS) {
            let input = work.inputs.get(part.input);
            work.features
                .rows_mut(&input)
                .copy_from_slice(hidden.rows(rows.clone()));
        }
    }
    if tasks.has(Tasks::ENTITIES) {
        match &model.info().character_labels {
            Some(rules) => {
                characters::label(model, rules, hidden, part, work, &mut staging.log_probabilities)
            }
            None => label(model, hidden, part, work, staging),
        }
    }
}

/// The rows that a text's vector is made of.
fn embedded_rows(info: &ModelInfo, part: &Part) -> Range<usize> {
    let window = &part.window;
    let skipped = if window.prompt_len > 0 && info.skips_prompt() {
        window.lead_len + window.prompt_len
    } else {
        0
    };
    part.rows.start + skipped..part.rows.end
}

fn embed(engine: &Engine, hidden: &Hidden<'_>, part: &Part, work: &mut Work, staged: &mut [f32]) {
    let rows = embedded_rows(engine.model().info(), part);
    let (normalize, input) = (work.options.normalize, work.inputs.get(part.input));
    let keep = Keep::of(engine, work, &input);
    let out = work.features.embedding_mut(input.vector as usize);
    let whole = out.len() == staged.len();
    let vector = if whole { &mut *out } else { &mut *staged };
    match rows.is_empty() {
        // Nothing but a prompt.
        true => vector.fill(0.0),
        false => engine.model().pool(hidden, rows, normalize, vector),
    }
    if let Some(keep) = keep {
        keep.vector(engine, vector);
    }
    if !whole {
        shorten(staged, normalize, out);
    }
}

/// Labels the content of the sequence and keeps the part that is this window's own.
fn label(model: &Model, hidden: &Hidden<'_>, part: &Part, work: &mut Work, staging: &mut Staging) {
    let window = part.window;
    let first = part.rows.start + window.lead_len + window.prompt_len;
    let (labels, scores) = (
        &mut staging.labels[..window.content_len],
        &mut staging.scores[..window.content_len],
    );
    model.label_tokens(hidden, first..first + window.content_len, labels, scores);
    let own = window.own_start..window.own_end;
    let from = own.start - window.content_start..own.end - window.content_start;
    let all = work.labels.all_mut();
    all.labels[own.clone()].copy_from_slice(&labels[from.clone()]);
    all.scores[own].copy_from_slice(&scores[from]);
}
