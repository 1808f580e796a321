"""Which assistant Transformers gets for a drafter bundle, and how that is said.

A bundle is an ONNX graph; Transformers wants weights. Pure.
"""

from enum import StrEnum
from typing import Final

from outrider_models.bundle import Manifest

NO_ASSISTANT: Final = (
    "nothing, and 'assisted' is left out: the bundle is no copy of its target, Transformers runs "
    "no ONNX graphs, and no --assistant names the same drafter as a torch model"
)


class AssistantKind(StrEnum):
    """What is made of the assistant's weights."""

    AS_THEY_ARE = "fp32"
    """Nothing."""

    DYNAMIC_INT8 = "int8"
    """Linear layers in 8 bits by `torch.ao.quantization.quantize_dynamic`."""


def kind_for(manifest: Manifest) -> AssistantKind:
    """As near to the bundle as torch comes on a CPU: it has no 4-bit layers there."""
    is_quantised = manifest.quantisation.scheme != "none"
    return AssistantKind.DYNAMIC_INT8 if is_quantised else AssistantKind.AS_THEY_ARE


def in_words(kind: AssistantKind, weights: str) -> str:
    """What the assistant was, for those who read the figures."""
    how = {
        AssistantKind.AS_THEY_ARE: "in fp32",
        AssistantKind.DYNAMIC_INT8: "with linear layers in 8 bits by torch's dynamic quantisation",
    }
    return f"the weights of {weights} {how[kind]}"
