"""Times draft passes, and passes of the target over few rows, on this machine.

The least of passes that take turns: what they take where nothing else disturbs them.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from outrider_cloud.target import Rows, Segment, Target
from outrider_common.speed import Times
from outrider_distill.judging import Drafter

CONTEXT_TOKENS: Final = 128
ROWS: Final = (1, 2, 4, 8, 16)
ROUNDS: Final = 15


def measure_times(drafters: Sequence[Drafter], target: Target, rounds: int = ROUNDS) -> list[Times]:
    """How long each drafter's pass takes, and c0 and c1 of a target's pass over n rows, c0 + c1 n.

    Args:
        drafters: with the threads that they would have at an edge.
        target: with the threads that it would have in the cloud.
        rounds: how often each is measured.
    """
    ways = [*map(_draft_pass, drafters), *(_target_pass(target, rows) for rows in ROWS)]
    seconds = [[_seconds(way) for way in ways] for _ in range(rounds + 1)][1:]
    least = [min(times) for times in zip(*seconds, strict=True)]
    drafts, passes = least[: len(drafters)], least[len(drafters) :]
    row_s, pass_s = np.polynomial.Polynomial.fit(ROWS, passes, 1).convert().coef[::-1]
    row_s = max(float(row_s), 0.0)
    pass_s = max(float(pass_s), passes[0] - row_s)
    return [Times(draft_s, pass_s, row_s) for draft_s in drafts]


def _text(vocab_size: int) -> list[int]:
    return [token % vocab_size for token in range(CONTEXT_TOKENS)]


def _draft_pass(drafter: Drafter) -> Callable[[], object]:
    """Over the newest token, and the masks if there are some."""
    text = _text(drafter.model.vocab_size)
    sequence = drafter.model.new_sequence()
    sequence.forward(text, num_logits=1)
    rows = [text[-1], *drafter.masks]

    def step() -> None:
        sequence.forward(rows)
        sequence.truncate(len(text))

    return step


def _target_pass(target: Target, num_rows: int) -> Callable[[], object]:
    text = _text(target.vocab_size)
    page_tokens = target.cache_shape.page_tokens
    pages = range(-(-(len(text) + num_rows) // page_tokens))
    target.forward([Segment(pages, 0, Rows.chain(text, first_logits_row=len(text)))])
    rows = Segment(pages, len(text), Rows.chain(text[:num_rows]))
    return lambda: target.forward([rows])


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
