"""Asks one generation's proposer, on worker threads, one run at a time.

It outlives sessions: what the proposer keeps of the text, it keeps. Knows nothing of the network.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from typing import Final

from outrider_edge.proposer import Draft, Proposer
from outrider_edge.session import DraftRun

MAX_STEADY_TOKENS: Final = 2
"""A proposer that has at most so many tokens more to read than the last time is in full swing."""


class Drafter:
    """The proposer of one generation.

    Args:
        proposer: drafts.
        name: of the proposer, for the records.
        executor: where drafting runs, so that it does not hold up the network.
    """

    def __init__(self, proposer: Proposer, name: str, executor: Executor) -> None:
        self.name = name
        self._proposer = proposer
        self._executor = executor
        self._num_read = 0  # tokens that the proposer saw when it was last asked
        self._running: Future[list[Draft]] | None = None

    async def expand(self, run: DraftRun) -> list[Draft]:
        """One draft for each leaf of a run.

        A run that was not waited for to the end, because its session broke, is waited for first:
        a proposer is asked by one thread at a time.
        """
        if self._running is not None:
            await asyncio.wait([asyncio.wrap_future(self._running)])
        self._running = self._executor.submit(
            self._proposer.expand, run.text, run.paths, run.max_depth
        )
        return await asyncio.wrap_future(self._running)

    def was_steady(self, run: DraftRun) -> bool:
        """Whether the time that a run took says something of the next; ask once for each run.

        One before which the proposer had much to read, such as the prompt, or what was written
        while it rested, does not.
        """
        num_read = len(run.text) + len(run.points[0].path)
        is_steady = num_read - self._num_read <= MAX_STEADY_TOKENS
        self._num_read = num_read
        return is_steady


def num_levels(drafts: Sequence[Draft]) -> int:
    """How deep the deepest draft is."""
    return max(draft.depth for draft in drafts)
