//! Which tokens continue a word: the pipeline's two rules.

/// The rule for tokenizers that mark continuations (WordPiece's `##`): a token whose text is not as long, in characters, as
/// the piece of input it stands for. The unknown token never continues a word.
///
/// ```
/// use plimsoll_encoder::spans::is_subword_by_length;
/// assert!(is_subword_by_length("##lace", "lace", false));
/// assert!(!is_subword_by_length("love", "Love", false));
/// assert!(!is_subword_by_length("[UNK]", "☃", true));
/// ```
pub fn is_subword_by_length(token: &str, covered: &str, is_unknown: bool) -> bool {
    !is_unknown && token.chars().count() != covered.chars().count()
}

/// The rule for all other tokenizers: no space (U+0020) stands before the token's first character or at it. Starting the
/// text, a token continues nothing; nor does the unknown token.
///
/// ```
/// use plimsoll_encoder::spans::is_subword_by_space;
/// assert!(!is_subword_by_space("Ada Lovelace", 4, false));
/// assert!(is_subword_by_space("Ada Lovelace", 8, false));
/// ```
///
/// # Panics
/// When `start` is not a character boundary of `text`.
pub fn is_subword_by_space(text: &str, start: usize, is_unknown: bool) -> bool {
    let (before, from) = text.split_at(start);
    !is_unknown && start > 0 && !before.ends_with(' ') && !from.starts_with(' ')
}
