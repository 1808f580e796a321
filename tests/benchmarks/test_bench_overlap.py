"""The benchmark of what the host adds to passes, run small."""

import pytest
from bench_overlap import main


def test_a_small_run_has_a_row_for_every_cell(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--target", "synthetic:c0=2ms,c1=0us", "--passes", "6"]
    assert main([*arguments, "--sessions", "1", "3", "--nodes", "0", "4"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    table = [line.strip("| ").split(" | ") for line in lines[1:]]
    assert [tuple(cells[:2]) for cells in table] == [("1", "0"), ("1", "4"), ("3", "0"), ("3", "4")]
    assert [cells[2] for cells in table if cells[1] == "0"] == ["1", "3"]  # a row of each session
