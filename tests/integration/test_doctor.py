"""`outrider doctor` against real verifiers and bundles, whole and broken."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import running_verifier
from terminals import CTRL_C, at_a_terminal

pytestmark = pytest.mark.slow

OUTRIDER = (sys.executable, "-m", "outrider")
NOWHERE = "127.0.0.1:1"
NO_DAEMON = ("--port", "1")


def doctor(*options: str | Path, status: int, **environment: str) -> dict[str, dict[str, Any]]:
    """The findings by their checks; the command must have ended with this status."""
    done = subprocess.run(
        [*OUTRIDER, "doctor", "--json", *NO_DAEMON, *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    document = json.loads(done.stdout)
    assert document["is_fine"] is (status == 0)
    return {finding["check"]: finding for finding in document["findings"]}


def grades(findings: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    """The checks of each grade."""
    found: dict[str, list[str]] = {}
    for name, finding in findings.items():
        found.setdefault(finding["grade"], []).append(name)
    return found


def test_a_whole_edge_is_measured(verifier_address: str, int8_bundle_dir: Path) -> None:
    where = ("--verifier", verifier_address, "--bundle", int8_bundle_dir)
    findings = doctor(*where, status=0)
    found = grades(findings)
    assert "fail" not in found
    assert found["skip"] == ["daemon", "MQTT"]
    assert findings["round trip"]["figures"]["round_trip_s"] > 0
    assert findings["draft model"]["figures"]["draft_s"] > 0
    assert findings["speed"]["figures"]["speed_up_measured"] > 0
    assert "plain text" in findings["privacy"]["sentence"].lower()


def test_without_a_verifier_the_rest_is_looked_at_all_the_same(int8_bundle_dir: Path) -> None:
    findings = doctor("--verifier", NOWHERE, "--bundle", int8_bundle_dir, status=1)
    found = grades(findings)
    assert found["fail"] == ["verifier"]
    assert found["skip"] == ["same tokens", "round trip", "speed", "daemon", "MQTT"]
    assert f"No verifier answers at {NOWHERE}" in findings["verifier"]["sentence"]
    assert "outrider verifier serve" in findings["verifier"]["sentence"]


def test_a_verifier_with_another_tokenizer_is_found_out(int8_bundle_dir: Path) -> None:
    with running_verifier(OUTRIDER, "synthetic") as address:
        findings = doctor("--verifier", address, "--bundle", int8_bundle_dir, status=1)
    found = grades(findings)
    assert found["fail"] == ["same tokens"]
    assert "speed" in found["skip"]
    assert "outrider models export" in findings["same tokens"]["sentence"]


@pytest.mark.parametrize(
    ("name", "damage", "says"),
    [
        ("model.onnx", "change", "does not match its checksum"),
        ("model.onnx", "remove", "is missing"),
        ("tokenizer.json", "cut", "bytes instead of"),
        ("manifest.json", "cut", "cannot be read as JSON"),
    ],
)
def test_a_damaged_bundle_is_named_with_the_remedy(
    int8_bundle_dir: Path, tmp_path: Path, name: str, damage: str, says: str
) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for file in int8_bundle_dir.iterdir():
        if file.name != name:
            (bundle / file.name).symlink_to(file)
    content = (int8_bundle_dir / name).read_bytes()
    if damage == "change":
        (bundle / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "cut":
        (bundle / name).write_bytes(content[: len(content) // 2])
    findings = doctor("--verifier", NOWHERE, "--bundle", bundle, status=1)
    sentence = findings["bundle"]["sentence"]
    assert findings["bundle"]["grade"] == "fail"
    assert says in sentence
    assert "export the bundle again" in sentence
    assert findings["draft model"]["grade"] == "skip"


def test_a_graph_that_onnx_runtime_cannot_load_is_a_finding(
    int8_bundle_dir: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(int8_bundle_dir, bundle, copy_function=os.symlink)
    (bundle / "model.onnx").unlink()
    (bundle / "model.onnx").write_bytes(b"not a graph")
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").unlink()
    digest = hashlib.sha256(b"not a graph").hexdigest()
    manifest["files"]["model.onnx"] = {"size": 11, "sha256": digest}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    findings = doctor("--verifier", NOWHERE, "--bundle", bundle, status=1)
    assert findings["draft model"]["grade"] == "fail"
    assert "ONNX Runtime cannot load" in findings["draft model"]["sentence"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[edge]\nbundel = 'x'\n", "did you mean edge.bundle?"),
        ("[edge]\nnum_threads = 'many'\n", "edge.num_threads is 'many'"),
        ("[edge\n", "is not valid TOML"),
    ],
)
def test_settings_that_cannot_be_used_are_the_first_finding(
    tmp_path: Path, text: str, says: str
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    findings = doctor("--config", file, status=1)
    assert says in findings["settings"]["sentence"]
    assert grades(findings)["fail"] == ["settings"]
    assert findings["clock"]["grade"] == "pass"


def test_a_missing_bundle_and_a_missing_store_say_how_to_get_them(tmp_path: Path) -> None:
    findings = doctor("--cache-dir", tmp_path / "no", "--verifier", NOWHERE, status=1)
    assert findings["model store"]["grade"] == "warn"
    assert "There is no model store at" in findings["model store"]["sentence"]
    assert "outrider models export" in findings["bundle"]["sentence"]


def test_providers_that_are_not_there_and_hosts_without_an_address_are_found(
    int8_bundle_dir: Path,
) -> None:
    options = ("--providers", "NoSuchExecutionProvider", "--verifier", "no-such-host.invalid:1")
    findings = doctor("--bundle", int8_bundle_dir, *options, status=1)
    assert findings["draft model"]["grade"] == "warn"
    assert "NoSuchExecutionProvider cannot be used" in findings["draft model"]["sentence"]
    assert "There is no address of no-such-host.invalid" in findings["privacy"]["sentence"]


def test_an_edge_that_drafts_nothing_needs_no_draft_model(
    verifier_address: str, int8_bundle_dir: Path
) -> None:
    where = ("--verifier", verifier_address, "--bundle", int8_bundle_dir)
    findings = doctor(*where, "--proposers", "none", status=0)
    assert grades(findings)["skip"] == ["draft model", "speed", "daemon", "MQTT"]
    assert "the verifier writes" in findings["speed"]["sentence"]


def test_people_get_a_line_for_each_check_and_ctrl_c_ends_it(int8_bundle_dir: Path) -> None:
    options = ("doctor", *NO_DAEMON, "--verifier", NOWHERE, "--bundle", str(int8_bundle_dir))
    with at_a_terminal(*options) as terminal:
        terminal.until("fail  verifier")
        assert terminal.end() == 1
        assert "pass  bundle" in terminal.seen
    with at_a_terminal(*options) as terminal:
        terminal.until("settings")
        terminal.type(CTRL_C)
        assert terminal.end() == 130
        assert "Traceback" not in terminal.seen
