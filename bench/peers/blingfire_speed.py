"""Times blingfire's BERT tokenizer over the same lines as tokenize_speed, one thread.

Usage: blingfire_speed.py [--lines N] [--rounds N] TEXT_FILE...

Needs the PyPI package `blingfire`, whose bert_base_tok.bin holds the vocabulary of bert-base-uncased (the one that
all-MiniLM-L6-v2 uses). Prints the median over the rounds. The lines are encoded to UTF-8 before the clock starts; what is timed is
the library's own entry point with buffers that are kept, not the Python wrapper, which allocates for every call.
"""

import argparse
import ctypes
import os
import statistics
import time

import blingfire


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lines", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("paths", nargs="+")
    options = parser.parse_args()
    lines = []
    for path in options.paths:
        with open(path, encoding="utf-8", errors="replace", newline="\n") as text:
            lines += [line.rstrip("\r\n") for line in text]
    lines = [line.encode() for line in lines if line][: options.lines]
    size = sum(map(len, lines))
    model = blingfire.load_model(os.path.join(os.path.dirname(blingfire.__file__), "bert_base_tok.bin"))
    native = blingfire.blingfire.TextToIds
    slots = max(map(len, lines)) + 16
    ids = (ctypes.c_int32 * slots)()
    handle = ctypes.c_void_p(model)
    times = []
    for _ in range(options.rounds):
        start = time.perf_counter()
        tokens = 0
        for line in lines:
            tokens += native(handle, ctypes.c_char_p(line), ctypes.c_int(len(line)), ids, ctypes.c_int(slots), ctypes.c_int(100))
        times.append(time.perf_counter() - start)
    # The price of a call through ctypes, which is not blingfire's: the same calls with nothing to do.
    start = time.perf_counter()
    for line in lines:
        native(handle, ctypes.c_char_p(b""), ctypes.c_int(0), ids, ctypes.c_int(slots), ctypes.c_int(100))
    call = time.perf_counter() - start
    median = statistics.median(times)
    print(
        f"blingfire: {len(lines)} lines, {size} bytes, {tokens} tokens; {median:.4f} s, {size / median / 1e6:.1f} MB/s; "
        f"without the calls' {call:.4f} s {size / (median - call) / 1e6:.1f} MB/s"
    )


main()
