"""Files that are there whole or not at all, whenever the process or the machine ends.

Knows nothing of what is in them.
"""

import os
import tempfile
from pathlib import Path


def replace_file(path: Path, text: str) -> None:
    """Write beside the place, then rename: a reader sees the old file or the new one.

    Readable by this user only.

    Raises:
        OSError: it cannot be written.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    incoming = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the new name with an empty file
        incoming.replace(path)
    except BaseException:
        incoming.unlink(missing_ok=True)
        raise
