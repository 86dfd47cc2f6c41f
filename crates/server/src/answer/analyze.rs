//! The answer of `/v1/analyze`. Offsets are characters.

use plimsoll_engine::Tasks;

use super::characters::Characters;
use super::scores::Scores;
use super::{Out, Source, pieces};
use crate::wire::analyze::names;

/// One object, or `{"results": [...]}`.
pub(super) async fn results<S: Source>(
    source: &S,
    tasks: Tasks,
    dropped: Tasks,
    single: bool,
    out: &mut Out<'_, S>,
) {
    if single {
        result(source, 0, tasks, out).await;
    } else {
        out.raw("{\"results\":[").await;
        for index in 0..source.inputs() {
            out.comma(index).await;
            result(source, index, tasks, out).await;
            out.raw("}").await;
        }
        out.raw("]").await;
    }
    if dropped != Tasks::NONE {
        left_out(dropped, out).await;
    }
    out.raw("}").await;
}

/// `,"dropped": ["words"]`: what was asked for and is left out, because memory is short.
async fn left_out<S: Source>(dropped: Tasks, out: &mut Out<'_, S>) {
    out.raw(",\"dropped\":[").await;
    for (index, name) in names(dropped).enumerate() {
        out.comma(index).await;
        out.string(name).await;
    }
    out.raw("]").await;
}

/// An object that is left open.
async fn result<S: Source>(source: &S, index: usize, tasks: Tasks, out: &mut Out<'_, S>) {
    out.raw("{").await;
    if tasks.has(Tasks::WORDS) {
        out.raw("\"words\":").await;
        words(source, index, out).await;
        out.raw(",").await;
    }
    if tasks.has(Tasks::ENTITIES) {
        out.raw("\"entities\":").await;
        entities(source, index, out).await;
        out.raw(",").await;
    }
    if tasks.has(Tasks::CLASSES) {
        out.raw("\"sentiment\":").await;
        sentiment(source, index, out).await;
        out.raw(",").await;
    }
    if tasks.has(Tasks::EMBEDDING) {
        out.raw("\"embedding\":").await;
        out.floats(source.embedding(index)).await;
        out.raw(",").await;
    }
    out.raw("\"tokens\":").await;
    out.uint(source.token_total(index)).await;
    out.raw(if source.truncated(index) {
        ",\"truncated\":true"
    } else {
        ",\"truncated\":false"
    })
    .await;
}

/// `[{text, start, end}]`, blank ones left out.
pub(super) async fn words<S: Source>(source: &S, index: usize, out: &mut Out<'_, S>) {
    let (text, ends) = (source.text(index), source.words(index));
    let mut characters = Characters::new(text);
    out.raw("[").await;
    for (place, word) in pieces::words(text, ends).enumerate() {
        out.comma(place).await;
        out.raw("{\"text\":").await;
        out.string(&text[word.clone()]).await;
        characters.span(word, out).await;
        out.raw("}").await;
    }
    out.raw("]").await;
}

/// `[{label, text, start, end, score}]`
pub(super) async fn entities<S: Source>(source: &S, index: usize, out: &mut Out<'_, S>) {
    let text = source.text(index);
    let mut characters = Characters::new(text);
    let mut nth = 0;
    out.raw("[").await;
    while let Some(entity) = source.entity(index, nth) {
        let piece = pieces::entity(text, &entity);
        out.comma(nth).await;
        out.raw("{\"label\":").await;
        out.string(entity.label).await;
        out.raw(",\"text\":").await;
        out.string(&text[piece.clone()]).await;
        characters.span(piece, out).await;
        out.raw(",\"score\":").await;
        out.float(entity.score).await;
        out.raw("}").await;
        nth += 1;
    }
    out.raw("]").await;
}

/// `{label, score}`: the best class of the sequence head.
pub(super) async fn sentiment<S: Source>(source: &S, index: usize, out: &mut Out<'_, S>) {
    let scores = Scores::new(source.logits(index), source.problem(), false);
    let Some(class) = scores.best_first().next() else {
        return out.raw("null").await;
    };
    out.raw("{\"label\":").await;
    out.string(source.class_label(class)).await;
    out.raw(",\"score\":").await;
    out.float(scores.at(class)).await;
    out.raw("}").await;
}
