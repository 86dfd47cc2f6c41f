//! Strings that nobody writes: every Unicode block, marks, controls, endless words, special tokens in odd places.

/// A small generator with a seed (xorshift64*).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }

    fn pick<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }
}

const SPACES: [char; 14] = [
    ' ', ' ', '\t', '\n', '\r', '\u{a0}', '\u{3000}', '\u{2003}', '\u{200b}', '\u{85}', '\u{b}', '\u{2028}',
    '\u{1680}', '\u{feff}',
];
const MARKS: [char; 24] = [
    '\u{300}',
    '\u{301}',
    '\u{308}',
    '\u{323}',
    '\u{327}',
    '\u{345}',
    '\u{344}',
    '\u{338}',
    '\u{5b0}',
    '\u{64b}',
    '\u{94d}',
    '\u{93c}',
    '\u{302e}',
    '\u{302f}',
    '\u{3099}',
    '\u{309a}',
    '\u{20dd}',
    '\u{fe0f}',
    '\u{200d}',
    '\u{1d165}',
    '\u{1d16d}',
    '\u{f71}',
    '\u{f73}',
    '\u{35c}',
];
const EMOJI: [&str; 8] = ["😀", "👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇨🇳", "1️⃣", "❤️", "🧑🏿‍🚀"];
const WORDS: [&str; 24] = [
    "the",
    "Hello",
    "it's",
    "we'll",
    "unaffable",
    "Straße",
    "İstanbul",
    "naïve",
    "ΣΊΣΥΦΟΣ",
    "한국어",
    "ｆｕｌｌ",
    "ﷺ",
    "中文",
    "東京タワー",
    "ปีใหม่",
    "नमस्ते",
    "שָׁלוֹם",
    "12345",
    "3.14",
    "TD-8",
    "e=mc²",
    "ﬁn",
    "①②",
    "don't",
];
const SIGNS: [char; 16] = [
    '.', ',', '!', '-', '\'', '"', '。', '，', '、', '“', '…', '#', '$', '`', '\u{37e}', '▁',
];

/// A string of `seed`; `specials` are put in now and then.
pub fn string(seed: u64, specials: &[String]) -> String {
    let random = &mut Random::new(seed);
    let mut text = String::new();
    if random.below(400) == 0 {
        long_word(random, &mut text);
    }
    let block = random.below(0x1100) as u32 * 256;
    let length = 1 + random.below(24);
    for _ in 0..length {
        piece(random, block, specials, &mut text);
    }
    text
}

fn piece(random: &mut Random, block: u32, specials: &[String], text: &mut String) {
    match random.below(16) {
        0 | 1 => text.push_str(random.pick(&WORDS)),
        2 | 3 => text.push(random.pick(&SPACES)),
        4 => (0..=random.below(4)).for_each(|_| text.push(random.pick(&MARKS))),
        5 => text.push_str(random.pick(&EMOJI)),
        6 => text.push(random.pick(&SIGNS)),
        7 => text.extend(char::from_u32(random.below(32) as u32)),
        8 => text.extend(char::from_u32(0x4E00 + random.below(0x5200) as u32)),
        9 if !specials.is_empty() => text.push_str(&random.pick(specials)),
        10 => text.extend(char::from_u32(random.below(0x11_0000) as u32)),
        11 => text.extend(char::from_u32(random.below(0x3100) as u32)),
        12 => text.push_str("  "),
        13 => text.extend(char::from_u32(0x21 + random.below(94) as u32)),
        _ => text.extend(char::from_u32(block + random.below(256) as u32)),
    }
}

fn long_word(random: &mut Random, text: &mut String) {
    let units = ["a", "ab", "中", "é", "e\u{301}", "한", "x1", "\u{301}", "'", "😀"];
    let unit = random.pick(&units);
    for _ in 0..random.below(3000) {
        text.push_str(if random.below(50) == 0 {
            random.pick(&units)
        } else {
            unit
        });
    }
}
