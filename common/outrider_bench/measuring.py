"""Measures one place of the grid: warm-up, then rounds in which all policies take turns.

Policies answer the same prompts one after the other, so a machine whose speed drifts slows all of
them down, and whose turn is first changes. Knows nothing of processes, files or terminals.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Final, Protocol, TypeAlias

from outrider_bench.grid import batches, in_turn
from outrider_bench.lineup import BASELINE, BLOCK_LENGTHS, FIXED_BLOCK, Place, Plan
from outrider_bench.questions import Played, Question
from outrider_bench.results import Answer, Circumstances, Round

TUNING_QUESTIONS: Final = 2
TUNING_TOKENS: Final = 48

Batch: TypeAlias = tuple[Question, ...]


class Players(Protocol):
    """Who answers, in one place of the grid."""

    def play(self, plan: Plan, batch: Batch, max_tokens: int, block_nodes: int) -> Played:
        """Answer all questions at the same time, as a policy does."""
        ...


class PlaceBench:
    """Measures one place of the grid.

    Args:
        place: which one.
        plans: the policies, the baseline among them.
        questions: of a round, at least as many as there are sessions.
        max_tokens: of an answer.
        num_warm_up: so many questions, at least, are answered uncounted.
        players: who answers.
        load: says how busy the machine is.
        tick: is called after every batch of answers, with how many have been measured: once per
            policy.
    """

    def __init__(
        self,
        place: Circumstances,
        plans: Sequence[Plan],
        questions: Sequence[Question],
        players: Players,
        *,
        max_tokens: int,
        num_warm_up: int,
        load: Callable[[], float],
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._place = place
        self._plans = plans
        self._batches = batches(questions, place.sessions)
        self._max_tokens = max_tokens
        self._num_warm_up = num_warm_up
        self._players = players
        self._load = load
        self._tick = tick

    def warm_up(self, known_blocks: Mapping[str, int] | None = None) -> dict[str, int]:
        """Answer some questions uncounted, and choose the length of blocks.

        Args:
            known_blocks: lengths that were chosen before, by policy.

        Returns:
            The length of blocks of every policy that has them.
        """
        known = known_blocks or {}
        num_batches = -(-self._num_warm_up // self._place.sessions)
        blocks = {}
        for plan in self._plans:
            if plan.has_blocks:
                blocks[plan.name] = known.get(plan.name) or self._block_of(plan)
            for batch in self._batches[:num_batches]:
                self._play(plan, batch, self._max_tokens, blocks)
        return blocks

    def measure(self, index: int, blocks: Mapping[str, int]) -> Round:
        """All prompts, each by all policies, one of which begins in turn."""
        answers: dict[str, list[Answer]] = {plan.name: [] for plan in self._plans}
        for turn, batch in enumerate(self._batches, start=index):
            played = {}
            for plan in in_turn(self._plans, turn):
                played[plan.name] = self._play(plan, batch, self._max_tokens, blocks)
                self._tick()
            for plan in self._plans:
                answers[plan.name] += self._answers(plan, batch, played)
        return Round(
            circumstances=self._place,
            index=index,
            load=self._load(),
            block_nodes=dict(blocks),
            answers=tuple(answer for each in answers.values() for answer in each),
        )

    def _play(self, plan: Plan, batch: Batch, max_tokens: int, blocks: Mapping[str, int]) -> Played:
        return self._players.play(plan, batch, max_tokens, blocks.get(plan.name, FIXED_BLOCK))

    def _block_of(self, plan: Plan) -> int:
        """The length of its blocks: the fastest of a few, if it is tuned."""
        if not plan.is_tuned:
            return FIXED_BLOCK
        num_batches = -(-TUNING_QUESTIONS // self._place.sessions)
        tokens = min(self._max_tokens, TUNING_TOKENS)

        def milliseconds_per_token(block_nodes: int) -> float:
            all_played = [
                self._players.play(plan, batch, tokens, block_nodes)
                for batch in self._batches[:num_batches]
            ]
            replies = [reply for played in all_played for reply in played.replies]
            decoding_ms = sum(reply.duration_ms - reply.ttft_ms for reply in replies)
            return decoding_ms / max(sum(len(reply.tokens) - 1 for reply in replies), 1)

        return min(BLOCK_LENGTHS, key=milliseconds_per_token)

    def _answers(self, plan: Plan, batch: Batch, played: Mapping[str, Played]) -> list[Answer]:
        """What one policy answered, beside the texts of the baseline.

        Without a link in between, a round trip is added to all times but those between tokens.
        """
        own, base = played[plan.name], played[BASELINE]
        late_ms = 0.0 if plan.place is Place.EDGE else self._place.rtt_ms
        return [
            Answer(
                policy=plan.name,
                prompt=question.index,
                task=question.task,
                tokens=len(mine.tokens),
                ttft_ms=mine.ttft_ms + late_ms,
                duration_ms=mine.duration_ms + late_ms,
                batch_ms=own.batch_ms + late_ms,
                mismatches=num_differences(mine.tokens, other.tokens),
                counters=mine.counters,
            )
            for question, mine, other in zip(batch, own.replies, base.replies, strict=True)
        ]


def num_differences(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens that differ, place by place; those that only one has included."""
    return sum(a != b for a, b in zip_longest(one, other))
