"""Drafter bundles as far as a store looks at them, packed and signed."""

import hashlib
import io
import tarfile
from pathlib import Path

import bundles

from outrider.v1 import fleet_pb2 as pb
from outrider_edge.fleet.signatures import (
    make_private_key,
    public_key_of,
    signature_of,
    signed_text,
)

CONTENTS = {"model.onnx": b"graph", "tokenizer.json": b"{}"}


def write_bundle(directory: Path, **contents: bytes) -> Path:
    """A bundle that can be loaded, and does not draft."""
    directory.mkdir(parents=True, exist_ok=True)
    bundles.write_bundle(directory, CONTENTS | contents, name="tiny", eos_token_ids=(2,), tools={})
    return directory


def pack(directory: Path, archive: Path) -> Path:
    """What `tar -C DIRECTORY -cf ARCHIVE .` does."""
    with tarfile.open(archive, "w") as tar:
        tar.add(directory, arcname=".")
    return archive


def packed_entry(archive: Path, entry: tarfile.TarInfo, content: bytes = b"") -> Path:
    """An archive with one odd entry."""
    entry.size = len(content)
    with tarfile.open(archive, "w") as tar:
        tar.addfile(entry, io.BytesIO(content))
    return archive


class Signer:
    """An operator's key."""

    def __init__(self, directory: Path) -> None:
        self.key = make_private_key(directory / "operator.pem")

    @property
    def public_key(self) -> str:
        return public_key_of(self.key)

    def offer(
        self, archive: Path, revision: int = 1, name: str = "new", **others: object
    ) -> pb.DesiredDrafter:
        """A signed offer of an archive."""
        sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
        fields = {
            "uri": archive.as_uri(),
            "sha256": sha256,
            "signature": signature_of(signed_text(revision, name, sha256), self.key),
            "trial_tokens": 100,
            **others,
        }
        return pb.DesiredDrafter(revision=revision, name=name, **fields)  # type: ignore[arg-type]
