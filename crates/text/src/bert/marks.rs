//! Runs of combining marks, where decomposition reorders characters.
//!
//! Canonical ordering sorts the marks between two starters by combining class. The `tokenizers` crate gives the sorted marks
//! the source bytes in order of *position*: the k-th mark of the result gets those of the k-th mark of the text. Nearly all
//! marks are stripped afterwards, so the order shows only when a spacing mark stands among them. Such runs are
//! sorted here without a buffer: one pass for each class that occurs.

use super::Walk;
use super::class::{BertFlags, Kind};
use crate::unicode::char_at;
use unicode_normalization_alignments::char::canonical_combining_class;

/// Takes the marks (or the character that ends in marks) at `at`; where the text goes on.
pub(super) fn take(walk: &mut Walk<'_, '_, '_>, at: usize) -> usize {
    let flags = walk.tables.classes.flags();
    let first = char_at(walk.text, at);
    let mut end = at + first.len_utf8();
    let mut keeps = walk.tables.classes.of(first).kind() == Kind::Kept;
    while end < walk.text.len() {
        let c = char_at(walk.text, end);
        match walk.tables.classes.of(c).kind() {
            Kind::Kept if starts_with_mark(flags, c) => keeps = true,
            Kind::Mark | Kind::Cleaned => {}
            _ => break,
        }
        end += c.len_utf8();
    }
    if keeps {
        let run = Run {
            flags,
            text: walk.text,
            start: at,
            end,
        };
        run.emit(walk);
    }
    end
}

fn starts_with_mark(flags: BertFlags, c: char) -> bool {
    let mut first = None;
    flags.decompose(c, |d| first = first.or(Some(d)));
    first.is_some_and(|d| canonical_combining_class(d) != 0)
}

struct Run<'r> {
    flags: BertFlags,
    text: &'r str,
    start: usize,
    end: usize,
}

/// One decomposed character of a run.
struct Part {
    c: char,
    class: u8,
    /// Whether it is the first of its source character, which is what takes up a place of the text.
    leads: bool,
    at: usize,
}

impl Run<'_> {
    fn each_part(&self, mut each: impl FnMut(Part)) {
        for (offset, source) in self.text[self.start..self.end].char_indices() {
            if self.flags.cleans(source) {
                continue;
            }
            let mut leads = true;
            self.flags.decompose(source, |c| {
                each(Part {
                    c,
                    class: canonical_combining_class(c),
                    leads,
                    at: self.start + offset,
                });
                leads = false;
            });
        }
    }

    fn emit(&self, walk: &mut Walk<'_, '_, '_>) {
        let base = char_at(self.text, self.start);
        let has_base = !starts_with_mark(self.flags, base);
        if has_base {
            self.each_part(|part| {
                if part.at == self.start && part.class == 0 {
                    self.put(walk, part.c, self.start);
                }
            });
        }
        // Places are source characters; the base, if there is one, is place 0 and is taken already.
        let mut places = Places {
            run: self,
            next: self.start,
            current: self.start,
        };
        let mut taken = usize::from(has_base);
        places.advance(taken);
        let mut class = 0u8;
        while let Some(next) = self.class_above(class) {
            class = next;
            self.each_part(|part| {
                if part.class != class {
                    return;
                }
                if part.leads {
                    taken += 1;
                    places.advance(1);
                }
                if !self.flags.strips(part.c) {
                    self.put(walk, part.c, places.current);
                }
            });
        }
        debug_assert!(taken > 0, "a run has at least one place");
    }

    /// The smallest class above `class` among the marks of the run.
    fn class_above(&self, class: u8) -> Option<u8> {
        let mut found: Option<u8> = None;
        self.each_part(|part| {
            if part.class > class {
                found = Some(found.map_or(part.class, |least| least.min(part.class)));
            }
        });
        found
    }

    fn put(&self, walk: &mut Walk<'_, '_, '_>, c: char, at: usize) {
        let end = at + char_at(self.text, at).len_utf8();
        self.flags.lower(c, |l| walk.put(l, at as u32, end as u32));
    }
}

/// The source characters of a run in order of position.
struct Places<'r> {
    run: &'r Run<'r>,
    next: usize,
    current: usize,
}

impl Places<'_> {
    fn advance(&mut self, count: usize) {
        for _ in 0..count {
            while self.next < self.run.end {
                let c = char_at(self.run.text, self.next);
                self.current = self.next;
                self.next += c.len_utf8();
                if !self.run.flags.cleans(c) {
                    break;
                }
            }
        }
    }
}
