"""Ask the package index which known vulnerabilities the pinned packages have.

By the JSON interface of PyPI, `/pypi/NAME/VERSION/json`, at the index that pip is set to use. Not
every index has it: what cannot be asked is said, and is no fault. With `--strict`, as `make audit`
has it, a known vulnerability is one; `make check` only reports: advisories come without a change.
"""

import argparse
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from check_pins import ROOT, Pins, read_pins
from pip._internal.models.index import PyPI

TIMEOUT_S: Final = 10.0
AT_ONCE: Final = 8


class CannotAskError(Exception):
    """The index does not say what is known of packages."""


def main(arguments: list[str] | None = None) -> int:
    """Ask; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strict", action="store_true", help="fail on a known vulnerability")
    parser.add_argument("--index", default=None, help="address of the index, without /simple")
    parser.add_argument("pins", nargs="?", type=Path, default=ROOT / "constraints.txt")
    given = parser.parse_args(arguments)
    pins = read_pins(given.pins.read_text())
    try:
        found = list(advisories((given.index or index_of_pip()).rstrip("/"), pins))
    except CannotAskError as error:
        print(f"Known vulnerabilities were not looked up: {error}")
        return 0
    for line in found:
        print(line)
    return 1 if found and given.strict else 0


def index_of_pip() -> str:
    """The index that pip uses, without what is particular to packages."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    address = done.stdout.strip() or PyPI.simple_url
    return address.rstrip("/").removesuffix("/simple")


def advisories(index: str, pins: Pins) -> Iterator[str]:
    """A sentence for each known vulnerability; the first package tells whether one can ask."""
    packages = list(pins.items())
    answers = [_known(index, *packages[0])] if packages else []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers += pool.map(lambda package: _known(index, *package), packages[1:])
    for (name, version), known in zip(packages, answers, strict=True):
        for one in known:
            if not one.get("withdrawn"):
                fixed = ", ".join(one.get("fixed_in") or ()) or "no version yet"
                yield f"{name} {version} has {one['id']}; fixed in {fixed}."


def _known(index: str, name: str, version: str) -> list[dict[str, Any]]:
    address = f"{index}/pypi/{name}/{version.partition('+')[0]}/json"
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:
            found: list[dict[str, Any]] = json.load(answer)["vulnerabilities"]
    except (OSError, ValueError, KeyError) as error:
        raise CannotAskError(f"the index did not say it of {name} {version} ({error}).") from error
    return found


if __name__ == "__main__":
    sys.exit(main())
