//! The dictionary: a double array over character codes, read in place.
//!
//! A character's code comes from a direct table: 2.. by falling use, 1 for a block's character that no word and no HMM
//! row knows, 0 for what no block holds. The node of a first character lies at its code. The node of parent `p` and
//! code `c` lies at `base(p) + c`; it is really p's child when its check is c, because no two parents share a base.
//! Most look-ups find no word, and those read only the checks: two bytes each, so that the second-level cache holds
//! what texts touch.
//! A node is four bytes: 19 bits half the base (0: no children), 13 bits weight index (0: only a prefix).
//! Layout of the file: crates/text/data/README.md.

use std::hint::select_unpredictable;

use super::block::{HAN_FIRST, HAN_LAST};

/// Aligned so that no node lies across two cache lines.
#[repr(align(64))]
struct Aligned<T>(T);

static FILE: Aligned<[u8; include_bytes!("../../data/words.bin").len()]> =
    Aligned(*include_bytes!("../../data/words.bin"));
const HEADER_BYTES: usize = 64;
const VERSION: u32 = 2;
/// The check of a slot that is no child.
const NO_CODE: u16 = u16::MAX;
const ASCII: usize = 128;
/// Characters of jieba's range, and one entry for all others.
const HAN: usize = (HAN_LAST - HAN_FIRST) as usize + 2;

/// Characters of the longest word that the format allows; the route's context is built for it.
pub(super) const WORD_CHARS_MAX: usize = 24;
/// Bytes of the longest word that the format allows; the route's entries are built for it.
pub(super) const WORD_BYTES_MAX: usize = 63;

/// The embedded dictionary. Parsed by the compiler: a wrong header does not build.
pub(super) static WORDS: Words = Words::parse(&FILE.0);

/// A place in the dictionary: the prefix read so far. The default is no word and has no children.
#[derive(Clone, Copy, Default)]
pub(super) struct Node(u32);

impl Node {
    const BASE_BITS: u32 = 19;

    #[inline(always)]
    fn half_base(self) -> u32 {
        self.0 & ((1 << Self::BASE_BITS) - 1)
    }

    #[inline(always)]
    fn weight_index(self) -> usize {
        (self.0 >> Self::BASE_BITS) as usize
    }

    /// Whether the prefix is a word, of a frequency above 0.
    #[inline(always)]
    pub(super) fn is_word(self) -> bool {
        self.weight_index() != 0
    }

    /// Whether longer words start with this prefix.
    #[inline(always)]
    pub(super) fn has_children(self) -> bool {
        self.half_base() != 0
    }
}

/// Views into the file.
pub(super) struct Words {
    ascii_codes: &'static [[u8; 2]; ASCII],
    han_codes: &'static [[u8; 2]; HAN],
    weights: &'static [[u8; 8]],
    nodes: &'static [[u8; 4]],
    checks: &'static [[u8; 2]],
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
            field(header, 32) as usize <= WORD_CHARS_MAX && field(header, 28) as usize <= WORD_BYTES_MAX,
            "words.bin: a word is too long"
        );
        let (codes, body) = body.split_at(((ASCII + HAN) * 2).next_multiple_of(8));
        let (weights, body) = body.split_at(weight_count * 8);
        let (nodes, checks) = body.split_at(node_count * 4);
        assert!(checks.len() == node_count * 2, "words.bin: cut short");
        let codes = codes.as_chunks().0;
        let (Some(ascii_codes), Some(han_codes)) =
            (codes.first_chunk(), codes.split_at(ASCII).1.first_chunk())
        else {
            panic!("words.bin: codes cut short");
        };
        Self {
            ascii_codes,
            han_codes,
            weights: weights.as_chunks().0,
            nodes: nodes.as_chunks().0,
            checks: checks.as_chunks().0,
        }
    }

    /// The code of an ASCII byte.
    #[inline(always)]
    pub(super) fn ascii_code(&self, byte: u8) -> u16 {
        u16::from_le_bytes(self.ascii_codes[usize::from(byte & 0x7F)])
    }

    /// The code of a character beyond ASCII, 0 outside of jieba's Han range.
    #[inline(always)]
    pub(super) fn han_code(&self, c: u32) -> u16 {
        let index = c.wrapping_sub(HAN_FIRST) as usize;
        u16::from_le_bytes(self.han_codes[index.min(HAN - 1)])
    }

    /// The node of a first character.
    #[inline(always)]
    pub(super) fn first(&self, code: u16) -> Node {
        self.node(u32::from(code))
    }

    /// The node one character further; one that is no word and has no children if no word goes on so.
    #[inline(always)]
    pub(super) fn next(&self, node: Node, code: u16) -> Node {
        self.node(self.slot(node, code))
    }

    /// Where the node one character further lies; 0, where such a node lies, if no word goes on so.
    #[inline(always)]
    pub(super) fn slot(&self, node: Node, code: u16) -> u32 {
        let slot = 2 * node.half_base() + u32::from(code);
        let check = self
            .checks
            .get(slot as usize)
            .map_or(NO_CODE, |&check| u16::from_le_bytes(check));
        // No branch here: whether a word goes on is a coin toss that the processor would often guess wrong.
        select_unpredictable(check == code, slot, 0)
    }

    /// The node at a slot.
    #[inline(always)]
    pub(super) fn node(&self, slot: u32) -> Node {
        Node(u32::from_le_bytes(self.nodes[slot as usize]))
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
