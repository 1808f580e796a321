"""What is kept of an answer, and its form on disk: a heading, tokens as they came, and endings.

Of the request there are digests only, with a salt of the answer's own: they tell whether another
request is the same. Pure; knows nothing of files.
"""

import hashlib
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from pydantic import TypeAdapter

from outrider_common.acceptance import AcceptanceMode
from outrider_common.messages import FinishReason
from outrider_common.records import GenerationStats, TokenRecord
from outrider_edge.choice_stream import Event, Finished, Written
from outrider_edge.generation import GenerationResult
from outrider_edge.journal.lines import decode_lines

Json = dict[str, Any]

VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Heading:
    """What is known of an answer before it begins.

    Attributes:
        salt: random; part of the digests.
        asked: the digest of what the client sent.
        meant: the digest of what that came to, with the settings and the model of that time.
        answer_id: the name of the answer.
        created: when it was asked for, in seconds since 1970.
        model: the target's name.
        seed: of the first choice.
        num_choices: how many there will be, over all prompts.
        num_prompt_tokens: of all prompts.
    """

    salt: str
    asked: str
    meant: str
    answer_id: str
    created: int
    model: str
    seed: int
    num_choices: int
    num_prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Spelling:
    """What a token reads as alone; said where log-probabilities name it."""

    token: int
    text: str


@dataclass(frozen=True, slots=True)
class _Ended:
    """A choice is complete; its text and its tokens are known."""

    index: int
    finish_reason: FinishReason
    stats: GenerationStats
    acceptance_mode: AcceptanceMode


_HEADING: Final = TypeAdapter(Heading)
_WRITTEN: Final = TypeAdapter(Written)
_SPELLING: Final = TypeAdapter(Spelling)
_ENDED: Final = TypeAdapter(_Ended)


@dataclass(slots=True)
class KeptAnswer:
    """An answer, as far as it is known.

    Attributes:
        heading: what was known before.
        events: what came, in order.
        spellings: what tokens read as alone.
    """

    heading: Heading
    events: list[Written | Finished] = field(default_factory=list)
    spellings: dict[int, str] = field(default_factory=dict)
    _records: defaultdict[int, list[TokenRecord]] = field(
        init=False, default_factory=lambda: defaultdict(list)
    )

    @property
    def is_complete(self) -> bool:
        """Nothing is missing."""
        return len(self.ended) == self.heading.num_choices

    @property
    def ended(self) -> frozenset[int]:
        """The choices that are complete."""
        return frozenset(one.index for one in self.events if isinstance(one, Finished))

    def written(self, index: int) -> tuple[TokenRecord, ...]:
        """The tokens of a choice."""
        return tuple(self._records[index])

    def take(self, document: Any) -> None:
        """Add what a line says.

        Raises:
            ValueError: it does not follow from what was said before.
        """
        match document:
            case {"kind": "token", **said}:
                self._add(_WRITTEN.validate_python(said))
            case {"kind": "spelling", **said}:
                spelling = _SPELLING.validate_python(said)
                self.spellings[spelling.token] = spelling.text
            case {"kind": "ended", **said}:
                self._end(_ENDED.validate_python(said))
            case _:
                raise ValueError("a line of an unknown kind")

    def _add(self, event: Written) -> None:
        records = self._records[event.index]
        if records and event.record.position != records[-1].position + 1:
            raise ValueError("a token is missing")
        records.append(event.record)
        self.events.append(event)

    def _end(self, ended: _Ended) -> None:
        records = self.written(ended.index)
        if len(records) != ended.stats.num_tokens:
            raise ValueError("a token is missing")
        text = "".join(record.text for record in records)
        result = GenerationResult(
            text, ended.finish_reason, records, ended.stats, ended.acceptance_mode
        )
        self.events.append(Finished(ended.index, result))


def digest(salt: str, content: bytes) -> str:
    """What tells whether something is the same, and nothing else of it."""
    return hashlib.sha256(salt.encode() + content).hexdigest()


def read_answer(content: bytes) -> tuple[KeptAnswer | None, int]:
    """What a file says before the first line that is damaged, cut off or out of place.

    Returns:
        the answer, None if there is not even its heading, and how many bytes are good.
    """
    answer: KeptAnswer | None = None
    num_good = 0
    for document, num_bytes in decode_lines(content):
        try:
            if answer is None:
                answer = KeptAnswer(_heading(document))
            else:
                answer.take(document)
        except ValueError:
            break
        num_good = num_bytes
    return answer, num_good


def _heading(document: Any) -> Heading:
    match document:
        case {"kind": "heading", "version": version, **said} if version == VERSION:
            return _HEADING.validate_python(said)
        case _:
            raise ValueError("no heading of this version")


def heading_json(heading: Heading) -> Json:
    """The first line of an answer."""
    return {"kind": "heading", "version": VERSION, **asdict(heading)}


def event_json(event: Event | Spelling) -> Json | None:
    """The line for something that happened; None: it is not kept."""
    match event:
        case Written(index, record):
            return {"kind": "token", "index": index, "record": record.as_json()}
        case Spelling():
            return {"kind": "spelling", **asdict(event)}
        case Finished(index, result) if result.is_verified:
            mode = result.acceptance_mode
            ended = _Ended(index, result.finish_reason, result.stats, mode)
            return {"kind": "ended", **_ENDED.dump_python(ended, mode="json")}
        case _:
            return None
