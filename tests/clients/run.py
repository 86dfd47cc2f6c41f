#!/usr/bin/env python3
"""Runs the official clients against a real server and writes the table of what works: docs/clients.md.

Each cell of the table is a check in checks.py, clients.mjs or old_langchain.py that has just passed. Clients come from their registries, in the
versions locked beside this file.

    python3 tests/clients/run.py [--binary target/release/plimsoll]
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = ROOT / "target" / "clients"
STARTS_WITHIN_S = 60


def environment(name: str, lock: pathlib.Path) -> pathlib.Path:
    """The Python of a virtual environment that holds what `lock` names."""
    place = CACHE / name
    python = place / "bin" / "python"
    done = place / "lock"
    if not done.exists() or done.read_text() != lock.read_text():
        shutil.rmtree(place, ignore_errors=True)
        venv.create(place, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", lock], check=True)
        done.write_text(lock.read_text())
    return python


def node_modules() -> pathlib.Path:
    """A folder with the clients for Node."""
    place = CACHE / "node"
    place.mkdir(parents=True, exist_ok=True)
    for file in ("package.json", "package-lock.json", "clients.mjs"):
        shutil.copy(HERE / file, place / file)
    subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=place, check=True)
    return place


@contextlib.contextmanager
def reranker():
    """A small reranker of the test data, with a vocabulary of letters."""
    with tempfile.TemporaryDirectory() as place:
        for file in ("config.json", "model.safetensors"):
            shutil.copy(ROOT / "testdata/encoder/bert-reranker" / file, place)
        letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
        pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", "!", *letters, *("##" + one for one in letters)]
        pathlib.Path(place, "vocab.txt").write_text("\n".join(pieces))
        yield place


@contextlib.contextmanager
def server(binary: str, *flags: str):
    """A running server; gives its address, as host and port."""
    command = [binary, "serve", "--hostname", "127.0.0.1", "--port", "0", "--memory-limit", "512MiB", *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        for line in process.stderr:
            if " on http://" in line:
                address = line.rsplit("http://", 1)[1].strip()
                break
        else:
            raise SystemExit(f"the server did not start: {command}")
        wait_for(f"http://{address}/health")
        yield address
    finally:
        process.terminate()
        process.wait()


def wait_for(url: str):
    ends = time.monotonic() + STARTS_WITHIN_S
    while True:
        try:
            return urllib.request.urlopen(url, timeout=5).read()
        except OSError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.05)


def table(results: list[dict]) -> str:
    """The results as Markdown: clients by features."""
    features = list(dict.fromkeys(one["feature"] for one in results))
    clients = list(dict.fromkeys(one["client"] for one in results))
    passed = {(one["client"], one["feature"]) for one in results if one["passed"]}
    lines = [
        "# Clients",
        "",
        "What the clients of other servers do with this one. Each tick is a check against the real client, from its registry, in the version named:",
        "`python3 tests/clients/run.py` runs them all and writes this page.",
        "",
        "| client | " + " | ".join(features) + " |",
        "|---|" + ":-:|" * len(features),
    ]
    for client in clients:
        cells = ("✓" if (client, feature) in passed else "" for feature in features)
        lines.append(f"| {client} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n" + (HERE / "notes.md").read_text()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(ROOT / "target/release/plimsoll"))
    arguments = parser.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    python = environment("python", HERE / "requirements.txt")
    older = environment("older", HERE / "requirements-older.txt")
    node = node_modules()
    results = []
    with reranker() as judge, contextlib.ExitStack() as running:
        start = lambda *flags: running.enter_context(server(arguments.binary, *flags))
        addresses = {
            "MAIN": start(),
            "JUDGE": start("--model-id", judge, "--served-model-name", "judge"),
            "LOCKED": start("--api-key", "secret"),
        }
        variables = {**os.environ, **{f"PLIMSOLL_{name}": address for name, address in addresses.items()}}
        suites = ([python, HERE / "checks.py"], [older, HERE / "older.py"], ["node", node / "clients.mjs"])
        for suite in suites:
            output = subprocess.run(suite, env=variables, stdout=subprocess.PIPE, text=True, check=True).stdout
            results += [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    for one in results:
        print("ok  " if one["passed"] else "FAIL", one["client"], "|", one["feature"], one.get("why", ""))
    failed = sum(not one["passed"] for one in results)
    print(f"{len(results) - failed} of {len(results)} checks passed")
    if failed:
        sys.exit(1)
    (ROOT / "docs" / "clients.md").write_text(table(results))


if __name__ == "__main__":
    main()
