//! `id2label`: what the rows of a head are called.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::LoadError;

/// Names of labels by their ids, as far as the file has them.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct LabelNames(BTreeMap<usize, LabelName>);

/// Files that programs wrote may have numbers for names.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "a label is neither text nor a number")]
enum LabelName {
    Text(String),
    Number(serde_json::Number),
}

impl LabelNames {
    /// How many have a name.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The names of the `rows` rows of a head, which `weight` calls its own: `LABEL_n` for a row without one, as `transformers` says.
    ///
    /// It takes a file that names as many labels as there are rows, whatever their ids; here one whose last id is the last row's
    /// does as well. Any other belongs to another head.
    pub(crate) fn of_rows(
        &self,
        rows: usize,
        weight: &str,
        file: &'static str,
    ) -> Result<Vec<String>, LoadError> {
        let ends = self.0.last_key_value().is_some_and(|(last, _)| last + 1 == rows);
        if self.len() != rows && !ends {
            let reason = format!("id2label has {} labels, {weight} has {rows} rows", self.len());
            return Err(LoadError::Config { file, reason });
        }
        Ok((0..rows).map(|row| self.of_row(row)).collect())
    }

    fn of_row(&self, row: usize) -> String {
        match self.0.get(&row) {
            Some(LabelName::Text(text)) => text.clone(),
            Some(LabelName::Number(number)) => number.to_string(),
            None => default_name(row),
        }
    }
}

/// What `transformers` calls a label that has no name.
pub(crate) fn default_name(row: usize) -> String {
    format!("LABEL_{row}")
}
