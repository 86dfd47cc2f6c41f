//! The answer of `/v1/rerank`.

use super::scores::{BestFirst, Scores};
use super::{Out, Source};

/// `{id, results: [{index, relevance_score, document?}], model, usage}`, best first.
pub(super) async fn documents<S: Source>(
    source: &S,
    top: usize,
    return_documents: bool,
    out: &mut Out<'_, S>,
) {
    let logit = |index: usize| source.logits(index).first().copied().unwrap_or(f32::NEG_INFINITY);
    out.raw("{\"id\":").await;
    out.id("rerank-").await;
    out.raw(",\"results\":[").await;
    for (place, index) in BestFirst::new(source.inputs(), logit).take(top).enumerate() {
        out.comma(place).await;
        out.raw("{\"index\":").await;
        out.uint(index).await;
        out.raw(",\"relevance_score\":").await;
        out.float(Scores::new(source.logits(index), source.problem(), false).at(0))
            .await;
        if return_documents {
            out.raw(",\"document\":{\"text\":").await;
            out.string(source.second(index)).await;
            out.raw("}").await;
        }
        out.raw("}").await;
    }
    let token_count: usize = (0..source.inputs()).map(|index| source.token_count(index)).sum();
    out.raw("],\"model\":").await;
    out.string(source.model_name()).await;
    out.raw(",\"usage\":{\"total_tokens\":").await;
    out.uint(token_count).await;
    out.raw("}}").await;
}
