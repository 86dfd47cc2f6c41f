//! Labelled texts from a CSV file.

use std::collections::HashMap;
use std::io::Read;

/// What the labels mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Task {
    /// negative, positive, and perhaps neutral (also neg, pos, and 0, 1 as many corpora have them).
    Sentiment,
    /// Any labels.
    Classify,
}

impl Task {
    /// Its name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Task::Sentiment => "sentiment",
            Task::Classify => "classify",
        }
    }

    /// The label by its name in the file; `None` where the task does not know it.
    fn label(self, name: &str) -> Option<String> {
        match self {
            Task::Classify => Some(name.to_owned()),
            Task::Sentiment => match name.to_ascii_lowercase().as_str() {
                "negative" | "neg" | "0" => Some("negative".into()),
                "positive" | "pos" | "1" => Some("positive".into()),
                "neutral" | "neu" => Some("neutral".into()),
                _ => None,
            },
        }
    }
}

/// A class needs so many texts: one to learn from, one to choose by, one to be judged by, and a few to spare.
const TEXTS_MIN: usize = 5;
/// Classes there may be.
const CLASSES_MAX: usize = 1000;
/// Characters of the file that a message quotes.
const QUOTED_CHARS: usize = 40;

/// Labelled texts, each once.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// The texts.
    pub texts: Vec<String>,
    /// The class of each.
    pub classes: Vec<usize>,
    /// Names of the classes, sorted.
    pub labels: Vec<String>,
    /// Rows that repeat a text with the same label; each text counts once.
    pub repeated: usize,
    /// Texts left out because rows disagree about their label.
    pub contradicted: usize,
}

/// Why a file cannot be learnt from. Rows count from 1, without the header.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The header lacks a column.
    #[error("no column {wanted:?}; the header has {found}")]
    NoColumn {
        /// Its name.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// A row that is no CSV, has another number of fields than the header, or is not UTF-8.
    #[error("row {row}: {source}")]
    Row {
        /// Which.
        row: u64,
        /// What is wrong.
        source: csv::Error,
    },
    /// A field without content.
    #[error("row {row} (line {line}): column {column:?} is empty")]
    Empty {
        /// Which row.
        row: u64,
        /// Its first line in the file.
        line: u64,
        /// Which column.
        column: String,
    },
    /// A label that the task does not know.
    #[error(
        "row {row} (line {line}): column {column:?} has {label:?}; sentiment knows negative, neutral and positive (neg, pos, 0, 1)"
    )]
    Label {
        /// Which row.
        row: u64,
        /// Its first line in the file.
        line: u64,
        /// Which column.
        column: String,
        /// The beginning of what it has.
        label: String,
    },
    /// Too few or too many classes.
    #[error("{found} classes; needed are 2 to {CLASSES_MAX}")]
    Classes {
        /// How many there are.
        found: usize,
    },
    /// Too few texts of a class.
    #[error("class {label:?} has {found} different texts; needed are {TEXTS_MIN}")]
    Texts {
        /// Which.
        label: String,
        /// How many it has.
        found: usize,
    },
}

impl Table {
    /// Reads CSV with a header (RFC 4180; a byte order mark is skipped).
    ///
    /// # Errors
    /// [`TableError`], naming row and column.
    pub fn read(
        input: impl Read,
        task: Task,
        text_column: &str,
        label_column: &str,
    ) -> Result<Table, TableError> {
        let mut reader = csv::ReaderBuilder::new().from_reader(input);
        let headers = reader
            .headers()
            .map_err(|source| TableError::Row { row: 0, source })?
            .clone();
        let [text_at, label_at] = [column(&headers, text_column)?, column(&headers, label_column)?];
        // Text -> its label; `None` once rows disagree. Order of first appearance is kept beside.
        let mut known: HashMap<String, Option<String>> = HashMap::new();
        let (mut order, mut repeated) = (Vec::new(), 0);
        for (row, record) in (1..).zip(reader.records()) {
            let record = record.map_err(|source| TableError::Row { row, source })?;
            let line = record.position().map_or(0, csv::Position::line);
            let field = |at: usize, column: &str| match record.get(at).map_or("", str::trim) {
                "" => Err(TableError::Empty {
                    row,
                    line,
                    column: column.to_owned(),
                }),
                value => Ok(value.to_owned()),
            };
            let (text, name) = (field(text_at, text_column)?, field(label_at, label_column)?);
            let label = task.label(&name).ok_or_else(|| TableError::Label {
                row,
                line,
                column: label_column.to_owned(),
                label: name.chars().take(QUOTED_CHARS).collect(),
            })?;
            match known.get_mut(&text) {
                None => {
                    order.push(text.clone());
                    known.insert(text, Some(label));
                }
                Some(earlier) if earlier.as_deref() == Some(&label) => repeated += 1,
                Some(earlier) => *earlier = None,
            }
        }
        let agreed = order
            .into_iter()
            .filter_map(|text| known.get(&text)?.clone().map(|label| (text, label)));
        let agreed: Vec<(String, String)> = agreed.collect();
        let contradicted = known.len() - agreed.len();
        Table::of(agreed, repeated, contradicted)
    }

    fn of(rows: Vec<(String, String)>, repeated: usize, contradicted: usize) -> Result<Table, TableError> {
        let mut labels: Vec<String> = rows.iter().map(|(_, label)| label.clone()).collect();
        labels.sort_unstable();
        labels.dedup();
        if !(2..=CLASSES_MAX).contains(&labels.len()) {
            return Err(TableError::Classes { found: labels.len() });
        }
        let class = |label: &String| labels.partition_point(|known| known < label);
        let classes: Vec<usize> = rows.iter().map(|(_, label)| class(label)).collect();
        for (index, label) in labels.iter().enumerate() {
            let found = classes.iter().filter(|&&class| class == index).count();
            if found < TEXTS_MIN {
                let label = label.chars().take(QUOTED_CHARS).collect();
                return Err(TableError::Texts { label, found });
            }
        }
        Ok(Table {
            texts: rows.into_iter().map(|(text, _)| text).collect(),
            classes,
            labels,
            repeated,
            contradicted,
        })
    }
}

fn column(headers: &csv::StringRecord, wanted: &str) -> Result<usize, TableError> {
    headers
        .iter()
        .position(|name| name.trim() == wanted)
        .ok_or_else(|| {
            let quoted = |name: &str| format!("{:?}", name.chars().take(QUOTED_CHARS).collect::<String>());
            let found: Vec<String> = headers.iter().map(quoted).take(20).collect();
            TableError::NoColumn {
                wanted: wanted.to_owned(),
                found: match found.is_empty() {
                    true => "none".to_owned(),
                    false => found.join(", "),
                },
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(csv: &str, task: Task) -> Result<Table, String> {
        Table::read(csv.as_bytes(), task, "text", "label").map_err(|error| error.to_string())
    }

    /// Rows enough for two classes, behind `more`.
    fn rows(more: &str) -> String {
        let rows: String = (0..10)
            .map(|i| format!("t{i},{}\n", ["neg", "pos"][i % 2]))
            .collect();
        format!("text,label\n{rows}{more}")
    }

    #[test]
    fn texts_count_once_and_contradicted_ones_not_at_all() {
        let table = read(
            &rows("t1,1\n\"a, \"\"b\"\"\nc\",NEGATIVE\nd,pos\nd,neg\nd,pos\n"),
            Task::Sentiment,
        )
        .unwrap();
        assert_eq!(
            (table.texts.len(), table.repeated, table.contradicted),
            (11, 1, 1)
        );
        assert_eq!(table.labels, ["negative", "positive"]);
        assert_eq!((table.texts[10].as_str(), table.classes[10]), ("a, \"b\"\nc", 0));
    }

    #[test]
    fn any_labels_are_classes_in_order_of_their_names() {
        let table = read(&rows("u,zz\nv,zz\nw,zz\nx,zz\ny,zz\n"), Task::Classify).unwrap();
        assert_eq!(table.labels, ["neg", "pos", "zz"]);
    }

    #[test]
    fn errors_name_row_and_column() {
        let says = |csv: &str, expected: &str| assert_eq!(read(csv, Task::Sentiment).unwrap_err(), expected);
        says(
            "a,label\nx,neg\n",
            "no column \"text\"; the header has \"a\", \"label\"",
        );
        says("", "no column \"text\"; the header has none");
        says(
            &rows("\"x\ny\",pos\n,pos\n"),
            "row 12 (line 14): column \"text\" is empty",
        );
        says(&rows("x, \n"), "row 11 (line 12): column \"label\" is empty");
        says(
            &rows("x,good\n"),
            "row 11 (line 12): column \"label\" has \"good\"; sentiment knows negative, neutral and positive (neg, pos, 0, 1)",
        );
        says(
            &rows("x,neutral\n"),
            "class \"neutral\" has 1 different texts; needed are 5",
        );
        says("text,label\n", "0 classes; needed are 2 to 1000");
        assert!(
            read(&rows("x\n"), Task::Sentiment)
                .unwrap_err()
                .starts_with("row 11: ")
        );
        let broken = [rows("").into_bytes(), b"\xff,pos\n".to_vec()].concat();
        let error = Table::read(&broken[..], Task::Sentiment, "text", "label").unwrap_err();
        assert!(
            error.to_string().starts_with("row 11: ") && error.to_string().contains("UTF-8"),
            "{error}"
        );
    }
}
