//! Texts for attackers, from a seed.

use crate::rng::Rng;

const WORDS: [&str; 32] = [
    "服务", "内存", "北京", "我们", "今天", "分词", "模型", "上海", "非常", "喜欢", "的", "是", "在", "了",
    "评论", "质量", "server", "memory", "the", "line", "ship", "under", "night", "load", "of", "and",
    "token", "request", "limit", "vector", "good", "never",
];

/// Text of about `tokens` tokens. No character of it needs escaping in JSON.
pub fn text(rng: &mut Rng, tokens: usize) -> String {
    let mut text = String::with_capacity(6 * tokens);
    for _ in 0..tokens {
        let word = *rng.pick(&WORDS);
        text.push_str(word);
        if word.is_ascii() {
            text.push(' ');
        }
    }
    text
}

/// A text that nobody has sent before: its numbers make it so.
pub fn unique(rng: &mut Rng, tokens: usize) -> String {
    format!("{:016x} {}", rng.next(), text(rng, tokens))
}

/// A `/v1/analyze` body with one text, for all that the model can do.
pub fn analyze(text: &str) -> String {
    format!("{{\"text\": \"{text}\"}}")
}

/// A `/v1/analyze` body with many texts.
pub fn analyze_all(texts: &[String]) -> String {
    format!("{{\"text\": [\"{}\"]}}", texts.join("\", \""))
}

/// What makes a tokenizer work hardest: no place to cut, or clusters and characters that normalisation blows up.
pub fn bomb(rng: &mut Rng, bytes: usize) -> String {
    const PIECES: [&str; 7] = [
        "a",
        "長",
        "👨\u{200d}👩\u{200d}👧\u{200d}👦",
        "e\u{301}\u{302}\u{303}",
        "\u{fdfa}",
        "🏳\u{fe0f}\u{200d}🌈",
        "١",
    ];
    let mixed = rng.percent(30);
    let piece = *rng.pick(&PIECES);
    let mut text = String::with_capacity(bytes);
    while text.len() + 32 < bytes {
        let next = if mixed { *rng.pick(&PIECES) } else { piece };
        text.push_str(next);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_text_and_a_body_is_json() {
        let text = |seed| unique(&mut Rng::new(seed), 20);
        assert_eq!(text(1), text(1));
        assert_ne!(text(1), text(2));
        let bodies = [
            analyze(&text(1)),
            analyze_all(&[text(1), bomb(&mut Rng::new(3), 4000)]),
        ];
        for body in bodies {
            serde_json::from_str::<serde_json::Value>(&body).unwrap();
        }
    }
}
