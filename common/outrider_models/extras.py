"""Imports of the optional parts of the distribution, with an error that says what to install."""

from collections.abc import Iterator
from contextlib import contextmanager

from outrider_common.errors import MissingExtraError


@contextmanager
def needs_extra(extra: str, purpose: str) -> Iterator[None]:
    """Turn a failed import inside the block into an error that names the extra to install.

    Args:
        extra: the name of the extra, such as `export`.
        purpose: what the import is for, as the beginning of a sentence.

    Raises:
        MissingExtraError: a module is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{purpose} needs the module {error.name!r}: run pip install 'outrider[{extra}]'."
        ) from error
