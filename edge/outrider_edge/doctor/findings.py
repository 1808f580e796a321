"""What a check found: good, doubtful or bad, in a sentence.

Pure. Knows nothing of what is checked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Grade(StrEnum):
    """How bad a finding is."""

    PASS = "pass"
    WARN = "warn"
    """It works, but not as it could, or not safely."""
    FAIL = "fail"
    SKIP = "skip"
    """Not checked, for lack of what it needs, or because it is not set up."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        check: the name of the check.
        grade: how bad it is.
        sentence: what was found; unless all is well, also what to do.
        figures: what was measured, with units in the names.
    """

    check: str
    grade: Grade
    sentence: str
    figures: Mapping[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """The finding as a dictionary that `json.dumps` takes."""
        return {
            "check": self.check,
            "grade": self.grade.value,
            "sentence": self.sentence,
            "figures": dict(self.figures),
        }
