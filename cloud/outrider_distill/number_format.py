"""Which number format is fast on a device; remembered for a run, as it decides the rounding."""

import time
from pathlib import Path
from typing import Final

import torch

from outrider_distill.samples import write_whole

FORMAT_FILE: Final = "number_format"
ADVANTAGE: Final = 1.2
"""So many times as fast bfloat16 has to be: float32 is more exact."""

_SIZE: Final = 512


def faster_format(directory: Path, device: torch.device) -> str:
    """`float32` or `bfloat16`: what was chosen for a run before, or what is fast here.

    Args:
        directory: of the run.
        device: where it trains.
    """
    path = directory / FORMAT_FILE
    if path.is_file():
        return path.read_text(encoding="ascii").strip()
    chosen = _measured(device)
    write_whole(path, lambda file: file.write(chosen.encode()))
    return chosen


def _measured(device: torch.device) -> str:
    if device.type != "cpu":
        return "bfloat16"
    exact, coarse = (_seconds(dtype) for dtype in (torch.float32, torch.bfloat16))
    return "bfloat16" if exact > ADVANTAGE * coarse else "float32"


def _seconds(dtype: torch.dtype) -> float:
    """The least of several products."""
    matrix = torch.ones(_SIZE, _SIZE, dtype=dtype)
    times = []
    for _ in range(5):
        began = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - began)
    return min(times)
