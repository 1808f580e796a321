"""The checks of `tools/check_deploy.py`, for the tests to try."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
