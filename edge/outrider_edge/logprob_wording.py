"""Log-probabilities in OpenAI's words: of chats and of completions, which have others.

Pure. Knows which tokens stand for text, and nothing of how answers are sent.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from outrider_common.messages import FinishReason
from outrider_common.records import TokenRecord

Json = dict[str, Any]

TextOf = Callable[[int], str]
"""What a token reads as alone."""

UNLIKELY: Final = -9999.0
"""Instead of minus infinity, which JSON does not have."""

_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True)
class SpokenToken:
    """A token of the text, and how many characters stand before it."""

    record: TokenRecord
    offset: int


@dataclass(slots=True)
class SpokenTokens:
    """Picks the tokens of one choice that stand for its text.

    A token that adds no text may be a part of a character, or of a stop string, or the end: which
    of these is seen when text follows. Those of the end do not stand for text.
    """

    _held: list[SpokenToken] = field(default_factory=list)
    _length: int = 0

    def take(self, records: Iterable[TokenRecord]) -> list[SpokenToken]:
        """Those of which it is known now that they stand for text, in order."""
        known: list[SpokenToken] = []
        for record in records:
            self._held.append(SpokenToken(record, self._length))
            if record.text:
                self._length += len(record.text)
                known += self._held
                self._held.clear()
        return known

    def rest(self, reason: FinishReason) -> list[SpokenToken]:
        """Those that are left in the end: parts of a text that was cut, but not what ended it."""
        return self._held if reason is FinishReason.LENGTH else []


def chat_logprobs(spoken: Sequence[SpokenToken], text_of: TextOf) -> Json | None:
    """Those of a chat's tokens; None where nobody asked for them."""
    content = []
    for record in _said(spoken, text_of):
        assert record.logprobs is not None
        top = [_entry(token, logprob, text_of) for token, logprob in record.logprobs.top]
        own = _entry(record.token, record.logprobs.logprob, text_of)
        content.append(own | {"top_logprobs": top})
    return {"content": content, "refusal": None} if content else None


def completion_logprobs(spoken: Sequence[SpokenToken], text_of: TextOf) -> Json | None:
    """Those of a completion's tokens; None where nobody asked for them."""
    said = _said(spoken, text_of)
    if not said:
        return None
    offsets = {one.record.position: one.offset for one in spoken}
    return {
        "tokens": [text_of(record.token) for record in said],
        "token_logprobs": [_finite(record.logprobs.logprob) for record in said if record.logprobs],
        "top_logprobs": [_top_by_text(record, text_of) for record in said],
        "text_offset": [offsets[record.position] for record in said],
    }


def _said(spoken: Sequence[SpokenToken], text_of: TextOf) -> list[TokenRecord]:
    """Tokens with log-probabilities, but for special ones, which read as nothing."""
    records = [one.record for one in spoken if one.record.logprobs is not None]
    return [record for record in records if text_of(record.token)]


def _entry(token: int, logprob: float, text_of: TextOf) -> Json:
    text = text_of(token)
    is_whole = _REPLACEMENT not in text  # else it is a part of a character, and has no text alone
    bytes_of = list(text.encode("utf-8")) if is_whole else None
    return {"token": text, "logprob": _finite(logprob), "bytes": bytes_of}


def _top_by_text(record: TokenRecord, text_of: TextOf) -> dict[str, float]:
    """The likeliest, and the token itself; of two that read alike the likelier."""
    assert record.logprobs is not None
    found: dict[str, float] = {}
    for token, logprob in (*record.logprobs.top, (record.token, record.logprobs.logprob)):
        found.setdefault(text_of(token), _finite(logprob))
    return found


def _finite(logprob: float) -> float:
    return max(logprob, UNLIKELY)
