"""Generate the Python code of the wire, `common/outrider/v1`, from `proto/outrider/v1`.

`--check` writes nothing and fails if the code that is there is not what would be generated.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final

from grpc_tools import protoc

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGE: Final = Path("outrider/v1")
PACKAGE_DOCSTRING: Final = (
    '"""The messages and stubs of the wire, generated from proto/outrider/v1."""\n'
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Generate or check; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail on differences")
    parser.add_argument("--proto", type=Path, default=ROOT / "proto", help="where the sources are")
    parser.add_argument("--out", type=Path, default=ROOT / "common", help="where the code goes")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        generate(options.proto, Path(directory))
        wanted = contents(Path(directory) / PACKAGE)
    target = options.out / PACKAGE
    if options.check:
        return report_differences(wanted, contents(target), target)
    replace(wanted, target)
    return 0


def generate(proto: Path, out: Path) -> None:
    """Run the protocol compiler over all sources below `proto`.

    Raises:
        SystemExit: a source is faulty; the compiler has said so.
    """
    sources = sorted(str(path) for path in (proto / PACKAGE).glob("*.proto"))
    well_known = files("grpc_tools") / "_proto"
    kinds = [f"--{kind}={out}" for kind in ("python_out", "pyi_out", "grpc_python_out")]
    if protoc.main(["protoc", f"-I{proto}", f"-I{well_known}", *kinds, *sources]):
        raise SystemExit(f"The protocol compiler refused a file in {proto / PACKAGE}.")
    (out / PACKAGE / "__init__.py").write_text(PACKAGE_DOCSTRING)


def contents(directory: Path) -> dict[str, str]:
    """The text of every Python file in `directory`, under its name."""
    return {
        path.name: path.read_text()
        for path in directory.glob("*")
        if path.suffix in {".py", ".pyi"}
    }


def replace(wanted: dict[str, str], target: Path) -> None:
    """Make the Python files in `target` those that are wanted, and no others."""
    target.mkdir(parents=True, exist_ok=True)
    for stale in contents(target).keys() - wanted.keys():
        (target / stale).unlink()
    for name, text in wanted.items():
        (target / name).write_text(text)


def report_differences(wanted: dict[str, str], found: dict[str, str], target: Path) -> int:
    """Name the files that are not as wanted; 1 if there are any."""
    names = sorted(wanted.keys() | found.keys())
    stale = [name for name in names if wanted.get(name) != found.get(name)]
    for name in stale:
        print(f"{target / name} is not what proto/ generates: run make proto.")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
