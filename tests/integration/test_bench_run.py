"""`outrider bench run` with its real processes: verifier, link, players."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from outrider_bench.lineup import BLOCK_LENGTHS
from outrider_bench.results import BenchResults
from outrider_bench.results_file import read_results
from outrider_common.recording import Recording

COMMAND = [sys.executable, "-m", "outrider", "bench", "run"]
SYNTHETIC = "synthetic:vocab=200,c0=4ms,c1=0.05ms,acceptance=0.9"


def measured(out: Path, *options: str | Path) -> BenchResults:
    done = subprocess.run(
        [*COMMAND, "--out", out, *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert f"cells in {out}" in done.stdout
    return read_results(out)


def test_two_policies_over_a_synthetic_target_and_ten_milliseconds(tmp_path: Path) -> None:
    grid = ("--rtt", "10ms", "--temperature", "0", "--num-prompts", "2", "--sessions", "1,2")
    short = ("--tokens", "24", "--rounds", "2", "--warm-up", "1", "--draft-time", "1ms")
    options = ("--target", SYNTHETIC, "--policies", "cloud,chain", *grid, *short)
    results = measured(tmp_path / "r.json", *options)
    assert results.finished
    assert len(results.rounds) == 4
    assert [(cell.sessions, cell.policy) for cell in results.cells] == [
        (1, "cloud"), (1, "chain"), (2, "cloud"), (2, "chain"),
    ]  # fmt: skip
    for cell in results.cells:
        assert (cell.exact, cell.mismatches, cell.tokens) == (True, 0, 2 * 2 * 24)
        assert cell.ttft_ms.p50 > 10 + 4  # a round trip and a pass
        assert cell.speedup_vs_cloud is not None
    cloud, chain = results.cells[:2]
    assert (cloud.speedup_vs_cloud, cloud.draft_nodes_per_token) == (1, 0)
    assert cloud.tokens_per_pass == 1
    assert (chain.draft_nodes_per_token or 0) > 0
    again = measured(tmp_path / "r.json", *options, "--resume")
    assert again == results  # nothing was missing


def test_the_verifiers_own_device_drafts_for_a_synthetic_target(tmp_path: Path) -> None:
    grid = ("--rtt", "30ms", "--temperature", "0", "--num-prompts", "1", "--sessions", "1,3")
    short = ("--tokens", "32", "--rounds", "1", "--warm-up", "1", "--draft-time", "2ms")
    target = "synthetic:vocab=200,c0=20ms,c1=0.05ms,acceptance=0.9,d0=1ms"
    options = ("--target", target, "--policies", "cloud,colocated", *grid, *short)
    results = measured(tmp_path / "r.json", *options)
    cells = [cell for cell in results.cells if cell.policy == "colocated"]
    assert [(cell.sessions, cell.prompts, cell.tokens) for cell in cells] == [
        (1, 1, 32),
        (3, 3, 96),
    ]
    for cell in cells:
        assert (cell.exact, cell.draft_nodes_per_token, cell.block_nodes) == (True, 0, None)
        assert (cell.tokens_per_pass or 0) > 2
        assert (cell.speedup_vs_cloud or 0) > 1
        assert cell.ttft_ms.p50 > 30 + 20  # a round trip and a pass
        assert "between passes" in (cell.note or "")


def test_what_is_interrupted_leaves_a_file_and_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    grid = ("--rtt", "0ms,5ms", "--temperature", "0", "--num-prompts", "1", "--rounds", "3")
    short = ("--tokens", "100", "--warm-up", "1")
    options = ("--target", SYNTHETIC, "--policies", "cloud", *grid, *short)
    process = subprocess.Popen(
        [*COMMAND, "--out", str(out), *options], stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not (out.exists() and read_results(out).rounds):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert "Traceback" not in said
    before = read_results(out)
    assert 1 <= len(before.rounds) < 6
    assert not before.finished
    after = measured(out, *options, "--resume")
    assert after.finished
    assert after.rounds[: len(before.rounds)] == before.rounds
    assert len(after.rounds) == 6


@pytest.mark.slow
def test_a_recorded_target_is_drafted_for_as_the_real_one(
    smollm2_dir: Path, int4_bundle_dir: Path, tmp_path: Path
) -> None:
    prompts, recording = tmp_path / "prompts.jsonl", tmp_path / "heard.json"
    questions = ("Why is the sky blue?", "Tell a story about a fox.")
    prompts.write_text("".join(json.dumps({"prompt": each}) + "\n" for each in questions))
    asked = ("--prompts", prompts, "--num-prompts", "2", "--tokens", "24")
    drafter = ("--bundle", int4_bundle_dir)
    done = subprocess.run(
        [*COMMAND[:-1], "record", "--target", smollm2_dir, *drafter, *asked, "--out", recording],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert "2 answers in" in done.stdout
    heard = Recording.named(f"recorded:{recording}")
    grid = ("--rtt", "5ms", "--temperature", "0", "--rounds", "1", "--warm-up", "1")
    played = ("--target", f"recorded:{recording}", *drafter, *asked)
    results = measured(tmp_path / "r.json", *played, *grid, "--policies", "cloud,chain")
    for answer in results.rounds[0].answers:
        assert answer.tokens == len(heard.texts[answer.prompt].answer)
    chain = results.cells[1]
    assert (chain.policy, chain.exact) == ("chain", True)
    assert (chain.acceptance_rate or 0) > 0.3


@pytest.mark.slow
def test_a_real_pair_beside_other_software(
    smollm2_dir: Path, int4_bundle_dir: Path, tmp_path: Path
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "Why is the sky blue?", "task": "why"}\n', encoding="utf-8")
    models = ("--target", smollm2_dir, "--bundle", int4_bundle_dir, "--prompts", prompts)
    grid = ("--rtt", "20ms", "--temperature", "0", "--num-prompts", "1", "--rounds", "1")
    policies = "cloud,stop-and-wait-tuned,auto,colocated,transformers,assisted,assisted-lookup"
    short = ("--tokens", "12", "--warm-up", "1")
    results = measured(
        tmp_path / "r.json", *models, *grid, *short, "--policies", policies, "--force"
    )
    cells = {cell.policy: cell for cell in results.cells}
    assert set(cells) == set(policies.split(","))
    for cell in cells.values():
        assert (cell.exact, cell.tokens) == (True, 12), cell.policy
        assert cell.speedup_by_task.keys() == {"why"}
    for policy in ("stop-and-wait-tuned", "auto", "colocated"):
        assert cells[policy].draft_nodes_per_token is not None
    for policy in ("transformers", "assisted", "assisted-lookup"):
        assert cells[policy].draft_nodes_per_token is None
    assert cells["stop-and-wait-tuned"].block_nodes in BLOCK_LENGTHS
    assert "8 bits" in next(iter(results.machine.software.values()))
