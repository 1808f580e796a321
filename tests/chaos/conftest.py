"""Histories are played with the parts in memory that the tests of either side have."""

import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent
sys.path += [str(TESTS / side) for side in ("cloud", "edge")]
