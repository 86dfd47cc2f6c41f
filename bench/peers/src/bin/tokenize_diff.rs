//! Compares ids, byte offsets, character offsets, type ids and truncation with the `tokenizers` crate, text by text.
//!
//! ```text
//! tokenize_diff TOKENIZER.json [--lines N] [--generated N] [--seed S] [FILE or DIRECTORY]...
//! ```
//!
//! Every text is encoded alone; every fourth also as a pair with the one before, and with truncation to a random length on a
//! random side. Exits with 1 on any difference, after printing the first ten.

use plimsoll_peers::generate::{self, Random};
use plimsoll_peers::{corpus, ours::Ours};
use plimsoll_text::{CharOffsets, EncodeOptions, Truncation};
use tokenizers::{Encoding, Tokenizer, TruncationDirection, TruncationParams};

const SHOWN: usize = 10;

struct Options {
    tokenizer: String,
    lines: usize,
    generated: usize,
    seed: u64,
    paths: Vec<String>,
}

fn options() -> Options {
    let mut args = std::env::args().skip(1);
    let mut options = Options {
        tokenizer: String::new(),
        lines: usize::MAX,
        generated: 0,
        seed: 1,
        paths: vec![],
    };
    let number = |value: Option<String>| value.and_then(|v| v.parse().ok()).unwrap_or_else(|| usage());
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--lines" => options.lines = number(args.next()),
            "--generated" => options.generated = number(args.next()),
            "--seed" => options.seed = number(args.next()) as u64,
            _ if options.tokenizer.is_empty() => options.tokenizer = arg,
            _ => options.paths.push(arg),
        }
    }
    if options.tokenizer.is_empty() {
        usage()
    } else {
        options
    }
}

fn usage() -> ! {
    eprintln!(
        "usage: tokenize_diff TOKENIZER.json [--lines N] [--generated N] [--seed S] [FILE or DIRECTORY]..."
    );
    std::process::exit(2)
}

struct Compare {
    theirs: Tokenizer,
    ours: Ours,
    random: Random,
    compared: usize,
    differences: usize,
}

impl Compare {
    fn text(&mut self, number: usize, text: &str, before: &str) {
        self.one(text, None, true, None);
        if number % 4 != 0 {
            return;
        }
        let special = self.random.below(4) != 0;
        self.one(before, Some(text), special, None);
        let left = self.random.below(2) == 0;
        let cut = Some((self.random.below(24) + 4, left));
        let pair = (self.random.below(2) == 0).then_some(text);
        let first = if pair.is_some() { before } else { text };
        self.one(first, pair, special, cut);
    }

    fn one(&mut self, text: &str, pair: Option<&str>, special: bool, cut: Option<(usize, bool)>) {
        self.compared += 1;
        let (mut truncation, mut tokens_max) = (Truncation::Right, usize::MAX);
        if let Some((max, left)) = cut {
            tokens_max = max;
            truncation = if left { Truncation::Left } else { Truncation::Right };
        }
        let params = cut.map(|(max_length, left)| TruncationParams {
            max_length,
            direction: if left {
                TruncationDirection::Left
            } else {
                TruncationDirection::Right
            },
            ..Default::default()
        });
        self.theirs.with_truncation(params).expect("a valid length");
        let encode = |chars: bool| match (pair, chars) {
            (None, false) => self.theirs.encode(text, special),
            (None, true) => self.theirs.encode_char_offsets(text, special),
            (Some(pair), false) => self.theirs.encode((text, pair), special),
            (Some(pair), true) => self.theirs.encode_char_offsets((text, pair), special),
        };
        let (bytes, chars) = (encode(false).expect("encodes"), encode(true).expect("encodes"));
        let options = EncodeOptions {
            add_special_tokens: special,
            tokens_max,
            truncation,
            count_all: true,
        };
        let count = self.ours.encode(text, pair, &options).count;
        if let Some(what) = self.difference(count, &bytes, &chars, text, pair) {
            self.differences += 1;
            if self.differences <= SHOWN {
                println!("--- {what}\ntext {text:?} pair {pair:?} special {special} cut {cut:?}");
                println!(
                    "theirs {:?} {:?}",
                    head(bytes.get_ids()),
                    head(bytes.get_offsets())
                );
                let offsets: Vec<_> = self.ours.starts[..count].iter().zip(&self.ours.ends).collect();
                println!("ours   {:?} {:?}", head(&self.ours.ids[..count]), head(&offsets));
            }
        }
    }

    fn difference(
        &self,
        count: usize,
        bytes: &Encoding,
        chars: &Encoding,
        text: &str,
        pair: Option<&str>,
    ) -> Option<&'static str> {
        let ours = &self.ours;
        if bytes.get_ids() != &ours.ids[..count] {
            return Some("ids");
        }
        let types = ours.types[..count].iter().map(|&t| u32::from(t));
        if !types.eq(bytes.get_type_ids().iter().copied()) {
            return Some("type ids");
        }
        let offsets = ours.starts[..count]
            .iter()
            .zip(&ours.ends)
            .map(|(s, e)| (*s as usize, *e as usize));
        for (at, (start, end)) in offsets.enumerate() {
            let second = bytes.token_to_sequence(at) == Some(1) || self.is_second(bytes, at);
            let source = if second { pair.unwrap_or("") } else { text };
            let special = bytes.get_special_tokens_mask()[at] == 1;
            let mut cursor = CharOffsets::new(source);
            let whole = source.is_char_boundary(start) && source.is_char_boundary(end);
            let as_chars = (cursor.char_of(start), cursor.char_of(end));
            let same_chars = whole && as_chars == chars.get_offsets()[at];
            let theirs = bytes.get_offsets()[at];
            // The crate counts characters as bytes where an added token takes wide spaces with it.
            let wide = !source.is_char_boundary(theirs.0) || !source.is_char_boundary(theirs.1);
            if theirs != (start, end)
                && !(same_chars && (wide || self.takes_wide_spaces(ours.ids[at], source, start, end)))
            {
                return Some("byte offsets");
            }
            if !special && start < end && !same_chars {
                return Some("character offsets");
            }
        }
        None
    }

    /// Truncation forgets which token is from which text; then the second text's tokens follow the last drop of the offsets.
    fn is_second(&self, bytes: &Encoding, at: usize) -> bool {
        let sequences = bytes.n_sequences();
        sequences < 2 && at > 0 && {
            let starts: Vec<usize> = bytes.get_offsets().iter().map(|o| o.0).collect();
            let mask = bytes.get_special_tokens_mask();
            let text: Vec<usize> = (0..starts.len()).filter(|&i| mask[i] == 0).collect();
            text.windows(2).any(|w| w[1] <= at && starts[w[1]] < starts[w[0]])
        }
    }

    fn takes_wide_spaces(&self, id: u32, source: &str, start: usize, end: usize) -> bool {
        let added = self.theirs.get_added_tokens_decoder().contains_key(&id);
        let before = source[..start]
            .chars()
            .next_back()
            .is_some_and(|c| c.is_whitespace() && !c.is_ascii());
        let after = source[end..]
            .chars()
            .next()
            .is_some_and(|c| c.is_whitespace() && !c.is_ascii());
        added && (before || after || source[..start].ends_with(char::is_whitespace))
    }
}

fn head<T: Clone>(items: &[T]) -> Vec<T> {
    items.iter().take(60).cloned().collect()
}

fn main() {
    let options = options();
    let mut theirs = Tokenizer::from_file(&options.tokenizer).expect("the crate reads the tokenizer");
    theirs.with_padding(None);
    let specials: Vec<String> = theirs
        .get_added_tokens_decoder()
        .values()
        .map(|token| token.content.clone())
        .collect();
    let ours = Ours::from_file(&options.tokenizer);
    let mut compare = Compare {
        theirs,
        ours,
        random: Random::new(options.seed),
        compared: 0,
        differences: 0,
    };
    let lines = corpus::lines(&options.paths, options.lines);
    let mut before = "";
    for (number, line) in lines.iter().enumerate() {
        compare.text(number, line, before);
        before = line;
    }
    let mut before = String::new();
    for number in 0..options.generated {
        let text = generate::string(options.seed.wrapping_add(number as u64), &specials);
        compare.text(number, &text, &before);
        before = text;
    }
    println!(
        "{} real lines, {} generated strings, {} comparisons, {} differences",
        lines.len(),
        options.generated,
        compare.compared,
        compare.differences
    );
    std::process::exit(i32::from(compare.differences > 0));
}
