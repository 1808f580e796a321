"""Quantities as people write them: '100ms', '20Mbit', '256KiB', '1%'.

Pure. Every reader takes the name of what is read, for its sentence when the text is no such
quantity. Which values make sense is for others to say.
"""

import math
import re
from collections.abc import Mapping
from typing import Final

from outrider_common.errors import ConfigError

UNLIMITED: Final = "unlimited"
"""How a bandwidth without a limit is written."""

_QUANTITY: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)([A-Za-z%]*)")

_SECONDS: Final[Mapping[str, float]] = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
_BITS_PER_S: Final[Mapping[str, float]] = {"bit": 1.0, "kbit": 1e3, "Mbit": 1e6, "Gbit": 1e9}
_BYTES: Final[Mapping[str, float]] = {
    "": 1, "B": 1, "kB": 1e3, "KiB": 2**10, "MB": 1e6, "MiB": 2**20,
}  # fmt: skip
_SHARE: Final[Mapping[str, float]] = {"": 1.0, "%": 0.01}


def seconds(name: str, text: str) -> float:
    """Read a time.

    Raises:
        ConfigError: it is none.
    """
    return _read(name, text, _SECONDS, "a time that is not negative, with us, ms, s or min", "20ms")


def bits_per_s(name: str, text: str) -> float:
    """Read a bandwidth; infinite if it is 'unlimited'.

    Raises:
        ConfigError: it is none.
    """
    if text == UNLIMITED:
        return math.inf
    what = f"'{UNLIMITED}', or bits per second with bit, kbit, Mbit or Gbit"
    return _read(name, text, _BITS_PER_S, what, "5Mbit")


def num_bytes(name: str, text: str) -> int:
    """Read a number of bytes.

    Raises:
        ConfigError: it is none.
    """
    what = "a number of bytes, perhaps with kB, KiB, MB or MiB"
    size = _read(name, text, _BYTES, what, "256KiB")
    if size != int(size):
        raise ConfigError(f"{name} is '{text}', which is no whole number of bytes; round it.")
    return int(size)


def share(name: str, text: str) -> float:
    """Read a share of a whole.

    Raises:
        ConfigError: it is none.
    """
    return _read(name, text, _SHARE, "a share, as a number or in percent", "1%")


def number(name: str, text: str) -> float:
    """Read a plain number.

    Raises:
        ConfigError: it is none.
    """
    return _read(name, text, {"": 1.0}, "a number that is not negative", "3")


def duration(seconds_: float) -> str:
    """A time as text."""
    return f"{seconds_ * 1e3:.6g} ms" if seconds_ < 1 else f"{seconds_:.6g} s"


def bandwidth(bits: float) -> str:
    """Bits per second as text."""
    if bits == math.inf:
        return UNLIMITED
    unit = next(unit for unit in ("Gbit", "Mbit", "kbit", "bit") if bits >= _BITS_PER_S[unit])
    return f"{bits / _BITS_PER_S[unit]:.6g} {unit}/s"


def _read(name: str, text: str, units: Mapping[str, float], what: str, example: str) -> float:
    match = _QUANTITY.fullmatch(text)
    factor = units.get(match.group(2)) if match else None
    if match is None or factor is None:
        raise ConfigError(f"{name} is '{text}'; write {what}, such as {example}.")
    return float(match.group(1)) * factor
