"""What a run of the bench says of the machine, and which core each of its processes gets."""

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from outrider_bench.results import Machine
from outrider_common.errors import UnsupportedError

_PACKAGES: Final = ("outrider", "grpcio", "numpy", "onnxruntime", "torch", "transformers")

_SETTING: Final = "OUTRIDER_VERIFIER_"
"""With this the environment variables of the verifier's settings begin."""


@dataclass(frozen=True, slots=True)
class Cores:
    """The core of each process; None where the system pins none.

    Attributes:
        verifier: also of what runs beside it or in its place.
        edge: drafts.
        link: the emulator; it shares the edge's core where there are but two.
    """

    verifier: int | None
    edge: int | None
    link: int | None

    def as_json(self) -> dict[str, int]:
        """By process."""
        named = {"verifier": self.verifier, "edge": self.edge, "link": self.link}
        return {name: core for name, core in named.items() if core is not None}


def choose_cores() -> Cores:
    """Of the cores that this process may use.

    Raises:
        UnsupportedError: there are fewer than two.
    """
    if not hasattr(os, "sched_getaffinity"):
        _refuse_few(os.cpu_count() or 1)
        return Cores(None, None, None)
    cores = sorted(os.sched_getaffinity(0))
    _refuse_few(len(cores))
    return Cores(cores[0], cores[1], cores[2] if len(cores) > 2 else cores[1])


def describe_machine(cores: Cores, software: Mapping[str, str]) -> Machine:
    """This machine, now."""
    return Machine(
        cpu=_cpu_model(),
        num_cores=_num_cores(),
        system=f"{platform.system()} {platform.machine()}",
        versions={"python": platform.python_version()} | _versions(),
        pinned=cores.as_json(),
        load_before=load(),
        software=software,
        verifier_settings=_verifier_settings(os.environ),
    )


def load() -> float:
    """The load average over the last minute."""
    return round(os.getloadavg()[0], 2)


def _verifier_settings(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: environment[name] for name in sorted(environment) if name.startswith(_SETTING)}


def _refuse_few(num_cores: int) -> None:
    if num_cores < 2:
        raise UnsupportedError(
            f"The bench may use {num_cores} core, and needs one for the verifier and another for "
            "the edge; run it on a machine, or in a container, with two."
        )


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_model() -> str:
    """As the kernel names it; not every architecture has such a line."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown processor")


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
