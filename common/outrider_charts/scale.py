"""Where values stand along an axis. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10, sqrt
from typing import Final

_STEPS: Final = (0.2, 0.5, 1.0, 2.0)
_MOST_STEPS: Final = 8


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values that are not negative onto a line.

    Attributes:
        highest: the value at the far end; 0 stands at the near one.
        near: the coordinate of 0.
        far: the coordinate of `highest`.
        is_root: by the square root, which gives small values more room, and 0 a place.
    """

    highest: float
    near: float
    far: float
    is_root: bool = False

    def __call__(self, value: float) -> float:
        """The coordinate of a value."""
        share = value / self.highest if self.highest else 0.0
        return self.near + (self.far - self.near) * (sqrt(share) if self.is_root else share)


def round_ticks(highest: float) -> list[float]:
    """Round numbers from 0 to the highest value or beyond it, four to ten of them."""
    highest = max(highest, 1e-9)
    power = 10.0 ** floor(log10(highest))
    step = next(s * power for s in _STEPS if highest / (s * power) <= _MOST_STEPS)
    return [round(index * step, 10) for index in range(ceil(highest / step) + 1)]


def spaced(ticks: Sequence[float], scale: Scale, least: float) -> list[float]:
    """Those ticks that stand at least so far from the one before."""
    kept: list[float] = []
    for tick in ticks:
        if not kept or abs(scale(tick) - scale(kept[-1])) >= least:
            kept.append(tick)
    return kept
