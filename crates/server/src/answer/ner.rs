//! The answer of `/ner`.

use super::characters::Characters;
use super::{Out, Source, pieces};

/// `[{entity_group, score, word, start, end}]`, offsets in characters; nested for a batch.
pub(super) async fn entities<S: Source>(source: &S, single: bool, ignored: u128, out: &mut Out<'_, S>) {
    if !single {
        out.raw("[").await;
    }
    for index in 0..source.inputs() {
        out.comma(index).await;
        of_text(source, index, ignored, out).await;
    }
    if !single {
        out.raw("]").await;
    }
}

async fn of_text<S: Source>(source: &S, index: usize, ignored: u128, out: &mut Out<'_, S>) {
    let text = source.text(index);
    let mut characters = Characters::new(text);
    let mut written = 0;
    out.raw("[").await;
    for nth in 0.. {
        let Some(entity) = source.entity(index, nth) else {
            break;
        };
        if is_ignored(source, entity.label, ignored) {
            continue;
        }
        let piece = pieces::entity(text, &entity);
        out.comma(written).await;
        out.raw("{\"entity_group\":").await;
        out.string(entity.label).await;
        out.raw(",\"score\":").await;
        out.float(entity.score).await;
        out.raw(",\"word\":").await;
        out.string(&text[piece.clone()]).await;
        characters.span(piece, out).await;
        out.raw("}").await;
        written += 1;
    }
    out.raw("]").await;
}

fn is_ignored<S: Source>(source: &S, label: &str, ignored: u128) -> bool {
    let kinds = source.entity_kinds().iter();
    kinds.enumerate().any(|(kind, name)| {
        name == label && ignored.checked_shr(kind as u32).is_some_and(|bits| bits & 1 == 1)
    })
}
