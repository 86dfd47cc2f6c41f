//! Where words and entities lie in their text.

use std::iter::once;
use std::ops::Range;

use plimsoll_engine::Entity;

/// The bytes of each word that is not blank; `ends` are where words end.
pub(super) fn words<'a>(text: &'a str, ends: &'a [u32]) -> impl Iterator<Item = Range<usize>> + Send + 'a {
    let starts = once(0).chain(ends.iter().copied());
    let words = starts.zip(ends).map(|(start, &end)| start as usize..end as usize);
    words.filter(|word| !text[word.clone()].trim().is_empty())
}

/// The bytes of an entity, whole characters.
pub(super) fn entity(text: &str, entity: &Entity<'_>) -> Range<usize> {
    text.floor_char_boundary(entity.start)..text.ceil_char_boundary(entity.end)
}
