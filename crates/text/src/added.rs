//! Tokens added beside the vocabulary (`[SEP]`, `<mask>`, ...) and where they stand in a text.

use crate::TokenizerError;
use crate::trie::{Place, Trie};
use crate::unicode::{WORD, has};
use crate::vocab::limit;
use std::collections::{BTreeMap, HashMap};

/// Most added tokens accepted.
const ADDED_MAX: usize = 1 << 16;
/// Longest added token accepted, in bytes.
const ADDED_BYTES_MAX: usize = 1 << 12;

/// One added token, as `tokenizer.json` describes it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub(crate) struct Added {
    pub(crate) content: String,
    pub(crate) single_word: bool,
    pub(crate) lstrip: bool,
    pub(crate) rstrip: bool,
    pub(crate) normalized: bool,
    pub(crate) special: bool,
}

impl Added {
    /// A special token as BERT's are.
    pub(crate) fn special(content: &str) -> Self {
        let content = content.to_owned();
        Self {
            content,
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special: true,
        }
    }
}

/// All added tokens by id.
#[derive(Debug, Default)]
pub(crate) struct AddedTokens {
    by_id: BTreeMap<u32, Added>,
    ids: HashMap<String, u32>,
    specials: Vec<u32>,
}

impl AddedTokens {
    /// Gives each token its id: the vocabulary's where it has the token, else the next free one. (The file's own ids are not
    /// looked at; the `tokenizers` crate does the same.)
    pub(crate) fn new(
        tokens: Vec<Added>,
        lookup: impl Fn(&str) -> Option<u32>,
        vocab_size: usize,
    ) -> Result<Self, TokenizerError> {
        limit("added tokens", tokens.len(), ADDED_MAX)?;
        let mut all = Self::default();
        let mut next = vocab_size as u32;
        for token in tokens {
            limit("added token length", token.content.len(), ADDED_BYTES_MAX)?;
            if token.content.is_empty() {
                continue;
            }
            let known = all
                .ids
                .get(&token.content)
                .copied()
                .or_else(|| lookup(&token.content));
            let id = known.unwrap_or_else(|| {
                next += 1;
                next - 1
            });
            all.ids.insert(token.content.clone(), id);
            if token.special && !all.specials.contains(&id) {
                all.specials.push(id);
            }
            all.by_id.insert(id, token);
        }
        all.specials.sort_unstable();
        Ok(all)
    }

    pub(crate) fn get(&self, id: u32) -> Option<&Added> {
        self.by_id.get(&id)
    }

    pub(crate) fn id_of(&self, content: &str) -> Option<u32> {
        self.ids.get(content).copied()
    }

    pub(crate) fn is_special(&self, id: u32) -> bool {
        self.specials.binary_search(&id).is_ok()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Added)> {
        self.by_id.iter().map(|(id, token)| (*id, token))
    }

    /// A matcher of the tokens that are looked for in the text as it is (`normalized` false) or in the normalised text, where they
    /// stand as `spell` has them; nowhere, if that is empty.
    ///
    /// # Errors
    /// When they are too many for a trie.
    pub(crate) fn matcher(
        &self,
        normalized: bool,
        spell: impl Fn(&str) -> String,
    ) -> Result<Matcher, TokenizerError> {
        let mut patterns: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
        for (id, token) in self.iter().filter(|(_, token)| token.normalized == normalized) {
            let pattern = spell(&token.content);
            if !pattern.is_empty() {
                patterns.insert(pattern.into_bytes(), id);
            }
        }
        Matcher::new(&patterns)
    }
}

/// Finds added tokens: the leftmost, of those the longest.
#[derive(Debug)]
pub(crate) struct Matcher {
    trie: Trie,
    first_bytes: [bool; 256],
    single_first: Option<u8>,
    longest: usize,
}

/// An added token in a text, the spaces that it strips included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) id: u32,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Matcher {
    fn new(patterns: &BTreeMap<Vec<u8>, u32>) -> Result<Self, TokenizerError> {
        let keys: Vec<(&[u8], u32)> = patterns
            .iter()
            .map(|(pattern, id)| (pattern.as_slice(), *id))
            .collect();
        let mut first_bytes = [false; 256];
        keys.iter()
            .for_each(|(key, _)| first_bytes[usize::from(key[0])] = true);
        let mut firsts = (0..=255u8).filter(|&byte| first_bytes[usize::from(byte)]);
        let single_first = firsts.next().filter(|_| firsts.next().is_none());
        let longest = keys.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
        Ok(Self {
            trie: Trie::new(&keys)?,
            first_bytes,
            single_first,
            longest,
        })
    }

    /// Bytes of the longest pattern; 0 when there is nothing to find.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// Where a walk along a pattern starts.
    pub(crate) fn start(&self) -> Place {
        self.trie.root()
    }

    /// The next place of a walk.
    pub(crate) fn step(&self, at: Place, byte: u8) -> Option<Place> {
        self.trie.step(at, byte)
    }

    /// The token whose pattern ends here.
    pub(crate) fn id(&self, at: Place) -> Option<u32> {
        self.trie.id(at)
    }

    /// The next pattern at or after `from`, as it stands: `(id, start, end)`.
    fn find(&self, text: &[u8], from: usize) -> Option<(u32, usize, usize)> {
        let mut at = from;
        while self.longest > 0 && at < text.len() {
            at += match self.single_first {
                Some(first) => memchr::memchr(first, &text[at..])?,
                None => text[at..]
                    .iter()
                    .position(|&byte| self.first_bytes[usize::from(byte)])?,
            };
            if let Some((id, len)) = self.trie.longest(&text[at..]) {
                return Some((id, at, at + len));
            }
            at += 1;
        }
        None
    }

    /// The added tokens of `text`, in order.
    pub(crate) fn matches<'m>(&'m self, added: &'m AddedTokens, text: &'m str) -> Matches<'m> {
        Matches {
            matcher: self,
            added,
            text,
            search: 0,
            covered: 0,
        }
    }
}

/// See [`Matcher::matches`].
pub(crate) struct Matches<'m> {
    matcher: &'m Matcher,
    added: &'m AddedTokens,
    text: &'m str,
    search: usize,
    covered: usize,
}

impl Iterator for Matches<'_> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            let (id, start, end) = self.matcher.find(self.text.as_bytes(), self.search)?;
            self.search = end;
            let Some(token) = self.added.get(id) else { continue };
            let (before, after) = (&self.text[..start], &self.text[end..]);
            if token.single_word
                && (before.chars().next_back().is_some_and(|c| has(c, WORD))
                    || after.chars().next().is_some_and(|c| has(c, WORD)))
            {
                continue;
            }
            let mut found = Found { id, start, end };
            if token.lstrip {
                let stripped = before.trim_end_matches(char::is_whitespace).len();
                found.start = stripped.max(self.covered);
            }
            if token.rstrip {
                found.end += after.len() - after.trim_start_matches(char::is_whitespace).len();
            }
            self.covered = found.end;
            return Some(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(content: &str, flags: &str) -> Added {
        Added {
            content: content.into(),
            single_word: flags.contains('w'),
            lstrip: flags.contains('l'),
            rstrip: flags.contains('r'),
            normalized: false,
            special: flags.contains('s'),
        }
    }

    #[test]
    fn the_leftmost_longest_is_found_and_strips_spaces() {
        let tokens = vec![
            token("<m>", "ls"),
            token("<mm>", ""),
            token("<m", "r"),
            token("ab", "w"),
            token("<m>", "ls"),
        ];
        let added = AddedTokens::new(tokens, |text| (text == "ab").then_some(7), 100).unwrap();
        assert_eq!(
            (added.id_of("<m>"), added.id_of("<mm>"), added.id_of("ab")),
            (Some(100), Some(101), Some(7))
        );
        assert!(added.is_special(100) && !added.is_special(101));
        let matcher = added.matcher(false, str::to_owned).unwrap();
        let found = |text: &str| -> Vec<(u32, usize, usize)> {
            matcher
                .matches(&added, text)
                .map(|f| (f.id, f.start, f.end))
                .collect()
        };
        assert_eq!(found("a  <m>b"), [(100, 1, 6)]);
        assert_eq!(
            found("<m \t<m>"),
            [(102, 0, 4), (100, 4, 7)],
            "spaces go to the first"
        );
        assert_eq!(found("<mm><mmm"), [(101, 0, 4), (102, 4, 6)]);
        assert_eq!(found("ab cab aba 中ab ab"), [(7, 0, 2), (7, 17, 19)]);
        assert_eq!(found("ab-ab"), [(7, 0, 2), (7, 3, 5)]);
    }
}
