"""Lines of a file that grows: each carries its checksum, so that what is damaged is known.

Whatever a crash or a bad disk does to the end of such a file, the lines before it can be used.
Pure; knows nothing of what the lines say.
"""

import json
import zlib
from collections.abc import Iterator
from typing import Any, Final

_CHECKSUM_CHARACTERS: Final = 8


def encode_line(document: object) -> bytes:
    """A JSON document as one line."""
    said = json.dumps(document, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(said), said)


def decode_lines(content: bytes) -> Iterator[tuple[Any, int]]:
    """The documents of all lines before the first one that is damaged or not complete.

    Yields:
        a document, and how many bytes there are until the end of its line.
    """
    num_bytes = 0
    for line in content.splitlines(keepends=True):
        said = line[_CHECKSUM_CHARACTERS + 1 : -1]
        if line != b"%08x %s\n" % (zlib.crc32(said), said):
            return
        num_bytes += len(line)
        yield json.loads(said), num_bytes
