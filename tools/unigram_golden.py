#!/usr/bin/env python3
"""Writes the golden files of the Unigram model and of the character map with the Python package `tokenizers`.

    python3 tools/unigram_golden.py

Needs `tokenizers`; reads models/default/tokenizer.json, whose rules and a few of whose pieces the files hold.
"""

import base64
import json
import random
import sys
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "crates" / "text" / "src"
sys.path.insert(0, str(ROOT / "tools"))
from e5 import charsmap  # noqa: E402

MAPPED = {
    "\u0001": "", "\t": " ", "\n": " ", "\r": " ", "\u00a0": " ", "\u00a8": " \u0308", "\u00bd": "1\u20442", "\u00c5": "\u00c5", "\u200b": " ",
    "\u2122": "TM", "\u3000": " ", "\u30a2": "\u30a2", "\uff21": "A", "\uff71": "\u30a2", "\ufb01": "fi", "\u32ff": "\u4ee4\u548c", "\uff9e": "\u3099",
    "\ufdfa": "\u0635\u0644\u0649 \u0627\u0644\u0644\u0647", "\U0001d400": "A", "\u200d": " ", "\u00ad": "", "e\u0301": "\u00e9", "a\u0308": "\u00e4", "\u0344": "\u0308\u0301",
}  # fmt: skip
TEXTS = [
    "", "plain", "caf\u00e9 e\u0301e\u0301\u0308", "\u0001start", "\u0001\u0001\u0001abc", "a\u0001b", "\u2122\u0001\u0001x", "\u2122\u0001g", "\r\n", "a\r\nb", "\uff21\u0301x",
    "\uff21\uff21\uff21", "\ufb01sh \ufdfa!", "\u3000\u4e2d\u6587\u3000", "\u4e2d\u0308", "\u32ff\u5143\u5e74", "\U0001d400\U0001d400", "\U0001f468\u200d\U0001f469\u200d\U0001f467 family", "\uff76\uff9e\uff71",
    "\u1112\u1161\u11ab\ud55c", "a\u0308\u0301", "\u0600\uff21", "\u00ad\u00bd\u00ad", "x\u0344y", "e\u0301\u0001", "\U0001f1e8\U0001f1f3\uff21",
]  # fmt: skip


def sources(rules, text):
    """For each normalised character its source, read off a tokenizer that makes every character a token."""
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.normalizer = rules
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    return tokenizer.encode(text).offsets


def charsmap_golden(rng):
    binary = charsmap.compile_map(MAPPED)
    rules = normalizers.Precompiled(binary)
    alphabet = [*MAPPED, "a", "b", "\u4e2d", "\u0301", "\u0308", "\U0001f600", "\uac00", " "]
    texts = TEXTS + ["".join(rng.choices(alphabet, k=rng.randint(1, 9))) for _ in range(300)]
    cases = [{"text": text, "normalized": rules.normalize_str(text), "sources": sources(rules, text)} for text in texts]
    return {"charsmap": base64.b64encode(binary).decode(), "cases": cases}


def unigram_golden(rng, vocab, words, byte_fallback):
    model = models.Unigram(vocab, 3, byte_fallback)
    cases = []
    for word in words:
        tokens = [(token.id, *token.offsets) for token in model.tokenize(word)]
        cases.append([word, tokens])
    return {"model": {"type": "Unigram", "unk_id": 3, "byte_fallback": byte_fallback, "vocab": vocab}, "cases": cases}


def unigram_goldens(rng):
    full = json.loads((ROOT / "models" / "default" / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    chosen = full[:4] + rng.sample(full[4:600], 250) + [entry for entry in full if 1 < len(entry[0]) < 5 and set(entry[0]) <= set("▁中国人民大学生活天安门北京")]
    letters = sorted({char for piece, _ in chosen for char in piece}) + ["☃", "\U0001f600", "é", "語"]
    words = ["▁北京大学生活", "▁中国人民大学", "<unk>", "☃<unk>☃", "<s>", "☃", "☃☃☃", "a☃", "☃a", "\0", "▁" * 40, "the" * 100]
    words += ["".join(rng.choices(letters, k=rng.choice([1, 3, 8, 30]))) for _ in range(300)]
    spelled = [("<pad>", 0.0), ("a", -1.0), ("ab", -1.5), ("<unk>", 0.0), ("☃☃", -90.0)] + [[f"<0x{byte:02X}>", -50.0] for byte in range(256) if byte != 0xC3]
    few = ["a☃b", "☃☃", "☃☃☃", "é", "aéb", "ab語a", "<unk>b", "b<unk>", "<unk>", "<0x41>", "A"]
    few += ["".join(rng.choices("ab☃語é", k=rng.randint(1, 8))) for _ in range(60)]
    return [unigram_golden(rng, [tuple(entry) for entry in chosen], words, False), unigram_golden(rng, [tuple(entry) for entry in spelled], few, True)]


def main():
    rng = random.Random(20)
    for path, value in [
        (SOURCE / "normalize" / "precompiled" / "golden.json", charsmap_golden(rng)),
        (SOURCE / "unigram" / "golden.json", unigram_goldens(rng)),
    ]:
        path.write_text(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
