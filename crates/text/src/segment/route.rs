//! The best way through a block: jieba's `get_DAG` and `calc` in one pass from right to left.
//!
//! For each character the dictionary is walked to the right; every word found is a candidate with the score
//! `weight(word) + score(end of word)`. Python takes `max` over `(score, end)`, so of equal scores the longer word wins:
//! candidates come by rising end, and `>=` lets the later one win. Scores are added in Python's order, so
//! they are the same doubles. Codes, scores and positions are needed only as far ahead as the longest word reaches: a
//! small ring on the stack holds them. What stays is the length of the chosen word, one byte for each character.

use super::block::code_before;
use super::words::{WORD_CHARS_MAX, WORDS};

const RING: usize = 32;
const _: () = assert!(WORD_CHARS_MAX < RING);

/// What is known of a character to the right, or of the block's end.
#[derive(Clone, Copy, Default)]
struct Ahead {
    /// Score of the best way from this character to the block's end.
    score: f64,
    /// Byte position of the character.
    at: u32,
    /// Its code; 0 at the end, where no word goes on.
    code: u16,
}

/// Writes into `route[i]`, for each character of `block` at byte `i`, the bytes of the word that the best way takes there.
///
/// `route` is as long as `block`; bytes within a character are left as they are.
pub(super) fn best(block: &[u8], route: &mut [u8]) {
    let mut ring = [Ahead::default(); RING];
    let mut end = block.len();
    let mut here = 0_usize;
    ring[0].at = end as u32;
    while end > 0 {
        let (code, width) = code_before(block, end);
        let at = end - width;
        let mut node = WORDS.first(code);
        let mut ahead = ring[here % RING];
        let mut score = match node.weight_index() {
            0 => f64::NEG_INFINITY,
            index => WORDS.weight(index) + ahead.score,
        };
        let mut word_end = end as u32;
        let mut next = here;
        while node.has_children() {
            let Some(child) = WORDS.next(node, ahead.code) else {
                break;
            };
            next = next.wrapping_sub(1);
            ahead = ring[next % RING];
            if child.weight_index() != 0 {
                let candidate = WORDS.weight(child.weight_index()) + ahead.score;
                if candidate >= score {
                    score = candidate;
                    word_end = ahead.at;
                }
            }
            node = child;
        }
        if score == f64::NEG_INFINITY {
            score = WORDS.weight(0) + ring[here % RING].score;
        }
        route[at] = (word_end as usize - at) as u8;
        here = here.wrapping_add(1);
        ring[here % RING] = Ahead {
            score,
            at: at as u32,
            code,
        };
        end = at;
    }
}
