"""A generation with half an installation on one side: each role really runs without the other."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from processes import running_verifier

pytestmark = pytest.mark.slow

HERE = (sys.executable, "-m", "outrider")


def generate(outrider: Sequence[str | Path], address: str, bundle: Path) -> dict[str, object]:
    """What `outrider edge run --json` says."""
    arguments = ["edge", "run", "Count to ten.", "--verifier", address, "--bundle", bundle]
    output = subprocess.run(
        [*outrider, *arguments, "--max-tokens", "16", "--json"],
        capture_output=True,
        check=True,
        timeout=120,
    )
    answer: dict[str, object] = json.loads(output.stdout)
    return answer


def test_an_edge_without_torch_and_a_verifier_without_onnxruntime_answer_as_the_whole_does(
    edge_only_env: Path,
    cloud_only_env: Path,
    verifier_address: str,
    smollm2_dir: Path,
    int8_bundle_dir: Path,
) -> None:
    expected = generate(HERE, verifier_address, int8_bundle_dir)["text"]
    edge_only = (edge_only_env / "outrider",)
    assert generate(edge_only, verifier_address, int8_bundle_dir)["text"] == expected
    with running_verifier((cloud_only_env / "outrider",), smollm2_dir) as address:
        assert generate(HERE, address, int8_bundle_dir)["text"] == expected
        answer = generate(edge_only, address, int8_bundle_dir)
    assert answer["text"] == expected
    assert any(token["origin"] == "drafted" for token in answer["tokens"])  # type: ignore[attr-defined]
