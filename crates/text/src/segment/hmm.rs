//! jieba's `finalseg`: a hidden Markov model that groups single characters into words.
//!
//! Four states: a character begins a word (B), is in its middle (M), ends it (E) or stands alone (S). Each state has two
//! possible predecessors, so a character needs four bits of back pointers. The additions and ties are Python's: `max` over
//! `(score, state)` prefers the later letter, a missing emission scores `MIN_FLOAT`.

use super::block::{code_at, is_alnum, is_han_at};
use super::sink::EndSink;

const FILE: &[u8] = include_bytes!("../../data/hmm.bin");
const HEADER_BYTES: usize = 64;
const VERSION: u32 = 1;

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

/// Back pointers of a character: set where the best predecessor is the second of the pair.
const B_FROM_S: u8 = 1;
const M_FROM_M: u8 = 2;
const E_FROM_M: u8 = 4;
const S_FROM_S: u8 = 8;

#[derive(Clone, Copy)]
enum State {
    B,
    E,
    M,
    S,
}

/// The model over `text[start..end]`, Han characters only.
fn cut_han(text: &[u8], start: usize, end: usize, scratch: &mut [u8], sink: &mut EndSink<'_>) {
    let count = (end - start) / 3;
    if count == 1 {
        sink.push(end);
        return;
    }
    let pointers = &mut scratch[..count];
    let last = forward(text, start, pointers);
    mark_ends(last, pointers);
    for (index, &is_end) in pointers.iter().enumerate() {
        if is_end != 0 {
            sink.push(start + 3 * (index + 1));
        }
    }
}

/// Fills the back pointers (the first character has none) and returns the best state of the last character.
fn forward(text: &[u8], start: usize, pointers: &mut [u8]) -> State {
    let [eb, sb, bm, mm, be, me, es, ss] = TABLES.moves;
    let emission = |index: usize| TABLES.emission(code_at(text, start + 3 * index).0);
    let first = emission(0);
    let [mut b, mut e, mut m, mut s]: [f64; 4] =
        std::array::from_fn(|state| TABLES.start[state] + first[state]);
    for (index, pointer) in pointers.iter_mut().enumerate().skip(1) {
        let [to_b, to_e, to_m, to_s] = emission(index);
        let (b_from_e, b_from_s) = (e + eb + to_b, s + sb + to_b);
        let (m_from_b, m_from_m) = (b + bm + to_m, m + mm + to_m);
        let (e_from_b, e_from_m) = (b + be + to_e, m + me + to_e);
        let (s_from_e, s_from_s) = (e + es + to_s, s + ss + to_s);
        let later = |first: f64, second: f64, bit: u8| {
            if second >= first {
                (second, bit)
            } else {
                (first, 0)
            }
        };
        let (best_b, bit_b) = later(b_from_e, b_from_s, B_FROM_S);
        let (best_m, bit_m) = later(m_from_b, m_from_m, M_FROM_M);
        let (best_e, bit_e) = later(e_from_b, e_from_m, E_FROM_M);
        let (best_s, bit_s) = later(s_from_e, s_from_s, S_FROM_S);
        *pointer = bit_b | bit_m | bit_e | bit_s;
        (b, e, m, s) = (best_b, best_e, best_m, best_s);
    }
    if s >= e { State::S } else { State::E }
}

/// Follows the back pointers from the last character, and replaces each by whether a word ends there.
fn mark_ends(last: State, pointers: &mut [u8]) {
    let mut state = last;
    for pointer in pointers.iter_mut().rev() {
        let bits = std::mem::replace(pointer, u8::from(matches!(state, State::E | State::S)));
        state = match state {
            State::B if bits & B_FROM_S != 0 => State::S,
            State::B => State::E,
            State::M if bits & M_FROM_M != 0 => State::M,
            State::E if bits & E_FROM_M != 0 => State::M,
            State::M | State::E => State::B,
            State::S if bits & S_FROM_S != 0 => State::S,
            State::S => State::E,
        };
    }
}
