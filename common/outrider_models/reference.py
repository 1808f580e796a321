"""Names of models on a Hugging Face hub: `hf:org/name`, with an optional `@revision`."""

import re
from dataclasses import dataclass

from outrider_common.errors import InvalidInputError

_PREFIX = "hf:"
_PATTERN = re.compile(r"hf:([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([A-Za-z0-9][\w./-]*))?")


@dataclass(frozen=True, slots=True)
class HubReference:
    """A model repository on a hub.

    Attributes:
        repository: `org/name`.
        revision: a branch, tag or commit; None: the default branch.
    """

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        at = f"@{self.revision}" if self.revision else ""
        return f"{_PREFIX}{self.repository}{at}"

    @property
    def store_name(self) -> str:
        """The name of the model in the store; a revision is part of it."""
        return str(self).removeprefix(_PREFIX).replace("/", "--")


def parse_hub_reference(text: str) -> HubReference | None:
    """Read `hf:org/name` or `hf:org/name@revision`.

    Returns:
        The reference, or None where the text does not begin with `hf:`.

    Raises:
        InvalidInputError: it begins so, but goes on in another way.
    """
    if not text.startswith(_PREFIX):
        return None
    match = _PATTERN.fullmatch(text)
    if not match:
        raise InvalidInputError(
            f"{text!r} is not a model on a hub: write hf:organisation/name, "
            "or hf:organisation/name@revision."
        )
    return HubReference(match[1], match[2])
