//! Normalizers: each a small rewrite of characters that remembers which bytes of the text every character came from.
//!
//! A rewrite is a list of `(char, change)` as the `tokenizers` crate defines it for `NormalizedString::transform`:
//! `0` replaces the next old character, `1` is inserted after the one before (and shares its source bytes), `-n`
//! replaces one old character and removes the `n` after it.
//!
//! A text is normalised window by window. Windows are cut where no normalizer looks across: between two letters or digits that
//! neither compose nor join into a grapheme. A window that finds no such place within [`WINDOW_CHARS_MAX`] characters ends before
//! its last letter or digit that begins a grapheme, or its last grapheme; a longer grapheme is normalised in parts.

pub(crate) mod compose;
pub(crate) mod load;
pub(crate) mod precompiled;
pub(crate) mod queue;
pub(crate) mod stage;

use crate::unicode::{ONIG_LETTER, ONIG_NUMBER, has};
use precompiled::Precompiled;
use stage::{Pattern, Stage, State};
use unicode_segmentation::GraphemeCursor;

/// A character and the source bytes that it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sourced {
    pub(crate) c: char,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// Characters of text after which a window is cut at the next good place.
const WINDOW_CHARS: usize = 512;
/// Characters of text in a window at most.
pub(crate) const WINDOW_CHARS_MAX: usize = 1024;
/// Words of 32 bits that a [`Sourced`] takes in scratch.
pub(crate) const SOURCED_WORDS: usize = 3;

/// Characters in scratch, with room for more.
pub(crate) struct Chars<'s> {
    words: &'s mut [[u32; SOURCED_WORDS]],
    len: usize,
}

impl<'s> Chars<'s> {
    pub(crate) fn new(words: &'s mut [u32]) -> Self {
        Self {
            words: bytemuck::cast_slice_mut(words),
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn push(&mut self, sourced: Sourced) {
        self.words[self.len] = pack(sourced);
        self.len += 1;
    }

    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<Sourced> {
        if at < self.len {
            Some(unpack(self.words[at]))
        } else {
            None
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Sourced> {
        self.words[..self.len].iter().map(|&word| unpack(word))
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    fn set(&mut self, at: usize, sourced: Sourced) {
        self.words[at] = pack(sourced);
    }
}

fn pack(sourced: Sourced) -> [u32; SOURCED_WORDS] {
    [sourced.c as u32, sourced.start, sourced.end]
}

fn unpack(word: [u32; SOURCED_WORDS]) -> Sourced {
    Sourced {
        c: char::from_u32(word[0]).unwrap_or('\u{FFFD}'),
        start: word[1],
        end: word[2],
    }
}

/// A list of normalizers.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    pub(crate) stages: Vec<Stage>,
    /// Printable ASCII with single spaces stays as it is, wherever it stands: such windows skip the stages.
    keeps_plain: bool,
}

/// Printable ASCII without two spaces in a row or a space at the end.
fn is_plain(window: &[u8]) -> bool {
    window.iter().all(|byte| matches!(byte, b' '..=b'~'))
        && !window.windows(2).any(|pair| pair == b"  ")
        && !window.ends_with(b" ")
}

/// Most stages in a chain.
pub(crate) const STAGES_MAX: usize = 16;

impl Chain {
    pub(crate) fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// Characters that `chars` characters of text become at most in any stage.
    pub(crate) fn chars_max(&self, chars: usize) -> usize {
        let mut most = chars;
        let mut now = chars;
        for stage in &self.stages {
            now = now.saturating_mul(stage.growth()).saturating_add(stage.prefix());
            most = most.max(now);
        }
        most
    }

    /// Words of scratch that [`Walk`] needs for a text of `bytes` bytes.
    pub(crate) fn walk_words(&self, bytes: usize) -> usize {
        2 * SOURCED_WORDS * self.chars_max(bytes.min(WINDOW_CHARS_MAX))
    }

    /// Finds out whether plain windows may skip the stages.
    pub(crate) fn look_for_plain(&mut self) {
        let stateless = self.stages.iter().all(|stage| match stage {
            Stage::Decompose { .. } | Stage::Compose { .. } | Stage::Precompiled { .. } => true,
            Stage::Replace { pattern, .. } => matches!(pattern, Pattern::Repeated(' ')),
            _ => false,
        });
        // Every pair of characters in a row, since a character map may hold pairs.
        let printable = || (b' '..=b'~').map(char::from);
        self.keeps_plain = stateless
            && printable().all(|a| {
                printable().filter(|&b| (a, b) != (' ', ' ')).all(|b| {
                    let pair = String::from_iter([a, b]);
                    self.normalize(&pair) == pair
                })
            });
    }

    /// The character map, when nothing but runs of spaces is changed beside it and it keeps printable ASCII.
    pub(crate) fn character_map(&self) -> Option<&Precompiled> {
        let [Stage::Precompiled { map, .. }, rest @ ..] = self.stages.as_slice() else {
            return None;
        };
        let only_spaces = |stage: &Stage| {
            matches!(
                stage,
                Stage::Replace {
                    pattern: Pattern::Repeated(' '),
                    ..
                }
            )
        };
        (self.keeps_plain && rest.iter().all(only_spaces)).then_some(map)
    }

    /// Whether the last normalizer makes one space of several.
    pub(crate) fn squeezes_spaces(&self) -> bool {
        matches!(self.stages.last(), Some(Stage::Replace { pattern: Pattern::Repeated(' '), content }) if content == &[' '])
    }

    /// The normalised text of `text`, for patterns at load time.
    pub(crate) fn normalize(&self, text: &str) -> String {
        let words = self.chars_max(text.len().min(WINDOW_CHARS_MAX)) * SOURCED_WORDS;
        let (mut a, mut b) = (vec![0; words], vec![0; words]);
        let mut walk = Walk::new(
            self,
            text,
            0..text.len(),
            Chars::new(&mut a),
            Chars::new(&mut b),
            true,
        );
        let mut out = String::new();
        while walk.next_window() {
            out.extend(walk.window().iter().map(|sourced| sourced.c));
        }
        out
    }
}

/// A walk over a range of a text, window by window.
pub(crate) struct Walk<'w, 's> {
    chain: &'w Chain,
    text: &'w str,
    from: usize,
    at: usize,
    /// Where the characters stand that the next window's are said to come from: behind `at` by those that a character map
    /// removed at the start of the text.
    source: usize,
    /// Where the white space at the end of the text starts.
    blank_from: usize,
    states: [State; STAGES_MAX],
    now: Chars<'s>,
    other: Chars<'s>,
}

impl<'w, 's> Walk<'w, 's> {
    /// `is_first`: nothing of this piece of text was walked over before.
    pub(crate) fn new(
        chain: &'w Chain,
        text: &'w str,
        range: std::ops::Range<usize>,
        now: Chars<'s>,
        other: Chars<'s>,
        is_first: bool,
    ) -> Self {
        let text = &text[..range.end];
        Self {
            chain,
            text,
            from: range.start,
            at: range.start,
            source: range.start,
            blank_from: text.trim_end().len(),
            states: [State::new(!is_first); STAGES_MAX],
            now,
            other,
        }
    }

    /// Whether every window was read.
    pub(crate) fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    /// Reads and normalises the next window; false at the end.
    pub(crate) fn next_window(&mut self) -> bool {
        if self.is_at_end() {
            return false;
        }
        let start = self.at;
        let end = self.chain.cut(self.text, start);
        self.at = end;
        self.now.truncate(0);
        let sources = self.text[self.source..].char_indices();
        for (c, (offset, source)) in self.text[start..end].chars().zip(sources) {
            let at = self.source + offset;
            self.now.push(Sourced {
                c,
                start: at as u32,
                end: (at + source.len_utf8()) as u32,
            });
        }
        let count = self.now.len();
        let holding = self.states.iter().any(State::is_holding);
        if self.chain.keeps_plain && !holding && is_plain(&self.text.as_bytes()[start..end]) {
            self.pass_sources(count);
            return true;
        }
        let lost = self.states[0].lost;
        let last = self.is_at_end();
        for (stage, state) in self.chain.stages.iter().zip(&mut self.states) {
            self.other.truncate(0);
            let window = stage::Window {
                old: &self.now,
                source: &self.text[start..end],
                origin: self.from as u32,
                last,
                blank_after: end >= self.blank_from,
            };
            stage.apply(state, &window, &mut self.other);
            std::mem::swap(&mut self.now, &mut self.other);
        }
        self.pass_sources(count - (self.states[0].lost - lost));
        true
    }

    /// Moves the sources on by so many characters.
    fn pass_sources(&mut self, count: usize) {
        let rest = &self.text[self.source..];
        let passed = rest.char_indices().nth(count);
        self.source += passed.map_or(rest.len(), |(offset, _)| offset);
    }

    /// The characters of the window just read.
    pub(crate) fn window(&self) -> &Chars<'s> {
        &self.now
    }
}

impl Chain {
    /// Where the window that starts at `start` ends: between two characters that are [apart](is_apart); where no such place
    /// comes, before the last such character that begins a grapheme; else before the last grapheme, if possible one that
    /// is not removed, since a removal may change the source of what stands before it.
    fn cut(&self, text: &str, start: usize) -> usize {
        let rest = &text[start..];
        let mut before = '\0';
        for (count, (offset, c)) in rest.char_indices().enumerate() {
            if count >= WINDOW_CHARS && is_apart(before) && is_apart(c) && begins_grapheme(rest, offset) {
                return start + offset;
            }
            if count == WINDOW_CHARS_MAX {
                return start + self.last_cut(rest, offset);
            }
            before = c;
        }
        text.len()
    }

    /// The last tolerable cut of `rest` up to `end`.
    #[cold]
    fn last_cut(&self, rest: &str, end: usize) -> usize {
        let (mut kept, mut last) = (None, None);
        for (offset, c) in rest[..end].char_indices().rev() {
            if offset > 0 && (kept.is_none() || is_apart(c)) && begins_grapheme(rest, offset) {
                if is_apart(c) {
                    return offset;
                }
                last = last.or(Some(offset));
                kept = kept.or(Some(offset).filter(|_| !self.removes(c)));
            }
        }
        kept.or(last).unwrap_or(end)
    }

    fn removes(&self, c: char) -> bool {
        match self.stages.first() {
            Some(Stage::Precompiled { map, .. }) => map.lookup_char(c) == Some(""),
            _ => false,
        }
    }
}

/// Whether a grapheme begins at `offset` of `rest`.
fn begins_grapheme(rest: &str, offset: usize) -> bool {
    GraphemeCursor::new(offset, rest.len(), true).is_boundary(rest, 0) == Ok(true)
}

/// Whether two such characters in a row never act on each other: letters and digits, but for the conjoining Hangul
/// letters, a consonant that joins what follows, and those beyond the syllables (half-width marks, presentation forms).
fn is_apart(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || (has(c, ONIG_LETTER | ONIG_NUMBER)
            && c < '\u{D7A4}'
            && !('\u{1100}'..='\u{11FF}').contains(&c)
            && c != '\u{D4E}'
            && c != '\u{37A}')
}

#[cfg(test)]
mod tests;
