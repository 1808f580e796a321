"""Drafter bundles without a model in them: whole to whoever reads them, and made in no time."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from outrider_models.bundle import (
    FORMAT_VERSION,
    KvLayout,
    Manifest,
    ParityReport,
    QuantisationRecord,
    tokenizer_fingerprint,
)
from outrider_models.checksums import record_files

CONTENTS = {
    "model.onnx": b"graph",
    "model.onnx.data": b"weights",
    "tokenizer.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
}


def write_bundle(
    directory: Path, contents: Mapping[str, bytes] = CONTENTS, **changes: Any
) -> Manifest:
    """Write a bundle.

    Args:
        directory: is there and empty.
        contents: of each file.
        changes: to the manifest.
    """
    for name, data in contents.items():
        (directory / name).write_bytes(data)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name="tiny-int8",
        source="tiny",
        architecture="llama",
        vocab_size=300,
        max_positions=128,
        eos_token_ids=(2, 5),
        bos_token_id=None,
        kv=KvLayout(num_layers=2, num_kv_heads=1, head_size=16),
        quantisation=QuantisationRecord("int8", bits=8, head_bits=8, block_size=32),
        tokenizer_fingerprint=tokenizer_fingerprint({"a": 0}),
        tools={"onnx": "1.0"},
        parity=ParityReport(100, 1e-5, 0.01, 0.98, 0.02),
        files=record_files(directory, contents),
    )
    manifest = replace(manifest, **changes)
    (directory / "manifest.json").write_text(manifest.to_json())
    return manifest
