//! The best way through a text: jieba's `get_DAG` and `calc` for all its blocks in one pass from right to left.
//!
//! For each character the dictionary is walked to the right; every word found is a candidate with the score
//! `weight(word) + score(end of word)`. Python takes `max` over `(score, end)`, so of equal scores the longer word wins:
//! candidates come by rising end, and `>=` lets the later one win. Scores are added in Python's order, so
//! they are the same doubles. A character that no block holds ends all words before it, and its score is the 0 from which
//! Python starts at a block's end.
//!
//! Almost all the time goes into waiting for memory and for wrong guesses at branches. What to look up does not depend
//! on scores, so each window of characters is first looked up as a whole, one level of the dictionary after the other,
//! in short loops without a branch: the processor waits for many places at once. Only then are scores computed. What
//! stays of a window is a [`Step`] for each character, and as much context as the longest word reaches.

use std::hint::select_unpredictable;

use super::block::code_before;
use super::words::{Node, WORD_BYTES_MAX, WORD_CHARS_MAX, WORDS};

/// Characters looked up at once.
const CHARS: usize = 128;
/// Index of the text's end in its first window, and of the first character of context in the others.
const END: usize = CHARS;
const CONTEXT: usize = WORD_CHARS_MAX + 1;

/// What the best way takes from a character on: the word's bytes, whether it is a single character, and whether that lies
/// outside of all blocks.
#[derive(Clone, Copy)]
pub(super) struct Step(pub(super) u8);

impl Step {
    const SINGLE: u8 = 0x80;
    const OUTSIDE: u8 = 0x40;
    const BYTES: u8 = 0x3F;

    #[inline(always)]
    fn new(bytes: u32, is_single: bool, is_outside: bool) -> Self {
        const { assert!(WORD_BYTES_MAX <= Self::BYTES as usize) };
        Self(bytes as u8 | u8::from(is_single) << 7 | u8::from(is_outside) << 6)
    }

    #[inline(always)]
    pub(super) fn bytes(self) -> usize {
        usize::from(self.0 & Self::BYTES)
    }

    /// Whether the word is a single character of a block.
    #[inline(always)]
    pub(super) fn is_block_single(self) -> bool {
        self.0 & (Self::SINGLE | Self::OUTSIDE) == Self::SINGLE
    }
}

/// Characters `..CHARS`, filled from the right, and those after them that words may reach.
pub(super) struct Window {
    /// Byte position of the character; at the text's end its length.
    at: [u32; CHARS + CONTEXT],
    /// Its code; 0 at the text's end.
    code: [u16; CHARS + CONTEXT],
    /// Score of the best way from this character to the end of its block.
    score: [f64; CHARS + CONTEXT],
    /// Where the node lies that the loop at hand has to read next.
    slot: [u32; CHARS],
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
            slot: [0; CHARS],
            found: [Found {
                one: 0.0,
                two: 0.0,
                three: 0.0,
                node: Node::default(),
            }; CHARS],
        }
    }

    /// Writes into `route[i]`, for each character of `text` (valid UTF-8) at byte `i`, the [`Step`] of the best way. `route`
    /// is as long as `text`; bytes within a character are left as they are.
    pub(super) fn best_route(&mut self, text: &[u8], route: &mut [u8]) {
        self.at[END] = text.len() as u32;
        self.code[END] = 0;
        self.score[END] = 0.0;
        let mut end = text.len();
        while end > 0 {
            let first = self.look_up(text, &mut end);
            self.choose(first, route);
            if end > 0 {
                self.at.copy_within(first..first + CONTEXT, END);
                self.code.copy_within(first..first + CONTEXT, END);
                self.score.copy_within(first..first + CONTEXT, END);
            }
        }
    }

    /// Reads characters backwards from byte `end` until the window is full or the text begins, moves `end` there, and looks
    /// their words up. Returns the index of the leftmost.
    fn look_up(&mut self, text: &[u8], end: &mut usize) -> usize {
        let mut first = CHARS;
        while first > 0 && *end > 0 {
            let (code, width) = code_before(text, *end);
            *end -= width;
            first -= 1;
            self.at[first] = *end as u32;
            self.code[first] = code;
        }
        for index in first..CHARS {
            let node = WORDS.first(self.code[index]);
            self.slot[index] = WORDS.slot(node, self.code[index + 1]);
            self.found[index].one = WORDS.weight(node);
        }
        for index in first..CHARS {
            let node = WORDS.node(self.slot[index]);
            self.slot[index] = WORDS.slot(node, self.code[index + 2]);
            self.found[index].two = WORDS.weight(node);
        }
        for index in first..CHARS {
            let node = WORDS.node(self.slot[index]);
            self.found[index].three = WORDS.weight(node);
            self.found[index].node = node;
        }
        first
    }

    /// Scores the characters `first..CHARS` from the right and notes the step chosen at each.
    fn choose(&mut self, first: usize, route: &mut [u8]) {
        let mut next = self.score[END];
        for index in (first..CHARS).rev() {
            let Found {
                one,
                two,
                three,
                mut node,
            } = self.found[index];
            let two = two + self.score[index + 2];
            let three = three + self.score[index + 3];
            let one = one + next;
            let mut chars = select_unpredictable(two >= one, 2, 1);
            let mut score = larger(two, one);
            chars = select_unpredictable(three >= score, 3, chars);
            score = larger(three, score);
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
            let is_outside = self.code[index] == 0;
            chars = select_unpredictable(is_outside, 1, chars);
            score = f64::from_bits(score.to_bits() & u64::from(is_outside).wrapping_sub(1));
            if score == f64::NEG_INFINITY {
                (score, chars) = (WORDS.weight_unknown() + next, 1);
            }
            self.score[index] = score;
            next = score;
            let bytes = self.at[index + chars] - self.at[index];
            route[self.at[index] as usize] = Step::new(bytes, chars == 1, is_outside).0;
        }
    }
}

/// The larger of two numbers, in one instruction.
#[inline(always)]
fn larger(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}
