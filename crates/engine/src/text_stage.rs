//! The text stage: the request's texts become words and tokens, in slots leased for exactly this request.

use plimsoll_memory::LeaseError;
use plimsoll_text::segment::SegmentMode;
use plimsoll_text::{EncodeError, EncodeOptions, Encoded, TokenSlots, Truncation};

use crate::cached;
use crate::characters;
use crate::config::Stage;
use crate::engine::{Engine, content};
use crate::error::{InputFault, JobError};
use crate::inputs::{Input, Kind};
use crate::need::{Known, need};
use crate::pools::{lease, slot};
use crate::request::{Overflow, Span, Tasks};
use crate::work::{Features, LABEL_BYTES, Labels, TOKEN_BYTES, Tokens, Work};

/// Tokens that `Encoded::total` may count to when nothing is cut.
const UNCUT: usize = u32::MAX as usize;

/// Reads every text of `work`; returns the tokens that wait for the encoder.
pub(crate) fn run(engine: &Engine, work: &mut Work, scratch: &mut [u8]) -> Result<usize, JobError> {
    check(work)?;
    cached::look_up(engine, work)?;
    read(engine, work, scratch)
}

/// Finishes a small request whose vectors are all known, in the place of a worker; `None` where something is left for one.
pub(crate) fn run_at_once(engine: &Engine, work: &mut Work) -> Option<Result<(), JobError>> {
    if !cached::knows_all(engine, work) {
        return None;
    }
    work.times.text_begun = engine.now();
    let read = match cached::look_up(engine, work) {
        // One that was known a moment ago may be gone: a worker reads it.
        Ok(()) if !work.inputs.iter().all(|input| input.is_cached()) => return None,
        Ok(()) => read(engine, work, &mut []),
        Err(error) => Err(error),
    };
    work.times.text_done = engine.now();
    work.times.done = work.times.text_done;
    Some(read.map(drop))
}

/// Reads what no vector spares.
fn read(engine: &Engine, work: &mut Work, scratch: &mut [u8]) -> Result<usize, JobError> {
    let tasks = work.options.tasks;
    let need = need(engine.limits(), engine.rates(), tasks, work.known());
    let pools = engine.pools();
    // Every lease below is a part of the debit, which was settled when the body had been read.
    if tasks.need_tokens() {
        work.tokens = Tokens::new(
            lease(&pools.tokens, need.tokens * TOKEN_BYTES).map_err(internal)?,
            need.tokens,
        );
        tokenize(engine, work, scratch)?;
    }
    if tasks.has(Tasks::WORDS) {
        let text_bytes = work.inputs.iter().map(|input| input.text_bytes()).sum();
        work.words = lease(&pools.words, text_bytes).map_err(internal)?;
        segment(engine, work, scratch)?;
    }
    lay_out(engine, work)?;
    engine.traffic.record(work);
    Ok(waiting_tokens(engine, work))
}

/// True when texts are cut to one sequence.
fn cut(work: &Work) -> bool {
    work.options.overflow != Overflow::Windows || Known::cut(work.options.tasks)
}

fn check(work: &Work) -> Result<(), JobError> {
    let tasks = work.options.tasks;
    let task = match () {
        () if tasks.has(Tasks::ENTITIES) => "entities",
        () if tasks.has(Tasks::WORDS) => "words",
        () => return Ok(()),
    };
    match work.inputs.first_pair() {
        Some(index) => Err(InputFault::PairNotSupported { task }.of(index)),
        None => Ok(()),
    }
}

fn internal(_: LeaseError) -> JobError {
    JobError::Internal {
        stage: Stage::Text.name(),
    }
}

fn tokenize(engine: &Engine, work: &mut Work, scratch: &mut [u8]) -> Result<(), JobError> {
    let reads_tokens = work.options.tasks.without(Tasks::TOKEN_COUNT).need_tokens();
    let mut used = 0;
    for index in 0..work.inputs.len() {
        let mut input = work.inputs.get(index);
        if input.is_cached() {
            continue;
        }
        // Many inputs may share one long text.
        work.in_time(engine.now())?;
        let encoded = match input.kind() {
            Kind::Ids => place_ids(engine, work, &input, index, used)?,
            Kind::Text | Kind::Pair => encode(engine, work, &input, index, used, scratch)?,
        };
        if input.kind() == Kind::Text {
            free_marker(engine, work, used..used + encoded.count);
        }
        input.tokens = Span {
            start: used as u32,
            len: encoded.count as u32,
        };
        input.token_total = encoded.total as u32;
        input.truncated = u32::from(encoded.truncated && reads_tokens);
        used += encoded.count;
        work.inputs.set(index, input);
    }
    Ok(())
}

/// Such tokenizers put a space in front of every text, and where its marker is a token by itself, it borrows the place of the first
/// character. Behind a prompt that ends with a space it is that space, and covers nothing of the text.
fn free_marker(engine: &Engine, work: &mut Work, tokens: std::ops::Range<usize>) {
    let lead = if work.options.add_special_tokens {
        engine.specials().lead.len()
    } else {
        0
    };
    let first = tokens.start + lead;
    let marker = work.options.prompt.and_then(|id| engine.marker_behind(id));
    let all = work.tokens.all_mut();
    if first < tokens.end && Some(all.ids[first]) == marker && all.starts[first] == 0 {
        all.ends[first] = 0;
    }
}

/// Tokens that one sequence may have beside the prompt.
fn sequence_max(engine: &Engine, work: &Work, kind: Kind) -> usize {
    let prompt = if kind == Kind::Text {
        work.options.prompt
    } else {
        None
    };
    engine.limits().tokens_max - prompt.map_or(0, |id| engine.prompt_tokens(id).len())
}

fn encode(
    engine: &Engine,
    work: &mut Work,
    input: &Input,
    index: usize,
    used: usize,
    scratch: &mut [u8],
) -> Result<Encoded, JobError> {
    let room = work.tokens.capacity() - used;
    let sequence_max = sequence_max(engine, work, input.kind());
    let (overflow, cut) = (work.options.overflow, cut(work));
    let options = EncodeOptions {
        add_special_tokens: work.options.add_special_tokens,
        tokens_max: if cut { sequence_max } else { UNCUT },
        truncation: if overflow == Overflow::CutLeft {
            Truncation::Left
        } else {
            Truncation::Right
        },
        count_all: true,
    };
    let mut tokens = std::mem::take(&mut work.tokens);
    let all = tokens.all_mut();
    let mut out = TokenSlots {
        ids: &mut all.ids[used..],
        starts: &mut all.starts[used..],
        ends: &mut all.ends[used..],
        types: &mut all.types[used..],
    };
    let encoded = match input.kind() {
        Kind::Pair => {
            let (first, second) = (work.text(input.first), work.text(input.second));
            engine
                .tokenizer()
                .encode_pair(first, second, &options, scratch, &mut out)
        }
        _ => engine
            .tokenizer()
            .encode(work.text(input.first), &options, scratch, &mut out),
    };
    work.tokens = tokens;
    match encoded {
        Ok(encoded) if encoded.truncated && overflow == Overflow::Error => Err(InputFault::TooManyTokens {
            tokens: encoded.total,
            tokens_max: sequence_max,
        }
        .of(index)),
        Ok(encoded) => Ok(encoded),
        Err(EncodeError::SlotsTooSmall { .. }) => Err(InputFault::Expands { tokens_max: room }.of(index)),
        Err(_) => Err(JobError::Internal {
            stage: Stage::Text.name(),
        }),
    }
}

/// Token ids that came in as ids are content: specials are put around them unless they stand there already.
fn place_ids(
    engine: &Engine,
    work: &mut Work,
    input: &Input,
    index: usize,
    used: usize,
) -> Result<Encoded, JobError> {
    let vocab_size = engine.model().info().vocab_size;
    let specials = engine.specials();
    let mut tokens = std::mem::take(&mut work.tokens);
    let ids: &[u32] = work.ids.as_ref().map_or(&[], |ids| &ids[input.first.range()]);
    let unknown = ids.iter().copied().find(|&id| id as usize >= vocab_size);
    let content = match work.options.add_special_tokens {
        true => ids
            .strip_prefix(&specials.lead[..])
            .map_or(ids, |rest| rest.strip_suffix(&specials.tail[..]).unwrap_or(rest)),
        false => ids,
    };
    let around = if work.options.add_special_tokens {
        specials.lead.len() + specials.tail.len()
    } else {
        0
    };
    let total = content.len() + around;
    let tokens_max = match cut(work) {
        true => sequence_max(engine, work, Kind::Ids),
        false => UNCUT,
    };
    let kept = content.len().min(tokens_max - around);
    let skipped = if work.options.overflow == Overflow::CutLeft {
        content.len() - kept
    } else {
        0
    };
    let all = tokens.all_mut();
    let out = &mut all.ids[used..used + kept + around];
    let lead = around.min(specials.lead.len());
    out[..lead].copy_from_slice(&specials.lead[..lead]);
    out[lead..lead + kept].copy_from_slice(&content[skipped..skipped + kept]);
    out[lead + kept..].copy_from_slice(if around > 0 { &specials.tail } else { &[] });
    all.starts[used..used + kept + around].fill(0);
    all.ends[used..used + kept + around].fill(0);
    all.types[used..used + kept + around].fill(0);
    work.tokens = tokens;
    match unknown {
        Some(id) => Err(InputFault::UnknownToken { id, vocab_size }.of(index)),
        None if kept < content.len() && work.options.overflow == Overflow::Error => {
            Err(InputFault::TooManyTokens {
                tokens: total,
                tokens_max,
            }
            .of(index))
        }
        None => Ok(Encoded {
            count: kept + around,
            total,
            truncated: kept < content.len(),
        }),
    }
}

fn segment(engine: &Engine, work: &mut Work, scratch: &mut [u8]) -> Result<(), JobError> {
    let mut used = 0;
    for index in 0..work.inputs.len() {
        let mut input = work.inputs.get(index);
        if input.kind() != Kind::Text {
            continue;
        }
        let mut words = work.words.take();
        let ends: &mut [u32] = words.as_deref_mut().unwrap_or_default();
        let found = engine.segmenter().segment(
            work.text(input.first),
            SegmentMode::Auto,
            scratch,
            &mut ends[used..],
        );
        work.words = words;
        let count = found.map_err(|_| JobError::Internal {
            stage: Stage::Text.name(),
        })?;
        input.words = Span {
            start: used as u32,
            len: count as u32,
        };
        used += count;
        work.inputs.set(index, input);
    }
    Ok(())
}

/// Decides in which sequences each text is read, leases what the heads write, and gives back what was debited and is not
/// needed now that all is counted.
fn lay_out(engine: &Engine, work: &mut Work) -> Result<(), JobError> {
    let tasks = work.options.tasks;
    let (mut sequences, mut labels, mut rows, mut vectors) = (0, 0, 0, 0);
    for index in 0..work.inputs.len() {
        let mut input = work.inputs.get(index);
        if !tasks.need_encoder() || input.is_cached() {
            continue;
        }
        input.vector = vectors;
        vectors += 1;
        let windows = windows(engine, work, &input);
        let first = window(engine, work, &input, 0);
        if windows.more && tasks.without(Tasks::ENTITIES).need_encoder() {
            input.truncated = 1;
        }
        input.windows = 1;
        if tasks.has(Tasks::ENTITIES) {
            input.windows = windows.count as u32;
            input.labels = Span {
                start: labels as u32,
                len: labelled(engine, work, &input) as u32,
            };
            labels += input.labels.len as usize;
        }
        input.rows = Span {
            start: rows as u32,
            len: first.len as u32,
        };
        rows += first.len;
        sequences += input.windows as usize;
        work.inputs.set(index, input);
    }
    work.progress.total = sequences;
    let vectors = cached::lay_out(engine, work, vectors);
    lease_results(engine, work, labels, rows, vectors as usize)?;
    cached::fill(work);
    Ok(())
}

/// Tokens of an input that get labels, or characters where the model labels those.
fn labelled(engine: &Engine, work: &Work, input: &Input) -> usize {
    match &engine.model().info().character_labels {
        Some(rules) => characters::count(work, input, rules),
        None => input.tokens.len as usize,
    }
}

fn lease_results(
    engine: &Engine,
    work: &mut Work,
    labels: usize,
    rows: usize,
    vectors: usize,
) -> Result<(), JobError> {
    let (tasks, pools, rates) = (work.options.tasks, engine.pools(), engine.rates());
    let inputs = work.inputs.len();
    let width = |task, width: usize| if tasks.has(task) { width } else { 0 };
    let embedding = width(
        Tasks::EMBEDDING,
        work.options.dimensions.unwrap_or(rates.hidden).min(rates.hidden),
    );
    let classes = width(Tasks::CLASSES, rates.classes);
    let row = width(Tasks::TOKEN_EMBEDDINGS, rates.hidden);
    let features = vectors * embedding + inputs * classes + rows * row;
    work.labels = Labels::new(
        lease(&pools.labels, labels * LABEL_BYTES).map_err(internal)?,
        labels,
    );
    work.features = Features::new(
        lease(&pools.features, features).map_err(internal)?,
        vectors,
        embedding,
        inputs,
        classes,
        row,
    );
    let chunks = crate::need::CHUNKS * engine.chunk_slot_bytes();
    let results = slot::<u8>(labels * LABEL_BYTES) + slot::<f32>(features);
    let held = work.slot_bytes() + results + chunks;
    debug_assert!(
        held <= work.held.bytes(),
        "{held} bytes are held, {} debited",
        work.held.bytes()
    );
    work.held.shrink_to(held);
    Ok(())
}

fn waiting_tokens(engine: &Engine, work: &Work) -> usize {
    (0..work.inputs.len())
        .map(|index| work.inputs.get(index))
        .map(|input| {
            (0..input.windows as usize)
                .map(|nth| window(engine, work, &input, nth).len)
                .sum::<usize>()
        })
        .sum()
}

/// How a text is divided.
struct Windows {
    count: usize,
    /// There is more than one sequence can hold.
    more: bool,
}

/// One sequence of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// First content token, in the token slot.
    pub(crate) content_start: usize,
    /// Content tokens.
    pub(crate) content_len: usize,
    /// Tokens of the prompt that go in front of the content.
    pub(crate) prompt_len: usize,
    /// Special tokens in front of all.
    pub(crate) lead_len: usize,
    /// Tokens in all.
    pub(crate) len: usize,
    /// The part of the content whose labels count: neighbours share the overlap half and half.
    pub(crate) own_start: usize,
    /// End of that part.
    pub(crate) own_end: usize,
}

fn content_max(engine: &Engine, work: &Work, input: &Input) -> usize {
    sequence_max(engine, work, input.kind()) - around(engine, work, input)
}

fn around(engine: &Engine, work: &Work, input: &Input) -> usize {
    // A pair goes through whole: its specials lie between its texts.
    if input.kind() == Kind::Pair || !work.options.add_special_tokens {
        return 0;
    }
    engine.specials().lead.len() + engine.specials().tail.len()
}

fn windows(engine: &Engine, work: &Work, input: &Input) -> Windows {
    let content = input.tokens.len as usize - around(engine, work, input);
    let max = content_max(engine, work, input);
    if content <= max {
        return Windows {
            count: 1,
            more: false,
        };
    }
    let step = max - engine.window_overlap_tokens().min(max / 2);
    Windows {
        count: 1 + (content - max).div_ceil(step),
        more: true,
    }
}

/// Sequence `nth` of `input`.
pub(crate) fn window(engine: &Engine, work: &Work, input: &Input, nth: usize) -> Window {
    let add = work.options.add_special_tokens && input.kind() != Kind::Pair;
    let all = content(engine.specials(), input, add);
    let max = content_max(engine, work, input);
    let overlap = engine.window_overlap_tokens().min(max / 2);
    let start = all.start + nth * (max - overlap);
    let end = (start + max).min(all.end);
    let prompt = if input.kind() == Kind::Text {
        work.options.prompt
    } else {
        None
    };
    let prompt_len = prompt.map_or(0, |id| engine.prompt_tokens(id).len());
    let around = if add {
        engine.specials().lead.len() + engine.specials().tail.len()
    } else {
        0
    };
    Window {
        content_start: start,
        content_len: end - start,
        prompt_len,
        lead_len: if add { engine.specials().lead.len() } else { 0 },
        len: end - start + prompt_len + around,
        own_start: if nth == 0 { start } else { start + overlap / 2 },
        own_end: if end == all.end {
            end
        } else {
            end - (overlap - overlap / 2)
        },
    }
}
