//! Vectors that are known already: looked up once the text is, kept once they are computed.
//!
//! A text whose vector is found is neither tokenised nor read by the encoder; what the answer says of its tokens was kept beside the vector. The
//! answer is written from the cache's own slot, pinned until the last byte was flushed. Only fewer dimensions than the model has are copied out, as
//! they are scaled anew.

use std::hash::Hasher;

use plimsoll_memory::pod::as_bytes;
use plimsoll_memory::{CacheKey, Pins, VectorCache};
use siphasher::sip128::{Hasher128, SipHasher13};

use crate::config::Stage;
use crate::engine::Engine;
use crate::error::JobError;
use crate::governor::Reclaim;
use crate::inputs::{Input, Kind};
use crate::request::{CacheUse, JobOptions, Overflow, SessionId, Span, Tasks};
use crate::work::Work;

impl Reclaim for VectorCache {
    fn name(&self) -> &'static str {
        "cached vectors"
    }

    fn capacity_bytes(&self) -> usize {
        self.bytes_max()
    }

    fn live_bytes(&self) -> usize {
        self.bytes()
    }

    fn marked_bytes(&self) -> usize {
        self.stats().pinned_bytes
    }

    fn reclaim(&self, goal_bytes: usize, step_bytes: usize) -> usize {
        self.shrink_to(goal_bytes.max(self.bytes().saturating_sub(step_bytes)))
    }
}

/// Makes keys: 128 bits of SipHash under a secret, so that nobody can choose two texts that meet.
pub(crate) struct Keys {
    /// Has read what names the model.
    model: SipHasher13,
}

impl Keys {
    /// Keys for vectors of one model.
    pub(crate) fn new(secret: [u64; 2], model: &str, pooling: &str) -> Keys {
        let mut hasher = SipHasher13::new_with_keys(secret[0], secret[1]);
        for part in [model, pooling] {
            hasher.write_usize(part.len());
            hasher.write(part.as_bytes());
        }
        Keys { model: hasher }
    }

    /// The session of that name.
    pub(crate) fn session(&self, name: &[u8]) -> SessionId {
        let mut hasher = self.model;
        hasher.write(name);
        SessionId(hasher.finish128().h1.max(1))
    }

    /// The key of all that the vector of `content` depends on.
    fn key(&self, options: &JobOptions, kind: u8, content: &[u8]) -> CacheKey {
        let mut hasher = self.model;
        // One vector comes from one sequence: windows begin with the one that a cut on the right leaves.
        let overflow = match options.overflow {
            Overflow::Error => 0,
            Overflow::CutRight | Overflow::Windows => 1,
            Overflow::CutLeft => 2,
        };
        let flags = [options.add_special_tokens, options.normalize].map(u8::from);
        hasher.write(&[kind, overflow, flags[0], flags[1]]);
        hasher.write_u64(options.prompt.map_or(0, |prompt| prompt.0 as u64 + 1));
        hasher.write_u64(options.session.0);
        hasher.write(content);
        let hash = hasher.finish128();
        CacheKey(hash.h1, hash.h2)
    }
}

/// The key of an input; pairs have none.
fn key(engine: &Engine, work: &Work, input: &Input) -> Option<CacheKey> {
    let content = match input.kind() {
        Kind::Text => &work.body[input.first.range()],
        Kind::Ids => as_bytes(&work.ids.as_ref()?[input.first.range()]),
        Kind::Pair => return None,
    };
    Some(engine.keys().key(&work.options, input.kind() as u8, content))
}

/// What is kept beside a vector: the tokens read, with the top bit for a text that was cut, and the tokens of the whole.
fn note_of(input: &Input) -> [u32; 2] {
    [input.tokens.len | input.truncated << 31, input.token_total]
}

fn take_note(input: &mut Input, note: [u32; 2]) {
    input.tokens = Span {
        start: 0,
        len: note[0] & !(1 << 31),
    };
    input.truncated = note[0] >> 31;
    input.token_total = note[1];
}

/// The cache, if it can spare this job work.
fn cache_of<'a>(engine: &'a Engine, options: &JobOptions) -> Option<&'a VectorCache> {
    let spares = options.tasks.are_spared_by_a_vector() && options.cache != CacheUse::Off;
    engine.cache().filter(|_| spares)
}

/// Texts of a request that is answered without a worker, and bytes of its body: so much is hashed in the time in which a worker is woken.
const AT_ONCE: (usize, usize) = (32, 16 * 1024);

/// Whether every vector of a small request is known, so that no worker is needed.
pub(crate) fn knows_all(engine: &Engine, work: &Work) -> bool {
    let Some(cache) = cache_of(engine, &work.options) else {
        return false;
    };
    let (inputs_max, body_bytes_max) = AT_ONCE;
    let is_small = work.inputs.len() <= inputs_max && work.body.len() <= body_bytes_max;
    let asks = work.options.cache != CacheUse::Refresh && !work.options.tasks.has(Tasks::WORDS);
    let now = engine.now().0;
    let is_known = |input: Input| key(engine, work, &input).is_some_and(|key| cache.holds(key, now));
    is_small && asks && work.inputs.iter().all(is_known)
}

/// Looks up every input that was not found before, and pins what is found.
pub(crate) fn look_up(engine: &Engine, work: &mut Work) -> Result<(), JobError> {
    let Some(cache) = cache_of(engine, &work.options) else {
        return Ok(());
    };
    work.uses_cache = true;
    if work.options.cache == CacheUse::Refresh {
        return Ok(());
    }
    let (now, inputs) = (engine.now(), work.inputs.len());
    for index in 0..inputs {
        let mut input = work.inputs.get(index);
        if input.is_cached() {
            continue;
        }
        let found = key(engine, work, &input).and_then(|key| cache.find(key, now.0));
        let Some(pin) = found else { continue };
        take_note(&mut input, pin.note());
        if work.pins.is_none() {
            let room = engine.pools().pins.lease(inputs);
            let room = room.map_err(|_| JobError::Internal {
                stage: Stage::Text.name(),
            })?;
            work.pins = Some(Pins::new(cache, room));
        }
        let pins = work.pins.as_mut().expect("they were made above");
        input.vector = pins.push(pin) as u32;
        input.pin = input.vector + 1;
        work.inputs.set(index, input);
    }
    Ok(())
}

/// Numbers the vectors that will be copied out of the cache, after the `vectors` that are computed; returns how many there are in all.
pub(crate) fn lay_out(engine: &Engine, work: &mut Work, mut vectors: u32) -> u32 {
    let hidden = engine.rates().hidden;
    if work.options.dimensions.unwrap_or(hidden) >= hidden {
        return vectors;
    }
    for index in 0..work.inputs.len() {
        let mut input = work.inputs.get(index);
        if input.is_cached() {
            input.vector = vectors;
            vectors += 1;
            work.inputs.set(index, input);
        }
    }
    vectors
}

/// Copies fewer dimensions out of the cache, where fewer were asked for.
pub(crate) fn fill(work: &mut Work) {
    let Some(pins) = work.pins.take() else { return };
    if work.features.embedding_width() == pins.vector(0).len() {
        work.pins = Some(pins);
        return;
    }
    for input in work.inputs.iter().filter(Input::is_cached) {
        let out = work.features.embedding_mut(input.vector as usize);
        shorten(pins.vector(input.pin as usize - 1), work.options.normalize, out);
    }
}

/// The first dimensions of a vector; `normalize`: scaled to length 1.
pub(crate) fn shorten(vector: &[f32], normalize: bool, out: &mut [f32]) {
    let len = out.len();
    out.copy_from_slice(&vector[..len]);
    if normalize {
        let norm = out.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
        out.iter_mut().for_each(|x| *x /= norm);
    }
}

/// Where a vector that is about to be computed will be kept.
pub(crate) struct Keep<'a> {
    cache: &'a VectorCache,
    key: CacheKey,
    note: [u32; 2],
    session: SessionId,
}

impl<'a> Keep<'a> {
    /// The place of an input's vector, if the job leaves it in the cache.
    pub(crate) fn of(engine: &'a Engine, work: &Work, input: &Input) -> Option<Keep<'a>> {
        let cache = cache_of(engine, &work.options)?;
        Some(Keep {
            cache,
            key: key(engine, work, input)?,
            note: note_of(input),
            session: work.options.session,
        })
    }

    /// Keeps a vector of all dimensions.
    pub(crate) fn vector(self, engine: &Engine, vector: &[f32]) {
        self.cache
            .insert(self.key, self.session.0, engine.now().0, vector, self.note);
    }
}
