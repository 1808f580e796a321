"""What a client was told of one choice, and what it has to be told now.

A client holds verified text and, behind it, perhaps unverified text, which may have to be taken
back. Whatever happened since it was told something last, it is told the net of it. Pure; knows
nothing of how things are worded.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from outrider_common.records import TokenRecord
from outrider_edge.unverified import Token, UnverifiedTail, UnverifiedToken


@dataclass(frozen=True, slots=True)
class Place:
    """Where something begins or ends in an answer.

    Attributes:
        position: of the first token that belongs to it, or does not any more.
        character: how many characters of the answer stand before that.
    """

    position: int
    character: int


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What was told up to a place is verified; these tokens are, that were not before."""

    until: Place
    records: tuple[TokenRecord, ...]


@dataclass(frozen=True, slots=True)
class Corrected:
    """What was told from a place on is void; these tokens stand there instead, and are final."""

    since: Place
    records: tuple[TokenRecord, ...]


@dataclass(frozen=True, slots=True)
class MoreVerified:
    """Tokens follow, and are final."""

    records: tuple[TokenRecord, ...]


@dataclass(frozen=True, slots=True)
class MoreUnverified:
    """Tokens follow that may be taken back, from a place on."""

    since: Place
    tokens: tuple[UnverifiedToken, ...]


Change = Confirmed | Corrected | MoreVerified | MoreUnverified


@dataclass(slots=True)
class ToldChoice:
    """One choice as its client knows it."""

    _verified: list[str] = field(default_factory=list)  # the texts of the verified tokens
    _num_characters: int = 0  # of these
    _tail: UnverifiedTail = field(default_factory=UnverifiedTail)
    _told: tuple[UnverifiedToken, ...] = ()  # of the tail, as it was when the client heard last

    @property
    def verified_text(self) -> str:
        """What is final."""
        return "".join(self._verified)

    @property
    def num_verified(self) -> int:
        """How many tokens that is."""
        return len(self._verified)

    def take(self, said: Iterable[Token], *, is_over: bool = False) -> list[Change]:
        """What the client has to be told of what was said since the last time.

        Args:
            said: the tokens that have come, in order.
            is_over: the choice is complete and verified, so that no unverified text is left.
        """
        records = self._settled(said)
        if is_over:
            self._tail.drop()
        truth: list[Token] = [*records, *self._tail.tokens]
        num_kept = _num_same(self._told, truth)
        changes = self._changes(records, num_kept)
        self._verified += [record.text for record in records]
        self._num_characters += _length(records)
        self._told = tuple(self._tail.tokens)
        return changes

    def _settled(self, said: Iterable[Token]) -> list[TokenRecord]:
        """The verified ones; the others are in the tail, as far as they still stand."""
        records = []
        for one in said:
            match one:
                case TokenRecord():
                    records.append(one)
                    self._tail.settle(one)
                case UnverifiedToken():
                    self._tail.add(one)
        return records

    def _changes(self, records: list[TokenRecord], num_kept: int) -> list[Change]:
        """See `take`; `num_kept` of the told tokens still stand."""
        changes: list[Change] = []
        confirmed, fresh = tuple(records[:num_kept]), tuple(records[num_kept:])
        if confirmed:
            until = self._after(confirmed, confirmed[-1].position + 1)
            changes.append(Confirmed(until, confirmed))
        if num_kept < len(self._told):
            since = self._after(self._told[:num_kept], self._told[num_kept].position)
            changes.append(Corrected(since, fresh))
        elif fresh:
            changes.append(MoreVerified(fresh))
        num_known = max(0, num_kept - len(records))
        if more := tuple(self._tail.tokens[num_known:]):
            before: list[Token] = [*records, *self._tail.tokens[:num_known]]
            changes.append(MoreUnverified(self._after(before, more[0].position), more))
        return changes

    def _after(self, tokens: Sequence[Token], position: int) -> Place:
        """The place behind the verified text and these tokens."""
        return Place(position, self._num_characters + _length(tokens))


def _num_same(told: Iterable[UnverifiedToken], truth: Iterable[Token]) -> int:
    """How many of the told tokens, from the first, are still true."""
    pairs = zip(told, truth, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0].is_same_as(pair[1]), pairs))


def _length(tokens: Iterable[Token]) -> int:
    """In characters."""
    return sum(len(one.text) for one in tokens)


def text_of(tokens: Iterable[Token]) -> str:
    """What they read as together."""
    return "".join(one.text for one in tokens)
