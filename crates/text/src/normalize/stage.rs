//! The normalizers one by one, over a window of characters.

use super::compose;
use super::precompiled::Precompiled;
use super::{Chars, Sourced};
use crate::bert::BertFlags;
use unicode_normalization_alignments::char::is_combining_mark;

/// What `Replace` looks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// These characters.
    Literal(Vec<char>),
    /// Two or more of this character: the regular expression ` {2,}`.
    Repeated(char),
}

/// One normalizer.
#[derive(Debug)]
pub(crate) enum Stage {
    Clean(BertFlags),
    SpaceChinese(BertFlags),
    StripNonspacing(BertFlags),
    StripAccents,
    Lowercase,
    Decompose { compatible: bool },
    Compose { compatible: bool },
    Strip { left: bool, right: bool },
    Replace { pattern: Pattern, content: Vec<char> },
    Prepend(Vec<char>),
    Precompiled { map: Box<Precompiled>, growth: usize },
}

/// What a stage remembers between windows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct State {
    started: bool,
    /// Characters that a character map removed before anything else came.
    pub(super) lost: usize,
    /// A run of the character that [`Pattern::Repeated`] looks for, at the end of the window before.
    run: Option<Run>,
}

impl State {
    pub(crate) fn new(started: bool) -> Self {
        Self {
            started,
            lost: 0,
            run: None,
        }
    }

    /// Whether a character of the windows before is still to come.
    pub(crate) fn is_holding(&self) -> bool {
        self.run.is_some()
    }
}

/// A run of one character: its last, and whether that is the only one.
#[derive(Debug, Clone, Copy)]
struct Run {
    last: Sourced,
    single: bool,
}

/// The characters that a stage reads.
pub(crate) struct Window<'w, 's> {
    pub(crate) old: &'w Chars<'s>,
    /// The text of the window; what the first stage reads.
    pub(crate) source: &'w str,
    /// Where the walk began: the source of what is inserted before anything.
    pub(crate) origin: u32,
    /// Whether no window follows.
    pub(crate) last: bool,
    /// Whether none follows, or none but of white space.
    pub(crate) blank_after: bool,
}

impl Stage {
    /// Characters that one character becomes at most.
    pub(crate) fn growth(&self) -> usize {
        match self {
            Stage::SpaceChinese(_) | Stage::Lowercase => 3,
            Stage::Decompose { compatible: false } | Stage::Compose { compatible: false } => 4,
            Stage::Decompose { compatible: true } | Stage::Compose { compatible: true } => 18,
            Stage::Replace { content, .. } => content.len().max(1),
            Stage::Precompiled { growth, .. } => *growth,
            _ => 1,
        }
    }

    /// Characters that are added to a window at most, whatever its length.
    pub(crate) fn prefix(&self) -> usize {
        match self {
            Stage::Prepend(content) => content.len(),
            Stage::Replace {
                pattern: Pattern::Repeated(_),
                content,
            } => content.len().max(1),
            _ => 0,
        }
    }

    /// Rewrites `window` into `new`, which is empty and has room for all that [`Stage::growth`] promises.
    pub(crate) fn apply(&self, state: &mut State, window: &Window<'_, '_>, new: &mut Chars<'_>) {
        let old = window.old;
        match self {
            Stage::Clean(flags) => old.iter().filter(|s| !flags.cleans(s.c)).for_each(|s| {
                new.push(Sourced {
                    c: if s.c.is_whitespace() { ' ' } else { s.c },
                    ..s
                });
            }),
            Stage::SpaceChinese(flags) => old.iter().for_each(|s| {
                let space = Sourced { c: ' ', ..s };
                if flags.sets_apart(s.c) {
                    [space, s, space].into_iter().for_each(|s| new.push(s));
                } else {
                    new.push(s);
                }
            }),
            Stage::StripNonspacing(flags) => old
                .iter()
                .filter(|s| !flags.strips(s.c))
                .for_each(|s| new.push(s)),
            Stage::StripAccents => old
                .iter()
                .filter(|s| !is_combining_mark(s.c))
                .for_each(|s| new.push(s)),
            Stage::Lowercase => old
                .iter()
                .for_each(|s| s.c.to_lowercase().for_each(|c| new.push(Sourced { c, ..s }))),
            Stage::Decompose { compatible } => compose::decompose(window, new, *compatible),
            Stage::Compose { compatible } => compose::compose(window, new, *compatible),
            Stage::Strip { left, right } => strip(state, window, new, *left, *right),
            Stage::Replace {
                pattern: Pattern::Literal(chars),
                content,
            } => replace(old, new, chars, content),
            Stage::Replace {
                pattern: Pattern::Repeated(c),
                content,
            } => squeeze(state, window, new, *c, content),
            Stage::Prepend(content) => prepend(state, window, new, content),
            Stage::Precompiled { map, .. } => {
                let mut rewrite = Rewrite::new(window);
                map.transform(window.source, &mut |c, change| match c {
                    Some(c) => new.push(rewrite.next(c, change)),
                    None if state.started => rewrite.pass(change),
                    None => state.lost += change.unsigned_abs(),
                });
            }
        }
        state.started |= new.len() > 0;
    }
}

/// Gives the characters of a rewrite their source bytes.
pub(crate) struct Rewrite<'w, 's> {
    old: &'w Chars<'s>,
    origin: u32,
    at: usize,
}

impl<'w, 's> Rewrite<'w, 's> {
    pub(crate) fn new(window: &Window<'w, 's>) -> Self {
        Self {
            old: window.old,
            origin: window.origin,
            at: 0,
        }
    }

    /// Passes over so many old characters, which were removed.
    fn pass(&mut self, removed: isize) {
        self.at += removed.unsigned_abs();
    }

    #[inline]
    pub(crate) fn next(&mut self, c: char, change: isize) -> Sourced {
        let nowhere = Sourced {
            c,
            start: self.origin,
            end: self.origin,
        };
        if change > 0 {
            let before = self.at.checked_sub(1).and_then(|at| self.old.get(at));
            return Sourced {
                c,
                ..before.unwrap_or(nowhere)
            };
        }
        let source = self.old.get(self.at).unwrap_or(nowhere);
        self.at += 1 + change.unsigned_abs();
        Sourced { c, ..source }
    }
}

fn strip(state: &State, window: &Window<'_, '_>, new: &mut Chars<'_>, left: bool, right: bool) {
    let mut started = state.started || !left;
    let mut kept = 0;
    for s in window.old.iter() {
        started |= !s.c.is_whitespace();
        if started {
            new.push(s);
        }
        if !s.c.is_whitespace() {
            kept = new.len();
        }
    }
    if right && window.blank_after {
        new.truncate(kept);
    }
}

fn replace(old: &Chars<'_>, new: &mut Chars<'_>, pattern: &[char], content: &[char]) {
    let mut at = 0;
    while let Some(s) = old.get(at) {
        let found = (at..)
            .zip(pattern)
            .all(|(at, c)| old.get(at).is_some_and(|s| s.c == *c));
        if !found {
            new.push(s);
            at += 1;
            continue;
        }
        // What is inserted shares the source of the last character that it replaces.
        at += pattern.len();
        let source = old.get(at - 1).unwrap_or(s);
        content.iter().for_each(|&c| new.push(Sourced { c, ..source }));
    }
}

/// Replaces runs of two or more `c`. A run at the end of a window is held until it is known where it ends.
fn squeeze(state: &mut State, window: &Window<'_, '_>, new: &mut Chars<'_>, c: char, content: &[char]) {
    let mut put = |run: Run| {
        if run.single {
            new.push(run.last);
        } else {
            content.iter().for_each(|&c| new.push(Sourced { c, ..run.last }));
        }
    };
    let mut run = state.run.take();
    for s in window.old.iter() {
        if s.c == c {
            let single = run.is_none();
            run = Some(Run { last: s, single });
        } else {
            run.take().into_iter().for_each(&mut put);
            put(Run {
                last: s,
                single: true,
            });
        }
    }
    if window.last {
        run.into_iter().for_each(put);
    } else {
        state.run = run;
    }
}

fn prepend(state: &State, window: &Window<'_, '_>, new: &mut Chars<'_>, content: &[char]) {
    if let Some(first) = window.old.get(0)
        && !state.started
    {
        content.iter().for_each(|&c| new.push(Sourced { c, ..first }));
    }
    window.old.iter().for_each(|s| new.push(s));
}
