"""A proposer for a synthetic target: drafts chains that are right with the stated chance.

For load tests without a model at either end. Knows the spec of the target, and nothing else.
"""

from collections.abc import Sequence

from outrider_common.errors import ConfigError
from outrider_common.synthetic import NAME, SyntheticSpec, guess
from outrider_edge.proposer import Draft, DraftingTask


class SyntheticProposer:
    """Drafts chains of guesses.

    Args:
        spec: the target's, and how often it is guessed right.
        coin_seed: decides which guesses are wrong; see `guess`.
    """

    def __init__(self, spec: SyntheticSpec, coin_seed: int) -> None:
        self._spec = spec
        self._coin_seed = coin_seed

    def expand(
        self, text: Sequence[int], paths: Sequence[Sequence[int]], max_depth: int
    ) -> list[Draft]:
        """A chain of `max_depth` guesses after each leaf."""
        return [self._chain([*text, *path], max_depth) for path in paths]

    def _chain(self, context: list[int], num_guesses: int) -> Draft:
        text = list(context)
        for _ in range(num_guesses):
            text.append(guess(self._spec, text, self._coin_seed))
        return Draft.chain(text[len(context) :], [self._spec.acceptance] * num_guesses)


class SyntheticFactory:
    """Makes proposers that follow one spec.

    Args:
        spec: the same text and vocabulary as the target's; the acceptance is this edge's own.
        coin_seed: another one, other mistakes; in [0, 2**32).
    """

    name = NAME

    def __init__(self, spec: SyntheticSpec, coin_seed: int = 0) -> None:
        self._spec = spec
        self._coin_seed = coin_seed

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
        return SyntheticProposer(self._spec, self._coin_seed)
