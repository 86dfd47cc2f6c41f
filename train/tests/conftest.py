import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from joint import ROOT, convert_teacher  # noqa: E402

convert_teacher(ROOT / "train" / "packages")
