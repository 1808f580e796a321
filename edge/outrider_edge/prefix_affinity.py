"""What tells a proxy which sessions begin alike, so that it can send them to the same verifier.

A verifier keeps what it has computed of a prompt's beginning; another one has to compute it anew.
Proxies do not read messages, so the hint stands in the metadata of the stream. It is short on
purpose: thousands of prompts share each value, so it names none.
"""

import hashlib
from array import array
from typing import Final

from outrider_common.messages import OpenSession

METADATA_KEY: Final = "outrider-prefix"

NUM_TOKENS: Final = 64
"""So many tokens count: a system prompt's beginning, on some whole pages of a KV cache."""

_DIGEST_BYTES: Final = 2


def affinity_metadata(message: OpenSession) -> tuple[tuple[str, str], ...]:
    """The metadata of a session's stream; a resumed session's are those that it had before."""
    beginning = message.prefix[: min(message.num_prompt_tokens, NUM_TOKENS)]
    digest = hashlib.blake2b(array("q", beginning).tobytes(), digest_size=_DIGEST_BYTES)
    return ((METADATA_KEY, digest.hexdigest()),)
