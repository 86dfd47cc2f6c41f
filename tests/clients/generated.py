#!/usr/bin/env python3
"""Sends what schemathesis makes of /openapi.json to a real server, and counts what came back for each route.

Bodies that fit their schema and bodies that do not, the edges of every field, methods that no route takes. What comes back must be described: its
status, its type, its schema; no 5xx whatever is sent; and afterwards the server holds nothing.

The routes of rerankers are asked of a reranker, all others of the default model.

    python3 tests/clients/generated.py [--binary target/release/plimsoll] [--examples 1300] [--cases-min 20000] [--seed 1]
"""

import argparse
import collections
import contextlib
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

from run import HERE, ROOT, environment, reranker

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
]
AT_THE_END = {"plimsoll_requests_inside": 0, "plimsoll_ledger_in_use_bytes": 0, "plimsoll_pipeline_allocations_total": 0}


@contextlib.contextmanager
def server(binary: str, log: pathlib.Path, *flags: str):
    """A server that tells of each request in `log`; gives its address."""
    telling = ["--access-log", "--json-output", "--log-file", log, "--log-file-bytes", "1GiB"]
    place = ["--hostname", "127.0.0.1", "--port", "0", "--memory-limit", "256MiB"]
    child = subprocess.Popen([binary, "serve", *place, *telling, *flags], stderr=subprocess.DEVNULL)
    try:
        address = None
        while not address:
            assert child.poll() is None, log.read_text()
            time.sleep(0.05)
            address = re.search(r" on (http://[\d.:]+)", log.read_text() if log.exists() else "")
        yield address[1]
    finally:
        child.terminate()
        child.wait()


def metrics(url: str) -> dict[str, float]:
    """The values of `/metrics` that have no labels."""
    text = urllib.request.urlopen(f"{url}/metrics").read().decode()
    return {name: float(value) for name, value in re.findall(r"^(\w+) (\S+)$", text, re.M)}


def counted(log: pathlib.Path) -> collections.Counter:
    """Requests by method and route, and by status; those whose method no route takes together."""
    counts = collections.Counter()
    for line in map(json.loads, log.read_text().splitlines()):
        if line["message"] == "request":
            name = "any route, another method" if line["status"] == 405 else f"`{line['method']} {line['route']}`"
            counts[name, line["status"]] += 1
    return counts


def show(counts: collections.Counter):
    statuses = sorted({status for _, status in counts})
    print("| route | requests |", " | ".join(map(str, statuses)), "|")
    print("|---|---|" + "---|" * len(statuses))
    for route in [*sorted({route for route, _ in counts}, key=lambda name: name.split()[-1]), "all"]:
        row = [sum(count for (known, to), count in counts.items() if to == status and route in (known, "all")) for status in statuses]
        print(f"| {route} | {sum(row)} |", " | ".join(str(count or "") for count in row), "|")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=str(ROOT / "target" / "release" / "plimsoll"))
    parser.add_argument("--examples", default=1300, type=int, help="generated requests of each route")
    parser.add_argument("--cases-min", default=20_000, type=int, help="fewer requests than this fail the run")
    parser.add_argument("--seed", default=1, type=int)
    options = parser.parse_args()
    program = environment("generated", HERE / "requirements-generated.txt").with_name("st")
    how = ["--phases", "examples,coverage,fuzzing", "--checks", ",".join(CHECKS), "--continue-on-failure", "--request-timeout", "60"]
    how += ["--max-examples", str(options.examples), "--seed", str(options.seed), "--warnings", "off"]
    counts, failed, left = collections.Counter(), False, {}
    with reranker() as judge, tempfile.TemporaryDirectory() as folder:
        for which, flags in (("exclude", ()), ("include", ("--model-id", judge))):
            log = pathlib.Path(folder) / which
            with server(options.binary, log, *flags) as url:
                run = [program, "run", ROOT / "crates/server/openapi.json", "--url", url, f"--{which}-path-regex", "rerank", *how]
                failed |= subprocess.run(run, cwd=folder).returncode != 0
                left |= {name: value for name, value in metrics(url).items() if AT_THE_END.get(name, value) != value}
            counts += counted(log)
    show(counts)
    server_errors = sum(count for (_, status), count in counts.items() if status >= 500)
    print(f"\n{counts.total()} requests, {server_errors} answered with a 5xx; left behind: {left or 'nothing'}")
    sys.exit(failed or server_errors > 0 or counts.total() < options.cases_min or bool(left))


if __name__ == "__main__":
    main()
