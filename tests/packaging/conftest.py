"""Environments as a user would make them: the built wheel with one extra, and nothing else.

A test that asks for `edge_only_env` or `cloud_only_env` gets the environment's `bin` directory,
with `python` and `outrider` in it. Each is made once a run; mark such tests `slow`.
"""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the working tree."""
    directory = tmp_path_factory.mktemp("wheel")
    subprocess.run([*PIP, "wheel", "--no-deps", "--wheel-dir", directory, ROOT], check=True)
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def edge_only_env(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` directory of an environment with `outrider[edge]`."""
    return install(wheel, "edge", tmp_path_factory.mktemp("edge-only"))


@pytest.fixture(scope="session")
def cloud_only_env(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` directory of an environment with `outrider[cloud]`."""
    return install(wheel, "cloud", tmp_path_factory.mktemp("cloud-only"))


def install(wheel: Path, extra: str, directory: Path) -> Path:
    venv.create(directory, with_pip=False)
    bin_directory = directory / "bin"
    pip = [*PIP, "--python", str(bin_directory / "python")]
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, "install", "--no-compile", *constraints, f"{wheel}[{extra}]"], check=True)
    return bin_directory
