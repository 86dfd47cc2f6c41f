#!/usr/bin/env python3
"""Exec to first answer: starts `plimsoll serve`, asks for one embedding until it is given, prints the median.

    python3 bench/startup.py target/release/plimsoll [--rounds 11] [--model-id DIR ...] [--cold] [--record FILE]

With a warm page cache (one round is thrown away), and with --cold afterwards without one: the kernel is told to forget the program and the model before each
start. The figure to beat is 0.37 s.
"""

import argparse
import csv
import datetime
import http.client
import json
import os
import pathlib
import socket
import statistics
import subprocess
import time

SEED_SECONDS = 0.37


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def forget(*places):
    """Drops what the page cache has of these files, or of those under these folders."""
    for place in map(pathlib.Path, places):
        for path in [place] if place.is_file() else filter(pathlib.Path.is_file, place.rglob("*")):
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def first_answer_seconds(binary, model):
    """Seconds from exec to ready (the port answers) and to the first embedding."""
    port = free_port()
    command = [binary, "serve", "--hostname", "127.0.0.1", "--port", str(port)]
    command += ["--model-id", model] if model else []
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                connection.connect()
                break
            except ConnectionRefusedError:
                time.sleep(0.0005)
                if process.poll() is not None:
                    raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}")
        ready = time.perf_counter() - begun
        connection.request("POST", "/embed", json.dumps({"inputs": "It was delivered on time."}))
        response = connection.getresponse()
        vectors = json.loads(response.read())
        answered = time.perf_counter() - begun
        assert response.status == 200 and len(vectors[0]) == 384, response.status
        return ready, answered
    finally:
        process.terminate()
        process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--model-id", action="append", default=[])
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--record")
    arguments = parser.parse_args()
    caches = ["warm", "cold"] if arguments.cold else ["warm"]
    models = [None, *arguments.model_id]
    times = {(model, cache): [] for cache in caches for model in models}
    # Cold rounds leave the kernel busy with pages: they come last.
    for cache in caches:
        for round_number in range(arguments.rounds + 1):
            for model in models:
                if cache == "cold":
                    forget(arguments.binary, *([model] if model else []))
                seconds = first_answer_seconds(arguments.binary, model)
                if round_number:
                    times[model, cache].append(seconds)
    rows = []
    for (model, cache), seconds in times.items():
        ready, answered = ([s[i] for s in seconds] for i in (0, 1))
        name = os.path.basename(os.path.normpath(model)) if model else "embedded default"
        rows.append([name, cache, *(f"{value:.4f}" for value in (statistics.median(ready), statistics.median(answered), min(answered), max(answered)))])
    head = ["model", "page_cache", "ready_s", "first_answer_s", "first_answer_min_s", "first_answer_max_s"]
    print(*head, "seed_s", sep="\t")
    for row in rows:
        print(*row, SEED_SECONDS, sep="\t")
    if arguments.record:
        with open(arguments.record, "w", newline="") as file:
            file.write(f"# {datetime.date.today()} python3 bench/startup.py, {arguments.rounds} interleaved rounds, {' and '.join(caches)} page cache\n")
            writer = csv.writer(file)
            writer.writerow(head)
            writer.writerows(rows)


if __name__ == "__main__":
    main()
