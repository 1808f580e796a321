"""What drafts: the protocol of every proposer, and the small tree of guesses that it returns.

A proposer looks at a text and at leaves of a tree of guesses behind it, and says what may follow
each. It knows nothing of the network, of the verifier or of the session's tree. Guesses cost speed
when they are wrong, never correctness, so a proposer may say anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from outrider_common.acceptance import AcceptanceMode, SparseDistribution
from outrider_common.sampling import SamplingParams

CONTEXT_END = -1
"""The parent index of a guess that directly follows the leaf."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A small tree of guesses hanging from a leaf. Empty: nothing to say.

    Attributes:
        tokens: the guessed token ids, parents before their children.
        parents: for each token the index of its parent in `tokens`, or `CONTEXT_END`.
        probabilities: for each token the proposer's own estimate, in [0, 1], of the chance that
            the target commits it given that its whole path was committed.
        proposers: for each token the name of what guessed it. Empty: the factory's own.
        drawn_from: for each token the distribution from which it and its siblings were drawn, in
            this order and without replacement; None where they were not. Empty: none was drawn.
            Only the acceptance mode `rejection` has a use for it. The probability of a drawn guess
            must not depend on its token, for whether a draw is sent must not depend on what was
            drawn.
    """

    tokens: tuple[int, ...] = ()
    parents: tuple[int, ...] = ()
    probabilities: tuple[float, ...] = ()
    proposers: tuple[str, ...] = ()
    drawn_from: tuple[SparseDistribution | None, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.tokens) == len(self.parents) == len(self.probabilities):
            raise ValueError("a draft needs one parent and one probability for each token")
        if any(not CONTEXT_END <= parent < i for i, parent in enumerate(self.parents)):
            raise ValueError("a draft's parents must come before their children")
        if self.proposers and len(self.proposers) != len(self.tokens):
            raise ValueError("a draft needs a proposer's name for each token, or none at all")
        if self.drawn_from and len(self.drawn_from) != len(self.tokens):
            raise ValueError("a draft needs a distribution or None for each token, or none at all")

    @classmethod
    def chain(cls, tokens: Sequence[int], probabilities: Sequence[float]) -> "Draft":
        """A draft without branches: each token follows the one before it."""
        parents = tuple(range(CONTEXT_END, len(tokens) - 1))
        return cls(tuple(tokens), parents, tuple(probabilities))

    @property
    def depth(self) -> int:
        """How many guesses follow one another on its longest path."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(1 if parent == CONTEXT_END else depths[parent] + 1)
        return max(depths, default=0)

    def signed(self, proposer: str) -> "Draft":
        """The same draft, with a name where there is none."""
        return self if self.proposers else replace(self, proposers=(proposer,) * len(self.tokens))


@dataclass(frozen=True, slots=True)
class DraftingTask:
    """What a proposer needs to know of one generation.

    Attributes:
        sampling: how the target will choose its tokens. With a temperature, the target adds noise
            that is keyed by seed and position; a proposer that adds the same noise agrees with it
            more often (`outrider_common.noise`).
        num_prompt_tokens: how many tokens at the start of every text are the prompt; the
            presence and frequency penalties count only what comes after them.
        vocab_size: guesses must be below this.
        acceptance_mode: how the target will judge guesses. In the mode `rejection` it accepts more
            of those that were drawn from a distribution which is sent along; others are judged as
            ever.
    """

    sampling: SamplingParams
    num_prompt_tokens: int
    vocab_size: int
    acceptance_mode: AcceptanceMode = AcceptanceMode.EXACT

    @property
    def wants_draws(self) -> bool:
        """Whether guesses that were drawn are accepted more often than others."""
        return self.acceptance_mode is AcceptanceMode.REJECTION and not self.sampling.is_greedy


@runtime_checkable
class Proposer(Protocol):
    """Drafts for one generation. Called from one thread at a time; may block while it computes."""

    def expand(
        self, text: Sequence[int], paths: Sequence[Sequence[int]], max_depth: int
    ) -> list[Draft]:
        """Guess what follows several leaves of one tree.

        Successive texts usually share a long prefix with each other, and so do paths; a proposer
        that keeps state finds the shared part by comparing.

        Args:
            text: all committed tokens, at least one.
            paths: of each leaf the guesses from the end of the text to it; none for the end itself.
            max_depth: guesses deeper than this below their leaf are not wanted; at least 1.

        Returns:
            For each path a draft, in the same order; an empty one where there is nothing to say.
        """
        ...


@runtime_checkable
class Learner(Protocol):
    """A proposer that learns from what the target would have liked, too, beside what it chose."""

    @property
    def num_runner_ups(self) -> int:
        """How many runner-ups of each committed token it wants."""
        ...

    def learn(
        self, before: int, tokens: Sequence[int], runner_ups: Sequence[Sequence[int]]
    ) -> None:
        """Take what a commit says; returns at once. Called from any thread, also during `expand`.

        Args:
            before: the token in front of the first committed one.
            tokens: the committed ones.
            runner_ups: for each of them the likeliest others, the best first; or none at all.
        """
        ...


class ProposerFactory(Protocol):
    """Makes a `Proposer` for each generation and owns what they share, such as model weights."""

    @property
    def name(self) -> str:
        """The name in the settings, in logs and in metrics."""
        ...

    def start(self, task: DraftingTask) -> Proposer:
        """A fresh proposer for one generation."""
        ...
