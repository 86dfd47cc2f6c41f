//! Answers turned into text while the client reads.
//!
//! The engine's answer is compact: offsets into the body and `f32`. As JSON it may be a hundred times larger, so it is never written out
//! whole. A writer fills one of the answer's two leased 16 KiB chunks, hands it to the transport, goes on in the other, and waits until one
//! comes back; a client that does not read holds two chunks, whatever the length of its answer.
//!
//! Each shape is an `async fn` that writes as if there were no end to the chunk: it stands still inside [`Out::bytes`] when there is. The
//! compiler makes the state machine, and a string, a number or an escape may be split anywhere.
//!
//! [`AnswerBody`] is that writer as an [`http_body::Body`]. The answer, with all its leases and its debit, travels with the last chunk and
//! is dropped when that was written to the socket, or when the client went away.

mod analyze;
mod body;
mod characters;
mod classify;
mod hanlp;
mod infer;
mod ner;
mod openai;
mod out;
mod pieces;
mod rerank;
mod scores;
mod source;
mod tei;

pub use body::AnswerBody;
pub use infer::json_bytes;
pub use out::{Out, Slot};
pub use source::{ChunkBytes, Served, Source, Stamp};

use crate::wire::Shape;
use crate::wire::oip::Encoding;

/// Writes the whole answer in its shape.
pub async fn render<S: Source>(source: &S, shape: Shape, out: &mut Out<'_, S>) {
    match shape {
        Shape::Analyze {
            tasks,
            dropped,
            single,
        } => analyze::results(source, tasks, dropped, single, out).await,
        Shape::Embed => tei::embed(source, out).await,
        Shape::EmbedAll => tei::embed_all(source, out).await,
        Shape::Predict {
            single,
            raw_scores,
            top,
        } => tei::predict(source, single, raw_scores, top, out).await,
        Shape::Rerank {
            raw_scores,
            return_text,
        } => tei::rerank(source, raw_scores, return_text, out).await,
        Shape::Similarity => tei::similarity(source, out).await,
        Shape::Tokenize => tei::tokenize(source, out).await,
        Shape::Decode { skip_special_tokens } => tei::decode(source, skip_special_tokens, out).await,
        Shape::OpenAi { base64 } => openai::embeddings(source, base64, out).await,
        Shape::Documents {
            top,
            return_documents,
        } => rerank::documents(source, top, return_documents, out).await,
        Shape::Classify => classify::classes(source, out).await,
        Shape::Ner { single, ignored } => ner::entities(source, single, ignored, out).await,
        Shape::Infer {
            outputs,
            dropped,
            id,
            encoding,
        } => {
            let inference = infer::Inference {
                source,
                outputs,
                dropped,
                id,
            };
            match encoding {
                Encoding::Json => inference.json(out).await,
                Encoding::Message => inference.message(out).await,
            }
        }
        Shape::Parse { tasks, dropped } => hanlp::document(source, tasks, dropped, out).await,
    }
}
