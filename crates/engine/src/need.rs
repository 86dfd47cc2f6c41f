//! What a request may need at worst, slot by slot.
//!
//! The debit is taken before a byte of the body is read, so it is computed from what is known then: the declared length, the
//! tasks, the limits. Every bound below is the arithmetic of a text: a token, a word and an input each take at least so many
//! bytes of the body. When the body has been parsed and then tokenised the need is computed again from what was found. It has become
//! smaller, unless inputs share a text, as pairs of a query do: then the debit grows by what it lacks, or the request is refused (`debit.rs`).

use crate::config::Limits;
use crate::request::Tasks;

/// The shortest input in a JSON body is `1,` (a token id); the shortest text `"",`.
const INPUT_BYTES_MIN: usize = 2;
/// Compatibility normalisation turns 3 bytes (U+FDFA) into 18 characters: no byte makes more than 6 tokens.
const TOKENS_PER_BYTE_MAX: usize = 6;
/// Special tokens around one input, at most (`<s> a </s></s> b </s>`).
const SPECIALS_MAX: usize = 4;
/// Chunks of answer that may be on their way at the same time.
pub(crate) const CHUNKS: usize = 2;

/// What a model's answers cost per unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    /// Width of a hidden state.
    pub(crate) hidden: usize,
    /// Scores of the sequence head, 0 without one.
    pub(crate) classes: usize,
    /// Tokens of the longest prompt.
    pub(crate) prompt_tokens: usize,
    /// Whether the token head labels the characters inside tokens.
    pub(crate) characters: bool,
    /// Whether a request may pin cached vectors.
    pub(crate) cache: bool,
}

/// Lengths of the slots that a request leases, in elements of their kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Need {
    /// Bytes of body.
    pub(crate) body: usize,
    /// Input records.
    pub(crate) inputs: usize,
    /// Token ids that came in as ids.
    pub(crate) ids: usize,
    /// Tokens.
    pub(crate) tokens: usize,
    /// Words.
    pub(crate) words: usize,
    /// Tokens, or characters, with labels.
    pub(crate) labels: usize,
    /// Features (f32).
    pub(crate) features: usize,
    /// Cached vectors that are read in place.
    pub(crate) pins: usize,
    /// Answer chunks.
    pub(crate) chunks: usize,
}

/// What is known about a request at some point of its road.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// Bytes of the body slot.
    pub(crate) body_bytes: usize,
    /// Bytes of text, at most.
    pub(crate) text_bytes: usize,
    /// Inputs, at most.
    pub(crate) inputs: usize,
    /// Token ids that come in as ids, at most.
    pub(crate) ids: usize,
    /// Whether no task reads more than one sequence of each text.
    pub(crate) cut: bool,
}

impl Known {
    /// All that a declared length tells.
    pub(crate) fn before_the_body(
        limits: &Limits,
        tasks: Tasks,
        body_bytes: usize,
        inputs_max: usize,
    ) -> Known {
        // What is longer is refused, whatever it would need.
        let body_bytes = body_bytes.min(limits.body_bytes_max);
        Known {
            body_bytes,
            text_bytes: body_bytes,
            inputs: limits
                .inputs_max
                .min(inputs_max)
                .min(body_bytes / INPUT_BYTES_MIN + 1),
            ids: if tasks.need_tokens() {
                body_bytes / 2 + 1
            } else {
                0
            },
            cut: Known::cut(tasks),
        }
    }

    /// Entities and token lists read a text whole; all else reads its first sequence.
    pub(crate) fn cut(tasks: Tasks) -> bool {
        !tasks.any(Tasks::ENTITIES.with(Tasks::TOKENS))
    }
}

/// The need of `tasks` over what is `known`.
pub(crate) fn need(limits: &Limits, rates: &Rates, tasks: Tasks, known: Known) -> Need {
    let tokens = if tasks.need_tokens() {
        tokens_worst(limits, known)
    } else {
        0
    };
    let mut features = 0;
    if tasks.has(Tasks::EMBEDDING) {
        features += known.inputs * rates.hidden;
    }
    if tasks.has(Tasks::CLASSES) {
        features += known.inputs * rates.classes;
    }
    if tasks.has(Tasks::TOKEN_EMBEDDINGS) {
        // What goes in front of a text has vectors, too.
        let rows = tokens + known.inputs * rates.prompt_tokens;
        features += rows.min(known.inputs * limits.tokens_max) * rates.hidden;
    }
    Need {
        body: known.body_bytes,
        inputs: known.inputs,
        ids: known.ids,
        tokens,
        words: if tasks.has(Tasks::WORDS) {
            known.text_bytes
        } else {
            0
        },
        labels: match tasks.has(Tasks::ENTITIES) {
            false => 0,
            true if rates.characters => known.text_bytes,
            true => tokens,
        },
        features,
        pins: if rates.cache && tasks.has(Tasks::EMBEDDING) {
            known.inputs
        } else {
            0
        },
        chunks: CHUNKS,
    }
}

/// Tokens at worst. Texts that are read whole get a slot for every byte and a half; the rare text that compatibility
/// normalisation blows up further is refused by name ([`crate::InputFault::Expands`]).
fn tokens_worst(limits: &Limits, known: Known) -> usize {
    let given = known.inputs * SPECIALS_MAX + known.ids;
    if known.cut {
        (TOKENS_PER_BYTE_MAX * known.text_bytes + given).min(known.inputs * limits.tokens_max)
    } else {
        known.text_bytes + known.text_bytes / 2 + given + 64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Nanos;

    const LIMITS: Limits = Limits {
        body_bytes_max: 2_000_000,
        inputs_max: 32,
        tokens_max: 512,
        batch_tokens_max: 2048,
        requests_max: 512,
        waiting_max: 512,
        admission_wait: Nanos::from_ms(10),
        chunk_bytes: 16384,
    };
    const RATES: Rates = Rates {
        hidden: 384,
        classes: 2,
        prompt_tokens: 0,
        characters: false,
        cache: true,
    };

    #[test]
    fn a_short_body_is_priced_by_its_bytes_and_a_long_one_by_the_limits() {
        let short = need(
            &LIMITS,
            &RATES,
            Tasks::EMBEDDING,
            Known::before_the_body(&LIMITS, Tasks::EMBEDDING, 10, 2048),
        );
        assert_eq!(short.inputs, 6);
        assert_eq!(short.features, 6 * 384);
        let long = need(
            &LIMITS,
            &RATES,
            Tasks::EMBEDDING,
            Known::before_the_body(&LIMITS, Tasks::EMBEDDING, 2_000_000, 2048),
        );
        assert_eq!(long.tokens, 32 * 512);
        assert_eq!(long.features, 32 * 384);
    }

    #[test]
    fn a_character_takes_a_byte_at_least() {
        let rates = Rates {
            characters: true,
            ..RATES
        };
        let known = Known::before_the_body(&LIMITS, Tasks::ENTITIES, 5000, 2048);
        assert_eq!(need(&LIMITS, &rates, Tasks::ENTITIES, known).labels, 5000);
        assert_eq!(need(&LIMITS, &rates, Tasks::EMBEDDING, known).labels, 0);
    }

    #[test]
    fn words_need_no_tokens() {
        let words = need(
            &LIMITS,
            &RATES,
            Tasks::WORDS,
            Known::before_the_body(&LIMITS, Tasks::WORDS, 1000, 2048),
        );
        assert_eq!(
            (words.tokens, words.labels, words.features, words.words),
            (0, 0, 0, 1000)
        );
    }

    #[test]
    fn knowing_more_never_needs_more() {
        for tasks in (0..64).map(tasks_of) {
            let before = Known::before_the_body(&LIMITS, tasks, 5000, 2048);
            let after = Known {
                text_bytes: 4000,
                inputs: 3,
                ids: 0,
                ..before
            };
            let (a, b) = (
                need(&LIMITS, &RATES, tasks, before),
                need(&LIMITS, &RATES, tasks, after),
            );
            assert!(b.tokens <= a.tokens && b.features <= a.features, "{tasks:?}");
        }
    }

    fn tasks_of(bits: u8) -> Tasks {
        let all = [
            Tasks::WORDS,
            Tasks::TOKENS,
            Tasks::EMBEDDING,
            Tasks::TOKEN_EMBEDDINGS,
            Tasks::CLASSES,
            Tasks::ENTITIES,
        ];
        all.iter()
            .enumerate()
            .filter(|(i, _)| bits & (1 << i) != 0)
            .fold(Tasks::NONE, |sum, (_, t)| sum.with(*t))
    }
}
