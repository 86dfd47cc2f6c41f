"""Trains a small byte-level BPE tokenizer as RoBERTa's (no such file is on PyPI) and writes its tokenizer.json.

Usage: make_bpe_fixture.py OUT.json TEXT_FILE...

The fixture serves differential tests, so what matters is its form: ByteLevel pre-tokenizer, RobertaProcessing, special tokens with
and without `normalized`, `<mask>` taking the spaces on its left. 8,000 entries keep it below 300 KB.
"""

import json
import sys

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

VOCABULARY = 8000
LINE_BYTES_MAX = 40_000_000


def lines(paths):
    left = LINE_BYTES_MAX
    for path in paths:
        with open(path, encoding="utf-8", errors="replace") as text:
            for line in text:
                left -= len(line.encode())
                if left < 0:
                    return
                yield line


def main():
    out, *paths = sys.argv[1:]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [
        AddedToken("<s>", normalized=True, special=True),
        AddedToken("<pad>", normalized=True, special=True),
        AddedToken("</s>", normalized=True, special=True),
        AddedToken("<unk>", normalized=True, special=True),
        AddedToken("<mask>", lstrip=True, normalized=False, special=True),
    ]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines(paths), trainer)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", tokenizer.token_to_id("</s>")),
        ("<s>", tokenizer.token_to_id("<s>")),
        trim_offsets=True,
        add_prefix_space=False,
    )
    file = json.loads(tokenizer.to_str())
    file["model"]["merges"] = [" ".join(pair) for pair in file["model"]["merges"]]
    with open(out, "w", encoding="utf-8") as target:
        json.dump(file, target, ensure_ascii=False, separators=(",", ":"))


main()
