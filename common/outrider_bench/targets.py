"""What a target's name says of it."""

from outrider_common.recording import Recording
from outrider_common.synthetic import SyntheticSpec


def is_real(target: str) -> bool:
    """Whether it is a model, and neither synthetic nor recorded."""
    return not (SyntheticSpec.is_meant_by(target) or Recording.is_meant_by(target))
