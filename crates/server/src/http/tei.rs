//! The routes of text-embeddings-inference.

use plimsoll_engine::Tasks;

use super::problem::Family;
use super::{Reader, Route};
use crate::wire::{Abilities, Read, tei};

const fn route(
    path: &'static str,
    read: Read,
    tasks: fn(&Abilities) -> Tasks,
    purpose: &'static str,
) -> Route {
    Route {
        path,
        family: Family::Native,
        read: Reader::Whole(read),
        tasks,
        purpose,
        // The batch, and the text that it is compared with.
        inputs_max: |abilities| abilities.batch_max + 1,
    }
}

/// Vectors of texts.
pub const EMBED: Route = route("/embed", tei::embed, |_| Tasks::EMBEDDING, "embedding");
/// Classes of texts.
pub const PREDICT: Route = route(
    "/predict",
    tei::predict,
    |_| Tasks::CLASSES,
    "sequence classification",
);
/// Texts by how well they answer a query.
pub const RERANK: Route = route("/rerank", tei::rerank, |_| Tasks::CLASSES, "reranking");

/// Them all.
pub const ROUTES: &[Route] = &[
    EMBED,
    PREDICT,
    RERANK,
    route(
        "/embed_all",
        tei::embed_all,
        |_| Tasks::TOKEN_EMBEDDINGS,
        "token embeddings",
    ),
    route("/similarity", tei::similarity, |_| Tasks::EMBEDDING, "embedding"),
    route("/tokenize", tei::tokenize, |_| Tasks::TOKENS, "tokens"),
    route("/decode", tei::decode, |_| Tasks::TOKENS, "tokens"),
];

/// What `POST /` stands for, by the model's main task. Clients that are given only a base address post there.
pub fn main_route(abilities: &Abilities) -> &'static Route {
    match (abilities.embeds_first, abilities.classes) {
        (true, _) => &EMBED,
        (false, 1) => &RERANK,
        (false, _) => &PREDICT,
    }
}
