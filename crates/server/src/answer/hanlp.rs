//! The answer of `/parse`.

use plimsoll_engine::{Entity, Tasks};

use super::{Out, Source};

/// `{"tok/fine": [[word]], "ner/msra": [[[text, label, first word, word behind]]]}`, a list for each sentence.
pub(super) async fn document<S: Source>(source: &S, tasks: Tasks, out: &mut Out<'_, S>) {
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
    out.raw("}").await;
}

/// The words of a sentence, blank ones left out.
async fn words<S: Source>(text: &str, ends: &[u32], out: &mut Out<'_, S>) {
    let (mut start, mut written) = (0, 0);
    out.raw("[").await;
    for &end in ends {
        let word = &text[start..end as usize];
        start = end as usize;
        if !is_blank(word) {
            out.comma(written).await;
            out.string(word).await;
            written += 1;
        }
    }
    out.raw("]").await;
}

async fn entities<S: Source>(source: &S, index: usize, out: &mut Out<'_, S>) {
    let (text, ends) = (source.text(index), source.words(index));
    let mut nth = 0;
    out.raw("[").await;
    while let Some(entity) = source.entity(index, nth) {
        let (start, end) = (
            text.floor_char_boundary(entity.start),
            text.ceil_char_boundary(entity.end),
        );
        out.comma(nth).await;
        out.raw("[").await;
        out.string(&text[start..end]).await;
        out.raw(",").await;
        out.string(entity.label).await;
        // Words are dropped first when memory is short: then there are none to count in.
        match ends.is_empty() {
            true => out.raw(",null,null]").await,
            false => covered(text, ends, &entity, out).await,
        }
        nth += 1;
    }
    out.raw("]").await;
}

/// The words that an entity covers, in whole or in part: `, first, behind the last]`.
async fn covered<S: Source>(text: &str, ends: &[u32], entity: &Entity<'_>, out: &mut Out<'_, S>) {
    let (mut start, mut count, mut first, mut behind) = (0, 0, None, 0);
    for &end in ends {
        let (word_start, word_end) = (start, end as usize);
        start = word_end;
        if word_start >= entity.end {
            break;
        }
        if is_blank(&text[word_start..word_end]) {
            continue;
        }
        if word_end > entity.start {
            first.get_or_insert(count);
            behind = count + 1;
        }
        count += 1;
    }
    out.raw(",").await;
    out.uint(first.unwrap_or(count)).await;
    out.raw(",").await;
    out.uint(behind.max(first.unwrap_or(count))).await;
    out.raw("]").await;
}

fn is_blank(word: &str) -> bool {
    word.trim().is_empty()
}
