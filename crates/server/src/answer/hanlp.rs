//! The answer of `/parse`.

use plimsoll_engine::{Entity, Tasks};

use super::{Out, Source, pieces};

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
    out.raw("[").await;
    for (place, word) in pieces::words(text, ends).enumerate() {
        out.comma(place).await;
        out.string(&text[word]).await;
    }
    out.raw("]").await;
}

async fn entities<S: Source>(source: &S, index: usize, out: &mut Out<'_, S>) {
    let (text, ends) = (source.text(index), source.words(index));
    let mut nth = 0;
    out.raw("[").await;
    while let Some(entity) = source.entity(index, nth) {
        out.comma(nth).await;
        out.raw("[").await;
        out.string(&text[pieces::entity(text, &entity)]).await;
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
    let words = || pieces::words(text, ends);
    let first = words().take_while(|word| word.end <= entity.start).count();
    let behind = words().take_while(|word| word.start < entity.end).count();
    out.raw(",").await;
    out.uint(first).await;
    out.raw(",").await;
    out.uint(behind).await;
    out.raw("]").await;
}
