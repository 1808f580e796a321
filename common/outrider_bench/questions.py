"""What the bench asks its players, and what they answer: values, and their JSON.

Pure. One line of JSON each way; a player is a process that generates, on an edge or without one.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from pydantic import TypeAdapter

from outrider_bench.lineup import Plan
from outrider_bench.results import Counters


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt.

    Attributes:
        index: its number in the request.
        task: what kind of prompt it is.
        tokens: of the prompt, chat template included.
        seed: of the sampling.
    """

    index: int
    task: str
    tokens: tuple[int, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class Play:
    """Answer some questions, all at the same time.

    Attributes:
        plan: how.
        questions: each with its own answer.
        max_tokens: of an answer.
        temperature: 0 is greedy.
        block_nodes: of a block, for plans that have blocks.
        address: the way to the verifier.
    """

    plan: Plan
    questions: tuple[Question, ...]
    max_tokens: int
    temperature: float
    block_nodes: int
    address: str

    def as_json(self) -> dict[str, Any]:
        """As a dictionary that `json.dumps` takes."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. Times are since its request, in milliseconds."""

    tokens: tuple[int, ...]
    ttft_ms: float
    duration_ms: float
    counters: Counters | None = None


@dataclass(frozen=True, slots=True)
class Played:
    """The answers to all questions of a play, in the same order.

    Attributes:
        replies: one for each question.
        batch_ms: from the first request to the end of the last answer.
    """

    replies: tuple[Reply, ...]
    batch_ms: float

    def as_json(self) -> dict[str, Any]:
        """As a dictionary that `json.dumps` takes."""
        return asdict(self)


_PLAY: Final = TypeAdapter(Play)
_PLAYED: Final = TypeAdapter(Played)


def play_from_json(document: Mapping[str, Any]) -> Play:
    """What `Play.as_json` gave."""
    return _PLAY.validate_python(document)


def played_from_json(document: Mapping[str, Any]) -> Played:
    """What `Played.as_json` gave."""
    return _PLAYED.validate_python(document)
