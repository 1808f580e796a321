"""What goes wrong on a link, and when: a freeze, a reset, a stream cut short, a half-open link.

Values and their text only. Pure: knows nothing of sockets.
"""

import enum
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from outrider_bench import quantities
from outrider_bench.profile import Direction
from outrider_common.errors import ConfigError


class FaultKind(enum.Enum):
    """What happens to a connection."""

    FREEZE = "freeze"
    """Nothing gets through for a while, either way; then all goes on where it was."""
    RESET = "reset"
    """Both sides see the connection reset. What was under way is lost."""
    CUT = "cut"
    """One way ends early: its receiver sees an orderly end, its sender notices nothing."""
    HALF_OPEN = "half-open"
    """The target's side is reset; who connected hears no more of it, not even that."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to connections over a link at a given moment.

    As text it is a kind, a colon and some of the keys: `freeze:at=2s,for=500ms`, `reset:at=10s`,
    `cut:way=down,after=1000`, `half-open:way=up,after=200,connection=1`.

    Attributes:
        kind: what happens.
        at_s: seconds after the connection was opened; None if bytes say when.
        after_bytes: how many bytes are delivered one way before it happens; None if time says when.
        way: which way bytes are counted, and a `cut` cuts.
        for_s: how long a freeze lasts; infinite for ever.
        connection: the number of the only connection that it happens to, from 1; None for all.

    Raises:
        ConfigError: values that do not go together, or are out of range.
    """

    kind: FaultKind
    at_s: float | None = None
    after_bytes: int | None = None
    way: Direction | None = None
    for_s: float = math.inf
    connection: int | None = None

    def __post_init__(self) -> None:
        if (self.at_s is None) == (self.after_bytes is None):
            raise ConfigError(
                f"A {self.kind.value} needs one moment; write at and a time, or after and a number "
                "of bytes."
            )
        if self.way is None and (self.kind is FaultKind.CUT or self.after_bytes is not None):
            raise ConfigError(
                f"A {self.kind.value} after bytes, and every cut, is of one way; write way=up or "
                "way=down."
            )
        if not min(self.at_s or 0, self.after_bytes or 0, self.for_s) >= 0:
            raise ConfigError(f"A {self.kind.value} has a time or count below 0; use 0 or more.")
        if self.connection is not None and self.connection < 1:
            raise ConfigError(f"There is no connection {self.connection}; the first is 1.")

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """Read a fault from text.

        Raises:
            ConfigError: it is none, or a value in it cannot be used.
        """
        kind, _, rest = text.partition(":")
        if kind not in _KINDS:
            raise ConfigError(
                f"'{text}' is no fault; write one of {', '.join(_KINDS)} and its moment, such as "
                "'reset:at=10s' or 'cut:way=down,after=1000'."
            )
        fields: dict[str, Any] = {}
        for part in rest.split(",") if rest else ():
            key, _, value = part.partition("=")
            if key not in _READERS or _READERS[key][0] in fields:
                raise ConfigError(
                    f"'{key}' in '{text}' is unknown or there twice; the keys are "
                    f"{', '.join(_READERS)}."
                )
            name, read = _READERS[key]
            fields[name] = read(f"{key} of '{text}'", value)
        return cls(_KINDS[kind], **fields)

    def concerns(self, connection: int) -> bool:
        """Whether it happens to the connection of that number."""
        return self.connection is None or self.connection == connection


def _direction(name: str, text: str) -> Direction:
    try:
        return Direction(text)
    except ValueError:
        raise ConfigError(f"{name} is '{text}'; write up or down.") from None


def _number(name: str, text: str) -> int:
    if not text.isdecimal():
        raise ConfigError(f"{name} is '{text}'; write a number, counted from 1.")
    return int(text)


_KINDS: Final = {kind.value: kind for kind in FaultKind}

_READERS: Final[Mapping[str, tuple[str, Callable[[str, str], object]]]] = {
    "at": ("at_s", quantities.seconds),
    "after": ("after_bytes", quantities.num_bytes),
    "way": ("way", _direction),
    "for": ("for_s", quantities.seconds),
    "connection": ("connection", _number),
}
"""For each key its field, and how its value is read."""
