//! Heads: what is read off the hidden states. None of them needs scratch: vectors are made a few hundred floats at a time.

use std::ops::Range;

use plimsoll_kernel::{Activation, Kernel};

use crate::config::labels::{LabelNames, default_name};
use crate::config::{self, Config, PlimsollHeads, PlimsollSequence};
use crate::error::LoadError;
use crate::hidden::Hidden;
use crate::info::{Family, Pooling, SequenceHeadInfo};
use crate::spans::{CharacterLabels, Labels};
use crate::weights::{Binder, Floats, Group, Store};

/// Floats of a vector that exist at once.
pub(crate) const BLOCK: usize = 256;
const CONFIG: &str = "config.json";
const SEQUENCE: &str = "plimsoll.sequence_classifier";
const TOKEN: &str = "plimsoll.token_classifier";

/// Weights `[outputs, inputs]` in f32, whatever the file has.
#[derive(Debug)]
struct Dense {
    weight: Floats,
    bias: Floats,
}

impl Dense {
    fn bind(name: &str, outputs: usize, inputs: usize, binder: &mut Binder) -> Result<Dense, LoadError> {
        let weight = binder.float_matrix(&format!("{name}.weight"), [outputs, inputs], Group::Heads)?;
        let bias = binder.vector(&format!("{name}.bias"), outputs, Group::Heads)?;
        Ok(Dense { weight, bias })
    }
}

/// A head over sequences: pool, perhaps a dense layer with an activation, then one logit a label.
#[derive(Debug)]
pub(crate) struct SequenceHead {
    /// One or more, one behind the other.
    pooling: Vec<Pooling>,
    dense: Option<(Dense, Option<Activation>)>,
    output: Dense,
    pub(crate) info: SequenceHeadInfo,
    /// Where its weights are when they came in a file of their own.
    own: Option<Store>,
}

/// A head over tokens.
#[derive(Debug)]
pub(crate) struct TokenHead {
    output: Dense,
    pub(crate) labels: Labels,
    /// How its rows label the characters inside pieces, when they do.
    pub(crate) characters: Option<CharacterLabels>,
}

#[derive(Debug, Default)]
pub(crate) struct Heads {
    pub(crate) sequence: Option<SequenceHead>,
    pub(crate) token: Option<TokenHead>,
}

impl Heads {
    pub(crate) fn bind(config: &Config, prefix: &str, binder: &mut Binder) -> Result<Heads, LoadError> {
        let mut heads = Heads::default();
        match config.purpose.as_deref() {
            Some("ForSequenceClassification") => {
                heads.sequence = Some(SequenceHead::bind(config, prefix, binder)?);
            }
            Some("ForTokenClassification") => {
                let labels = config.labels.as_ref();
                heads.token = Some(TokenHead::bind(config, "classifier", labels, binder)?);
            }
            None if binder.has("classifier.weight") || binder.has("classifier.dense.weight") => {
                let reason = "architectures is missing, so what classifier.* is for cannot be told";
                return Err(LoadError::Config {
                    file: CONFIG,
                    reason: reason.into(),
                });
            }
            _ => {}
        }
        heads.bind_plimsoll(config, &config.plimsoll_heads, binder)?;
        Ok(heads)
    }

    fn bind_plimsoll(
        &mut self,
        config: &Config,
        extra: &PlimsollHeads,
        binder: &mut Binder,
    ) -> Result<(), LoadError> {
        let twice = |what: &str| LoadError::Config {
            file: CONFIG,
            reason: format!("two {what} classifiers: the architecture's and plimsoll_heads'"),
        };
        if let Some(head) = &extra.sequence_classifier {
            if self.sequence.is_some() {
                return Err(twice("sequence"));
            }
            self.sequence = Some(SequenceHead::bind_plimsoll(config.hidden, head, CONFIG, binder)?);
        }
        if let Some(head) = &extra.token_classifier {
            if self.token.is_some() {
                return Err(twice("token"));
            }
            self.token = Some(TokenHead::bind_slots(config, &head.id2label, head.slots, binder)?);
        }
        Ok(())
    }
}

impl SequenceHead {
    fn bind(config: &Config, prefix: &str, binder: &mut Binder) -> Result<SequenceHead, LoadError> {
        let (dense, activation, output) = match config.family {
            Family::Bert => (format!("{prefix}pooler.dense"), Activation::Tanh, "classifier"),
            Family::DistilBert => ("pre_classifier".into(), Activation::Relu, "classifier"),
            Family::Roberta | Family::XlmRoberta => {
                ("classifier.dense".into(), Activation::Tanh, "classifier.out_proj")
            }
        };
        let labels = labels_of(output, config.labels.as_ref(), CONFIG, binder)?;
        let dense = Dense::bind(&dense, config.hidden, config.hidden, binder)?;
        let problem = config::problem(config.problem.as_deref(), labels.len())?;
        Ok(SequenceHead {
            pooling: vec![Pooling::Cls],
            dense: Some((dense, Some(activation))),
            output: Dense::bind(output, labels.len(), config.hidden, binder)?,
            info: SequenceHeadInfo {
                labels,
                problem,
                beside: false,
            },
            own: None,
        })
    }

    /// A head announced by `head` in `file`.
    pub(crate) fn bind_plimsoll(
        hidden: usize,
        head: &PlimsollSequence,
        file: &'static str,
        binder: &mut Binder,
    ) -> Result<SequenceHead, LoadError> {
        let pooling = config::poolings(head.pooling.as_deref().unwrap_or("cls"))?;
        let inputs = pooling.len() * hidden;
        let labels = labels_of(SEQUENCE, Some(&head.id2label), file, binder)?;
        let activation = head.activation.as_deref().map(config::activation).transpose()?;
        let dense_name = format!("{SEQUENCE}.dense");
        let dense = if binder.has(&format!("{dense_name}.weight")) {
            Some((Dense::bind(&dense_name, hidden, inputs, binder)?, activation))
        } else {
            None
        };
        let problem = config::problem(head.problem_type.as_deref(), labels.len())?;
        Ok(SequenceHead {
            pooling,
            output: Dense::bind(
                SEQUENCE,
                labels.len(),
                if dense.is_some() { hidden } else { inputs },
                binder,
            )?,
            dense,
            info: SequenceHeadInfo {
                labels,
                problem,
                beside: true,
            },
            own: None,
        })
    }

    /// The same head with its weights in `store`.
    pub(crate) fn with_own(self, store: Store) -> SequenceHead {
        SequenceHead {
            own: Some(store),
            ..self
        }
    }

    /// Writes the logits, making vectors `B` floats at a time.
    pub(crate) fn logits<const B: usize>(
        &self,
        kernel: Kernel,
        store: &Store,
        hidden: &Hidden<'_>,
        tokens: Range<usize>,
        out: &mut [f32],
    ) {
        let store = self.own.as_ref().unwrap_or(store);
        let pooled = Pooled {
            kernel,
            rows: hidden.rows(tokens),
            width: hidden.width(),
            pooling: &self.pooling,
        };
        let width = match self.dense {
            Some(_) => hidden.width(),
            None => pooled.inputs(),
        };
        out.copy_from_slice(store.floats(&self.output.bias));
        let weight = store.floats(&self.output.weight);
        let mut block = [0.0; B];
        for start in (0..width).step_by(B) {
            let columns = start..width.min(start + B);
            let block = &mut block[..columns.len()];
            match &self.dense {
                None => pooled.write(columns.clone(), block),
                Some((dense, activation)) => {
                    pooled.multiply::<B>(store, dense, columns.clone(), block);
                    if let Some(activation) = activation {
                        kernel.activate(*activation, block);
                    }
                }
            }
            for (label, out) in out.iter_mut().enumerate() {
                *out += kernel.dot(&weight[label * width..][columns.clone()], block);
            }
        }
    }
}

/// A sequence's pooled vector, made in parts.
struct Pooled<'a> {
    kernel: Kernel,
    rows: &'a [f32],
    width: usize,
    pooling: &'a [Pooling],
}

impl Pooled<'_> {
    /// Floats of the vector.
    fn inputs(&self) -> usize {
        self.pooling.len() * self.width
    }

    /// Writes `columns` of the vector.
    fn write(&self, columns: Range<usize>, out: &mut [f32]) {
        let mut start = columns.start;
        while start < columns.end {
            let part = start / self.width;
            let end = columns.end.min((part + 1) * self.width);
            let from = start - part * self.width..end - part * self.width;
            let out = &mut out[start - columns.start..end - columns.start];
            self.write_part(self.pooling[part], from, out);
            start = end;
        }
    }

    fn write_part(&self, pooling: Pooling, columns: Range<usize>, out: &mut [f32]) {
        let mut rows = self
            .rows
            .chunks_exact(self.width)
            .map(|row| &row[columns.clone()]);
        match pooling {
            Pooling::Cls => out.copy_from_slice(&self.rows[columns]),
            Pooling::LastToken => out.copy_from_slice(&self.rows[self.rows.len() - self.width..][columns]),
            Pooling::Mean => {
                out.fill(0.0);
                rows.by_ref().for_each(|row| self.kernel.add(out, row));
                let factor = self.width as f32 / self.rows.len() as f32;
                out.iter_mut().for_each(|x| *x *= factor);
            }
            Pooling::Max => {
                out.fill(f32::NEG_INFINITY);
                rows.for_each(|row| out.iter_mut().zip(row).for_each(|(x, &y)| *x = x.max(y)));
            }
        }
    }

    /// Writes `outputs` of the dense layer of this vector.
    fn multiply<const B: usize>(&self, store: &Store, dense: &Dense, outputs: Range<usize>, out: &mut [f32]) {
        out.copy_from_slice(&store.floats(&dense.bias)[outputs.clone()]);
        let inputs = self.inputs();
        let weight = &store.floats(&dense.weight)[outputs.start * inputs..outputs.end * inputs];
        let mut part = [0.0; B];
        for start in (0..inputs).step_by(B) {
            let columns = start..inputs.min(start + B);
            let part = &mut part[..columns.len()];
            self.write(columns.clone(), part);
            for (out, row) in out.iter_mut().zip(weight.chunks_exact(inputs)) {
                *out += self.kernel.dot(&row[columns.clone()], part);
            }
        }
    }
}

impl TokenHead {
    fn bind(
        config: &Config,
        name: &str,
        labels: Option<&LabelNames>,
        binder: &mut Binder,
    ) -> Result<TokenHead, LoadError> {
        let labels = labels_of(name, labels, CONFIG, binder)?;
        let output = Dense::bind(name, labels.len(), config.hidden, binder)?;
        Ok(TokenHead {
            output,
            labels,
            characters: None,
        })
    }

    fn bind_slots(
        config: &Config,
        names: &LabelNames,
        slots: Option<usize>,
        binder: &mut Binder,
    ) -> Result<TokenHead, LoadError> {
        let slots = slots.unwrap_or(1);
        if slots == 1 {
            return TokenHead::bind(config, TOKEN, Some(names), binder);
        }
        let labels = Labels::new(names.of_rows(names.len(), TOKEN, CONFIG)?);
        let characters = CharacterLabels::new(&labels, slots).ok_or_else(|| LoadError::Config {
            file: CONFIG,
            reason: format!("token_classifier has {slots} slots: 2 to 16 need the labels O and B-, M-, E-, S- of each of 1 to 16 kinds"),
        })?;
        Ok(TokenHead {
            output: Dense::bind(TOKEN, slots * labels.len(), config.hidden, binder)?,
            labels,
            characters: Some(characters),
        })
    }

    /// Rows of labels that each token has.
    fn slots(&self) -> usize {
        self.characters.as_ref().map_or(1, CharacterLabels::slots)
    }

    /// Writes each token's most probable label and its probability.
    pub(crate) fn best(
        &self,
        kernel: Kernel,
        store: &Store,
        rows: &[f32],
        width: usize,
        out: (&mut [u16], &mut [f32]),
    ) {
        let (weight, bias) = (store.floats(&self.output.weight), store.floats(&self.output.bias));
        let (labels, scores) = out;
        for ((row, label), score) in rows.chunks_exact(width).zip(labels).zip(scores) {
            let mut best = f32::NEG_INFINITY;
            // Sum of exp(logit - best), kept on-line.
            let mut total = 0.0_f32;
            *label = 0;
            for (index, (weight, bias)) in weight.chunks_exact(width).zip(bias).enumerate() {
                let logit = kernel.dot(weight, row) + bias;
                if logit > best {
                    total = total * (best - logit).exp() + 1.0;
                    (best, *label) = (logit, index as u16);
                } else {
                    total += (logit - best).exp();
                }
            }
            *score = 1.0 / total;
        }
    }

    /// Writes the log-probabilities of all labels of each token and slot.
    pub(crate) fn log_probabilities(
        &self,
        kernel: Kernel,
        store: &Store,
        rows: &[f32],
        width: usize,
        out: &mut [f32],
    ) {
        self.logits(kernel, store, rows, width, out);
        for row in out.chunks_exact_mut(self.labels.len()) {
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f32 = row.iter().map(|logit| (logit - largest).exp()).sum();
            let shift = largest + sum.ln();
            row.iter_mut().for_each(|logit| *logit -= shift);
        }
    }

    /// Writes the probabilities of all labels of each token.
    pub(crate) fn probabilities(
        &self,
        kernel: Kernel,
        store: &Store,
        rows: &[f32],
        width: usize,
        out: &mut [f32],
    ) {
        self.logits(kernel, store, rows, width, out);
        kernel.softmax(out, self.labels.len());
    }

    fn logits(&self, kernel: Kernel, store: &Store, rows: &[f32], width: usize, out: &mut [f32]) {
        let shape = plimsoll_kernel::LinearShape {
            rows: rows.len() / width,
            inputs: width,
            outputs: self.slots() * self.labels.len(),
        };
        let (weight, bias) = (store.floats(&self.output.weight), store.floats(&self.output.bias));
        kernel.linear(
            rows,
            weight,
            Some(bias),
            out,
            shape,
            plimsoll_kernel::Epilogue::Store,
        );
    }
}

/// The labels by `file`, or `LABEL_0`, `LABEL_1`, ... as `transformers` names them; as many as the tensor has rows.
fn labels_of(
    output: &str,
    names: Option<&LabelNames>,
    file: &'static str,
    binder: &Binder,
) -> Result<Labels, LoadError> {
    let weight = format!("{output}.weight");
    let rows = binder.rows(&weight)?;
    if rows == 0 || rows > usize::from(u16::MAX) {
        let reason = format!("{weight} has {rows} rows, a head has 1 to {} labels", u16::MAX);
        return Err(LoadError::Unsupported(reason));
    }
    Ok(Labels::new(match names {
        Some(names) => names.of_rows(rows, &weight, file)?,
        None => (0..rows).map(default_name).collect(),
    }))
}
