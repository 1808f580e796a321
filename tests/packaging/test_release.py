"""A release: one version in one place, a changelog that knows it, and a wheel without strays."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
VERSION = PROJECT["project"]["version"]


def test_the_version_stands_in_one_place() -> None:
    assert version("outrider") == VERSION
    literal = re.compile(rf"(?<![\d.]){re.escape(VERSION)}(?![\d.])")
    sources = [
        path
        for folder in ("common", "edge", "cloud", "tools")
        for path in (ROOT / folder).rglob("*.py")
    ]
    assert sources
    assert [path for path in sources if literal.search(path.read_text())] == []


def test_the_changelog_tells_of_this_version_first() -> None:
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] in ("Unreleased", VERSION)
    assert VERSION in headings
    assert len(set(headings)) == len(headings)


@pytest.mark.slow
def test_the_wheel_holds_our_packages_and_nothing_else(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    packages = {
        Path(one).name for one in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    }
    assert {name.partition("/")[0] for name in names} == packages | {
        f"outrider-{VERSION}.dist-info"
    }
    strays = [
        name for name in names if re.search(r"test_|conftest|__pycache__|\.(pyc|ipynb|log)$", name)
    ]
    assert strays == []


@pytest.mark.slow
def test_every_file_of_our_packages_is_in_the_wheel(wheel: Path) -> None:
    names = set(ZipFile(wheel).namelist())
    for package in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        source = ROOT / package
        files = [
            path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts
        ]
        missing = {str(path.relative_to(source.parent)) for path in files} - names
        assert missing == set()
