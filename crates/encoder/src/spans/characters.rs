//! The characters that each piece stands for.
//!
//! A piece of a large vocabulary holds several characters, and where there are no spaces an entity may begin or end inside one. A head
//! that labels characters gives each piece several rows of labels, its slots; which character reads which is settled here, once.

use super::CharacterLabels;

/// Pieces of a text as a tokenizer gives them: where each begins and ends.
#[derive(Clone, Copy, Debug)]
pub struct Pieces<'a> {
    /// The part of the text that they cover.
    pub text: &'a str,
    /// Where that part begins, in the bytes that `starts` and `ends` count.
    pub text_start: u32,
    /// First byte of each piece.
    pub starts: &'a [u32],
    /// End byte of each piece.
    pub ends: &'a [u32],
}

/// What pieces before the first one have taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Where the last of them ended.
    pub bytes: u32,
    /// Characters that have a label.
    pub characters: u32,
}

/// A character with a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Character {
    /// Its row: the index of its piece times the number of slots, plus its slot.
    pub row: u32,
    /// First byte.
    pub start: u32,
    /// End byte.
    pub end: u32,
}

/// The characters of pieces, in order. Each belongs to the first piece that covers it; white space to none.
///
/// ```
/// use plimsoll_encoder::spans::{CharacterLabels, Characters, Labels, Pieces, Taken};
/// let labels = Labels::new(["O", "B-PER", "M-PER", "E-PER", "S-PER"].map(String::from).to_vec());
/// let rules = CharacterLabels::new(&labels, 4).unwrap();
/// let pieces = Pieces { text: "of the five", text_start: 0, starts: &[0, 2, 6], ends: &[2, 6, 11] };
/// let rows = Characters::new(pieces, Taken::default(), &rules).map(|character| character.row);
/// assert_eq!(rows.collect::<Vec<_>>(), [0, 1, 4, 5, 6, 8, 9, 10, 11]);
/// ```
#[derive(Clone, Debug)]
pub struct Characters<'a> {
    pieces: Pieces<'a>,
    rules: &'a CharacterLabels,
    /// The piece being read, and pieces begun.
    begun: usize,
    /// What is left of it.
    rest: std::str::CharIndices<'a>,
    rest_start: u32,
    position: usize,
    /// Its characters.
    length: usize,
    taken: Taken,
}

impl<'a> Characters<'a> {
    /// # Panics
    /// While reading, when an offset lies outside the text or within a character.
    pub fn new(pieces: Pieces<'a>, taken: Taken, rules: &'a CharacterLabels) -> Self {
        Characters {
            pieces,
            rules,
            begun: 0,
            rest: "".char_indices(),
            rest_start: 0,
            position: 0,
            length: 0,
            taken,
        }
    }

    /// Reads to the end; what these pieces and those before have taken.
    pub fn taken(mut self) -> Taken {
        self.by_ref().for_each(drop);
        self.taken
    }

    /// Begins the next piece; `None` when there is none.
    fn begin(&mut self) -> Option<()> {
        let start = *self.pieces.starts.get(self.begun)?;
        let end = *self.pieces.ends.get(self.begun)?;
        let start = start.max(self.taken.bytes).min(end);
        let base = self.pieces.text_start;
        let own = if start < end {
            &self.pieces.text[(start - base) as usize..(end - base) as usize]
        } else {
            ""
        };
        self.begun += 1;
        self.taken.bytes = self.taken.bytes.max(end);
        (self.rest, self.rest_start) = (own.char_indices(), start);
        (self.position, self.length) = (0, own.chars().filter(|&c| !is_space(c)).count());
        Some(())
    }
}

impl Iterator for Characters<'_> {
    type Item = Character;

    fn next(&mut self) -> Option<Character> {
        loop {
            if let Some((at, c)) = self.rest.find(|&(_, c)| !is_space(c)) {
                let slot = self.rules.slot(self.position, self.length);
                let start = self.rest_start + at as u32;
                self.position += 1;
                self.taken.characters += 1;
                return Some(Character {
                    row: ((self.begun - 1) * self.rules.slots() + slot) as u32,
                    start,
                    end: start + c.len_utf8() as u32,
                });
            }
            self.begin()?;
        }
    }
}

/// White space as Python has it, by whose rules models are trained: Unicode's, and the four separators of ASCII.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}
