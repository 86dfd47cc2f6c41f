"""Builds a SentencePiece character map ("Precompiled" normaliser) whose effect equals the teacher's.

The package has only the teacher's map of single code points. SentencePiece's own map (NFKC with a few extras, `nmt_nfkc`) also
has entries of several code points, which compose `e` + U+0301 into `é`. Readers of such a map (Hugging Face `tokenizers`) look a
grapheme up only when it is shorter than 6 bytes, and take the shortest entry that is a prefix of it; so only sequences below
6 bytes whose first code point is not itself an entry can ever have an effect. Those are derived here as SentencePiece derives
them: every canonical decomposition, with its marks also in their deprecated spellings (U+0340, U+0341, U+0343, ...). Unicode
3.2 data is used because Python carries it whatever its own version, and later versions add no such sequence that matters here.
"""

import itertools
import struct
import unicodedata

GRAPHEME_BYTES_MAX = 5


def sequences(single):
    """Entries of several code points that can have an effect beside the `single` ones."""
    data = unicodedata.ucd_3_2_0
    spelled = {}
    for char, to in single.items():
        if len(to) == 1:
            spelled.setdefault(to, [to]).append(char)
    found = {}
    for point in range(0x80, 0x30000):
        char = chr(point)
        parts = data.normalize("NFD", char) if not 0xD800 <= point < 0xE000 else char
        if len(parts) < 2 or parts[0] in single or data.normalize("NFC", parts) != char:
            continue
        for marks in itertools.product(*(spelled.get(mark, [mark]) for mark in parts[1:])):
            key = parts[0] + "".join(marks)
            if len(key.encode()) <= GRAPHEME_BYTES_MAX:
                found[key] = char
    return found


def compile_map(entries):
    """SentencePiece's binary form: u32 bytes of the double array, the array (darts-clone units), NUL-terminated replacements."""
    texts, at = bytearray(), {}
    for to in entries.values():
        if to not in at:
            at[to] = len(texts)
            texts += to.encode() + b"\0"
    array = double_array({key.encode(): at[to] for key, to in entries.items()})
    return struct.pack("<I", 4 * len(array)) + struct.pack(f"<{len(array)}I", *array) + bytes(texts)


def double_array(values):
    """A darts-clone double array for `values`: bytes -> u31. Units: label in bits 0-7, leaf flag 8, offset from bit 10.

    The children of the unit at p lie at p ^ offset ^ label; a leaf's value lies at p ^ offset, with the top bit set.
    """
    root = {}
    for key, value in values.items():
        node = root
        for byte in key:
            node = node.setdefault(byte, {})
        node[0] = value
    # No two units may share a base: a child's label alone would not tell whose child it is.
    array, used, bases, next_free = [0] * 256, {0}, {0}, 1

    def place(labels):
        nonlocal next_free
        while next_free in used:
            next_free += 1
        for start in itertools.count(next_free):
            offset = start ^ labels[0]
            if offset not in bases and all(offset ^ label not in used for label in labels):
                bases.add(offset)
                return offset

    todo = [(0, root)]
    while todo:
        position, node = todo.pop()
        labels = sorted(node)
        base = place(labels)
        while len(array) <= base | 0xFF:
            array += [0] * 256
        used.update(base ^ label for label in labels)
        offset = base ^ position
        if offset >= 1 << 21:
            raise ValueError("the map needs offsets beyond 21 bits")
        array[position] |= offset << 10 | (0 in node) << 8
        for label in labels:
            if label:
                array[base ^ label] = label
                todo.append((base ^ label, node[label]))
            else:
                array[base] = 1 << 31 | node[0]
    return array
