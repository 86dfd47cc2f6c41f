"""Chooses the pieces that Chinese and English text needs."""

import re
from collections import Counter

BATCH_LINES = 2000

# Pieces of one character (beside a leading "▁") that stay whatever the corpora hold: Latin, Greek and Cyrillic letters,
# punctuation, currency, arrows, mathematics, boxes, shapes and symbols, CJK punctuation, kana, full-width forms, emoji.
SINGLES = re.compile(
    "▁?["
    "\u0021-\u024f\u0370-\u03ff\u0400-\u045f\u2000-\u206f\u2070-\u20cf\u2100-\u27bf\u2900-\u2bff\u3000-\u30ff\u3200-\u33ff"
    "\ufe00-\ufe0f\ufe30-\ufe4f\uff00-\uffef\U0001f000-\U0001faff\ufffd]"
)
HAN = re.compile("▁?[\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]+")
DIGITS = re.compile("▁?[0-9]+")
ASCII_SIGNS = re.compile("▁?[!-/:-@\\[-`{-~]*")
FORMS = ((str, 1.0), (str.title, 0.2), (str.upper, 0.02))
CORPUS_SHARE = 0.3


def count(tokenizer, texts, weights=None):
    """How often the tokenizer uses each id on the texts."""
    used = Counter()
    for start in range(0, len(texts), BATCH_LINES):
        batch = tokenizer.encode_batch_fast(texts[start : start + BATCH_LINES], add_special_tokens=False)
        for i, encoding in enumerate(batch, start):
            for id_ in encoding.ids:
                used[id_] += weights[i] if weights else 1
    return used


def english_use(tokenizer, corpora, words):
    """A share for each id: word frequencies in three spellings, and to a lesser part the running text."""
    use = Counter()
    weights = [weight for _, weight in words]
    for form, share in FORMS:
        for id_, weight in count(tokenizer, [form(word) for word, _ in words], weights).items():
            use[id_] += weight * share
    total = sum(use.values())
    use = Counter({id_: weight / total for id_, weight in use.items()})
    running = count(tokenizer, [line for text in corpora for line in text])
    total = sum(running.values())
    for id_, weight in running.items():
        use[id_] += CORPUS_SHARE * weight / total
    return use


def choose(source, chinese_use, english, size):
    """Ascending ids of the `size` pieces to keep: the fixed ones, all that Chinese text used, the rest by English use."""
    kept = set(source.specials.values()) | set(chinese_use)
    for id_, piece in enumerate(source.pieces):
        if any(rule.fullmatch(piece) for rule in (SINGLES, HAN, DIGITS, ASCII_SIGNS)):
            kept.add(id_)
    if len(kept) > size:
        raise ValueError(f"{len(kept)} pieces are needed, {size} are allowed")
    by_use = sorted(english, key=lambda id_: (-english[id_], id_))
    kept.update([id_ for id_ in by_use if id_ not in kept][: size - len(kept)])
    if len(kept) != size:
        raise ValueError(f"only {len(kept)} pieces are in use, {size} were asked for")
    return sorted(kept)
