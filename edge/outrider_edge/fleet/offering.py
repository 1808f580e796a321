"""Makes the signed offer of a drafter bundle out of its archive.

Knows nothing of MQTT.
"""

import time
from pathlib import Path

from outrider.v1 import fleet_pb2 as pb
from outrider_common.errors import ModelFileError
from outrider_edge.fleet.signatures import read_private_key, signature_of, signed_text
from outrider_models.checksums import sha256_of


def signed_offer(
    archive: Path, name: str, uri: str, key: Path, trial_tokens: int, margin: float
) -> pb.DesiredDrafter:
    """An offer with a revision above those of earlier offers: the time, in seconds since 1970.

    Args:
        archive: the .tar, as it is at `uri`.
        name: of the drafter.
        uri: where devices find it.
        key: a file with the private key.
        trial_tokens: so many tokens are compared.
        margin: by how much the acceptance may be worse.

    Raises:
        ModelFileError: the archive cannot be read.
        KeyFileError: the key cannot be used.
    """
    try:
        sha256 = sha256_of(archive)
    except OSError as error:
        raise ModelFileError(
            f"The archive {archive} cannot be read ({error.strerror}); pack a bundle with "
            "tar -C BUNDLE -cf FILE.tar ."
        ) from error
    revision = int(time.time())
    text = signed_text(revision, name, sha256)
    return pb.DesiredDrafter(
        revision=revision,
        name=name,
        uri=uri,
        sha256=sha256,
        signature=signature_of(text, read_private_key(key)),
        trial_tokens=trial_tokens,
        margin=margin,
    )
