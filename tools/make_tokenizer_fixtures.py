"""Trains two small tokenizers and writes what the Python package `tokenizers` makes of 2,000 texts with each fixture.

Usage: make_tokenizer_fixtures.py testdata/tokenizer TEXT_FILE...

Needs bpe.json in that directory (make_bpe_fixture.py). Writes wordpiece.json, unigram.json and, for each of the three, golden
lines `text TAB ids TAB starts TAB ends` (offsets in characters), which `cargo test -p plimsoll-text` reads. Of the texts a third
is real, the rest is put together from what tokenizers stumble over.
"""

import json
import random
import sys
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

TEXTS = 2000
PIECES = [
    "the", "Hello", "it's", " ", " ", "  ", "\t", "\u00a0", "\u3000", "\u2003", "\u200b", "\u200d", "\ufe0f", "\u0301", "\u0308\u0323",
    "\u302e", "\u0344", "Stra\u00dfe", "\u0130stanbul", "na\u00efve", "\u03a3\u038a\u03a3", "\ud55c\uad6d", "\uff46\uff55", "\ufdfa", "\u4e2d\u6587", "\u6771\u4eac", "\u0928\u092e\u0938\u094d\u0924\u0947",
    "\u0e1b\u0e35", "12345", "3.14", "[SEP]", "[MASK]", "<mask>", "</s>", "<s>", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f44d\U0001f3fd", "\ufb01n", "\u2460", ".", ",", "-", "'",
    "\u3002", "\uff0c", "\u201c", "\u037e", "\u2581", "\u0000", "\u0001", "\ufffd", "\ufeff", "\ue000", "a" * 110, "ab" * 40,
]  # fmt: skip


def texts(lines):
    chance = random.Random(2)
    for number in range(TEXTS):
        if number % 3 == 0:
            text = chance.choice(lines)[:200]
        else:
            text = "".join(chance.choice(PIECES) for _ in range(chance.randrange(1, 14)))
            if number % 7 == 0:
                text += chr(chance.choice([chance.randrange(0x20, 0xD800), chance.randrange(0xE000, 0x30000)]))
        yield text.replace("\n", " ").replace("\r", " ").replace("\t", " ")


def wordpiece(lines):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(lines, trainers.WordPieceTrainer(vocab_size=4000, special_tokens=special, show_progress=False))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def unigram(lines):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.UnigramTrainer(vocab_size=4000, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def main():
    target = Path(sys.argv[1])
    lines = [line.strip() for path in sys.argv[2:] for line in open(path, encoding="utf-8", errors="replace")]
    lines = random.Random(1).sample([line for line in lines if line], 8000)
    for name, train in [("wordpiece", wordpiece), ("unigram", unigram)]:
        train(lines).save(str(target / f"{name}.json"), pretty=False)
    for name in ["wordpiece", "unigram", "bpe"]:
        tokenizer = Tokenizer.from_file(str(target / f"{name}.json"))
        with open(target / f"{name}.golden.tsv", "w", encoding="utf-8", newline="\n") as golden:
            for text in texts(lines):
                encoding = tokenizer.encode(text)
                columns = [encoding.ids, [o[0] for o in encoding.offsets], [o[1] for o in encoding.offsets]]
                golden.write("\t".join([json.dumps(text)] + [" ".join(map(str, column)) for column in columns]) + "\n")


main()
