#!/usr/bin/env python3
"""What one encoder pass for entities, sentiment and embedding saves against a pass for each.

    python3 bench/one_pass.py PLIMSOLL FILE [--model-id DIR] [--rounds 5] [--texts 200]

Starts the server and sends it lines of FILE over a kept connection: each line once with all three tasks, or three times with one task.
Both ways take turns, round by round, without a cache of vectors, which would answer later rounds. Prints the median latency of a text (one client) and texts a second (four clients), with their ratios.
"""

import argparse
import http.client
import json
import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

TASKS = ["entities", "sentiment", "embedding"]
WAYS = {"one pass": [TASKS], "three passes": [[task] for task in TASKS]}
PORT = 3917
CLIENTS = 4


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plimsoll")
    parser.add_argument("file", help="a text a line")
    parser.add_argument("--model-id")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", dest="count", type=int, default=200)
    options = parser.parse_args()
    with open(options.file, encoding="utf-8") as file:
        texts = [line.strip() for line in file if line.strip()][: options.count]
    with server(options):
        measure(texts, options.rounds)


@contextmanager
def server(options):
    model = ["--model-id", options.model_id] if options.model_id else []
    process = subprocess.Popen([options.plimsoll, "serve", "--port", str(PORT), "--cache-bytes", "0", *model], stderr=subprocess.PIPE, text=True)
    try:
        next(line for line in process.stderr if line.startswith("serving"))
        yield
    finally:
        process.terminate()
        process.wait()


def measure(texts, rounds):
    latencies, rates = ({way: [] for way in WAYS} for _ in range(2))
    for way in WAYS:
        client(texts[:20], way)
    for _ in range(rounds):
        for way in WAYS:
            latencies[way] += client(texts, way)
        for way in WAYS:
            begun = time.perf_counter()
            with ThreadPoolExecutor(CLIENTS) as pool:
                list(pool.map(lambda part: client(part, way), [texts[i::CLIENTS] for i in range(CLIENTS)]))
            rates[way].append(len(texts) / (time.perf_counter() - begun))
    for way in WAYS:
        print(f"{way}: {1000 * statistics.median(latencies[way]):.2f} ms a text, {statistics.median(rates[way]):.1f} texts/s")
    slower = statistics.median(latencies["three passes"]) / statistics.median(latencies["one pass"])
    faster = statistics.median(a / b for a, b in zip(rates["one pass"], rates["three passes"]))
    print(f"one pass: latency {slower:.2f} times shorter, throughput {faster:.2f} times larger")


def client(texts, way):
    """Seconds of each text."""
    connection = http.client.HTTPConnection("localhost", PORT)
    seconds = []
    for text in texts:
        begun = time.perf_counter()
        for tasks in WAYS[way]:
            connection.request("POST", "/v1/analyze", json.dumps({"text": text, "tasks": tasks}), {"content-type": "application/json"})
            reply = connection.getresponse()
            body = reply.read()
            if reply.status != 200:
                raise RuntimeError(f"{reply.status}: {body[:200]}")
        seconds.append(time.perf_counter() - begun)
    connection.close()
    return seconds


if __name__ == "__main__":
    main()
