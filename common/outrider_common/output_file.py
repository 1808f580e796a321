"""Files that a command writes at its end, and that are tried before it begins.

Knows nothing of what is written.
"""

from pathlib import Path

from outrider_common.errors import InvalidInputError


def require_writable(path: Path, option: str) -> None:
    """Refuse a file that could not be written later; nothing is left where none was.

    Args:
        path: of the file.
        option: that names it, for the sentence.

    Raises:
        InvalidInputError: naming the file and why.
    """
    is_new = not path.exists()
    try:
        path.open("a").close()
        if is_new:
            path.unlink()
    except OSError as error:
        raise InvalidInputError(
            f"{path} cannot be written ({error.strerror}); give {option} a file in a directory "
            "that exists and may be written to."
        ) from error
