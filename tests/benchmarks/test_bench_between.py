"""The benchmark of the host's work between two passes, run small."""

import pytest
from bench_between import main


def test_a_small_run_has_a_row_for_every_cell(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--passes", "4", "--sessions", "1", "3", "--nodes", "0", "4"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    table = [line.strip("| ").split(" | ") for line in lines[1:]]
    assert [tuple(cells[:2]) for cells in table] == [("1", "0"), ("1", "4"), ("3", "0"), ("3", "4")]
    for *_, between, layout in table:
        least, median = (float(number.strip("()")) for number in between.split())
        assert 0 < least <= median
        assert float(layout.split()[0]) > 0
