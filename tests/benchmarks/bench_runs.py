"""Runs of several sessions as events on one clock, and the figures that follow from them.

The same arithmetic for every way of generating, so that none is favoured by how it counts. Knows
nothing of models.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

Outcome = TypeVar("Outcome")


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """Tokens of one session that became known together.

    Attributes:
        at_s: seconds since the run began.
        session: its index.
        num_tokens: how many tokens.
    """

    at_s: float
    session: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Run:
    """What came of generating with several sessions once.

    Attributes:
        events: when tokens became known; every session has one at least.
        texts: the generated tokens of each session.
    """

    events: tuple[TokenEvent, ...]
    texts: tuple[tuple[int, ...], ...]

    @property
    def num_tokens(self) -> int:
        """All generated tokens."""
        return sum(event.num_tokens for event in self.events)

    @property
    def total_s(self) -> float:
        """From the beginning to the last token."""
        return max(event.at_s for event in self.events)

    @property
    def prompts_s(self) -> float:
        """From the beginning until every session has its first token."""
        first: dict[int, float] = {}
        for event in self.events:
            first[event.session] = min(event.at_s, first.get(event.session, event.at_s))
        return max(first.values())

    @property
    def tokens_per_s(self) -> float:
        """Generated tokens for each second of the whole run, the prompts included."""
        return self.num_tokens / self.total_s

    @property
    def first_end_s(self) -> float:
        """From the beginning until the first session has its last token."""
        last: dict[int, float] = {}
        for event in self.events:
            last[event.session] = max(event.at_s, last.get(event.session, event.at_s))
        return min(last.values())

    @property
    def steady_tokens_per_s(self) -> float:
        """Generated tokens for each second in which every session is decoding.

        That is from when the last prompt is done to when the first session ends.

        Raises:
            ValueError: there is no such time; generate more tokens, or from shorter prompts.
        """
        began, ended = self.prompts_s, self.first_end_s
        if ended <= began:
            raise ValueError("the first session ended before the last one had its first token")
        tokens = sum(event.num_tokens for event in self.events if began < event.at_s <= ended)
        return tokens / (ended - began)

    @property
    def tokens_per_pass(self) -> float:
        """Tokens that one session commits in one pass, where each pass makes one event."""
        return self.num_tokens / len(self.events)

    def num_equal_texts(self, other: "Run") -> int:
        """In how many sessions the two runs generated the same."""
        return sum(ours == theirs for ours, theirs in zip(self.texts, other.texts, strict=True))


def interleaved(
    ways: Mapping[str, Callable[[], Outcome]], num_rounds: int
) -> Iterator[tuple[str, Outcome]]:
    """Run every way once, then every way again: A B C A B C.

    Yields:
        The label of a way and what it returned.
    """
    for _ in range(num_rounds):
        for label, way in ways.items():
            yield label, way()


def by_label(outcomes: Sequence[tuple[str, Outcome]]) -> dict[str, list[Outcome]]:
    """The outcomes of each way, one per round."""
    grouped: dict[str, list[Outcome]] = {}
    for label, outcome in outcomes:
        grouped.setdefault(label, []).append(outcome)
    return grouped
