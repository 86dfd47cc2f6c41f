//! The dictionary: a double array over character codes, read in place.
//!
//! A character's code (1.. by falling use, 0 for a character that no word and no HMM row knows) comes from a direct
//! table. The node of a first character lies at its code; the node of parent `p` and code `c` lies at `p.base + c`, and
//! is really p's child when its check is p. A node is eight bytes: 20 bits base (0: no children), 20 bits check,
//! 16 bits weight index (0: only a prefix). Layout of the file: crates/text/data/README.md.

use std::hint::select_unpredictable;

use super::block::{HAN_FIRST, HAN_LAST};

/// Aligned so that no node lies across two cache lines.
#[repr(align(64))]
struct Aligned<T>(T);

static FILE: Aligned<[u8; include_bytes!("../../data/words.bin").len()]> =
    Aligned(*include_bytes!("../../data/words.bin"));
const HEADER_BYTES: usize = 64;
const VERSION: u32 = 1;
const ASCII: usize = 128;
const CODE_TABLE_LEN: usize = ASCII + (HAN_LAST - HAN_FIRST) as usize + 1;

/// Characters of the longest word that the format allows; the route's ring is built for it.
pub(super) const WORD_CHARS_MAX: usize = 24;

/// The embedded dictionary. Parsed by the compiler: a wrong header does not build.
pub(super) static WORDS: Words = Words::parse(&FILE.0);

/// A place in the dictionary: the prefix read so far. The default is no word and has no children.
#[derive(Clone, Copy, Default)]
pub(super) struct Node {
    bits: u64,
    index: u32,
}

impl Node {
    const FIELD: u64 = (1 << 20) - 1;

    #[inline(always)]
    fn weight_index(self) -> usize {
        (self.bits >> 40) as usize
    }

    /// Whether the prefix is a word, of a frequency above 0.
    #[inline(always)]
    pub(super) fn is_word(self) -> bool {
        self.weight_index() != 0
    }

    /// Whether longer words start with this prefix.
    #[inline(always)]
    pub(super) fn has_children(self) -> bool {
        self.bits & Self::FIELD != 0
    }
}

/// Views into the file.
pub(super) struct Words {
    codes: &'static [[u8; 2]],
    weights: &'static [[u8; 8]],
    nodes: &'static [[u8; 8]],
}

impl Words {
    const fn parse(file: &'static [u8]) -> Self {
        let (header, body) = file.split_at(HEADER_BYTES);
        assert!(
            matches!(header.first_chunk::<8>(), Some(b"PLMWORDS")),
            "words.bin: not a word file"
        );
        assert!(field(header, 8) == VERSION, "words.bin: another version");
        let (weight_count, node_count) = (field(header, 20) as usize, field(header, 24) as usize);
        assert!(
            field(header, 32) as usize <= WORD_CHARS_MAX,
            "words.bin: a word is too long"
        );
        assert!(
            field(header, 28) <= u8::MAX as u32,
            "words.bin: a word's bytes do not fit a byte"
        );
        let (codes, body) = body.split_at((CODE_TABLE_LEN * 2).next_multiple_of(8));
        let (weights, nodes) = body.split_at(weight_count * 8);
        assert!(nodes.len() == node_count * 8, "words.bin: cut short");
        Self {
            codes: codes.as_chunks().0,
            weights: weights.as_chunks().0,
            nodes: nodes.as_chunks().0,
        }
    }

    /// The code of an ASCII byte.
    #[inline(always)]
    pub(super) fn ascii_code(&self, byte: u8) -> u16 {
        u16::from_le_bytes(self.codes[usize::from(byte & 0x7F)])
    }

    /// The code of a character of jieba's Han range.
    #[inline(always)]
    pub(super) fn han_code(&self, c: u32) -> u16 {
        self.codes
            .get(ASCII + c.wrapping_sub(HAN_FIRST) as usize)
            .map_or(0, |&code| u16::from_le_bytes(code))
    }

    /// The node of a first character.
    #[inline(always)]
    pub(super) fn first(&self, code: u16) -> Node {
        Node {
            bits: u64::from_le_bytes(self.nodes[usize::from(code)]),
            index: u32::from(code),
        }
    }

    /// The node one character further; one that is no word and has no children if no word goes on so.
    #[inline(always)]
    pub(super) fn next(&self, node: Node, code: u16) -> Node {
        let base = node.bits & Node::FIELD;
        let index = base as u32 + u32::from(code);
        let bits = self
            .nodes
            .get(index as usize)
            .map_or(0, |&bits| u64::from_le_bytes(bits));
        // No branch here: whether a word goes on is a coin toss that the processor would often guess wrong.
        let is_child = bits >> 20 & Node::FIELD == u64::from(node.index);
        Node {
            bits: select_unpredictable(is_child, bits, 0),
            index,
        }
    }

    /// `log(frequency) - log(total)` of a word, negative infinity for what is none.
    #[inline(always)]
    pub(super) fn weight(&self, node: Node) -> f64 {
        f64::from_le_bytes(self.weights[node.weight_index()])
    }

    /// jieba's weight of a single character that is no word: `log(1) - log(total)`.
    #[inline(always)]
    pub(super) fn weight_unknown(&self) -> f64 {
        f64::from_le_bytes(self.weights[1])
    }
}

const fn field(header: &[u8], at: usize) -> u32 {
    let (_, rest) = header.split_at(at);
    match rest.first_chunk::<4>() {
        Some(&bytes) => u32::from_le_bytes(bytes),
        None => panic!("words.bin: header cut short"),
    }
}
