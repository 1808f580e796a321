"""A conversation: what was said so far, as the model will read it and as people keep it.

Pure. Knows nothing of terminals, of models or of how answers come.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Role(StrEnum):
    """Who speaks; the values are those of chat templates."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Turn:
    """One message.

    Attributes:
        role: who said it.
        text: what was said.
        is_partial: an answer that was stopped before its end.
    """

    role: Role
    text: str
    is_partial: bool = False


@dataclass(slots=True)
class Conversation:
    """Questions and answers in turn, under a system message if there is one.

    A question without an answer is withdrawn, so that the model never reads two in a row, which
    some chat templates refuse.

    Attributes:
        system: the system message; None: the chat template's own, if it has one.
        turns: what was said, the oldest first.
    """

    system: str | None = None
    turns: list[Turn] = field(default_factory=list)

    @property
    def messages(self) -> list[Mapping[str, str]]:
        """All messages, as chat templates read them. That an answer was stopped is not said."""
        head = [Turn(Role.SYSTEM, self.system)] if self.system else []
        return [{"role": turn.role.value, "content": turn.text} for turn in (*head, *self.turns)]

    def ask(self, text: str) -> None:
        """The user says something."""
        self.turns.append(Turn(Role.USER, text))

    def answer(self, text: str, *, is_partial: bool = False) -> None:
        """The answer to the last question; an empty one withdraws the question."""
        if text:
            self.turns.append(Turn(Role.ASSISTANT, text, is_partial))
        else:
            self.turns.pop()

    def reset(self) -> None:
        """Forget what was said; the system message stays."""
        self.turns.clear()

    def as_markdown(self) -> str:
        """The conversation for people to read."""
        head = [f"> {line}" for line in (self.system or "").splitlines()]
        blocks = ["\n".join(head)] if head else []
        for turn in self.turns:
            mark = " (stopped)" if turn.is_partial else ""
            blocks.append(f"**{turn.role.value}**{mark}\n\n{turn.text}")
        return "\n\n".join(blocks) + "\n"

    def as_json(self) -> str:
        """The conversation for programs: the `messages` of OpenAI's API."""
        marks = [False] * (len(self.messages) - len(self.turns))
        marks += [turn.is_partial for turn in self.turns]
        messages = [
            {**message, "is_partial": True} if is_partial else message
            for message, is_partial in zip(self.messages, marks, strict=True)
        ]
        return json.dumps(messages, indent=2, ensure_ascii=False) + "\n"
