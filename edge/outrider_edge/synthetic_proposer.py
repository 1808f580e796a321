"""A proposer for a synthetic target: its guesses are right with the stated chance.

For load tests without a model at either end. Knows the spec of the target, and nothing else.
"""

from collections.abc import Sequence

from outrider_common.errors import ConfigError
from outrider_common.synthetic import NAME, SyntheticSpec, rank_chances, ranked_guesses
from outrider_edge.proposer import CONTEXT_END, Draft, DraftingTask


class SyntheticProposer:
    """Drafts chains of guesses, with runners-up beside each.

    Args:
        spec: the target's, and how often it is guessed right.
        coin_seed: decides which guesses are wrong; see `guess`.
        num_ranks: guesses for each position, the best of which has those for the next below it.
        most_levels: of one draft; None: as many as are asked for.
    """

    def __init__(
        self, spec: SyntheticSpec, coin_seed: int, num_ranks: int, most_levels: int | None
    ) -> None:
        self._spec = spec
        self._coin_seed = coin_seed
        self._num_ranks = num_ranks
        self._most_levels = most_levels
        self._chances = rank_chances(spec, num_ranks)

    def expand(
        self, text: Sequence[int], paths: Sequence[Sequence[int]], max_depth: int
    ) -> list[Draft]:
        """A chain of `max_depth` guesses after each leaf, or of `most_levels`, if that is less."""
        num_levels = min(max_depth, self._most_levels or max_depth)
        return [self._draft([*text, *path], num_levels) for path in paths]

    def _draft(self, context: list[int], num_levels: int) -> Draft:
        tokens: list[int] = []
        parents: list[int] = []
        chances: list[float] = []
        parent = CONTEXT_END
        for _ in range(num_levels):
            best = len(tokens)
            guesses = ranked_guesses(self._spec, context, self._coin_seed, self._num_ranks)
            tokens += guesses
            parents += [parent] * len(guesses)
            chances += self._chances[: len(guesses)]
            context, parent = [*context, tokens[best]], best
        return Draft(tuple(tokens), tuple(parents), tuple(chances))


class SyntheticFactory:
    """Makes proposers that follow one spec.

    Args:
        spec: the same text and vocabulary as the target's; the acceptance is this edge's own.
        coin_seed: another one, other mistakes; in [0, 2**32).
        num_ranks: guesses for each position.
        most_levels: of one draft; None: as many as are asked for.
    """

    name = NAME

    def __init__(
        self,
        spec: SyntheticSpec,
        coin_seed: int = 0,
        num_ranks: int = 1,
        most_levels: int | None = None,
    ) -> None:
        self._spec = spec
        self._coin_seed = coin_seed
        self._num_ranks = num_ranks
        self._most_levels = most_levels

    def start(self, task: DraftingTask) -> SyntheticProposer:
        """A proposer whose drafts depend on the context alone.

        Raises:
            ConfigError: the target has another vocabulary, so it is not the one of the spec.
        """
        if task.vocab_size != self._spec.vocab:
            raise ConfigError(
                f"The synthetic proposer has vocab={self._spec.vocab}, but the verifier's model "
                f"has {task.vocab_size} tokens; give both sides the same synthetic target."
            )
        return SyntheticProposer(self._spec, self._coin_seed, self._num_ranks, self._most_levels)
