//! The best way through a block: jieba's `get_DAG` and `calc` in one pass from right to left.
//!
//! For each character the dictionary is walked to the right; every word found is a candidate with the score
//! `weight(word) + score(end of word)`. Python takes `max` over `(score, end)`, so of equal scores the longer word wins:
//! candidates come by rising end, and `>=` lets the later one win. Scores are added in Python's order, so
//! they are the same doubles.
//!
//! Almost all the time goes into waiting for memory: the node of a pair of characters can be anywhere in five megabytes.
//! Those nodes do not depend on scores, so each window of characters is first looked up as a whole, without a branch,
//! which lets the processor wait for many nodes at once; only then are its scores computed. What stays of a window
//! is the length of the chosen words, one byte for each character, and as much context as the longest word reaches.

use std::hint::select_unpredictable;

use super::block::code_before;
use super::words::{Node, WORD_CHARS_MAX, WORDS};

/// Characters looked up at once.
const CHARS: usize = 64;
/// Index of the block's end in its first window, and of the first character of context in the others.
const END: usize = CHARS;
const CONTEXT: usize = WORD_CHARS_MAX + 1;

/// Characters `..CHARS`, filled from the right, and those after them that words may reach.
pub(super) struct Window {
    /// Byte position of the character; at the block's end its length.
    at: [u32; CHARS + CONTEXT],
    /// Its code; 0 at the block's end, where no word goes on.
    code: [u16; CHARS + CONTEXT],
    /// Score of the best way from this character to the block's end.
    score: [f64; CHARS + CONTEXT],
    found: [Found; CHARS],
}

/// The words of one, two and three characters that start at a character, negative infinity for those that are none.
#[derive(Clone, Copy)]
struct Found {
    one: f64,
    two: f64,
    three: f64,
    /// Where to look for longer words.
    node: Node,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            at: [0; CHARS + CONTEXT],
            code: [0; CHARS + CONTEXT],
            score: [0.0; CHARS + CONTEXT],
            found: [Found {
                one: 0.0,
                two: 0.0,
                three: 0.0,
                node: Node::default(),
            }; CHARS],
        }
    }

    /// Writes into `route[i]`, for each character of `block` at byte `i`, the bytes of the word that the best way takes
    /// there. `route` is as long as `block`; bytes within a character are left as they are.
    pub(super) fn best_route(&mut self, block: &[u8], route: &mut [u8]) {
        self.at[END] = block.len() as u32;
        self.code[END] = 0;
        self.score[END] = 0.0;
        let mut end = block.len();
        while end > 0 {
            let first = self.look_up(block, &mut end);
            self.choose(first, route);
            if end > 0 {
                self.at.copy_within(first..first + CONTEXT, END);
                self.code.copy_within(first..first + CONTEXT, END);
                self.score.copy_within(first..first + CONTEXT, END);
            }
        }
    }

    /// Reads characters backwards from byte `end` until the window is full or the block begins, and moves `end` there.
    /// Returns the index of the leftmost.
    fn look_up(&mut self, block: &[u8], end: &mut usize) -> usize {
        let mut index = CHARS;
        let [mut after, mut second_after] = [self.code[END], self.code[END + 1]];
        while index > 0 && *end > 0 {
            let (code, width) = code_before(block, *end);
            *end -= width;
            index -= 1;
            let one = WORDS.first(code);
            let two = WORDS.next(one, after);
            let three = WORDS.next(two, second_after);
            self.at[index] = *end as u32;
            self.code[index] = code;
            let [one, two_weight, three_weight] = [one, two, three].map(|node| WORDS.weight(node));
            self.found[index] = Found {
                one,
                two: two_weight,
                three: three_weight,
                node: three,
            };
            (after, second_after) = (code, after);
        }
        index
    }

    /// Scores the characters `first..CHARS` from the right and notes the word chosen at each.
    fn choose(&mut self, first: usize, route: &mut [u8]) {
        for index in (first..CHARS).rev() {
            let Found {
                one,
                two,
                three,
                mut node,
            } = self.found[index];
            let mut score = one + self.score[index + 1];
            let mut chars = 1;
            for (weight, reach) in [(two, 2), (three, 3)] {
                let candidate = weight + self.score[index + reach];
                let is_best = candidate >= score;
                score = select_unpredictable(is_best, candidate, score);
                chars = select_unpredictable(is_best, reach, chars);
            }
            let mut reach = 3;
            while node.has_children() {
                node = WORDS.next(node, self.code[index + reach]);
                reach += 1;
                if node.is_word() {
                    let candidate = WORDS.weight(node) + self.score[index + reach];
                    if candidate >= score {
                        (score, chars) = (candidate, reach);
                    }
                }
            }
            if score == f64::NEG_INFINITY {
                (score, chars) = (WORDS.weight_unknown() + self.score[index + 1], 1);
            }
            self.score[index] = score;
            route[self.at[index] as usize] = (self.at[index + chars] - self.at[index]) as u8;
        }
    }
}
