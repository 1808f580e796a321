"""Drafter bundles as far as a store looks at them, packed and signed."""

import hashlib
import io
import tarfile
from pathlib import Path

from outrider.v1 import fleet_pb2 as pb
from outrider_edge.fleet.signatures import (
    make_private_key,
    public_key_of,
    signature_of,
    signed_text,
)
from outrider_models.bundle import (
    FORMAT_VERSION,
    KvLayout,
    Manifest,
    ParityReport,
    QuantisationRecord,
    tokenizer_fingerprint,
)
from outrider_models.checksums import record_files

CONTENTS = {"model.onnx": b"graph", "tokenizer.json": b"{}"}


def write_bundle(directory: Path, **contents: bytes) -> Path:
    """A bundle that can be loaded, and does not draft."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in CONTENTS.items():
        (directory / name).write_bytes(contents.get(name, content))
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name="tiny",
        source="tiny",
        architecture="llama",
        vocab_size=300,
        max_positions=128,
        eos_token_ids=(2,),
        bos_token_id=None,
        kv=KvLayout(num_layers=2, num_kv_heads=1, head_size=16),
        quantisation=QuantisationRecord("int8", bits=8, head_bits=8, block_size=32),
        tokenizer_fingerprint=tokenizer_fingerprint({"a": 0}),
        tools={},
        parity=ParityReport(100, 1e-5, 0.01, 0.98, 0.02),
        files=record_files(directory, CONTENTS),
    )
    (directory / "manifest.json").write_text(manifest.to_json())
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
