"""A verifier in memory: a link whose other side is a few lines of the tree's own rules."""

import asyncio
from collections.abc import Callable, Sequence

from outrider_common.acceptance import AcceptanceMode
from outrider_common.messages import (
    Commit,
    FinishReason,
    Limits,
    ModelInfo,
    Opened,
    OpenSession,
    ServerEvent,
)
from outrider_common.tree import DraftNode, SpeculationTree
from outrider_edge.estimators import Estimators

LIMITS = Limits(4096, 16, 64, 4)


def an_info(vocab_size: int = 256, max_positions: int = 200) -> ModelInfo:
    return ModelInfo(
        "fake", vocab_size, max_positions, "v1:fake", (0,), (AcceptanceMode.EXACT,), LIMITS
    )


class FakeSession:
    """Writes a fixed text, accepting whatever drafts agree with it."""

    estimators: Estimators | None = None

    def __init__(self, message: OpenSession, answer: Sequence[int], pause: asyncio.Event) -> None:
        self.message = message
        num_prompt_tokens = message.num_prompt_tokens
        self.text = [*message.prefix[:num_prompt_tokens], *answer]
        self.text = self.text[: num_prompt_tokens + message.max_tokens]
        assert message.prefix == tuple(self.text[: len(message.prefix)])
        self.tree = SpeculationTree(message.prefix)
        self.pause = pause
        self.is_cancelled = False
        self.is_closed = False
        self.is_given_up = False
        self.num_pings = 0
        self.is_opened = False
        self.bytes_up = 0
        self.bytes_down = 0

    async def extend(self, nodes: Sequence[DraftNode]) -> None:
        self.bytes_up += len(nodes)
        self.tree.extend(nodes)

    async def cancel(self) -> None:
        self.is_cancelled = True

    async def ping(self) -> None:
        self.num_pings += 1

    def close(self) -> None:
        self.is_closed = True

    def give_up(self) -> None:
        self.is_given_up = True

    async def receive(self) -> ServerEvent | None:
        if not self.is_opened:
            self.is_opened = True
            return Opened("fake", LIMITS, self.message.acceptance.mode)
        await self.pause.wait()
        await asyncio.sleep(0.002)  # lets the drafter run ahead
        return self.commit()

    def commit(self) -> ServerEvent | None:
        start = self.tree.num_committed
        if start == len(self.text):
            return None
        node = self.tree.frontier
        num_rows = 1 + sum(1 for _ in self.tree.nodes())
        tokens: list[int] = []
        children = False
        for token in self.text[start:]:
            tokens.append(token)
            children = bool(node.children)
            child = node.children.get(token)
            if child is None:
                break
            node = child
        accepted = sum(c.node_id is not None for c in self.tree.commit(start, tokens))
        is_last = self.tree.num_committed == len(self.text)
        self.bytes_down += len(tokens)
        return Commit(
            start,
            tuple(tokens),
            accepted,
            is_correction=accepted < len(tokens) and children,
            finish_reason=FinishReason.LENGTH if is_last else None,
            num_rows=num_rows,
        )


class FakeLink:
    """Hands out `FakeSession`s; `make` may replace them by worse ones."""

    has_alternative = False

    def __init__(
        self, answer: Sequence[int], make: Callable[..., FakeSession] = FakeSession
    ) -> None:
        self.answer = answer
        self.make = make
        self.sessions: list[FakeSession] = []
        self.pause = asyncio.Event()
        self.pause.set()

    async def model_info(self, timeout_s: float | None = None) -> ModelInfo:
        return an_info()

    async def open(self, message: OpenSession, max_message_bytes: int) -> FakeSession:
        self.sessions.append(self.make(message, self.answer, self.pause))
        return self.sessions[-1]
