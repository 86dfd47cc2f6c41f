//! The answer of `/v1/classify`.

use super::scores::Scores;
use super::{Out, Source};

/// `{id, object, created, model, data: [{index, label, probs, num_classes}], usage}`; `probs` are in the order of the model's labels.
pub(super) async fn classes<S: Source>(source: &S, out: &mut Out<'_, S>) {
    out.raw("{\"id\":").await;
    out.id("classify-").await;
    out.raw(",\"object\":\"list\",\"created\":").await;
    out.uint(source.stamp().unix_s as usize).await;
    out.raw(",\"model\":").await;
    out.string(source.model_name()).await;
    out.raw(",\"data\":[").await;
    let mut token_count = 0;
    for index in 0..source.inputs() {
        token_count += source.token_count(index);
        let logits = source.logits(index);
        let scores = Scores::new(logits, source.problem(), false);
        out.comma(index).await;
        out.raw("{\"index\":").await;
        out.uint(index).await;
        if let Some(best) = scores.best_first().next() {
            out.raw(",\"label\":").await;
            out.string(source.class_label(best)).await;
        }
        out.raw(",\"probs\":[").await;
        for class in 0..logits.len() {
            out.comma(class).await;
            out.float(scores.at(class)).await;
        }
        out.raw("],\"num_classes\":").await;
        out.uint(logits.len()).await;
        out.raw("}").await;
    }
    out.raw("],\"usage\":{\"prompt_tokens\":").await;
    out.uint(token_count).await;
    out.raw(",\"total_tokens\":").await;
    out.uint(token_count).await;
    out.raw(",\"completion_tokens\":0}}").await;
}
