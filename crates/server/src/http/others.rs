//! Routes that stand alone: Hugging Face's `/ner` and HanLP's `/parse`.

use plimsoll_engine::Tasks;

use super::Route;
use super::problem::Family;
use crate::wire::{hanlp, ner};

/// Them both.
pub const ROUTES: &[Route] = &[
    Route {
        path: "/ner",
        family: Family::Native,
        read: ner::read,
        tasks: |_| Tasks::ENTITIES,
        purpose: "named entities",
        inputs_max: |abilities| abilities.batch_max,
    },
    Route {
        path: "/parse",
        family: Family::Native,
        read: hanlp::read,
        tasks: hanlp::tasks,
        purpose: "words",
        inputs_max: |abilities| abilities.batch_max,
    },
];
