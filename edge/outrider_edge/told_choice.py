"""What a client was told of one choice, and what it has to be told now.

A client holds verified text and, behind it, perhaps unverified text, which may have to be taken
back. Whatever happened since it was told something last, it is told the net of it. Pure; knows
nothing of how things are worded.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from outrider_common.records import TokenRecord
from outrider_edge.unverified import UnverifiedTail, UnverifiedToken

Token = TokenRecord | UnverifiedToken


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
    """What was told up to a place is verified."""

    until: Place


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What was told from a place on is void."""

    since: Place


@dataclass(frozen=True, slots=True)
class MoreVerified:
    """Tokens follow, and are final."""

    records: tuple[TokenRecord, ...]


@dataclass(frozen=True, slots=True)
class MoreUnverified:
    """Tokens follow that may be taken back, from a place on."""

    since: Place
    tokens: tuple[UnverifiedToken, ...]


Change = Confirmed | TakenBack | MoreVerified | MoreUnverified


@dataclass(slots=True)
class ToldChoice:
    """One choice as its client knows it."""

    _tail: UnverifiedTail = field(default_factory=UnverifiedTail)
    _told: tuple[UnverifiedToken, ...] = ()  # of the tail, as it was when the client heard last
    _num_characters: int = 0  # of the verified text

    @property
    def num_verified_characters(self) -> int:
        """How long the verified text is."""
        return self._num_characters

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
        changes: list[Change] = []
        confirmed = records[:num_kept]
        if confirmed:
            after = self._num_characters + _length(confirmed)
            changes.append(Confirmed(Place(confirmed[-1].position + 1, after)))
        if num_kept < len(self._told):
            before = self._num_characters + _length(self._told[:num_kept])
            changes.append(TakenBack(Place(self._told[num_kept].position, before)))
        if fresh := records[num_kept:]:
            changes.append(MoreVerified(tuple(fresh)))
        if rest := self._tail.tokens[max(0, num_kept - len(records)) :]:
            end = self._num_characters + _length(records) + _length(self._tail.tokens)
            place = Place(rest[0].position, end - _length(rest))
            changes.append(MoreUnverified(place, tuple(rest)))
        return changes


def _num_same(told: Iterable[UnverifiedToken], truth: Iterable[Token]) -> int:
    """How many of the told tokens, from the first, are still true."""
    num_same = 0
    for one, other in zip(told, truth, strict=False):
        is_same = one.is_that_of(other) if isinstance(other, TokenRecord) else one == other
        if not is_same:
            break
        num_same += 1
    return num_same


def _length(tokens: Iterable[Token]) -> int:
    """In characters."""
    return sum(len(one.text) for one in tokens)
