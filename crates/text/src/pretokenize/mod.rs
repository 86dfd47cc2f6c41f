//! Pre-tokenizers: where a normalised text is cut into words.
//!
//! Text arrives window by window, so each rule answers for the beginning of what is there: a word, something to skip, or
//! "more is needed to tell". None of the rules looks back.

pub(crate) mod gpt2;
pub(crate) mod load;

use crate::normalize::queue::Queue;
use crate::unicode::{PUNCTUATION, WORD, has};

/// What becomes of a delimiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behavior {
    Removed,
    Isolated,
    MergedWithPrevious,
    MergedWithNext,
    Contiguous,
}

/// When `Metaspace` puts its mark before a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PrependScheme {
    First,
    Never,
    Always,
}

/// One pre-tokenizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Splitter {
    Bert,
    Whitespace,
    WhitespaceSplit,
    Punctuation(Behavior),
    Digits(Behavior),
    Metaspace {
        mark: char,
        scheme: PrependScheme,
        split: bool,
    },
    ByteLevel {
        add_prefix_space: bool,
        use_regex: bool,
    },
}

/// What stands at the beginning of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// A word of this many characters; of the piece itself, where one was put before it.
    Word(usize),
    /// So many characters that are dropped.
    Skip(usize),
    /// The characters there do not tell.
    More,
}

/// Characters by position, as splitters read them.
pub(crate) struct View<'v, 's> {
    pub(crate) chars: &'v Queue<'s>,
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// Whether the piece ends at `to`.
    pub(crate) ends: bool,
}

impl View<'_, '_> {
    pub(crate) fn len(&self) -> usize {
        self.to - self.from
    }

    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<char> {
        if at < self.len() {
            self.chars.get(self.from + at).map(|s| s.c)
        } else {
            None
        }
    }

    /// How many characters from `at` on satisfy `test`; `None` when that is not known yet.
    fn run(&self, at: usize, test: impl Fn(char) -> bool) -> Option<usize> {
        let mut count = 0;
        while let Some(c) = self.get(at + count) {
            if !test(c) {
                return Some(count);
            }
            count += 1;
        }
        self.ends.then_some(count)
    }
}

impl Splitter {
    /// The character that the splitter puts before the piece `view`, of which at least one character is there. `source` is the
    /// position in the text that the first character came from.
    pub(crate) fn prefix(&self, first: char, source: u32) -> Option<char> {
        match *self {
            Splitter::Metaspace { mark, scheme, .. } => {
                let wanted = match scheme {
                    PrependScheme::Always => true,
                    PrependScheme::First => source == 0,
                    PrependScheme::Never => false,
                };
                (wanted && first != ' ' && first != mark).then_some(mark)
            }
            Splitter::ByteLevel {
                add_prefix_space: true,
                ..
            } if first != ' ' => Some(' '),
            _ => None,
        }
    }

    /// What the splitter makes of a character.
    #[inline]
    pub(crate) fn map(&self, c: char) -> char {
        match self {
            Splitter::Metaspace { mark, .. } if c == ' ' => *mark,
            _ => c,
        }
    }

    /// The next cut of `view`, which is not empty. `prefixed`: a character was put before it.
    pub(crate) fn cut(&self, view: &View<'_, '_>, prefixed: bool) -> Cut {
        let found = match *self {
            Splitter::Bert => bert(view),
            Splitter::Whitespace => word_or_other(view),
            Splitter::WhitespaceSplit => delimited(view, Behavior::Removed, char::is_whitespace),
            Splitter::Punctuation(behavior) => delimited(view, behavior, |c| has(c, PUNCTUATION)),
            Splitter::Digits(behavior) => delimited(view, behavior, char::is_numeric),
            Splitter::Metaspace {
                mark, split: true, ..
            } => metaspace(view, mark, prefixed),
            Splitter::ByteLevel { use_regex: true, .. } => {
                let len = gpt2::word(|at| view.get(at).map(|c| (c, at + 1)), prefixed, view.ends);
                len.map(Cut::Word)
            }
            Splitter::Metaspace { split: false, .. } | Splitter::ByteLevel { use_regex: false, .. } => {
                view.ends.then_some(Cut::Word(view.len()))
            }
        };
        found.unwrap_or(Cut::More)
    }
}

fn bert(view: &View<'_, '_>) -> Option<Cut> {
    let spaces = view.run(0, char::is_whitespace).unwrap_or(view.len());
    if spaces > 0 {
        return Some(Cut::Skip(spaces));
    }
    if view.get(0).is_some_and(|c| has(c, PUNCTUATION)) {
        return Some(Cut::Word(1));
    }
    view.run(0, |c| !c.is_whitespace() && !has(c, PUNCTUATION))
        .map(Cut::Word)
}

/// `\w+|[^\w\s]+`, the rest removed.
fn word_or_other(view: &View<'_, '_>) -> Option<Cut> {
    let first = view.get(0)?;
    if has(first, WORD) {
        return view.run(0, |c| has(c, WORD)).map(Cut::Word);
    }
    if first.is_whitespace() {
        return Some(Cut::Skip(1));
    }
    view.run(0, |c| !has(c, WORD) && !c.is_whitespace())
        .map(Cut::Word)
}

fn delimited(view: &View<'_, '_>, behavior: Behavior, is_delimiter: impl Fn(char) -> bool) -> Option<Cut> {
    let leads = is_delimiter(view.get(0)?);
    if leads {
        return match behavior {
            Behavior::Removed => Some(Cut::Skip(1)),
            Behavior::Isolated | Behavior::MergedWithPrevious => Some(Cut::Word(1)),
            Behavior::Contiguous => view.run(0, is_delimiter).map(Cut::Word),
            Behavior::MergedWithNext => Some(Cut::Word(1 + view.run(1, |c| !is_delimiter(c))?)),
        };
    }
    let len = view.run(0, |c| !is_delimiter(c))?;
    let takes_one = behavior == Behavior::MergedWithPrevious && len < view.len();
    Some(Cut::Word(len + usize::from(takes_one)))
}

fn metaspace(view: &View<'_, '_>, mark: char, prefixed: bool) -> Option<Cut> {
    let is_mark = |c: char| c == ' ' || c == mark;
    if prefixed {
        return view.run(0, |c| !is_mark(c)).map(Cut::Word);
    }
    delimited(view, Behavior::MergedWithNext, is_mark)
}
