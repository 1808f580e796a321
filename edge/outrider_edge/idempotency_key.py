"""The header `Idempotency-Key`: a client's own name for a request, the same when it comes again.

Pure; knows nothing of HTTP but the header's value.
"""

from typing import Final

from outrider_edge.openai_errors import BadRequestError

KEY_HEADER: Final = "idempotency-key"
MAX_KEY_CHARACTERS: Final = 255


def idempotency_key(value: str | None) -> str | None:
    """The key of a request; None if it has none.

    Raises:
        BadRequestError: it is empty or too long.
    """
    if value is not None and not 0 < len(value) <= MAX_KEY_CHARACTERS:
        raise BadRequestError(
            f"The header Idempotency-Key has {len(value)} characters, but it must have 1 to "
            f"{MAX_KEY_CHARACTERS}; send a shorter one, such as a UUID, or none.",
            "Idempotency-Key",
        )
    return value
