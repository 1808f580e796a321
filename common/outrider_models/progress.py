"""How long work tells somebody what it is doing."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Progress(Protocol):
    """Tells somebody what is being done."""

    def stage(
        self, description: str, *, has_own_bar: bool = False
    ) -> AbstractContextManager[object]:
        """A block during which the described thing goes on.

        Args:
            description: what goes on, such as `Unpacking the weights`.
            has_own_bar: what runs inside draws a progress bar of its own.
        """
        ...


class SilentProgress:
    """Tells nobody."""

    def stage(
        self,
        description: str,
        *,
        has_own_bar: bool = False,
    ) -> AbstractContextManager[object]:
        """A block that does nothing more."""
        return nullcontext()
