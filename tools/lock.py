"""Pin every package that development needs in `constraints.txt`.

Resolves the extras anew in an empty environment, then writes down what was installed. Knows
nothing of any package but the one that it holds fast.
"""

import subprocess
import tempfile
import venv
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
HELD: Final = "torch==2.13.0"
"""Held at one version: there is a CPU build of it; newer ones bring gigabytes for GPUs."""

HEADER: Final = """\
# Exact versions for development and CI, written by `make lock`. pip reads it with --constraint.
# torch is held at one version: newer ones bring gigabytes of GPU libraries.
"""


def main() -> None:
    """Resolve, install, write down."""
    with tempfile.TemporaryDirectory() as directory:
        venv.create(directory, with_pip=True)
        python = Path(directory, "bin", "python")
        pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", HELD, f"{ROOT}[all,dev]"], check=True)
        frozen = subprocess.run(
            [*pip, "list", "--format=freeze", "--exclude=outrider", "--exclude=pip"],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    (ROOT / "constraints.txt").write_text(HEADER + pins(frozen.stdout))


def pins(frozen: str) -> str:
    """The lines of `pip list --format=freeze` as constraints.

    The local part of a version, as in 2.13.0+cpu, says who built it; a pin without it admits
    every build.
    """
    return "".join(f"{line.partition('+')[0]}\n" for line in frozen.splitlines())


if __name__ == "__main__":
    main()
