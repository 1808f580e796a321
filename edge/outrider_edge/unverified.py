"""Tokens that the drafter wrote alone, behind the verified ones, and what becomes of them.

A type of their own, so that nothing takes them for the target's. Pure; knows nothing of who writes
or reads them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from outrider_common.records import TokenRecord


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """A token that the drafter wrote while no verifier was there.

    Attributes:
        position: its position in the sequence; the prompt begins at 0.
        token: its id.
        text: the text that became complete with it.
        drafted_at_s: when it was written, in seconds since the request began.
    """

    position: int
    token: int
    text: str
    drafted_at_s: float

    def is_same_as(self, other: "TokenRecord | UnverifiedToken") -> bool:
        """Whether another token stands at the same place, is the same and reads the same."""
        own = (self.position, self.token, self.text)
        return own == (other.position, other.token, other.text)


Token = TokenRecord | UnverifiedToken
"""What an answer is made of."""


@dataclass(slots=True)
class UnverifiedTail:
    """The tokens behind the verified ones that nobody has judged yet.

    Attributes:
        num_confirmed: tokens of which the target turned out to think the same.
        num_refuted: tokens that were wrong, or stood behind a wrong one.
    """

    num_confirmed: int = 0
    num_refuted: int = 0
    _tokens: list[UnverifiedToken] = field(default_factory=list)

    @property
    def tokens(self) -> Sequence[UnverifiedToken]:
        """Those that are left."""
        return self._tokens

    def add(self, token: UnverifiedToken) -> None:
        """One more was written behind them."""
        self._tokens.append(token)

    def settle(self, record: TokenRecord) -> None:
        """A token is verified: the first of the tail is the same, or all of it is void."""
        if self._tokens and self._tokens[0].is_same_as(record):
            self.num_confirmed += 1
            del self._tokens[0]
        else:
            self.drop()

    def drop(self) -> None:
        """What is left is not the target's."""
        self.num_refuted += len(self._tokens)
        self._tokens.clear()
