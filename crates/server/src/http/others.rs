//! Routes that stand alone: Hugging Face's `/ner` and HanLP's `/parse`.

use plimsoll_engine::Tasks;

use super::problem::Family;
use super::{Reader, Route};
use crate::wire::{hanlp, ner};

/// Them both.
pub const ROUTES: &[Route] = &[
    Route {
        path: "/ner",
        family: Family::Native,
        read: Reader::Whole(ner::read),
        tasks: |_| Tasks::ENTITIES,
        purpose: "named entities",
        inputs_max: |abilities| abilities.batch_max,
    },
    Route {
        path: "/parse",
        family: Family::Native,
        read: Reader::Whole(hanlp::read),
        tasks: hanlp::tasks,
        purpose: "words",
        inputs_max: |abilities| abilities.batch_max,
    },
];
