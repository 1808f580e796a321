"""Images without a container engine: what Dockerfiles say, and their steps in a directory."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from dockerfiles import IMAGES, ROOT, Stage, copied_from_context, effective, lineage, stages

from outrider.cli import root

FINAL = [
    ("edge.Dockerfile", "edge"),
    ("verifier.Dockerfile", "cpu"),
    ("verifier.Dockerfile", "cuda"),
]
DIGEST = f"python@sha256:{'0' * 64}"


def words(instruction: str | None) -> list[str]:
    """The words of an instruction in its JSON form."""
    assert instruction is not None
    found: list[str] = json.loads(instruction[instruction.index("[") :])
    return found


@pytest.mark.parametrize("name", [path.name for path in sorted(IMAGES.glob("*.Dockerfile"))])
def test_every_base_is_an_argument_a_stage_or_nothing(name: str) -> None:
    found = stages(name)
    for stage in found.values():
        assert stage.base in {"${PYTHON_IMAGE}", "scratch", *found}


@pytest.mark.parametrize("name", ["edge.Dockerfile", "verifier.Dockerfile"])
@pytest.mark.parametrize(("image", "is_pinned"), [("python:3.13-slim", False), (DIGEST, True)])
def test_a_base_image_without_a_digest_is_refused(name: str, image: str, is_pinned: bool) -> None:
    (check,) = stages(name)["pinned"].all("RUN")
    environment = os.environ | {"PYTHON_IMAGE": image}
    result = subprocess.run(
        ["sh", "-c", check], env=environment, capture_output=True, text=True, check=False
    )
    assert (result.returncode == 0) == is_pinned
    assert is_pinned or image in result.stderr


@pytest.mark.parametrize(("name", "target"), FINAL)
def test_every_stage_builds_on_the_pinned_base(name: str, target: str) -> None:
    found = stages(name)
    assert [stage.name for stage in lineage(found, target)][-1] == "pinned"


@pytest.mark.parametrize(("name", "target"), FINAL)
def test_images_run_as_a_user_without_rights(name: str, target: str) -> None:
    assert effective(stages(name), target, "USER") == "10001:10001"


@pytest.mark.parametrize(("name", "target"), FINAL)
def test_what_images_start_and_ask_for_their_health_are_commands_of_ours(
    name: str, target: str
) -> None:
    found = stages(name)
    assert words(effective(found, target, "ENTRYPOINT")) == ["outrider"]
    health = words(effective(found, target, "HEALTHCHECK"))
    assert health[0] == "outrider"
    for arguments in (words(effective(found, target, "CMD")), health[1:]):
        group = root.get_command(root.make_context("outrider", [arguments[0]]), arguments[0])
        assert group is not None
        group.commands[arguments[1]].make_context("x", arguments[2:])  # type: ignore[attr-defined]


@pytest.mark.parametrize(("name", "target"), FINAL)
def test_images_say_what_they_are_and_what_is_in_them(name: str, target: str) -> None:
    found = stages(name)
    labels = effective(found, target, "LABEL") or ""
    for label in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in labels
    copies = [text for stage in lineage(found, target) for text in stage.all("COPY")]
    assert any(text.endswith("/usr/share/outrider/sbom.cdx.json") for text in copies)


@pytest.mark.parametrize(("name", "target"), FINAL)
def test_what_is_installed_are_extras_that_exist(name: str, target: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (IMAGES / name).read_text()
    asked = re.findall(r"whl\)\[([\w,]+)\]", text) + re.findall(
        r"^ARG EXTRAS=(\S+)", text, re.MULTILINE
    )
    assert asked
    for extras in asked:
        assert set(extras.split(",")) <= project["optional-dependencies"].keys()


def test_the_build_context_holds_what_is_copied_and_not_the_rest() -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    admitted = {line[1:] for line in ignore if line.startswith("!")}
    assert "*" in ignore
    needed = {
        path
        for name in ("edge.Dockerfile", "verifier.Dockerfile")
        for stage in stages(name).values()
        for path in copied_from_context(stage)
    }
    assert needed == admitted
    assert all((ROOT / path).exists() for path in needed)


def in_directory(step: str, directory: Path, wheel: Path) -> str:
    """A step of a Dockerfile as a command that works in a directory instead of an image."""
    step = step.replace("/opt/outrider", str(directory)).replace("/wheels", str(wheel.parent))
    return re.sub(r"^python ", f"{sys.executable} ", step)


def installing_step(stage: Stage) -> str:
    (step,) = (text for text in stage.all("RUN") if "venv /opt/outrider" in text)
    return step


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_steps_of_the_edge_image_give_a_small_tree_whose_command_runs(
    wheel: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "outrider"
    step = in_directory(installing_step(stages("edge.Dockerfile")["build"]), directory, wheel)
    subprocess.run(["sh", "-ec", step], cwd=ROOT, check=True, capture_output=True)
    environment = {"PATH": f"{directory}/bin:/usr/bin:/bin", "HOME": str(tmp_path)}
    helped = subprocess.run(
        ["outrider", "edge", "serve", "--help"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "OpenAI-compatible" in helped.stdout
    packages = {path.name for path in directory.glob("lib/python*/site-packages/*")}
    assert not packages & {"torch", "transformers", "pip", "onnx"}
    size = sum(path.lstat().st_size for path in directory.rglob("*") if path.is_file())
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    (stated_mib,) = re.findall(r"edge's file tree has (\d+) MiB", page)
    assert size >> 20 == pytest.approx(int(stated_mib), rel=0.05)
