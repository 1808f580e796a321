"""From tokens to text, one token at a time: decoding, and stopping at stop strings.

Both classes hold back text that may still change. Neither knows where tokens come from or where
the text goes.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from outrider_common.errors import InvalidInputError

_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")


class IncrementalDetokenizer:
    """Decodes tokens as they come. What it returns, put together, is the full decoding.

    `tokenizers.decoders.DecodeStream` does the work. It holds back incomplete UTF-8 characters, but
    it lets a character of byte-fallback tokens (`<0xC3> <0xA9>`) go as soon as it is complete,
    while a later byte of the same run may still turn all of them into replacement characters. So
    such a run is given to it only when it has ended.

    Args:
        tokenizer: shared between generations; it is not changed.
        skip_special_tokens: special tokens have no text.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special_tokens: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_special_tokens = skip_special_tokens
        self._stream = DecodeStream(skip_special_tokens=skip_special_tokens)
        self._tokens: list[int] = []
        self._open_run: list[int] = []
        self._num_characters_out = 0

    def push(self, token: int) -> str:
        """The text that becomes certain with one more token; "" inside a character."""
        self._tokens.append(token)
        self._open_run.append(token)
        if self._run_goes_on():
            return ""
        text = self._stream.step(self._tokenizer, self._open_run) or ""
        self._open_run = []
        self._num_characters_out += len(text)
        return text

    def flush(self) -> str:
        """The text still held back, as the full decoding shows it. No tokens may follow."""
        text = self._decode(self._tokens)[self._num_characters_out :]
        self._num_characters_out += len(text)
        return text

    def _run_goes_on(self) -> bool:
        token = self._tokenizer.id_to_token(self._open_run[-1])
        if token is not None and _BYTE_TOKEN.fullmatch(token):
            return True
        # A token without text, such as a skipped special one, does not end a run of bytes.
        return len(self._open_run) > 1 and not self._decode(self._open_run[-1:])

    def _decode(self, tokens: Sequence[int]) -> str:
        return self._tokenizer.decode(list(tokens), skip_special_tokens=self._skip_special_tokens)


@dataclass(frozen=True, slots=True)
class Stop:
    """Where a text ended.

    Attributes:
        text: the stop string that was found.
        token_index: which piece completed it, counted from 0.
    """

    text: str
    token_index: int


class StopMatcher:
    """Cuts a text at the first stop string, however the text is divided into pieces.

    Of several stop strings, the one that is complete first counts; of those that are complete at
    the same character, the longest. Text that may be the beginning of a stop string is held back.

    Args:
        stop_strings: may overlap or contain each other; none means that nothing stops.

    Raises:
        InvalidInputError: a stop string is empty.
    """

    def __init__(self, stop_strings: Sequence[str]) -> None:
        if "" in stop_strings:
            raise InvalidInputError("a stop string is empty; leave it out")
        self._stop_strings = tuple(stop_strings)
        self._held = ""
        self._num_pieces = 0
        self._stop: Stop | None = None

    @property
    def stop(self) -> Stop | None:
        """What ended the text; None while it goes on."""
        return self._stop

    def push(self, piece: str) -> str:
        """The text that may be shown after one more token's piece.

        Nothing that follows a stop string is ever returned, nor is the stop string itself.
        """
        if self._stop is not None:
            return ""
        text = self._held + piece
        found = min(self._occurrences(text), default=None)
        if found is None:
            shown = len(text) - self._num_undecided(text)
            self._held = text[shown:]
        else:
            _, shown, stop_string = found
            self._held = ""
            self._stop = Stop(stop_string, self._num_pieces)
        self._num_pieces += 1
        return text[:shown]

    def flush(self) -> str:
        """The text still held back, once it is known that no more follows."""
        held, self._held = self._held, ""
        return held

    def _occurrences(self, text: str) -> Iterator[tuple[int, int, str]]:
        """The first occurrence of each stop string that is there, as (end, start, string)."""
        for stop_string in self._stop_strings:
            start = text.find(stop_string)
            if start >= 0:
                yield start + len(stop_string), start, stop_string

    def _num_undecided(self, text: str) -> int:
        """The length of the longest end of `text` with which a stop string begins."""
        longest = max(map(len, self._stop_strings), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stop_strings):
                return length
        return 0


class TextSoFar:
    """The text of an answer, token by token: decoded, and cut at the first stop string.

    Args:
        detokenizer: a fresh one.
        stop_matcher: a fresh one.
    """

    def __init__(self, detokenizer: IncrementalDetokenizer, stop_matcher: StopMatcher) -> None:
        self._detokenizer = detokenizer
        self._stop_matcher = stop_matcher

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string has ended it."""
        return self._stop_matcher.stop is not None

    def push(self, token: int, *, is_last: bool = False) -> str:
        """The text that may be shown after one more token; after the last one, all of it."""
        text = self._stop_matcher.push(self._detokenizer.push(token))
        if is_last and not self.is_stopped:
            text += self._stop_matcher.push(self._detokenizer.flush()) + self._stop_matcher.flush()
        return text
