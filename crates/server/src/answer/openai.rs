//! The answer of `/v1/embeddings`.

use super::{Out, Source};

/// `{object, data: [{object, index, embedding}], model, usage}`
pub(super) async fn embeddings<S: Source>(source: &S, base64: bool, out: &mut Out<'_, S>) {
    out.raw("{\"object\":\"list\",\"data\":[").await;
    let mut token_count = 0;
    for index in 0..source.inputs() {
        token_count += source.token_count(index);
        out.comma(index).await;
        out.raw("{\"object\":\"embedding\",\"index\":").await;
        out.uint(index).await;
        out.raw(",\"embedding\":").await;
        if base64 {
            out.base64(source.embedding(index)).await;
        } else {
            out.floats(source.embedding(index)).await;
        }
        out.raw("}").await;
    }
    out.raw("],\"model\":").await;
    out.string(source.model_name()).await;
    out.raw(",\"usage\":{\"prompt_tokens\":").await;
    out.uint(token_count).await;
    out.raw(",\"total_tokens\":").await;
    out.uint(token_count).await;
    out.raw("}}").await;
}
