"""The demo, and `outrider edge run` as a person sees it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def outrider(*arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "outrider", *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    return result.stdout


def test_the_demo_drafts_verifies_compares_and_says_that_it_was_exact() -> None:
    output = outrider("demo", "--max-tokens", "24", "--prompt", 'Name three "colours" & more.')
    assert "Verifier ready: smollm2-135m on 127.0.0.1:" in output
    assert "drafted ⟪guessed⟫ ⟦corrected⟧ ⟨hedged⟩" in output
    for row in ("tokens/s", "acceptance rate", "committed tokens per verification pass"):
        assert row in output
    assert re.search(r"bytes up per token +│ +[\d.]+ +│ +[\d.]+", output)
    assert re.search(r"exact: the same text as the cloud alone +│ +│ +yes", output)


def test_a_drafter_that_is_not_there_is_named_before_anything_is_done() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "outrider", "demo", "--drafter", "int3"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode != 0
    assert "no drafter 'int3'; give int8 or int4, or a file of trained layers" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_run_prints_the_answer_and_its_figures(
    verifier_address: str, int8_bundle_dir: Path, tmp_path: Path
) -> None:
    record = tmp_path / "record.json"
    where = ("--verifier", verifier_address, "--bundle", str(int8_bundle_dir))
    output = outrider("edge", "run", "Say hello.", *where, "--record", str(record))
    document = json.loads(record.read_text(encoding="utf-8"))
    assert document["finish_reason"] == "stop"
    assert document["stats"]["num_tokens"] == len(document["tokens"])
    assert "".join(token["text"] for token in document["tokens"]) == document["text"]
    plain = re.sub(r"[⟦⟧⟨⟩⏎]", "", output)
    for line in filter(None, document["text"].splitlines()):
        assert line in plain
    assert "committed tokens per verification pass" in output


def test_json_is_the_whole_output_and_stop_strings_end_it(
    verifier_address: str, int8_bundle_dir: Path
) -> None:
    where = ("--verifier", verifier_address, "--bundle", str(int8_bundle_dir))
    document = json.loads(
        outrider("edge", "run", "1, 2, 3, 4,", "--raw", "--stop", "7", "--json", *where)
    )
    assert document["text"] == " 5, 6, "
    assert document["finish_reason"] == "stop"
