"""A session's tokens do not depend on who else is in the pass: the real model, joined at random."""

import random
from pathlib import Path

import pytest

from outrider_cloud.batching_engine import BatchingEngine
from outrider_cloud.scheduler import PackingLimits, PackingScheduler, TurnScheduler
from outrider_cloud.session import VerifierSession
from outrider_cloud.torch_target import TorchTarget
from outrider_common.errors import OutriderError
from outrider_common.messages import Commit, Limits, OpenSession
from outrider_common.sampling import SamplingParams
from outrider_common.tree import AtNode, AtPosition, DraftNode
from outrider_edge.tokenizer import EdgeTokenizer

pytestmark = pytest.mark.slow

NUM_TOKENS = 24
TEXTS = (
    "The lighthouse keeper climbed the stairs",
    "1, 2, 3, 4, 5, 6,",
    "def mean(values):\n    total = 0\n",
    "Once upon a time there was",
    "The capital of France is Paris. The capital of Italy is",
    "To be or not to be, that is",
)


def a_message(prompt: list[int], number: int) -> OpenSession:
    """Every other session samples."""
    sampling = SamplingParams(temperature=0.8 * (number % 2), top_p=0.95, seed=number)
    return OpenSession(tuple(prompt), len(prompt), NUM_TOKENS, sampling, "v1:any", ignore_eos=True)


class Edge:
    """Drafts a chain behind every commit: some of it right, by what is known of the answer."""

    def __init__(self, engine: BatchingEngine, message: OpenSession, known: list[int]) -> None:
        self.answer: list[int] = []
        self.start = len(message.prefix)
        self.known = known
        self.random = random.Random(self.start)
        self.next_id = 1
        self.is_done = False
        self.session: VerifierSession | None = None
        self.session = engine.open(message, self.receive)

    def receive(self, event: Commit | OutriderError) -> None:
        assert isinstance(event, Commit)
        self.answer += event.tokens
        self.is_done = event.finish_reason is not None
        if self.known and not self.is_done and self.session is not None:
            self.draft(self.session)

    def draft(self, session: VerifierSession) -> None:
        position = self.start + len(self.answer) - 1
        guesses = self.known[len(self.answer) : len(self.answer) + 4]
        wrong = self.random.randrange(5)
        nodes: list[DraftNode] = []
        parent: AtPosition | AtNode = AtPosition(position)
        for i, guess in enumerate(guesses):
            node = DraftNode(self.next_id + i, 7 if i == wrong else guess, parent)
            nodes.append(node)
            parent = AtNode(node.node_id)
        self.next_id += len(nodes)
        session.extend(nodes)


def make_engine(target: TorchTarget, *, packed: bool) -> BatchingEngine:
    scheduler = (
        PackingScheduler(PackingLimits(24, 8, 16, 64, 0.0)) if packed else TurnScheduler(8, 256)
    )
    limits = Limits(65536, 64, 4096, 64)
    return BatchingEngine(
        target, scheduler, model="m", tokenizer_fingerprint="v1:any", limits=limits
    )


def test_sessions_that_join_and_leave_at_random_write_what_each_writes_alone(
    smollm2_dir: Path,
) -> None:
    target = TorchTarget.load(smollm2_dir)
    tokenizer = EdgeTokenizer.load(smollm2_dir)
    messages = [a_message(tokenizer.encode(text), i) for i, text in enumerate(TEXTS)]
    alone = []
    for message in messages:
        engine = make_engine(target, packed=False)
        edge = Edge(engine, message, [])
        while engine.step():
            pass
        alone.append(edge.answer)

    chance = random.Random(5)
    for _ in range(2):
        engine = make_engine(target, packed=True)
        waiting = list(enumerate(messages))
        chance.shuffle(waiting)
        edges: dict[int, Edge] = {}
        leavers: list[VerifierSession] = []
        while waiting or engine.num_sessions:
            if waiting and chance.random() < 0.4:
                number, message = waiting.pop()
                edges[number] = Edge(engine, message, alone[number])
                leavers.append(engine.open(a_message([number] * 20, number), lambda _event: None))
            if leavers and chance.random() < 0.3:
                leavers.pop().cancel()
            engine.step()
        assert [edges[i].answer for i in range(len(messages))] == alone
