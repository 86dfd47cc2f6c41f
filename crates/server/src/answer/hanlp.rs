//! The answer of `/parse`.

use std::ops::Range;

use plimsoll_engine::{Entity, Tasks};

use super::{Out, Source, pieces};

const NAMES: [(Tasks, &str); 2] = [(Tasks::WORDS, "tok/fine"), (Tasks::ENTITIES, "ner/msra")];

/// `{"tok/fine": [[word]], "ner/msra": [[[text, label, first word, word behind]]], "dropped"?: [name]}`, a list for each sentence.
pub(super) async fn document<S: Source>(source: &S, tasks: Tasks, dropped: Tasks, out: &mut Out<'_, S>) {
    out.raw("{").await;
    if tasks.has(Tasks::WORDS) {
        out.raw("\"tok/fine\":[").await;
        for index in 0..source.inputs() {
            out.comma(index).await;
            words(source.text(index), source.words(index), out).await;
        }
        out.raw("]").await;
    }
    if tasks.has(Tasks::ENTITIES) {
        out.comma(usize::from(tasks.has(Tasks::WORDS))).await;
        out.raw("\"ner/msra\":[").await;
        for index in 0..source.inputs() {
            out.comma(index).await;
            entities(source, index, out).await;
        }
        out.raw("]").await;
    }
    if dropped != Tasks::NONE {
        left_out(dropped, out).await;
    }
    out.raw("}").await;
}

/// `,"dropped": ["tok/fine"]`: what is left out, because memory is short. Something stands before it, as one task stays.
async fn left_out<S: Source>(dropped: Tasks, out: &mut Out<'_, S>) {
    out.raw(",\"dropped\":[").await;
    let names = NAMES.iter().filter(|(task, _)| dropped.has(*task));
    for (place, (_, name)) in names.enumerate() {
        out.comma(place).await;
        out.string(name).await;
    }
    out.raw("]").await;
}

/// The words of a sentence, blank ones left out.
async fn words<S: Source>(text: &str, ends: &[u32], out: &mut Out<'_, S>) {
    out.raw("[").await;
    for (place, word) in pieces::words(text, ends).enumerate() {
        out.comma(place).await;
        out.string(&text[word]).await;
    }
    out.raw("]").await;
}

async fn entities<S: Source>(source: &S, index: usize, out: &mut Out<'_, S>) {
    let (text, ends) = (source.text(index), source.words(index));
    let mut counter = Counter::new(text, ends);
    let mut nth = 0;
    out.raw("[").await;
    while let Some(entity) = source.entity(index, nth) {
        out.comma(nth).await;
        out.raw("[").await;
        out.string(&text[pieces::entity(text, &entity)]).await;
        out.raw(",").await;
        out.string(entity.label).await;
        // Where memory was short for words, there are none to count in, and the answer says so.
        match ends.is_empty() {
            true => out.raw(",null,null]").await,
            false => {
                let (first, behind) = counter.covered(&entity);
                out.raw(",").await;
                out.uint(first).await;
                out.raw(",").await;
                out.uint(behind).await;
                out.raw("]").await;
            }
        }
        nth += 1;
    }
    out.raw("]").await;
}

/// Counts words up to entities. These come in the order of the text, so that it goes on from one to the next instead of beginning anew.
#[derive(Clone, Copy)]
struct Counter<'a> {
    text: &'a str,
    /// Where the words end that it has not come to.
    ends: &'a [u32],
    /// Where the next of them begins.
    start: usize,
    /// Words before that, blank ones left out.
    count: usize,
}

impl<'a> Counter<'a> {
    fn new(text: &'a str, ends: &'a [u32]) -> Self {
        Counter {
            text,
            ends,
            start: 0,
            count: 0,
        }
    }

    /// The words that an entity covers, in whole or in part: the first, and the one behind the last.
    fn covered(&mut self, entity: &Entity<'_>) -> (usize, usize) {
        self.go_while(|word| word.end <= entity.start);
        let mut behind = *self;
        behind.go_while(|word| word.start < entity.end);
        (self.count, behind.count)
    }

    fn go_while(&mut self, goes: impl Fn(&Range<usize>) -> bool) {
        while let [end, rest @ ..] = self.ends {
            let word = self.start..*end as usize;
            if !goes(&word) {
                return;
            }
            (self.ends, self.start) = (rest, word.end);
            self.count += usize::from(!self.text[word].trim().is_empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_cover_words_in_whole_or_in_part() {
        let (text, ends) = ("ab  cd,e fg", [2, 4, 6, 7, 8, 9, 11]);
        let words: Vec<&str> = pieces::words(text, &ends).map(|word| &text[word]).collect();
        assert_eq!(words, ["ab", "cd", ",", "e", "fg"]);
        let mut counter = Counter::new(text, &ends);
        for (start, end, expected) in [(0, 2, (0, 1)), (1, 5, (0, 2)), (4, 6, (1, 2)), (7, 11, (3, 5))] {
            let entity = Entity {
                label: "PER",
                start,
                end,
                score: 1.0,
            };
            assert_eq!(counter.covered(&entity), expected, "{start}..{end}");
        }
    }
}
