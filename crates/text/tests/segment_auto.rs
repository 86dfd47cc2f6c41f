//! What `SegmentMode::Auto` promises, as a table: words are parted by `|`, blank ones left out.

use plimsoll_text::segment::{SegmentMode, Segmenter, word_is_blank};

fn check(text: &str, expected: &str) {
    let segmenter = Segmenter::embedded();
    let mut scratch = vec![0; segmenter.scratch_bytes(text.len())];
    let mut ends = vec![0; text.chars().count()];
    let count = segmenter
        .segment(text, SegmentMode::Auto, &mut scratch, &mut ends)
        .unwrap();
    let mut start = 0;
    let words = ends[..count].iter().map(|&end| {
        let word = &text[start..end as usize];
        start = end as usize;
        word
    });
    let words: Vec<&str> = words.filter(|word| !word_is_blank(word)).collect();
    assert_eq!(words.join("|"), expected, "{text:?}");
    assert_eq!(start, text.len());
}

#[test]
fn han_is_cut_by_jieba() {
    check("我来到北京清华大学", "我|来到|北京|清华大学");
    check("他来到了网易杭研大厦", "他|来到|了|网易|杭研|大厦");
    check("今天天气很好。我们去公园！", "今天天气|很|好|。|我们|去|公园|！");
}

#[test]
fn ascii_that_touches_han_stays_with_jieba() {
    check("鲁迅写阿Q正传", "鲁迅|写|阿Q|正传");
    check("C++程序和C#程序", "C++|程序|和|C#|程序");
    check("AT&T公司的PH值是7.0", "AT&T|公司|的|PH值|是|7.0");
    check("准确率99.5%", "准确率|99.5%");
    check("用iPhone拍照", "用|iPhone|拍照");
}

#[test]
fn ascii_that_belongs_to_a_longer_word_leaves_jieba() {
    check("中文don't中文", "中文|don't|中文");
    check("中文naïve中文", "中文|naïve|中文");
    check("共1,000.5元", "共|1,000.5|元");
    check("第1️⃣名", "第|1️⃣|名");
}

#[test]
fn english_words_are_clean() {
    check(
        "I don't know, it's 3.14 (or so).",
        "I|don't|know|,|it's|3.14|(|or|so|)|.",
    );
    check("state-of-the-art e-mail", "state|-|of|-|the|-|art|e|-|mail");
    check("1,000,000 users", "1,000,000|users");
}

#[test]
fn letters_are_never_cut_one_by_one() {
    check("naïve café", "naïve|café");
    check("cafe\u{301} zoë", "cafe\u{301}|zoë");
    check("Привет, мир", "Привет|,|мир");
    check("Καλημέρα κόσμε", "Καλημέρα|κόσμε");
    check("한국어 문장", "한국어|문장");
    check("カタカナとひらがな", "カタカナ|とひらがな");
    check("らーめん", "らーめん");
    check("ภาษาไทย", "ภาษาไทย");
    check("ＡＢＣ１２３", "ＡＢＣ１２３");
}

#[test]
fn sequences_stay_whole() {
    check("👩‍👩‍👧‍👦👍🏽🇨🇳🇺🇸", "👩‍👩‍👧‍👦|👍🏽|🇨🇳|🇺🇸");
    check("好👍🏽的", "好|👍🏽|的");
    check("葛\u{E0100}城", "葛\u{E0100}|城");
}

#[test]
fn han_outside_jiebas_range_stands_alone() {
    check("𠮷野家", "𠮷|野家");
    check("㐀㐁", "㐀|㐁");
}

#[test]
fn blank_words_can_be_left_out() {
    check(" \u{3000}\t\r\n\u{200B}\u{FEFF}", "");
    check("", "");
    assert!(word_is_blank("\u{A0}") && !word_is_blank("一") && !word_is_blank(" 一"));
}
