"""What the suites share: the servers, what they answer by themselves, and the list of checks."""

import importlib.metadata
import json
import math
import os
import sys
import traceback
import urllib.request

MAIN, JUDGE, LOCKED = (os.environ[f"PLIMSOLL_{name}"] for name in ("MAIN", "JUDGE", "LOCKED"))
URL = f"http://{MAIN}"
MODEL = "plimsoll-e5-6"
TEXTS = ["我在北京上海工作，很喜欢 Rust。", "Angela Merkel visited Paris. \"It was lovely\" 😀"]
CHECKS = []


def check(client: str, feature: str, package: str | None = None):
    """Makes a function a cell of the table; it passes when it returns."""

    def add(function):
        version = f" {importlib.metadata.version(package)}" if package else ""
        CHECKS.append((client + version, feature, function))
        return function

    return add


def post(path: str, body, address: str = MAIN):
    """What the server itself says, without a client."""
    request = urllib.request.Request(f"http://{address}{path}", json.dumps(body).encode(), {"content-type": "application/json"})
    return json.load(urllib.request.urlopen(request))


def close(ours, theirs):
    """Two lists of vectors, or two vectors, that are the same to the last digits."""
    ours, theirs = list(ours), list(theirs)
    assert len(ours) == len(theirs) > 0, (len(ours), len(theirs))
    for one, other in zip(ours, theirs):
        if isinstance(one, float) or not hasattr(one, "__len__"):
            assert math.isclose(one, other, rel_tol=1e-5, abs_tol=1e-6), (one, other)
        else:
            close(one, other)


def fails(call, *said: str):
    """The call raises an error that says these things; gives it."""
    try:
        call()
    except Exception as error:
        text = f"{type(error).__name__} {error} {getattr(error, 'response', '')}"
        for one in said:
            assert one in text, (one, text)
        return error
    raise AssertionError("it did not fail")


def run():
    """Runs all checks and prints a line of JSON for each."""
    for client, feature, function in CHECKS:
        result = {"client": client, "feature": feature, "passed": True}
        try:
            function()
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            result |= {"passed": False, "why": f"{type(error).__name__}: {error}"[:500]}
        print(json.dumps(result, ensure_ascii=False), flush=True)
