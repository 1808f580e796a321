"""What drafting is worth by formula (docs/architecture.md and Leviathan et al. 2211.17192). Pure.

R: round trip; t_d: drafting one token; t_v: one verification pass; t_ar: one plain decoding step;
a: acceptance per drafted token; g: drafted tokens per round.
"""

from dataclasses import dataclass
from statistics import median
from typing import Final

from outrider_common.errors import OutriderError
from outrider_common.generation_trace import GenerationTrace
from outrider_common.synthetic import SyntheticSpec

MOST_DRAFTED: Final = 32
"""The longest block that stop-and-wait is tuned over."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a drafted token and a verification pass take, and how that is known.

    Attributes:
        draft_s: t_d.
        pass_s: t_v.
        source: in words.
    """

    draft_s: float
    pass_s: float
    source: str


@dataclass(frozen=True, slots=True)
class Formulas:
    """Speed against the cloud alone, by formula.

    Attributes:
        pace: t_d and t_v.
        plain_s: t_ar.
        acceptance: a, below 1.
    """

    pace: Pace
    plain_s: float
    acceptance: float

    def stop_and_wait(self, round_trip_s: float) -> float:
        """t_ar [(1-a^(g+1))/(1-a)] / (g t_d + R + t_v), at the best g."""
        return max(self._blocks(g, round_trip_s) for g in range(1, MOST_DRAFTED + 1))

    def chain(self, round_trip_s: float) -> float:
        """t_ar / (t_d + (1-a)(R + t_v)): one chain, streamed in small blocks."""
        lost_s = (1 - self.acceptance) * (round_trip_s + self.pace.pass_s)
        return self.plain_s / (self.pace.draft_s + lost_s)

    def _blocks(self, num_drafted: int, round_trip_s: float) -> float:
        tokens = sum(self.acceptance**i for i in range(num_drafted + 1))
        round_s = num_drafted * self.pace.draft_s + round_trip_s + self.pace.pass_s
        return self.plain_s * tokens / round_s


def traced_pace(trace: GenerationTrace) -> Pace | None:
    """The medians of a trace, with drafts from one leaf only; None where it has none."""
    drafts = [draft.ended_s - draft.began_s for draft in trace.drafts if draft.num_leaves == 1]
    passes = [commit.pass_s for commit in trace.passes]
    if not drafts or not passes:
        return None
    return Pace(median(drafts), median(passes), f"medians of a trace drafted by {trace.drafter}")


def synthetic_pace(target: str, draft_ms: float | None) -> Pace | None:
    """What a synthetic target is told to take; None for a real one."""
    if draft_ms is None:
        return None
    try:
        spec = SyntheticSpec.parse(target)
    except OutriderError:
        return None
    return Pace(draft_ms / 1e3, spec.pass_s(2), "as the synthetic target was told")
