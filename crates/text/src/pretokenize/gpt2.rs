//! GPT-2's pattern, by hand.
//!
//! `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
//!
//! Every character starts a match, so the words tile the text; the branches are told apart by at most three characters.

use crate::unicode::{ONIG_LETTER, ONIG_NUMBER, ONIG_SPACE, properties};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Number,
    Space,
    Other,
}

#[inline]
fn class(c: char) -> Class {
    let bits = properties(c);
    if bits & ONIG_LETTER != 0 {
        Class::Letter
    } else if bits & ONIG_NUMBER != 0 {
        Class::Number
    } else if bits & ONIG_SPACE != 0 {
        Class::Space
    } else {
        Class::Other
    }
}

/// Where the word that starts at 0 ends; `None` when the text that is there does not tell.
///
/// `next(at)` gives the character at `at` and where the one after it stands. With `prefixed` the word starts with a space that
/// is not in the text: the end may then be 0, the word that space alone.
#[inline]
pub(crate) fn word(
    next: impl Fn(usize) -> Option<(char, usize)>,
    prefixed: bool,
    ends: bool,
) -> Option<usize> {
    let (mut first, mut at) = if prefixed { (' ', 0) } else { next(0)? };
    if first == '\''
        && let Some(end) = contraction(&next, at, ends)?
    {
        return Some(end);
    }
    if first == ' ' {
        match next(at) {
            None => return ends.then_some(at),
            Some((c, _)) if class(c) == Class::Space => {}
            Some((c, after)) => (first, at) = (c, after),
        }
    }
    let kind = class(first);
    let mut last_start = None;
    while let Some((c, after)) = next(at) {
        if class(c) != kind {
            // `\s+(?!\S)`: the last space belongs to the word that follows, unless it is the only one.
            return Some(if kind == Class::Space {
                last_start.unwrap_or(at)
            } else {
                at
            });
        }
        last_start = Some(at);
        at = after;
    }
    ends.then_some(at)
}

/// After an apostrophe: where a contraction ends, if it is one; `None` when the text that is there does not tell.
#[inline]
fn contraction(
    next: &impl Fn(usize) -> Option<(char, usize)>,
    at: usize,
    ends: bool,
) -> Option<Option<usize>> {
    let Some((c, after)) = next(at) else {
        return if ends { Some(None) } else { None };
    };
    let second = match c {
        's' | 't' | 'm' | 'd' => return Some(Some(after)),
        'r' | 'v' => 'e',
        'l' => 'l',
        _ => return Some(None),
    };
    match next(after) {
        Some((c, end)) => Some((c == second).then_some(end)),
        None => {
            if ends {
                Some(None)
            } else {
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::word;

    fn check(text: &str, prefixed: bool, expected: &[&str]) {
        let mut found = Vec::new();
        let mut at = 0;
        let mut prefixed = prefixed;
        while at < text.len() {
            let rest = &text[at..];
            let next = |i: usize| rest.get(i..)?.chars().next().map(|c| (c, i + c.len_utf8()));
            let end = word(next, prefixed, true).unwrap();
            found.push(rest[..end].to_owned());
            prefixed = false;
            at += end;
        }
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn words_are_those_of_the_pattern() {
        check(
            "it's  we'll'x 'tis",
            false,
            &["it", "'s", " ", " we", "'ll", "'", "x", " '", "tis"],
        );
        check(
            "a1 22..b \n\n c ",
            false,
            &["a", "1", " 22", "..", "b", " \n\n", " c", " "],
        );
        check("a\u{a0}\u{a0}b \n", false, &["a", "\u{a0}", "\u{a0}", "b", " \n"]);
        check("'s", true, &["'", "s"]);
        check("\nx", true, &["", "\n", "x"]);
        check("\n\n x", true, &["\n\n", " x"]);
        check("中文，好", false, &["中文", "，", "好"]);
    }

    #[test]
    fn what_is_cut_off_is_not_told() {
        let next =
            |text: &'static str| move |i: usize| text.get(i..)?.chars().next().map(|c| (c, i + c.len_utf8()));
        assert_eq!(word(next("ab"), false, false), None);
        assert_eq!(word(next("'"), false, false), None);
        assert_eq!(word(next("'r"), false, false), None);
        assert_eq!(word(next("'rx"), false, false), Some(1));
        assert_eq!(word(next("  "), false, false), None);
        assert_eq!(word(next("  x"), false, false), Some(1));
    }
}
