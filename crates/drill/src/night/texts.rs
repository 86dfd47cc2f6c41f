//! Texts of the night: reviews, written for this drill and put together from a seed, or lines of a file; and documents that are made up.

use std::path::Path;

use super::plan::{HOT_TEXTS, SESSIONS};
use crate::line::{RigError, corpus};
use crate::rng::Rng;

/// Reviews that go round when they come from nowhere else.
const CATALOGUE: usize = 2048;
/// Characters of a line of a file that is a review.
const REVIEW_CHARACTERS: (usize, usize) = (8, 160);

const OPENINGS: [&str; 12] = [
    "房间很干净，",
    "第二次来住了，",
    "前台的服务员很热情，",
    "这本书我看了两遍，",
    "屏幕比想象的亮，",
    "送货很快，",
    "The room was quiet and ",
    "We came back for the third time: ",
    "Delivery took two days, ",
    "The battery is ",
    "I read it in one evening, ",
    "For this price ",
];
const MIDDLES: [&str; 12] = [
    "但是早餐种类太少，",
    "离地铁站走路五分钟，",
    "电池只能用半天，",
    "包装有点破，",
    "故事前半部分很慢，",
    "孩子非常喜欢，",
    "the view over the harbour is worth it, ",
    "breakfast could be better, ",
    "the keyboard feels cheap, ",
    "my son would not put it down, ",
    "the second half drags, ",
    "nobody answered the phone, ",
];
const ENDINGS: [&str; 12] = [
    "下次还会来。",
    "总体来说性价比不错。",
    "不推荐。",
    "希望改进空调。",
    "已经退货了。",
    "给四颗星。",
    "would stay again.",
    "not worth the money.",
    "four stars from me.",
    "I sent it back.",
    "highly recommended.",
    "good for what it costs.",
];

/// All texts of a night.
#[derive(Clone, Debug)]
pub struct Texts {
    reviews: Vec<String>,
    seed: u64,
}

impl Texts {
    /// Reviews put together from `seed`.
    pub fn from_seed(seed: u64) -> Texts {
        let reviews = (0..CATALOGUE as u64).map(|number| review(seed ^ number << 1));
        Texts {
            reviews: reviews.collect(),
            seed,
        }
    }

    /// The lines of a file that are as long as reviews are, in an order that `seed` decides.
    ///
    /// # Errors
    /// When it cannot be read or has too few of them.
    pub fn from_file(path: &Path, seed: u64) -> Result<Texts, RigError> {
        let failed = |reason: String| RigError::Files(format!("{}: {reason}", path.display()));
        let file = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let fits = |line: &&str| {
            let characters = line.chars().count();
            (REVIEW_CHARACTERS.0..=REVIEW_CHARACTERS.1).contains(&characters)
        };
        let mut lines: Vec<&str> = file.lines().map(str::trim).filter(fits).collect();
        if lines.len() < CATALOGUE {
            return Err(failed(format!(
                "{} lines of {} to {} characters, {CATALOGUE} are needed",
                lines.len(),
                REVIEW_CHARACTERS.0,
                REVIEW_CHARACTERS.1
            )));
        }
        let mut rng = Rng::new(seed);
        for index in 0..CATALOGUE {
            let other = index + rng.below(lines.len() - index);
            lines.swap(index, other);
        }
        Ok(Texts {
            reviews: lines[..CATALOGUE].iter().map(|line| (*line).to_owned()).collect(),
            seed,
        })
    }

    /// A text that a session comes back to.
    pub fn hot(&self, session: usize, number: usize) -> &str {
        &self.reviews[session % SESSIONS * HOT_TEXTS + number % HOT_TEXTS]
    }

    /// A review that nobody has sent before: its number makes it so.
    pub fn fresh(&self, number: u64) -> String {
        format!("{} {number:016x}", review(self.seed ^ number))
    }

    /// The whole catalogue, the hot ones first.
    pub fn catalogue(&self) -> &[String] {
        &self.reviews
    }
}

fn review(seed: u64) -> String {
    let mut rng = Rng::new(seed);
    let (opening, middle, ending) = (*rng.pick(&OPENINGS), *rng.pick(&MIDDLES), *rng.pick(&ENDINGS));
    format!("{opening}{middle}{ending} No. {}", rng.below(1_000_000))
}

/// A document of `bytes` bytes at most, made up: a page of words over and over, from another word on each time. No character of it needs escaping in JSON.
pub fn document(seed: u64, bytes: usize) -> String {
    const PAGE_TOKENS: usize = 400;
    let page = corpus::text(&mut Rng::new(seed), PAGE_TOKENS);
    let mut text = format!("{seed:016x} ");
    while text.len() + page.len() <= bytes {
        text.push_str(&page);
    }
    let end = page
        .char_indices()
        .map(|(index, _)| index)
        .take_while(|index| text.len() + index <= bytes)
        .last()
        .unwrap_or(0);
    text.push_str(&page[..end]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reviews_are_many_short_and_the_seeds_own() {
        let texts = Texts::from_seed(1);
        let mut all: Vec<&String> = texts.catalogue().iter().collect();
        all.sort();
        all.dedup();
        assert!(all.len() > CATALOGUE * 95 / 100, "{}", all.len());
        assert!(all.iter().all(|review| review.chars().count() < 160));
        assert_eq!(texts.hot(3, 2), Texts::from_seed(1).hot(3, 2));
        assert_ne!(texts.hot(3, 2), Texts::from_seed(2).hot(3, 2));
        assert_ne!(texts.fresh(1), texts.fresh(2));
    }

    #[test]
    fn documents_are_as_long_as_asked_and_their_own() {
        for bytes in [120, 1500, 40_000, 480_000] {
            let text = document(9, bytes);
            assert!(
                text.len() <= bytes && text.len() + 4 > bytes,
                "{bytes}: {}",
                text.len()
            );
            let body = format!("{{\"text\": \"{text}\"}}");
            serde_json::from_str::<serde_json::Value>(&body).unwrap();
        }
        assert_ne!(document(1, 500), document(2, 500));
    }

    #[test]
    fn a_file_with_too_few_lines_is_named() {
        let path = std::env::temp_dir().join(format!("plimsoll-texts-{}", std::process::id()));
        std::fs::write(&path, "one line that is long enough\n").unwrap();
        let error = Texts::from_file(&path, 1).unwrap_err().to_string();
        std::fs::remove_file(&path).unwrap();
        assert!(error.contains("1 lines of 8 to 160 characters"), "{error}");
    }
}
