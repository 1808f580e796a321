"""Reading a JSON object strictly: every field is asked for, has the right type, and none is left.

Pure. Knows nothing of what the fields mean.
"""

import json
from collections.abc import Iterable
from typing import Any, Final, NoReturn

from outrider_edge.openai_errors import BadRequestError

_SHOWN_CHARACTERS: Final = 60


def parse_json(body: bytes) -> object:
    """A JSON document; stricter than Python, which knows NaN.

    Raises:
        BadRequestError: the bytes are not UTF-8, or not JSON.
    """
    try:
        document: object = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise BadRequestError(
            f"The body is not UTF-8 text (byte {error.start}); send JSON in UTF-8."
        ) from None
    except RecursionError:
        raise BadRequestError("The body is nested too deeply; send a flatter one.") from None
    except ValueError as error:  # of the parser, and of numbers with too many digits
        raise BadRequestError(f"The body is not JSON: {error}; send a JSON object.") from None
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def shown(value: object) -> str:
    """A value as an error quotes it: as JSON, cut if it is long."""
    text = json.dumps(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


class Fields:
    """The fields of one JSON object, each of which is taken once. Null counts as not there.

    Args:
        document: what should be an object.
        where: its path, such as `messages[0]`; empty for the whole body.

    Raises:
        BadRequestError: it is no object.
    """

    def __init__(self, document: object, where: str = "") -> None:
        if not isinstance(document, dict):
            what = where or "The body"
            raise BadRequestError(
                f"{what} is {shown(document)}, but it must be a JSON object.", where or None
            )
        self._left: dict[str, Any] = dict(document)
        self._where = where

    def path(self, name: str) -> str:
        """What an error calls a field."""
        return f"{self._where}.{name}" if self._where else name

    def take(self, name: str) -> Any:
        """A field of any type; None if it is null or not there."""
        return self._left.pop(name, None)

    def text(self, name: str) -> str | None:
        """A string."""
        value = self.take(name)
        if value is not None and not isinstance(value, str):
            self.refuse(name, value, "a string")
        return value

    def switch(self, name: str) -> bool:
        """True or false; false if it is not there."""
        value = self.take(name)
        if value is not None and not isinstance(value, bool):
            self.refuse(name, value, "true or false")
        return bool(value)

    def integer(self, name: str, at_least: int, at_most: int) -> int | None:
        """A whole number in a range; 3.0 is one, as in JSON Schema."""
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        is_integer = isinstance(value, int) and not isinstance(value, bool)
        if not is_integer or not at_least <= value <= at_most:
            self.refuse(name, value, f"a whole number from {at_least} to {at_most}")
        return int(value)

    def number(self, name: str) -> float | None:
        """A number."""
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(name, value, "a number")
        try:
            return float(value)
        except OverflowError:
            self.refuse(name, value, "a number that a computer can hold")

    def take_all(self, names: Iterable[str]) -> dict[str, Any]:
        """Those of the named fields that are there, and not null."""
        values = {name: self.take(name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def finish(self) -> None:
        """Refuse what nobody has asked for.

        Raises:
            BadRequestError: naming the first such field.
        """
        for name in self._left:
            raise BadRequestError(
                f"There is no parameter {self.path(name)}; remove it: docs/edge-daemon.md lists "
                "those that there are.",
                self.path(name),
                "unknown_parameter",
            )

    def refuse(self, name: str, value: object, allowed: str) -> NoReturn:
        """Say that a field is wrong.

        Raises:
            BadRequestError: always.
        """
        raise BadRequestError(
            f"{self.path(name)} is {shown(value)}, but it must be {allowed}.", self.path(name)
        )
