//! What a pass costs in arithmetic.

use plimsoll_encoder::ModelInfo;

/// Operations of one text of `tokens` tokens, a multiplication and an addition being two: in every layer the products for queries, keys,
/// values and context (hidden x hidden each) and the feed-forward network's two (hidden x intermediate each), a row a token; then each token's
/// query with every key, and its weights with every value (hidden numbers each, all heads together). What grows with neither product, such as softmax and
/// normalisation, is left out, as is usual.
pub(super) fn operations(info: &ModelInfo, tokens: usize) -> u64 {
    let [layers, hidden, middle, tokens] =
        [info.layers, info.hidden, info.intermediate, tokens].map(|count| count as u64);
    let products = 2 * (4 * hidden * hidden + 2 * hidden * middle);
    let attention = 2 * 2 * tokens * hidden;
    layers * tokens * (products + attention)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use plimsoll_encoder::Model;

    use super::*;

    /// Counts what a plain implementation does, multiplication by multiplication.
    struct Naive(u64);

    impl Naive {
        fn product(&mut self, rows: usize, inputs: usize, outputs: usize) {
            for _row in 0..rows {
                for _output in 0..outputs {
                    for _input in 0..inputs {
                        self.0 += 2;
                    }
                }
            }
        }

        fn text(&mut self, info: &ModelInfo, tokens: usize) {
            for _layer in 0..info.layers {
                for _projection in ["query", "key", "value", "context"] {
                    self.product(tokens, info.hidden, info.hidden);
                }
                for _head in 0..info.heads {
                    let width = info.hidden / info.heads;
                    self.product(tokens, width, tokens);
                    self.product(tokens, tokens, width);
                }
                self.product(tokens, info.hidden, info.intermediate);
                self.product(tokens, info.intermediate, info.hidden);
            }
        }
    }

    #[test]
    fn operations_are_what_a_plain_implementation_does() {
        let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/encoder");
        for name in ["bert", "distilbert", "xlm-roberta"] {
            let model = Model::load_dir(&testdata.join(name)).unwrap();
            for tokens in [1, 2, 17] {
                let mut naive = Naive(0);
                naive.text(model.info(), tokens);
                assert_eq!(
                    operations(model.info(), tokens),
                    naive.0,
                    "{name}, {tokens} tokens"
                );
            }
        }
    }
}
