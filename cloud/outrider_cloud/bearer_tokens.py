"""Bearer tokens: made, and compared with what is kept of them.

A token is 256 random bits, so nobody can find one by trying, and a single hash is enough to keep:
slow hashes are there to make up for the little that a password holds (RFC 6750, section 5.2, asks
for tokens that cannot be guessed). Knows nothing of tenants.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Final

_SECRET_BYTES: Final = 32
_ID_BYTES: Final = 6
_FORM: Final = re.compile(r"outrider_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that was just made.

    Attributes:
        token_id: its name in files and logs; no secret.
        text: the token itself; to be shown once and kept nowhere.
        sha256: what is kept of it, in hexadecimal digits.
    """

    token_id: str
    text: str
    sha256: str

    def __repr__(self) -> str:
        return f"NewToken({self.token_id!r})"


def make_token() -> NewToken:
    """A token that nobody has yet."""
    token_id = secrets.token_hex(_ID_BYTES)
    text = f"outrider_{token_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    return NewToken(token_id, text, _digest(text))


def id_of(token: str) -> str | None:
    """The name that a token carries, or None for what has not the form of a token."""
    found = _FORM.fullmatch(token)
    return found.group(1) if found else None


def is_token(token: str, sha256: str) -> bool:
    """Whether a hash is that of a token; takes as long wherever they differ."""
    return hmac.compare_digest(_digest(token), sha256)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
