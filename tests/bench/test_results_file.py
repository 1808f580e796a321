"""The file of results: whole at all times, gone on with, and refused where it is another's."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from measured import MACHINE, PLACE, REQUEST, a_round, answer

from outrider_bench.results import VERSION, Machine, Request, results_from_json
from outrider_bench.results_file import Ledger, open_ledger, read_results
from outrider_common.errors import ConfigError

NEAR = replace(PLACE, rtt_ms=0.0)
ANSWERS = [answer("cloud"), answer("chain", decode_ms=500.0)]


def begin(
    path: Path, request: Request = REQUEST, machine: Machine = MACHINE, **options: bool
) -> Ledger:
    return open_ledger(path, request, machine, **({"resume": False, "force": False} | options))


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    ledger = begin(tmp_path / "r.json")
    ledger.add(a_round(ANSWERS, block_nodes={"chain": 8}))
    assert read_results(tmp_path / "r.json") == ledger.results
    assert [cell.policy for cell in ledger.results.cells] == ["cloud", "chain"]


def test_a_cell_in_the_file_has_every_figure_that_readers_are_promised(tmp_path: Path) -> None:
    begin(tmp_path / "r.json").add(a_round(ANSWERS))
    (_, cell) = json.loads((tmp_path / "r.json").read_text())["cells"]
    promised = """policy rtt_ms bandwidth_mbps sessions temperature prompts tokens tokens_per_s
        ttft_ms tpot_ms speedup_vs_cloud acceptance_rate tokens_per_pass rows_per_token
        draft_nodes_per_token wasted_fraction bytes_up_per_token bytes_down_per_token exact
        mismatches"""
    assert set(promised.split()) <= cell.keys()
    assert {"p50", "p95", "p99"} == cell["ttft_ms"].keys() == cell["tpot_ms"].keys()


def test_the_file_is_whole_after_every_round_and_says_when_it_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    ledger = begin(path)
    assert (read_results(path).finished, read_results(path).cells) == (False, ())
    seen = []
    for place in (NEAR, PLACE):
        for index in range(2):
            ledger.add(a_round(ANSWERS, place=place, index=index))
            seen.append((len(read_results(path).rounds), read_results(path).finished))
    assert seen == [(1, False), (2, False), (3, False), (4, True)]
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.json"]


def test_a_run_goes_on_with_the_rounds_that_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    begin(path).add(a_round(ANSWERS, place=NEAR, block_nodes={"stop-and-wait-tuned": 12}))
    ledger = begin(path, resume=True)
    assert list(ledger.missing(NEAR)) == [1]
    assert list(ledger.missing(PLACE)) == [0, 1]
    assert ledger.known_blocks(NEAR) == {"stop-and-wait-tuned": 12}
    assert ledger.known_blocks(PLACE) == {}
    ledger.add(a_round(ANSWERS, place=NEAR, index=1))
    assert list(begin(path, resume=True).missing(NEAR)) == []


def test_going_on_with_nothing_begins(tmp_path: Path) -> None:
    assert begin(tmp_path / "r.json", resume=True).results.rounds == ()


def test_a_file_that_is_there_is_not_lost_by_mistake(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    begin(path).add(a_round(ANSWERS))
    with pytest.raises(ConfigError, match="--resume"):
        begin(path)
    assert len(read_results(path).rounds) == 1
    assert begin(path, force=True).results.rounds == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tokens": 64}, "was begun with tokens 32, and now it is 64"),
        ({"rtt_ms": (0.0,)}, r"rtt_ms \[0.0, 50.0\], and now it is \[0.0\]"),
        ({"prompt_file": "other.jsonl ff"}, "prompt_file"),
    ],
)
def test_another_request_is_refused_and_the_difference_named(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    begin(tmp_path / "r.json")
    with pytest.raises(ConfigError, match=said):
        begin(tmp_path / "r.json", replace(REQUEST, **changes), resume=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cpu": "another"}, "another machine"),
        ({"versions": {"outrider": "2"}}, "other versions"),
        ({"software": {"pair": "x"}}, "other assistants"),
        ({"verifier_settings": {"OUTRIDER_VERIFIER_POLICY": "throughput"}}, "in the environment"),
    ],
)
def test_another_machine_is_refused_but_another_load_is_not(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    begin(tmp_path / "r.json")
    begin(tmp_path / "r.json", machine=replace(MACHINE, load_before=9.0), resume=True)
    with pytest.raises(ConfigError, match=said):
        begin(tmp_path / "r.json", machine=replace(MACHINE, **changes), resume=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "does not hold results"),
        ("{}", "does not hold results"),
        (json.dumps({"version": VERSION + 1}), f"has version {VERSION + 1} of the bench's results"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        read_results(path)


def test_a_file_that_is_not_there_or_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no file"):
        read_results(tmp_path / "none.json")
    with pytest.raises(ConfigError, match="cannot be written"):
        begin(tmp_path / "none" / "r.json")


def test_a_cell_that_lacks_a_figure_is_named(tmp_path: Path) -> None:
    ledger = begin(tmp_path / "r.json")
    ledger.add(a_round(ANSWERS))
    document = json.loads(json.dumps(ledger.results.as_json()))
    del document["cells"][1]["mismatches"]
    with pytest.raises(ConfigError, match=r"cells\.1\.mismatches"):
        results_from_json(document, "r.json")
