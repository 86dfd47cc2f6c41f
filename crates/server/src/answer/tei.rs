//! The answers of text-embeddings-inference's routes.

use super::scores::{BestFirst, Scores};
use super::{Out, Source};

/// `[[f32]]`
pub(super) async fn embed<S: Source>(source: &S, out: &mut Out<'_, S>) {
    out.raw("[").await;
    for index in 0..source.inputs() {
        out.comma(index).await;
        out.floats(source.embedding(index)).await;
    }
    out.raw("]").await;
}

/// `[[[f32]]]`
pub(super) async fn embed_all<S: Source>(source: &S, out: &mut Out<'_, S>) {
    out.raw("[").await;
    for index in 0..source.inputs() {
        out.comma(index).await;
        out.raw("[").await;
        for (row, vector) in source.token_embeddings(index).chunks(source.hidden()).enumerate() {
            out.comma(row).await;
            out.floats(vector).await;
        }
        out.raw("]").await;
    }
    out.raw("]").await;
}

/// `[{score, label}]`, best first; nested for a batch.
pub(super) async fn predict<S: Source>(
    source: &S,
    single: bool,
    raw_scores: bool,
    top: usize,
    out: &mut Out<'_, S>,
) {
    if !single {
        out.raw("[").await;
    }
    for index in 0..source.inputs() {
        out.comma(index).await;
        let scores = Scores::new(source.logits(index), source.problem(), raw_scores);
        out.raw("[").await;
        for (place, class) in scores.best_first().take(top).enumerate() {
            out.comma(place).await;
            out.raw("{\"score\":").await;
            out.float(scores.at(class)).await;
            out.raw(",\"label\":").await;
            out.string(source.class_label(class)).await;
            out.raw("}").await;
        }
        out.raw("]").await;
    }
    if !single {
        out.raw("]").await;
    }
}

/// `[{index, text?, score}]`, best first.
pub(super) async fn rerank<S: Source>(source: &S, raw_scores: bool, return_text: bool, out: &mut Out<'_, S>) {
    let logit = |index: usize| source.logits(index).first().copied().unwrap_or(f32::NEG_INFINITY);
    out.raw("[").await;
    for (place, index) in BestFirst::new(source.inputs(), logit).enumerate() {
        out.comma(place).await;
        out.raw("{\"index\":").await;
        out.uint(index).await;
        if return_text {
            out.raw(",\"text\":").await;
            out.string(source.second(index)).await;
        }
        out.raw(",\"score\":").await;
        out.float(Scores::new(source.logits(index), source.problem(), raw_scores).at(0))
            .await;
        out.raw("}").await;
    }
    out.raw("]").await;
}

/// `[f32]`: cosines of the first input with each other one. The vectors have length 1.
pub(super) async fn similarity<S: Source>(source: &S, out: &mut Out<'_, S>) {
    out.raw("[").await;
    for index in 1..source.inputs() {
        out.comma(index - 1).await;
        let both = source.embedding(0).iter().zip(source.embedding(index));
        out.float(both.map(|(a, b)| a * b).sum()).await;
    }
    out.raw("]").await;
}

/// `[[{id, text, special, start, stop}]]`; offsets are bytes, as that server gives them, and `null` for special tokens.
pub(super) async fn tokenize<S: Source>(source: &S, out: &mut Out<'_, S>) {
    out.raw("[").await;
    for index in 0..source.inputs() {
        out.comma(index).await;
        let (text, tokens) = (source.text(index), source.tokens(index));
        out.raw("[").await;
        for (place, &id) in tokens.ids.iter().enumerate() {
            let (start, end) = (tokens.starts[place] as usize, tokens.ends[place] as usize);
            out.comma(place).await;
            out.raw("{\"id\":").await;
            out.uint(id as usize).await;
            out.raw(",\"text\":").await;
            if start == end && source.is_special(id) {
                out.string(source.token_text(id)).await;
                out.raw(",\"special\":true,\"start\":null,\"stop\":null}").await;
                continue;
            }
            out.string(&text[text.floor_char_boundary(start)..text.ceil_char_boundary(end)])
                .await;
            out.raw(",\"special\":false,\"start\":").await;
            out.uint(start).await;
            out.raw(",\"stop\":").await;
            out.uint(end).await;
            out.raw("}").await;
        }
        out.raw("]").await;
    }
    out.raw("]").await;
}

/// `[string]`. Each text fits a chunk: the route checks that before it answers.
pub(super) async fn decode<S: Source>(source: &S, skip_special_tokens: bool, out: &mut Out<'_, S>) {
    use super::ChunkBytes;
    let mut scratch = out.another_chunk().await;
    out.raw("[").await;
    for index in 0..source.inputs() {
        out.comma(index).await;
        let ids = source.tokens(index).ids;
        let len = source
            .decode(ids, skip_special_tokens, scratch.bytes_mut())
            .unwrap_or(0);
        out.string(std::str::from_utf8(&scratch.as_ref()[..len]).unwrap_or_default())
            .await;
    }
    out.raw("]").await;
}
