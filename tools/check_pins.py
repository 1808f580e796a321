"""Check that what is installed is what `constraints.txt` pins, for all that development needs.

Follows the requirements in `pyproject.toml`, of all extras, through what is installed here. Each of
these must be there, in the pinned version, which must be one that all who require it allow.
"""

import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from itertools import chain
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parent.parent
OWN_NAME: Final = "outrider"

Pins = Mapping[str, str]
"""Versions by canonical name."""


def main(arguments: list[str] | None = None) -> int:
    """Check; the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    path = Path(arguments[0]) if arguments else ROOT / "constraints.txt"
    problems = sorted(set(find_problems(read_pins(path.read_text()))))
    for problem in problems:
        print(problem)
    if problems:
        print(f"{path.name} and what is installed differ: run 'make setup', or 'make lock'.")
    return 1 if problems else 0


def read_pins(text: str) -> Pins:
    """The pins of a constraints file."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    pairs = (line.split("==") for line in lines if line)
    return {canonicalize_name(name): version for name, version in pairs}


def own_requirements(path: Path) -> list[Requirement]:
    """What a project requires, with all its extras."""
    project = tomllib.loads(path.read_text())["project"]
    texts = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    requirements = map(Requirement, texts)
    return [requirement for requirement in requirements if requirement.name != OWN_NAME]


def find_problems(pins: Pins) -> Iterator[str]:
    """What is missing, not pinned, or of another version; a sentence for each."""
    seen: set[tuple[str, str]] = set()
    pending = own_requirements(ROOT / "pyproject.toml")
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        try:
            found = distribution(name)
        except PackageNotFoundError:
            yield f"{requirement} is not installed."
            continue
        yield from _judge(requirement, found.version, pins.get(name))
        for extra in requirement.extras or {""}:
            if (name, extra) not in seen:
                seen.add((name, extra))
                pending.extend(_requirements(found, extra))


def _requirements(found: Distribution, extra: str) -> Iterator[Requirement]:
    """What a distribution requires here, its extra included."""
    for text in found.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement


def _judge(requirement: Requirement, version: str, pin: str | None) -> Iterator[str]:
    public = version.partition("+")[0]
    if pin is None:
        yield f"{requirement.name}=={public} is not pinned."
    elif pin != public:
        yield f"{requirement.name} is installed as {public}, but pinned as {pin}."
    if not requirement.specifier.contains(version, prereleases=True):
        yield f"{requirement} is required, but {version} is installed."


if __name__ == "__main__":
    sys.exit(main())
