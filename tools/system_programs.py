"""Install the programs from outside that checks and tests run: a broker, a browser, and so on.

Only on Debian and its like, and only as root; others are told what to install.
"""

import os
import shutil
import subprocess
import sys

PACKAGES = {
    "mosquitto": "mosquitto",
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
    "kubectl": "kubernetes-client",
    "node": "nodejs",
    "npm": "npm",
    "promtool": "prometheus",
}
"""The Debian package of each program."""


def main() -> None:
    """Install what is missing of the programs that are named; of all where none is."""
    names = sys.argv[1:] or list(PACKAGES)
    unknown = [name for name in names if name not in PACKAGES]
    if unknown:
        sys.exit(f"Unknown program '{unknown[0]}'; known: {', '.join(PACKAGES)}.")
    missing = [name for name in names if not _is_there(name)]
    if missing:
        _install([PACKAGES[name] for name in missing])


def _is_there(program: str) -> bool:
    return shutil.which(program) is not None or shutil.which(f"/usr/sbin/{program}") is not None


def _install(packages: list[str]) -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.exit(
            f"The tests need the packages {' '.join(packages)}: install them, as with "
            f"'sudo apt-get install {' '.join(packages)}'."
        )
    print(f"Installing {' '.join(packages)} ...", flush=True)
    # Nothing that is installed shall start by itself: tests start what they need.
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    for command in (["apt-get", "update", "-qq"], install):
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
