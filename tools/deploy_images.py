"""How images have to be named: by a digest, and by that of a published one unless it is ours.

Knows nothing of where images are named.
"""

import re
from typing import Final

OURS: Final = "registry.example.com/outrider-"
"""How images are called that users build themselves."""

_DIGEST: Final = re.compile(r"[a-z0-9./:_-]+@sha256:(?P<digest>[0-9a-f]{64})")


def fault_of_image(image: str) -> str | None:
    """What is wrong with the name of an image; None if nothing is."""
    found = _DIGEST.fullmatch(image)
    if found is None:
        return f"{image} is not named by a digest"
    if len(set(found["digest"])) < 8 and not image.startswith(OURS):
        return f"{image} has a digest that no published image has: name the one that you mean"
    return None
