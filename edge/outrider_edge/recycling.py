"""Drafting for free: what followed each token before, and what the target thought of beside it.

Token Recycling (arXiv:2408.08696): the runner-ups of a verification, which would be thrown away,
become the next guesses. It looks at one token only, so it always has something to say where that
token has been seen, and is less sure of it than retrieval. Knows tokens only, no model and no
language.
"""

import heapq
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from outrider_edge.proposer import CONTEXT_END, Draft, DraftingTask
from outrider_edge.successor_table import RUNNER_UPS, SuccessorTable

MAX_GUESSES: Final = 16
"""Of one leaf. The session sends those that are worth their price."""
MAX_UNREAD_COMMITS: Final = 1024
"""How many commits wait to be learnt from while nothing is drafted; then the oldest is dropped."""

_Commit = tuple[int, tuple[int, ...], Sequence[Sequence[int]]]


class RecyclingProposer:
    """Drafts a tree from a table of successors, the likeliest paths first.

    It learns what followed what from every text that it sees, and the runner-ups from `learn`.
    """

    def __init__(self, task: DraftingTask) -> None:
        self._vocab_size = task.vocab_size
        self._table = SuccessorTable()
        self._num_read = 0
        self._unread: deque[_Commit] = deque(maxlen=MAX_UNREAD_COMMITS)

    @property
    def num_runner_ups(self) -> int:
        """How many runner-ups of each committed token are of use."""
        return len(RUNNER_UPS)

    def learn(
        self, before: int, tokens: Sequence[int], runner_ups: Sequence[Sequence[int]]
    ) -> None:
        """Keep the runner-ups of a commit for the next `expand`; see `Learner.learn`."""
        if runner_ups:
            self._unread.append((before, tuple(tokens), runner_ups))

    def expand(
        self, text: Sequence[int], paths: Sequence[Sequence[int]], max_depth: int
    ) -> list[Draft]:
        """A tree of what may follow the last token of each path; nothing where it is new."""
        self._read(text)
        self._read_commits()
        return [self._draft(path[-1] if path else text[-1], max_depth) for path in paths]

    def _read(self, text: Sequence[int]) -> None:
        """Learn from what is new in a text that has usually grown.

        If it is another text altogether, the table only knows less of it than it could.
        """
        first_new = max(min(self._num_read, len(text)), 1)
        for token, successor in pairwise(text[first_new - 1 :]):
            self._table.follow(token, successor)
        self._num_read = len(text)

    def _read_commits(self) -> None:
        while self._unread:
            before, tokens, runner_ups = self._unread.popleft()
            for token, others in zip((before, *tokens), runner_ups, strict=False):
                self._table.run_up(token, others)

    def _draft(self, last_token: int, max_depth: int) -> Draft:
        """The most probable paths that begin after a token, by best-first search."""
        tokens: list[int] = []
        parents: list[int] = []
        probabilities: list[float] = []
        # Less the probability of the path, a tie-breaker, the guess, its parent and its depth.
        heap: list[tuple[float, int, int, float, int, int]] = []
        num_found = 0
        place, token, path_probability, depth = CONTEXT_END, last_token, 1.0, 0
        while True:
            if depth < max_depth:
                for successor, chance in self._successors(token):
                    num_found += 1
                    entry = (-path_probability * chance, num_found, successor, chance, place, depth)
                    heapq.heappush(heap, entry)
            if not heap or len(tokens) >= MAX_GUESSES:
                return Draft(tuple(tokens), tuple(parents), tuple(probabilities))
            negative, _, token, chance, parent, depth = heapq.heappop(heap)
            path_probability, place, depth = -negative, len(tokens), depth + 1
            tokens.append(token)
            parents.append(parent)
            probabilities.append(chance)

    def _successors(self, token: int) -> list[tuple[int, float]]:
        return [pair for pair in self._table.successors(token) if pair[0] < self._vocab_size]


class RecyclingFactory:
    """Makes a `RecyclingProposer` for each generation; they share nothing."""

    name = "recycling"

    def start(self, task: DraftingTask) -> RecyclingProposer:
        """A fresh proposer for one generation."""
        return RecyclingProposer(task)
