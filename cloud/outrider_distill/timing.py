"""Times a draft step, and passes of the target over few rows, on this machine.

Medians of steps that take turns, so that a busy machine disturbs both alike.
"""

import statistics
import time
from collections.abc import Callable
from typing import Final

import numpy as np

from outrider_cloud.target import Rows, Segment, Target
from outrider_common.speed import Times
from outrider_edge.onnx_model import OnnxModel

CONTEXT_TOKENS: Final = 128
ROWS: Final = (1, 2, 4, 8, 16)
ROUNDS: Final = 15


def measure_times(drafter: OnnxModel, target: Target, rounds: int = ROUNDS) -> Times:
    """How long a drafted token takes, and c0 and c1 of a pass over n rows, c0 + c1 n.

    Args:
        drafter: with the threads that it would have at an edge.
        target: with the threads that it would have in the cloud.
        rounds: how often each is measured.
    """
    text = [token % drafter.vocab_size for token in range(CONTEXT_TOKENS)]
    ways = [_draft_step(drafter, text), *(_target_pass(target, text, rows) for rows in ROWS)]
    seconds = [[_seconds(way) for way in ways] for _ in range(rounds + 1)][1:]
    draft_s, *passes = (statistics.median(times) for times in zip(*seconds, strict=True))
    row_s, pass_s = np.polynomial.Polynomial.fit(ROWS, passes, 1).convert().coef[::-1]
    row_s = max(float(row_s), 0.0)
    return Times(draft_s, max(float(pass_s), passes[0] - row_s), row_s)


def _draft_step(drafter: OnnxModel, text: list[int]) -> Callable[[], object]:
    sequence = drafter.new_sequence()
    sequence.forward(text, num_logits=1)

    def step() -> None:
        sequence.forward(text[-1:])
        sequence.truncate(len(text))

    return step


def _target_pass(target: Target, text: list[int], num_rows: int) -> Callable[[], object]:
    page_tokens = target.cache_shape.page_tokens
    pages = range(-(-(len(text) + num_rows) // page_tokens))
    target.forward([Segment(pages, 0, Rows.chain(text, first_logits_row=len(text)))])
    rows = Segment(pages, len(text), Rows.chain(text[:num_rows]))
    return lambda: target.forward([rows])


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
