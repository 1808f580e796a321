"""From a command line to a request, and what cannot be one."""

import subprocess
import sys
from pathlib import Path

import pytest

from outrider_bench.asking import FULL, QUICK, Asked, assistants_from, request_for
from outrider_bench.lineup import PLANS, Place
from outrider_bench.machine import choose_cores
from outrider_bench.results import Request
from outrider_common.errors import ConfigError, UnsupportedError

SYNTHETIC = "synthetic:c0=2ms,c1=0ms,vocab=200"


def asked_for(asked: Asked, defaults: Asked = FULL, **changes: str) -> Request:
    said = {"target": "target", "proposers": "lm", "draft_time": "4ms"} | changes
    return request_for(asked, defaults, bundles=("one", "two"), seed=3, prompt_file="p", **said)


def test_what_is_left_out_has_its_default() -> None:
    request = asked_for(Asked(rtt="0ms,1.5s", tokens=64))
    assert request.rtt_ms == (0, 1500)
    assert request.tokens == 64
    assert request.bandwidth_mbps == (None,)
    assert request.temperatures == (0, 1)
    assert request.policies == tuple(PLANS)
    assert (request.pairs, request.seed, request.proposers) == (("one", "two"), 3, ("lm",))
    assert request.draft_ms is None


def test_quick_is_a_default_that_can_be_overruled_too() -> None:
    request = asked_for(Asked(rtt="10ms"), QUICK)
    assert request.rtt_ms == (10,)
    assert (request.rounds, request.tokens, request.num_prompts) == (1, 48, 3)
    assert request.policies == ("cloud", "stop-and-wait", "chain", "auto")


def test_a_synthetic_target_is_its_own_pair_and_has_no_prompt_file() -> None:
    request = asked_for(Asked(), target=SYNTHETIC, draft_time="7ms")
    assert request.pairs == (request.target,)
    assert request.target.startswith("synthetic:vocab=200")
    assert request.prompt_file is None
    assert (request.proposers, request.draft_ms) == (("synthetic",), 7)
    assert not {PLANS[name].place for name in request.policies} & {Place.TRANSFORMERS}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Asked(rtt="50"), "--rtt is '50'; write a time"),
        (Asked(bandwidth="fast"), "--bandwidth is 'fast'"),
        (Asked(sessions="0"), "--sessions is '0'; write whole numbers of at least 1"),
        (Asked(temperature="warm"), "--temperature is 'warm'"),
    ],
)
def test_a_value_that_is_none_of_its_kind_is_named(asked: Asked, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        asked_for(asked)


def test_bandwidths_are_in_millions_of_bits() -> None:
    assert asked_for(Asked(bandwidth="250kbit,unlimited")).bandwidth_mbps == (0.25, None)


def test_a_proposer_that_there_is_not_is_named() -> None:
    with pytest.raises(ConfigError, match="no proposer 'oracle'"):
        asked_for(Asked(), proposers="lm,oracle")


def test_an_assistant_is_a_model_directory_for_a_bundle(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    assert assistants_from((f"one={tmp_path}",)) == {"one": tmp_path}
    for text in ("one", "one=", "one=/nowhere"):
        with pytest.raises(ConfigError, match="write BUNDLE=DIR"):
            assistants_from((text,))


def test_a_machine_with_one_core_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {3}, raising=False)
    with pytest.raises(UnsupportedError, match="may use 1 core"):
        choose_cores()


@pytest.mark.parametrize(("cores", "chosen"), [({2, 5}, (2, 5, 5)), ({0, 1, 2, 3}, (0, 1, 2))])
def test_the_link_shares_the_edges_core_only_where_there_are_but_two(
    monkeypatch: pytest.MonkeyPatch, cores: set[int], chosen: tuple[int, int, int]
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: cores, raising=False)
    found = choose_cores()
    assert (found.verifier, found.edge, found.link) == chosen


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--policies", "fast"], "There is no policy 'fast'"),
        (["--policies", ","], "The grid has no policy"),
        (["--rtt", ","], "The grid has no round-trip time"),
        (["--target", "model", "--bundle", "none-such"], "There is no bundle 'none-such'"),
        (["--target", "none-such"], "There is no model 'none-such'"),
        (["--target", "synthetic:x=1"], "A synthetic target has no 'x'"),
        (["--target", "synthetic", "--policies", "assisted"], "needs a real target"),
        (["--target", "recorded:x", "--temperature", "1"], "holds greedy answers only"),
        (["--target", "recorded:x", "--temperature", "0"], "The recording 'x' cannot be read"),
        (
            ["--target", "recorded:x", "--temperature", "0", "--policies", "assisted"],
            "needs a real target",
        ),
        (["--prompts", "none.jsonl"], "The prompts 'none.jsonl' cannot be read"),
        (["--sessions", "0"], "write whole numbers of at least 1"),
        (["--out", "/none/such/file.json", "--target", "synthetic"], "cannot be written"),
    ],
)
def test_bad_values_are_one_sentence_each(options: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}", encoding="utf-8")
    command = [sys.executable, "-m", "outrider", "bench", "run", "--cache-dir", "store", *options]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path
    )
    assert done.returncode != 0
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]
