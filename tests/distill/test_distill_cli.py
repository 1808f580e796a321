"""The command `outrider models distill`, from its options to a bundle."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from outrider_models.bundle import Bundle
from outrider_models.cli import models


def run(tmp_path: Path, *arguments: str | Path) -> Result:
    command = [*map(str, arguments), "--cache-dir", str(tmp_path / "store")]
    return CliRunner().invoke(models, command, catch_exceptions=False)


def test_the_command_makes_a_bundle_and_a_second_call_finds_everything_done(
    tmp_path: Path, tiny_dir: Path
) -> None:
    out = tmp_path / "run"
    options = ("--layers", "2", "--text-tokens", "500", "--max-tokens", "32", "--epochs", "1")
    command = ("distill", tiny_dir, "--out", out, *options, "--quantisation", "none")
    first = run(tmp_path, *command)
    assert first.exit_code == 0
    assert first.stdout == f"{out / 'bundle'}\n"
    assert "accepted" in first.stderr
    for line in ("The target wrote: ", "The drafter learned from: "):
        assert re.search(rf"{line}\d+ tokens in \d+ s, \d+ tokens/s", first.stderr)
    manifest = Bundle.load(out / "bundle", verify=True).manifest
    assert manifest.kv.num_layers == 2
    assert manifest.name == "tiny-2-layers-none"
    record = json.loads((out / "request.json").read_text())
    assert record["layers"] == [0, 3]
    text = (out / "text" / "text-00000.npz").stat().st_mtime_ns
    second = run(tmp_path, *command)
    assert second.stdout == first.stdout
    assert (out / "text" / "text-00000.npz").stat().st_mtime_ns == text
    assembled = run(tmp_path, "assemble", out / "trained.safetensors", "--quantisation", "none")
    assert assembled.exit_code == 0
    assert Bundle.load(Path(assembled.stdout.strip())).manifest.files == manifest.files


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--take", "0,x"), "'0,x' is not a list of layers"),
        (("--temperatures", "warm"), "'warm' is not a list of temperatures"),
        (("--temperatures", "-1"), "'-1' is not a list of temperatures"),
        (("--epochs", "0"), "--epochs"),
        (("--prompts", "/nowhere"), "/nowhere"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(
    tmp_path: Path, tiny_dir: Path, options: tuple[str, str], complaint: str
) -> None:
    result = run(tmp_path, "distill", tiny_dir, "--out", tmp_path / "run", *options)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert not (tmp_path / "run").exists()
