"""Clients of a daemon that ask with a key until they have the whole answer; all is written down."""

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2
from histories import Operation
from openai import APIConnectionError, APIError, APIStatusError, AsyncOpenAI
from words import SPEC, reference, text_of, tokens_of

PATIENCE_S: Final = 60.0
"""An answer is there by then, whatever has happened."""

PAUSE_S: Final = 0.1
TRY_AGAIN: Final = (429, 503)
TRY_AGAIN_IN_A_STREAM: Final = ("broken_off", "verifier_unavailable")
POLICIES: Final = ("auto", "tree", "chain", "one-ahead", "cloud")
"""Not `stop-and-wait`: it is made for drafters that always have a guess (decision 22)."""


class IncompleteError(Exception):
    """A stream that ended well, and did not say that the answer did."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a client asks.

    Attributes:
        key: under which it asks again.
        prompt: tokens.
        max_tokens: that it wants.
        policy: under which it is to be drafted.
    """

    key: str
    prompt: tuple[int, ...]
    max_tokens: int
    policy: str

    @classmethod
    def some(cls, coins: random.Random) -> "Question":
        """One of many."""
        return cls(
            key=f"{coins.randrange(2**64):x}",
            prompt=tuple(coins.randrange(1, SPEC.vocab) for _ in range(coins.choice((1, 5, 40)))),
            max_tokens=coins.choice((1, 40, 150, 300)),
            policy=coins.choice(POLICIES),
        )

    def operation(self) -> Operation:
        """Nothing is answered yet."""
        return Operation(self.prompt, reference(self.prompt, self.max_tokens))


@dataclass(slots=True)
class Asked:
    """A question, and what became of each time it was asked.

    Attributes:
        question: it.
        attempts: each time.
        names: of the answer, each time that it was whole, and when that was.
    """

    question: Question
    attempts: list[Operation] = field(default_factory=list)
    names: list[tuple[float, str]] = field(default_factory=list)


async def ask_until_whole(client: AsyncOpenAI, asked: Asked) -> None:
    """Ask again after each failure that is none of the question, for a while."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        await _ask(client, asked)
        if asked.attempts[-1].result is not None or not may_pass(asked.attempts[-1].error):
            break
        await asyncio.sleep(PAUSE_S)


async def _ask(client: AsyncOpenAI, asked: Asked) -> None:
    """Once."""
    attempt = asked.question.operation()
    asked.attempts.append(attempt)
    try:
        await _read(client, asked, attempt)
    except Exception as error:  # that is for the validator
        attempt.error = error


async def _read(client: AsyncOpenAI, asked: Asked, attempt: Operation) -> None:
    question = asked.question
    stream: Any = await client.completions.create(
        model=str(SPEC),
        prompt=text_of(question.prompt),
        max_tokens=question.max_tokens,
        stream=True,
        extra_headers={"Idempotency-Key": question.key},
        extra_body={"outrider": {"policy": question.policy}},
    )
    text, is_whole = "", False
    async for piece in stream:
        for choice in piece.choices:
            text += choice.text
            is_whole |= choice.finish_reason is not None
        tokens = tokens_of(text)
        attempt.delivered = [(len(question.prompt) + i, token) for i, token in enumerate(tokens)]
    if not is_whole:
        raise IncompleteError(f"the stream ended after {len(attempt.delivered)} tokens")
    attempt.result = tuple(tokens_of(text))
    asked.names.append((time.monotonic(), piece.id))


def may_pass(error: BaseException | None) -> bool:
    """Whether who hears this should ask again: nobody is there, or nobody who could answer."""
    match error:
        case APIStatusError():
            return error.status_code in TRY_AGAIN
        case APIConnectionError() | httpx2.HTTPError():
            return True
        case APIError():  # in a stream
            return error.code in TRY_AGAIN_IN_A_STREAM
    return False
