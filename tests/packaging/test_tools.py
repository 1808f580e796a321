"""The tools of `make check` accept the tree as it is, and refuse what they are there to refuse."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
BASELINE = ROOT / "proto/outrider/v1/image.binpb"


def run(*command: str | Path, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(Path.home()), **env}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


# The wire.


@pytest.fixture
def proto(tmp_path: Path) -> Path:
    """A copy of proto/ to spoil."""
    return Path(shutil.copytree(ROOT / "proto", tmp_path / "proto"))


def spoil(proto: Path, pattern: str, replacement: str) -> None:
    file = proto / "outrider/v1/verifier.proto"
    text, count = re.subn(pattern, replacement, file.read_text(), count=1, flags=re.MULTILINE)
    assert count == 1
    file.write_text(text)


def breaking(proto: Path) -> subprocess.CompletedProcess[str]:
    config = "--config", (ROOT / "buf.yaml").read_text()
    return run("buf", "breaking", "proto", "--against", BASELINE, *config, cwd=proto.parent)


def test_the_wire_is_compatible_with_what_was_accepted_before(proto: Path) -> None:
    assert breaking(proto).returncode == 0


@pytest.mark.parametrize(
    ("pattern", "replacement", "said"),
    [
        (r"^  bool ignore_eos = 9;$", "", "ignore_eos"),
        (r"bool ignore_eos = 9;", "bool ignore_eos = 19;", "ignore_eos"),
        (r"double top_p = 3;", "float top_p = 3;", "top_p"),
    ],
)
def test_a_field_that_is_removed_renumbered_or_retyped_is_refused(
    proto: Path, pattern: str, replacement: str, said: str
) -> None:
    spoil(proto, pattern, replacement)
    result = breaking(proto)
    assert result.returncode != 0
    assert said in result.stdout


def test_a_field_that_is_added_is_fine(proto: Path) -> None:
    spoil(proto, r"bool ignore_eos = 9;", "bool ignore_eos = 9; bool added = 999;")
    assert breaking(proto).returncode == 0


def test_a_field_that_is_badly_named_is_refused(proto: Path) -> None:
    shutil.copy(ROOT / "buf.yaml", proto.parent)
    assert run("buf", "lint", cwd=proto.parent).returncode == 0
    spoil(proto, r"bool ignore_eos = 9;", "bool ignoreEos = 9;")
    result = run("buf", "lint", cwd=proto.parent)
    assert result.returncode != 0
    assert "ignoreEos" in result.stdout


def test_the_code_of_the_wire_is_what_would_be_generated() -> None:
    result = run(sys.executable, "tools/generate_proto.py", "--check")
    assert result.returncode == 0, result.stdout


def test_code_of_the_wire_that_is_stale_is_refused_until_it_is_generated(
    proto: Path, tmp_path: Path
) -> None:
    tool = (sys.executable, ROOT / "tools/generate_proto.py", "--proto", proto, "--out", tmp_path)
    stale = tmp_path / "outrider/v1/gone_pb2.py"
    assert run(*tool).returncode == 0
    stale.write_text("")
    spoil(proto, r"bool ignore_eos = 9;", "bool ignore_eos = 9; bool added = 999;")
    result = run(*tool, "--check")
    assert result.returncode == 1
    assert "verifier_pb2.pyi" in result.stdout
    assert "gone_pb2.py" in result.stdout
    assert run(*tool).returncode == 0
    assert not stale.exists()
    assert run(*tool, "--check").returncode == 0


# The documentation of the settings.


def test_the_page_on_the_settings_is_what_would_be_generated() -> None:
    result = run(sys.executable, "tools/generate_configuration.py", "--check")
    assert result.returncode == 0, result.stdout


def test_a_page_on_the_settings_that_is_stale_or_missing_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "configuration.md"
    tool = (sys.executable, "tools/generate_configuration.py", "--page", page)
    assert run(*tool, "--check").returncode == 1
    assert run(*tool).returncode == 0
    page.write_text(page.read_text().replace("7411", "7412"))
    assert run(*tool, "--check").returncode == 1


# The import rules.

INWARDS = "Dependencies point inwards"
CORE = "The core knows no event loop, no network, no model runtime and no command line"
OPTIONS = "Only command-line modules import the options made from settings"
EDGE = "The edge needs no training framework"
CLOUD = "The cloud needs no ONNX Runtime"
MODELS = "Only the GGUF conversion of the model store needs a model runtime"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages to put offenders into."""
    copy = tmp_path_factory.mktemp("tree")
    for folder in ("common", "edge", "cloud"):
        shutil.copytree(ROOT / folder, copy / folder)
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def broken_contracts(tree: Path) -> set[str]:
    path = ":".join(str(tree / folder) for folder in ("common", "edge", "cloud"))
    result = run("lint-imports", "--no-cache", cwd=tree, PYTHONPATH=path)
    assert "Contracts: " in result.stdout, result.stdout
    broken = set(re.findall(r"^(.+) BROKEN", result.stdout, flags=re.MULTILINE))
    assert bool(broken) == bool(result.returncode)
    return broken


def test_the_import_rules_are_kept(tree: Path) -> None:
    assert broken_contracts(tree) == set()


@pytest.mark.parametrize(
    ("package", "offence", "contract"),
    [
        ("common/outrider_common", "import asyncio", CORE),
        ("common/outrider_common", "import grpc", CORE),
        ("common/outrider_common", "import torch", CORE),
        ("common/outrider_common", "import onnxruntime", CORE),
        ("common/outrider_common", "def lazily(): import transformers", CORE),
        ("common/outrider_common", "from outrider.v1 import verifier_pb2", CORE),
        ("common/outrider_common", "from outrider.v1 import verifier_pb2_grpc", CORE),
        ("common/outrider_common", "import outrider_common.cli_options", OPTIONS),
        ("common/outrider_common", "import outrider_models", INWARDS),
        ("common/outrider_models", "import outrider_edge", INWARDS),
        ("common/outrider_models", "import torch", MODELS),
        ("edge/outrider_edge", "import outrider_cloud", INWARDS),
        ("edge/outrider_edge", "import outrider.cli", INWARDS),
        ("edge/outrider_edge", "import torch", EDGE),
        ("edge/outrider_edge", "import onnx", EDGE),
        ("edge/outrider_export", "import outrider.cli", INWARDS),
        ("edge/outrider_export", "import outrider_distill.student", INWARDS),
        ("cloud/outrider_cloud", "import outrider_edge", INWARDS),
        ("cloud/outrider_cloud", "import onnxruntime", CLOUD),
    ],
)
def test_an_import_against_the_rules_is_refused(
    tree: Path, package: str, offence: str, contract: str
) -> None:
    offender = tree / package / "offender.py"
    offender.write_text(offence)
    try:
        assert contract in broken_contracts(tree)
    finally:
        offender.unlink()


def test_the_conversion_of_messages_may_import_messages_but_no_stubs(tree: Path) -> None:
    wire = tree / "common/outrider_common/wire.py"
    text = wire.read_text()
    wire.write_text(f"{text}\nfrom outrider.v1 import verifier_pb2_grpc\n")
    try:
        assert broken_contracts(tree) == {CORE}
    finally:
        wire.write_text(text)


# The Makefile.


@pytest.fixture
def fake_venv(tmp_path: Path) -> Path:
    """An environment that counts as installed, whose `outrider` prints its arguments."""
    directory = tmp_path / "venv"
    (directory / "bin").mkdir(parents=True)
    command = directory / "bin/outrider"
    command.write_text("#!/bin/sh\nprintf '<%s>' \"$@\"\n")
    command.chmod(0o755)
    (directory / ".installed").touch()
    return directory


PROMPTS = [
    "plain words",
    """both "double" and 'single' quotes""",
    "$HOME $(HOME) $(shell echo ran) ${HOME} `echo ran`",
    "$(unbalanced",
    "--starts-like-an-option",
    "back\\slash; # and * and & and \u00fcml\u00e4ut",
    "two\nlines",
]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_prompt_given_to_make_reaches_the_program_as_it_is(fake_venv: Path, prompt: str) -> None:
    result = run("make", "--silent", f"VENV={fake_venv}", "demo", f"PROMPT={prompt}")
    assert result.stdout == f"<demo><--prompt={prompt}>", result.stderr


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_prompt_in_the_environment_of_make_reaches_the_program_as_it_is(
    fake_venv: Path, prompt: str
) -> None:
    result = run("make", "--silent", f"VENV={fake_venv}", "demo", PROMPT=prompt)
    assert result.stdout == f"<demo><--prompt={prompt}>", result.stderr


def test_a_prompt_is_not_run_by_make(fake_venv: Path, tmp_path: Path) -> None:
    prompt = f"$(shell touch {tmp_path / 'ran'})"
    run("make", "--silent", f"VENV={fake_venv}", "demo", f"PROMPT={prompt}", PROMPT=prompt)
    assert not (tmp_path / "ran").exists()


def test_without_a_prompt_the_program_chooses_one(fake_venv: Path) -> None:
    assert run("make", "--silent", f"VENV={fake_venv}", "demo").stdout == "<demo>"


def test_installing_is_repeated_only_if_what_is_installed_has_changed(fake_venv: Path) -> None:
    up_to_date = ("make", "--question", f"VENV={fake_venv}", "setup")
    assert run(*up_to_date).returncode == 0
    assert run(*up_to_date, "--what-if=constraints.txt").returncode == 1
    assert run(*up_to_date, "--what-if=pyproject.toml").returncode == 1


OLD_PYTHON = "import sys; sys.version_info = (3, 10, 1); sys.version = '3.10.1 (old)'; "


def test_a_python_that_is_too_old_is_refused_in_one_sentence(tmp_path: Path) -> None:
    old = tmp_path / "old-python"
    old.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} -c "{OLD_PYTHON}$2"\n')
    old.chmod(0o755)
    result = run("make", "--silent", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}", "setup")
    assert result.returncode != 0
    assert "needs Python 3.11 or newer, not 3.10.1" in result.stderr
    assert not (tmp_path / "venv").exists()


def test_every_target_says_what_it_does() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)[1].split())  # type: ignore[index]
    listed = {line.split()[1] for line in run("make").stdout.splitlines()}
    assert listed == targets


def test_ci_runs_the_checks_and_then_the_tests() -> None:
    script = ROOT / ".ci/run"
    assert script.stat().st_mode & 0o111
    commands = re.findall(r"^make .+$", script.read_text(), re.MULTILINE)
    assert commands == ["make check", "make test"]


# The pinned versions.


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pairs}


def test_everything_that_is_required_is_pinned_to_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    required = [*project["dependencies"], *(line for extra in extras for line in extra)]
    names = {re.split(r"[^A-Za-z0-9._-]", line)[0].lower() for line in required}
    assert names - {"outrider"} <= pinned().keys()


def test_torch_is_pinned_so_that_every_build_of_the_version_will_do() -> None:
    assert pinned()["torch"] == "2.13.0"


# What is installed.


def pins_with(tmp_path: Path, pattern: str, replacement: str) -> subprocess.CompletedProcess[str]:
    """The check of a spoilt constraints file."""
    text = (ROOT / "constraints.txt").read_text()
    spoilt, count = re.subn(pattern, replacement, text, count=1, flags=re.MULTILINE)
    assert count == 1
    file = tmp_path / "constraints.txt"
    file.write_text(spoilt)
    return run(sys.executable, ROOT / "tools/check_pins.py", file)


def test_what_is_installed_is_what_is_pinned() -> None:
    done = run(sys.executable, ROOT / "tools/check_pins.py")
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("pattern", "replacement", "said"),
    [
        (r"^grpcio==.*\n", "", r"grpcio==\S+ is not pinned"),
        (r"^idna==.*$", "idna==1.0", r"idna is installed as \S+, but pinned as 1\.0"),
    ],
)
def test_a_package_without_a_pin_or_of_another_version_is_refused(
    tmp_path: Path, pattern: str, replacement: str, said: str
) -> None:
    done = pins_with(tmp_path, pattern, replacement)
    assert done.returncode == 1
    assert re.search(said, done.stdout)


@pytest.mark.slow
def test_the_bill_of_materials_is_valid_and_names_what_is_pinned(tmp_path: Path) -> None:
    file = tmp_path / "sbom.json"
    options = ("--pyproject", "pyproject.toml", "--spec-version", "1.6", "--output-reproducible")
    done = run("cyclonedx-py", "environment", *options, "-o", file, sys.executable)
    assert done.returncode == 0, done.stderr
    document = json.loads(file.read_text())
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    named = {f"{one['name']}=={one['version']}".partition("+")[0] for one in document["components"]}
    for pin in ("grpcio", "pydantic", "torch", "onnxruntime"):
        assert any(one.startswith(f"{pin}==") for one in named)
