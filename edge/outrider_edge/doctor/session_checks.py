"""A short answer, written by the cloud alone and then with drafts: what would be gained here?

Measured, and by the formulas of `outrider_common.speed` from what was measured.
"""

import dataclasses
import statistics
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final

from outrider_common.messages import Commit, ModelInfo, OpenSession, ServerEvent
from outrider_common.records import GenerationStats
from outrider_common.settings.edge import EdgeSettings
from outrider_common.speed import Times, speed_ups
from outrider_edge.calibration_store import CalibrationStore
from outrider_edge.doctor.examination import Check, Verdict
from outrider_edge.doctor.patient import Patient
from outrider_edge.generation_requests import generation_request
from outrider_edge.link import SessionLink, VerifierLink
from outrider_edge.runtime import edge_runtime
from outrider_edge.wrapped_session import WrappedSession

NUM_TOKENS: Final = 32
LEAST_JUDGED: Final = 8
"""With fewer judged guesses nothing is said of acceptance."""

WORTHWHILE: Final = 1.05
"""A speed-up below this is none."""

_LIMIT_S: Final = 120.0
_MS: Final = 1000
_PROMPT: Final = "Write a short story about a lighthouse keeper."


@dataclass(slots=True)
class _ListeningLink:
    """A link that keeps what verification passes say of themselves."""

    link: VerifierLink
    commits: list[Commit] = field(default_factory=list)

    @property
    def has_alternative(self) -> bool:
        return self.link.has_alternative

    async def model_info(self, timeout_s: float | None = None) -> ModelInfo:
        return await self.link.model_info(timeout_s)

    async def open(self, message: OpenSession, max_message_bytes: int) -> SessionLink:
        return _ListeningSession(await self.link.open(message, max_message_bytes), self.commits)


class _ListeningSession(WrappedSession):
    """One session of it."""

    def __init__(self, session: SessionLink, commits: list[Commit]) -> None:
        super().__init__(session)
        self._commits = commits

    async def receive(self) -> ServerEvent | None:
        event = await super().receive()
        if isinstance(event, Commit):
            self._commits.append(event)
        return event


@dataclass(frozen=True, slots=True)
class Trial:
    """One answer.

    Attributes:
        stats: its figures.
        passes: of each verification pass after the prompt's: rows of the session, and seconds.
    """

    stats: GenerationStats
    passes: tuple[tuple[int, float], ...]

    @property
    def tokens_per_s(self) -> float:
        """The pace after the first token."""
        seconds = self.stats.duration_s - (self.stats.time_to_first_token_s or 0.0)
        return (self.stats.num_tokens - 1) / seconds if seconds > 0 else 0.0


async def _speed(patient: Patient) -> Verdict:
    edge = patient.settings.edge
    alone = await _trial(patient, edge.model_copy(update={"proposers": ("none",)}))
    if edge.proposers == ("none",):
        return Verdict.absent(
            f"Nothing is drafted; the verifier writes {alone.tokens_per_s:.1f} tokens/s."
        )
    drafted = await _trial(patient, edge)
    return judge(alone, drafted, patient.round_trip_s or 0.0, patient.draft_s or 0.0)


async def _trial(patient: Patient, edge: EdgeSettings) -> Trial:
    assert patient.bundle is not None
    calibrations = CalibrationStore(patient.store.root / "calibrations")
    async with edge_runtime(edge, patient.bundle, calibrations) as runtime:
        link = _ListeningLink(runtime.link)
        prompt = runtime.tokenizer.encode_chat([{"role": "user", "content": _PROMPT}])
        sampling = patient.settings.sampling.model_copy(update={"max_tokens": NUM_TOKENS})
        request = generation_request(prompt, sampling, ignore_eos=True)
        result = await dataclasses.replace(runtime, link=link).generate(request, lambda _: None)
    passes = tuple((one.num_rows, one.pass_us / 1e6) for one in link.commits[1:] if one.num_rows)
    return Trial(result.stats, passes)


def judge(alone: Trial, drafted: Trial, round_trip_s: float, draft_s: float) -> Verdict:
    """What drafting gains, measured and expected.

    Args:
        alone: an answer without drafts.
        drafted: the same answer with drafts.
        round_trip_s: to the verifier and back.
        draft_s: a step of the drafter.
    """
    measured = drafted.tokens_per_s / alone.tokens_per_s if alone.tokens_per_s else 0.0
    stats = drafted.stats
    paces = (
        f"{drafted.tokens_per_s:.1f} tokens/s with drafts, {alone.tokens_per_s:.1f} without, "
        f"in answers of {stats.num_tokens} tokens"
    )
    num_judged = stats.num_accepted_tokens + stats.num_corrections
    if num_judged < LEAST_JUDGED:
        return Verdict.doubtful(
            f"{paces}; only {num_judged} guesses came in time to be judged, too few to expect a "
            "gain: draft with something faster, such as --proposers retrieval.",
            speed_up_measured=measured,
        )
    times = times_of(alone, drafted, draft_s)
    (expected,) = speed_ups(times, [stats.acceptance_rate], 0.0, [round_trip_s * _MS])
    figures = {
        "acceptance": stats.acceptance_rate,
        "plain_pass_s": times.plain_s,
        "row_s": times.row_s,
        "speed_up_measured": measured,
        "speed_up_expected": expected.chain,
        "speed_up_stop_and_wait": expected.stop_and_wait,
    }
    said = (
        f"By the formulas up to {expected.chain:.2f} times the cloud alone (waiting for each "
        f"verdict: {expected.stop_and_wait:.2f}), from acceptance {stats.acceptance_rate:.2f} of "
        f"{num_judged} guesses, {draft_s * _MS:.1f} ms a guess and {times.plain_s * _MS:.1f} ms a "
        f"pass; measured: {paces}"
    )
    if expected.chain < WORTHWHILE:
        return Verdict.doubtful(
            f"{said}; drafting gains nothing here: use a drafter that is faster or more often "
            "right, or save its work with --proposers none.",
            **figures,
        )
    return Verdict.good(f"{said}.", **figures)


def times_of(alone: Trial, drafted: Trial, draft_s: float) -> Times:
    """How long passes take, c0 + c1 rows: a line through the medians of each number of rows.

    The slope is the median of all slopes between two of them (Theil 1950; Sen 1968): a pass that
    was held up does not move it.
    """
    plain_s = statistics.median([s for rows, s in alone.passes if rows == 1] or [0.0])
    by_rows: dict[int, list[float]] = {}
    for rows, seconds in drafted.passes:
        by_rows.setdefault(rows, []).append(seconds)
    points = sorted((rows, statistics.median(samples)) for rows, samples in by_rows.items())
    slopes = [(s2 - s1) / (n2 - n1) for (n1, s1), (n2, s2) in combinations(points, 2)]
    row_s = min(max(statistics.median(slopes or [0.0]), 0.0), plain_s)
    return Times(draft_s, plain_s - row_s, row_s)


SESSION_CHECKS: Final = (
    Check(
        "speed",
        _speed,
        needs=("same tokens", "round trip"),
        limit_s=_LIMIT_S,
        if_it_hangs="the verifier is very slow or stuck: see its log.",
    ),
)
