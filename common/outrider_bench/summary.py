"""Sums rounds up to the figures of cells. Pure; what each figure means stands in `results`."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any, Final, TypeAlias

import numpy as np

from outrider_bench.lineup import BASELINE, plan_for
from outrider_bench.results import Answer, Cell, Circumstances, Counters, Quantiles, Round

LEAST_TOKENS: Final = 8
"""An answer of fewer tokens says nothing of a rate."""

Figure: TypeAlias = Callable[[Answer], float | None]


def decoding_rate(answer: Answer) -> float | None:
    """Tokens after the first, over the time since the first; None for too short an answer."""
    seconds = (answer.duration_ms - answer.ttft_ms) / 1e3
    return (answer.tokens - 1) / seconds if answer.tokens >= LEAST_TOKENS and seconds > 0 else None


def end_to_end_rate(answer: Answer) -> float:
    """All tokens, over all the time since the request."""
    return answer.tokens / (answer.duration_ms / 1e3)


def cells_of(rounds: Sequence[Round]) -> tuple[Cell, ...]:
    """A cell for each place and policy of which there are rounds, in the order of the rounds."""
    by_place: dict[Circumstances, list[Round]] = {}
    for each in rounds:
        by_place.setdefault(each.circumstances, []).append(each)
    return tuple(
        cell_of(place, policy, there)
        for place, there in by_place.items()
        for policy in dict.fromkeys(answer.policy for answer in there[0].answers)
    )


def cell_of(place: Circumstances, policy: str, rounds: Sequence[Round]) -> Cell:
    """What one policy did in one place, over all rounds there."""
    own = [_of_policy(each, policy) for each in rounds]
    base = [_of_policy(each, BASELINE) for each in rounds]
    answers = [answer for each in own for answer in each]
    mismatches = sum(answer.mismatches for answer in answers)
    times_ms = [1e3 / rate for rate in _defined(map(decoding_rate, answers))]
    plan = plan_for(policy, place.pair)
    is_promised = plan.is_ours or place.temperature == 0
    figures: dict[str, Any] = {
        **asdict(place),
        **_rates(own, place.sessions),
        **_speedups(own, base),
        **_costs([answer.counters for answer in answers], answers),
    }
    return Cell(
        policy=policy,
        rounds=len(rounds),
        prompts=len(own[0]),
        tokens=sum(answer.tokens for answer in answers),
        ttft_ms=_quantiles([answer.ttft_ms for answer in answers]),
        tpot_ms=_quantiles(times_ms) if times_ms else None,
        exact=not mismatches if is_promised else None,
        mismatches=mismatches,
        block_nodes=rounds[-1].block_nodes.get(policy),
        note=plan.note,
        **figures,
    )


def _of_policy(each: Round, policy: str) -> list[Answer]:
    return [answer for answer in each.answers if answer.policy == policy]


def _rates(own: Sequence[Sequence[Answer]], sessions: int) -> dict[str, float | None]:
    return {
        **_over_rounds("tokens_per_s", (_median(map(decoding_rate, each)) for each in own)),
        **_over_rounds("total_tokens_per_s", (_total_rate(each, sessions) for each in own)),
        "end_to_end_tokens_per_s": _median(_median(map(end_to_end_rate, each)) for each in own),
    }


def _total_rate(answers: Sequence[Answer], sessions: int) -> float:
    """Of all sessions together. Every batch has as many answers, each of which has its time."""
    seconds = sum(answer.batch_ms for answer in answers) / sessions / 1e3
    return sum(answer.tokens for answer in answers) / seconds


def _speedups(
    own: Sequence[Sequence[Answer]], base: Sequence[Sequence[Answer]]
) -> dict[str, object]:
    rounds = list(zip(own, base, strict=True))
    decoding = [_ratios(*both, decoding_rate) for both in rounds]
    whole = [_ratios(*both, end_to_end_rate) for both in rounds]
    of_task: dict[str, list[float]] = {}
    for answers, ratios in zip(own, decoding, strict=True):
        for answer, ratio in zip(answers, ratios, strict=True):
            of_task.setdefault(answer.task, []).extend([] if ratio is None else [ratio])
    return {
        **_over_rounds("speedup_vs_cloud", map(_median, decoding)),
        "end_to_end_speedup_vs_cloud": _median(map(_median, whole)),
        "speedup_by_task": {task: median(ratios) for task, ratios in of_task.items() if ratios},
    }


def _ratios(own: Sequence[Answer], base: Sequence[Answer], figure: Figure) -> list[float | None]:
    """Of each answer to the baseline's to the same prompt, a moment before or after."""
    pairs = ((figure(mine), figure(other)) for mine, other in zip(own, base, strict=True))
    return [mine / other if mine and other else None for mine, other in pairs]


def _costs(
    counters: Sequence[Counters | None], answers: Sequence[Answer]
) -> dict[str, float | None]:
    known = [each for each in counters if each is not None]
    tokens = sum(answer.tokens for answer in answers)

    def total(name: str) -> int:
        return sum(getattr(each, name) for each in known)

    sent, accepted = total("num_draft_tokens"), total("num_accepted_tokens")
    shares = {
        "acceptance_rate": (accepted, accepted + total("num_corrections")),
        "tokens_per_pass": (tokens, total("num_passes")),
        "rows_per_token": (total("num_rows"), tokens),
        "draft_nodes_per_token": (sent, tokens),
        "wasted_fraction": (sent - accepted, sent),
        "bytes_up_per_token": (total("bytes_up"), tokens),
        "bytes_down_per_token": (total("bytes_down"), tokens),
    }
    return {
        name: part / whole if known and whole else None for name, (part, whole) in shares.items()
    }


def _over_rounds(name: str, figures: Iterable[float | None]) -> dict[str, float | None]:
    known = _defined(figures)
    return {
        name: _median(known),
        f"{name}_min": min(known, default=None),
        f"{name}_max": max(known, default=None),
    }


def _median(figures: Iterable[float | None]) -> float | None:
    known = _defined(figures)
    return median(known) if known else None


def _defined(figures: Iterable[float | None]) -> list[float]:
    return [figure for figure in figures if figure is not None]


def _quantiles(times_ms: Sequence[float]) -> Quantiles:
    p50, p95, p99 = np.percentile(times_ms, (50, 95, 99)).tolist()
    return Quantiles(p50=p50, p95=p95, p99=p99)
