//! Canonical and compatible decomposition and composition, with the changes that the `tokenizers` crate counts.
//!
//! The tables are those of `unicode-normalization-alignments`, which that crate uses; its iterators keep marks in a buffer
//! on the heap, so the two algorithms of UAX #15 are written again here over a window.

use super::stage::{Rewrite, Window};
use super::{Chars, Sourced};
use unicode_normalization_alignments::char::{
    canonical_combining_class, compose as compose_pair, decompose_canonical, decompose_compatible,
};

/// A decomposed character is kept in a [`Sourced`] until its place is known: its class and its change stand in for the source.
fn pending(c: char, class: u8, change: isize) -> Sourced {
    Sourced {
        c,
        start: u32::from(class),
        end: change as u32,
    }
}

fn change_of(pending: Sourced) -> isize {
    pending.end as i32 as isize
}

/// Decomposes `window` into `new`.
pub(crate) fn decompose(window: &Window<'_, '_>, new: &mut Chars<'_>, compatible: bool) {
    order(window, new, compatible);
    place(window, new);
}

/// Turns every [`pending`] into a character with its source.
fn place(window: &Window<'_, '_>, new: &mut Chars<'_>) {
    let mut rewrite = Rewrite::new(window);
    for at in 0..new.len() {
        if let Some(p) = new.get(at) {
            new.set(at, rewrite.next(p.c, change_of(p)));
        }
    }
}

/// Writes the decomposed characters in canonical order, as [`pending`].
fn order(window: &Window<'_, '_>, new: &mut Chars<'_>, compatible: bool) {
    let mut sorted_to = 0;
    for s in window.old.iter() {
        let mut change = 0;
        let mut each = |c: char| {
            let class = canonical_combining_class(c);
            if class == 0 {
                sort(new, sorted_to);
            }
            new.push(pending(c, class, change));
            if class == 0 {
                sorted_to = new.len();
            }
            change = 1;
        };
        if compatible {
            decompose_compatible(s.c, &mut each)
        } else {
            decompose_canonical(s.c, &mut each)
        }
    }
    sort(new, sorted_to);
}

/// Sorts the marks from `from` on by class, keeping the order within a class.
fn sort(new: &mut Chars<'_>, from: usize) {
    let len = new.len();
    if let Some(marks) = new.words.get_mut(from..len)
        && marks.len() > 1
    {
        // A stable sort without a heap: insertion, on what a window bounds.
        for at in 1..marks.len() {
            let mut to = at;
            while to > 0 && marks[to - 1][1] > marks[to][1] {
                marks.swap(to - 1, to);
                to -= 1;
            }
        }
    }
}

/// Decomposes and composes `window` into `new`, in place.
pub(crate) fn compose(window: &Window<'_, '_>, new: &mut Chars<'_>, compatible: bool) {
    order(window, new, compatible);
    let mut write = 0;
    let mut starter: Option<usize> = None;
    let mut last_class: Option<u8> = None;
    for read in 0..new.len() {
        let Some(p) = new.get(read) else { break };
        let class = p.start as u8;
        if let Some(at) = starter
            && last_class.is_none_or(|last| last < class)
            && let Some(base) = new.get(at)
            && let Some(c) = compose_pair(base.c, p.c)
        {
            new.set(at, pending(c, 0, change_of(base) + change_of(p) - 1));
            continue;
        }
        new.set(write, p);
        if class == 0 {
            (starter, last_class) = (Some(write), None);
        } else if starter.is_some() {
            last_class = Some(class);
        }
        write += 1;
    }
    new.truncate(write);
    place(window, new);
}
