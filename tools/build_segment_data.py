#!/usr/bin/env python3
"""Write crates/text/data/words.bin and hmm.bin from jieba 0.42.1.

Why a build step: Python's jieba reads 5 MB of text into a hash map at start (about a second), jieba-rs builds its
trie at start (over 100 ms). Here the dictionary is laid out once, as the double array that the segmenter walks,
and the binary maps it like code: nothing is built at start.

    python3 tools/build_segment_data.py              # fetches jieba from PyPI, writes both files
    python3 tools/build_segment_data.py --check      # fails when the files in the repository differ

Only the standard library is used. The layouts are described in crates/text/data/README.md; the reader is
crates/text/src/segment/words.rs and hmm.rs.
"""

import argparse
import ast
import collections
import math
import pathlib
import re
import struct
import subprocess
import sys
import tarfile
import tempfile
import zlib

JIEBA = "jieba==0.42.1"
VERSION = 2
MIN_FLOAT = -3.14e100
HAN_FIRST, HAN_LAST = 0x4E00, 0x9FD5
ASCII = 128
# What jieba's re_han_default lets into a block: no other word can ever be met in the dictionary.
BLOCK = re.compile(r"[\u4E00-\u9FD5a-zA-Z0-9+#&\._%\-]+\Z")
BASE_BITS, WEIGHT_BITS = 19, 13
SLOTS_MAX = 1 << BASE_BITS + 1  # bases are even, so one bit is not stored
NO_CODE = 0xFFFF
HEADER_BYTES = 64


def fetch(folder):
    """The unpacked jieba source distribution."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "jieba"]
    subprocess.run([*command, "--dest", str(folder), JIEBA], check=True)
    (archive,) = folder.glob("jieba-*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / "jieba-0.42.1" / "jieba"


def read_dictionary(path):
    """gen_pfdict of jieba without the prefixes: later lines win, but the total counts every line."""
    frequency, total = {}, 0
    for line in path.read_bytes().splitlines():
        word, count = line.strip().decode("utf-8").split(" ")[:2]
        frequency[word] = int(count)
        total += int(count)
    return {word: count for word, count in frequency.items() if BLOCK.match(word)}, total


def read_table(path):
    """A `P={...}` module of finalseg."""
    return ast.literal_eval(path.read_text(encoding="utf-8").split("=", 1)[1])


def number_characters(frequency, emit):
    """Codes 2.. by falling use, so that what a text touches lies together. 1 is every other character of a block, 0 what
    no block holds."""
    use = collections.Counter()
    for word, count in frequency.items():
        for char in word:
            use[char] += count + 1
    in_words = sorted(use, key=lambda char: (-use[char], char))
    best = collections.defaultdict(lambda: MIN_FLOAT)
    for table in emit.values():
        for char, score in table.items():
            if HAN_FIRST <= ord(char) <= HAN_LAST and char not in use:
                best[char] = max(best[char], score)
    only_hmm = sorted(best, key=lambda char: (-best[char], char))
    return {char: code for code, char in enumerate(in_words + only_hmm, 2)}


def build_tree(frequency, codes):
    """Children by node: node 0 is the root, `children[node][code]` a node, `word[node]` its frequency or 0."""
    children, word = [{}], [0]
    for text in sorted(frequency):
        node = 0
        for char in text:
            code = codes[char]
            if code not in children[node]:
                children[node][code] = len(children)
                children.append({})
                word.append(0)
            node = children[node][code]
        word[node] = frequency[text]
    return children, word


def sum_use(children, word):
    """For each node the frequency of all words below it. A child always has a greater number than its parent."""
    use = list(word)
    for node in range(len(children) - 1, -1, -1):
        use[node] += sum(use[child] for child in children[node].values())
    return use


def first_one(bits, start):
    """The first set bit at or after `start`."""
    rest = bits >> start
    return start + (rest & -rest).bit_length() - 1


def fit(free, codes, start, taken):
    """The least even base whose first child's slot is at or after `start`, whose slots are all free and which no other node
    has taken."""
    span = codes[-1] - codes[0]
    window = 8192
    even = ((1 << window) - 1) // 3  # every second bit, from the first
    while start < free.bit_length():
        near = free >> start & (1 << window + span) - 1
        fits = near & even << (codes[0] - start & 1)
        for code in codes:
            fits &= near >> code - codes[0]
        while fits:
            base = first_one(fits, 0) + start - codes[0]
            if base not in taken:
                return base
            fits &= fits - 1
        start += window
    raise ValueError(f"no base left for a node of {len(codes)} children")


def lay_out(children, use, code_count):
    """Slots of a double array: a first character's slot is its code, any other's is its parent's base plus its code.

    No two parents share a base, so that a slot's own code tells whose child it is. Nodes with many children choose first,
    among equals those of frequent words, so that these share cache lines. The free slots are one big integer, so that all
    bases that fit a node are the `and` of that integer shifted by each child's code.
    """
    free = (1 << SLOTS_MAX) - (1 << code_count)
    slot = [0] * len(children)
    base = [0] * len(children)
    taken = set()
    for code, child in children[0].items():
        slot[child] = code
    parents = (node for node in range(1, len(children)) if children[node])
    order = sorted(parents, key=lambda node: (-len(children[node]), -use[node]))
    start, width = code_count, 0
    for node in order:
        codes = sorted(children[node])
        if len(codes) == 1:
            break
        if len(codes) != width or width > 16:  # what was too tight for the last node may hold this one
            start, width = first_one(free, code_count), len(codes)
        base[node] = fit(free, codes, start, taken)
        taken.add(base[node])
        start = base[node] + codes[0]
        for code in codes:
            slot[children[node][code]] = base[node] + code
        free ^= sum(1 << code for code in codes) << base[node]
    holes = ([], [])
    for index, bit in enumerate(bin(free)[:1:-1]):
        if bit == "1":
            holes[index & 1].append(index)
    for side in holes:
        side.reverse()
    for node in order:
        if len(children[node]) == 1:
            ((code, child),) = children[node].items()
            side = holes[code & 1]
            at = next(at for at in range(len(side) - 1, -1, -1) if side[at] - code not in taken)
            slot[child] = side.pop(at)
            base[node] = slot[child] - code
            taken.add(base[node])
    return slot, base


def header(magic, body, *fields):
    head = struct.pack("<8sII", magic, VERSION, zlib.crc32(body)) + struct.pack(f"<{len(fields)}I", *fields)
    return head.ljust(HEADER_BYTES, b"\0") + body


def pack_words(frequency, total, codes):
    children, word = build_tree(frequency, codes)
    code_count = len(codes) + 2
    slot, base = lay_out(children, sum_use(children, word), code_count)
    log_total = math.log(total)
    # Weight 0 is that of no word at all, weight 1 what jieba gives a single character that is no word.
    common = collections.Counter(word[1:])
    del common[0]
    ranked = sorted(common, key=lambda count: (-common[count], count))
    weights = [-math.inf, math.log(1) - log_total] + [math.log(count) - log_total for count in ranked]
    rank = {count: index for index, count in enumerate(ranked, 2)} | {0: 0}
    node_count = max(code_count, max(slot) + 1)
    assert node_count <= SLOTS_MAX and len(weights) <= 1 << WEIGHT_BITS
    nodes, checks = [0] * node_count, [NO_CODE] * node_count
    for node, kids in enumerate(children):
        assert base[node] % 2 == 0
        nodes[slot[node]] = base[node] // 2 | rank[word[node]] << BASE_BITS
        if node:
            for code, child in kids.items():
                assert checks[slot[child]] == NO_CODE
                checks[slot[child]] = code
    table = [0] * ASCII + [1] * (HAN_LAST - HAN_FIRST + 1) + [0]
    for char in map(chr, range(ASCII)):
        table[ord(char)] = int(bool(BLOCK.match(char)))
    for char, code in codes.items():
        table[ord(char) if ord(char) < ASCII else ASCII + ord(char) - HAN_FIRST] = code
    body = struct.pack(f"<{len(table)}H", *table)
    body += bytes(-len(body) % 8)
    body += struct.pack(f"<{len(weights)}d", *weights)
    body += struct.pack(f"<{node_count}I", *nodes) + struct.pack(f"<{node_count}H", *checks)
    longest_bytes = max(len(text.encode("utf-8")) for text in frequency)
    longest_chars = max(map(len, frequency))
    return header(b"PLMWORDS", body, code_count, len(weights), node_count, longest_bytes, longest_chars, len(frequency))


def pack_hmm(start, trans, emit, codes):
    """Start B E M S, then the eight allowed moves, then a row B E M S for each code."""
    moves = [trans[move[0]][move[1]] for move in ("EB", "SB", "BM", "MM", "BE", "ME", "ES", "SS")]
    body = struct.pack("<4d", *(start[state] for state in "BEMS")) + struct.pack("<8d", *moves)
    body += struct.pack("<8d", *[MIN_FLOAT] * 8)
    for char in codes:
        body += struct.pack("<4d", *(emit[state].get(char, MIN_FLOAT) for state in "BEMS"))
    return header(b"PLMHMM\0\0", body, len(codes) + 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the files in the repository, write nothing")
    arguments = parser.parse_args()
    out = pathlib.Path(__file__).resolve().parent.parent / "crates" / "text" / "data"
    with tempfile.TemporaryDirectory() as folder:
        source = fetch(pathlib.Path(folder))
        frequency, total = read_dictionary(source / "dict.txt")
        tables = (source / "finalseg" / f"prob_{name}.py" for name in ("start", "trans", "emit"))
        start, trans, emit = map(read_table, tables)
    codes = number_characters(frequency, emit)
    files = {"words.bin": pack_words(frequency, total, codes), "hmm.bin": pack_hmm(start, trans, emit, codes)}
    stale = 0
    for name, content in files.items():
        path = out / name
        if arguments.check:
            same = path.is_file() and path.read_bytes() == content
            stale += not same
            print(f"{name}: {'as in the repository' if same else 'DIFFERS from the repository'}")
        else:
            path.write_bytes(content)
            print(f"{name}: {len(content):,} bytes")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
