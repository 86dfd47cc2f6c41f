//! jieba's `finalseg`: a hidden Markov model that groups single characters into words.
//!
//! Four states: a character begins a word (B), is in its middle (M), ends it (E) or stands alone (S). Each state has two
//! possible predecessors, so a character needs four bits of back pointers. The additions and ties are Python's: `max` over
//! `(score, state)` prefers the later letter, a missing emission scores `MIN_FLOAT`.

use super::block::{code_at, is_alnum, is_han_at};
use super::sink::EndSink;

const FILE: &[u8] = include_bytes!("../../data/hmm.bin");
const HEADER_BYTES: usize = 64;
const VERSION: u32 = 2;

static TABLES: Tables = Tables::parse(FILE);

struct Tables {
    /// Start scores of B, E, M, S.
    start: [f64; 4],
    /// Scores of the moves EB, SB, BM, MM, BE, ME, ES, SS.
    moves: [f64; 8],
    /// Emission scores of B, E, M, S by character code.
    rows: &'static [[[u8; 8]; 4]],
}

impl Tables {
    const fn parse(file: &'static [u8]) -> Self {
        let (header, body) = file.split_at(HEADER_BYTES);
        assert!(
            matches!(header.first_chunk::<8>(), Some(b"PLMHMM\0\0")),
            "hmm.bin: not an HMM file"
        );
        let numbers = header.as_chunks::<4>().0;
        assert!(
            u32::from_le_bytes(numbers[2]) == VERSION,
            "hmm.bin: another version"
        );
        let scores = body.as_chunks::<8>().0;
        let (mut start, mut moves) = ([0.0; 4], [0.0; 8]);
        let mut index = 0;
        while index < 12 {
            let score = f64::from_le_bytes(scores[index]);
            if index < 4 {
                start[index] = score;
            } else {
                moves[index - 4] = score;
            }
            index += 1;
        }
        let rows = scores.split_at(12).1.as_chunks::<4>().0;
        assert!(
            rows.len() == u32::from_le_bytes(numbers[4]) as usize,
            "hmm.bin: cut short"
        );
        Self { start, moves, rows }
    }

    #[inline(always)]
    fn emission(&self, code: u16) -> [f64; 4] {
        self.rows[usize::from(code)].map(f64::from_le_bytes)
    }
}

/// `finalseg.cut` of `text[start..end]`, a run of block characters: Han runs go through the model, the rest through
/// its `re_skip`. `scratch` has a byte for each byte of the run.
pub(super) fn cut(text: &[u8], start: usize, end: usize, scratch: &mut [u8], sink: &mut EndSink<'_>) {
    let mut at = start;
    while at < end {
        let from = at;
        while at < end && is_han_at(text, at) {
            at += 3;
        }
        if at > from {
            cut_han(text, from, at, scratch, sink);
        } else {
            while at < end && !is_han_at(text, at) {
                at += 1;
            }
            cut_ascii(text, from, at, sink);
        }
    }
}

/// Splits by `([a-zA-Z0-9]+(?:\.\d+)?%?)`: matches and what lies between them are the words.
fn cut_ascii(text: &[u8], start: usize, end: usize, sink: &mut EndSink<'_>) {
    let skip = |mut at: usize, keep: fn(u8) -> bool| {
        while at < end && keep(text[at]) {
            at += 1;
        }
        at
    };
    let mut at = start;
    while at < end {
        let between = skip(at, |byte| !is_alnum(byte));
        if between > at {
            sink.push(between);
        }
        at = skip(between, is_alnum);
        if at == between {
            return;
        }
        if at < end && text[at] == b'.' {
            let fraction = skip(at + 1, |byte| byte.is_ascii_digit());
            if fraction > at + 1 {
                at = fraction;
            }
        }
        if at < end && text[at] == b'%' {
            at += 1;
        }
        sink.push(at);
    }
}

/// States by number. A word ends after those of an odd number.
const B: u8 = 0;
const E: u8 = 1;
const M: u8 = 2;
const S: u8 = 3;

/// The best predecessors of a character's states, two bits for each state: those of B and S are E or S, those of E and M are
/// B or M, so that one bit of each is known.
const PREDECESSORS: u8 = E << (2 * B) | E << (2 * S);

/// The model over `text[start..end]`, Han characters only.
fn cut_han(text: &[u8], start: usize, end: usize, scratch: &mut [u8], sink: &mut EndSink<'_>) {
    let count = (end - start) / 3;
    if count == 1 {
        sink.push(end);
        return;
    }
    let pointers = &mut scratch[..count];
    let last = forward(&text[start..end], pointers);
    mark_ends(last, pointers);
    for (index, &is_end) in pointers.iter().enumerate() {
        sink.push_if(is_end != 0, start + 3 * (index + 1));
    }
}

/// Fills the back pointers (the first character has none) and returns the best state of the last character.
fn forward(text: &[u8], pointers: &mut [u8]) -> u8 {
    let [eb, sb, bm, mm, be, me, es, ss] = TABLES.moves;
    let mut emissions = text
        .as_chunks::<3>()
        .0
        .iter()
        .map(|c| TABLES.emission(code_at(c, 0).0));
    let first = emissions.next().unwrap_or_default();
    let [mut b, mut e, mut m, mut s]: [f64; 4] =
        std::array::from_fn(|state| TABLES.start[state] + first[state]);
    for (pointer, [to_b, to_e, to_m, to_s]) in pointers.iter_mut().skip(1).zip(emissions) {
        let (best_b, bit_b) = later(e + eb + to_b, s + sb + to_b);
        let (best_e, bit_e) = later(b + be + to_e, m + me + to_e);
        let (best_m, bit_m) = later(b + bm + to_m, m + mm + to_m);
        let (best_s, bit_s) = later(e + es + to_s, s + ss + to_s);
        *pointer = PREDECESSORS
            | bit_b << (2 * B + 1)
            | bit_e << (2 * E + 1)
            | bit_m << (2 * M + 1)
            | bit_s << (2 * S + 1);
        (b, e, m, s) = (best_b, best_e, best_m, best_s);
    }
    if s >= e { S } else { E }
}

/// The better of two scores, and 1 if it is the second, which also wins a tie.
#[inline(always)]
fn later(first: f64, second: f64) -> (f64, u8) {
    let best = if first > second { first } else { second };
    (best, u8::from(second >= first))
}

/// Follows the back pointers from the last character, and replaces each by whether a word ends there.
fn mark_ends(last: u8, pointers: &mut [u8]) {
    let mut state = last;
    for pointer in pointers.iter_mut().rev() {
        let predecessors = std::mem::replace(pointer, state & 1);
        state = predecessors >> (2 * state) & 3;
    }
}
