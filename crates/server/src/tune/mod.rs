//! A classification head of one's own: trained on the hidden states of the frozen encoder, on the CPU, in minutes.
//!
//! People have labels that no model ships with, and few examples of each. The encoder already knows the language, so what is left to
//! learn is linear: a multinomial logistic regression on the mean of a text's token vectors and on its first token's. A part
//! of the examples is held out and tells how good the result is; another chooses how strongly weights are held back and how certain the
//! answers may sound. Neither is told to the regression before its figures are taken.

mod features;
mod file;
mod fit;
mod lbfgs;
mod regression;
mod report;
mod table;

pub use features::{FeatureError, Features, bytes as feature_bytes, features};
pub use file::{Head, write};
pub use fit::{Tuned, tune};
pub use report::{Balance, Report};
pub use table::{Table, TableError, Task};

/// A stream of numbers that looks random and is the same everywhere (SplitMix64, Steele et al. 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound.max(1) as u64) as usize
    }

    /// Shuffles in place (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
