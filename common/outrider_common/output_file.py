"""Files that a command writes at its end, and that are tried before it begins.

Knows nothing of what is written.
"""

from pathlib import Path

from outrider_common.errors import InvalidInputError, UnavailableError


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


def write_output(path: Path, text: str) -> None:
    """Write a result.

    Raises:
        UnavailableError: the disk is full, or the place is gone.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UnavailableError(
            f"{path} could not be written ({error.strerror}); free some room and give the command "
            "again, or another file."
        ) from error
