"""Whatever a message holds, the agent lives, and says what was wrong with it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_runtime import ANSWER
from fleet_device import TOPICS, Factory, a_daemon
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider.v1 import fleet_pb2 as pb
from outrider_common.config import Settings
from outrider_common.settings.fleet import FleetSettings
from outrider_edge.fleet.agent import MOST_UNREAD, FleetAgent
from outrider_edge.fleet.device import assembled
from outrider_edge.fleet.exchange import Incoming, Outbox, Outgoing, ReplyTo
from outrider_edge.fleet.payloads import PayloadError, decoded, encoded
from outrider_edge.fleet.topics import Ask
from outrider_edge.service import cancelled
from outrider_models.store import ModelStore

FLEET = FleetSettings(broker="mqtt://unused", device_id="kiosk-1")
REPLY = ReplyTo("outrider/replies/me", b"42")


@asynccontextmanager
async def an_agent(root: Path) -> AsyncIterator[tuple[FleetAgent, Outbox]]:
    store = ModelStore(root)
    async with a_daemon(Settings(fleet=FLEET), store, Factory()) as device:
        agent, outbox = assembled(FLEET, TOPICS, store, device.serving, device.live)
        running = asyncio.create_task(agent.run())
        try:
            yield agent, outbox
        finally:
            await cancelled([running])


def asked(ask: Ask | str, payload: bytes, reply_to: ReplyTo | None = REPLY) -> Incoming:
    return Incoming(f"outrider/devices/kiosk-1/ask/{ask}", payload, reply_to)


async def answer_of(outbox: Outbox) -> Outgoing:
    """The next message that is no report."""
    while True:
        message = await outbox.next()
        outbox.done(message)
        if not message.is_retained:
            return message


async def is_alive(agent: FleetAgent, outbox: Outbox) -> None:
    """It answers a job with an answer."""
    agent.take(asked(Ask.JOB, b'{"jobId": "alive", "prompt": "Hi"}', ReplyTo(REPLY.topic, b"me")))
    while (message := await answer_of(outbox)).correlation != b"me":
        pass
    assert isinstance(message.message, pb.JobResult)
    assert message.message.text == ANSWER


_NAMES = [
    "revision",
    "values",
    "drain",
    "probe",
    "setLogLevel",
    "level",
    "jobId",
    "prompt",
    "messages",
    "role",
    "content",
    "maxTokens",
    "temperature",
    "seed",
    "stop",
    "topK",
    "name",
    "uri",
    "sha256",
    "signature",
    "margin",
    "trialTokens",
    "acceptanceMode",
    "x",
]
_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(_NAMES),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
_PAYLOADS = st.binary(max_size=200) | _JSON.map(lambda value: json.dumps(value).encode())


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    messages=st.lists(
        st.tuples(st.sampled_from([*Ask, "nonsense", ""]), _PAYLOADS, st.booleans()), max_size=10
    )
)
def test_no_payload_ends_the_agent(tmp_path: Path, messages: list[tuple[str, bytes, bool]]) -> None:
    async def work() -> None:
        async with an_agent(tmp_path) as (agent, outbox):
            for ask, payload, replies in messages:
                agent.take(asked(ask, payload, REPLY if replies else None))
            # A well-meant drain among them would leave the question waiting.
            agent.take(asked(Ask.COMMAND, b'{"undrain": {}}'))
            await is_alive(agent, outbox)

    asyncio.run(work())


@settings(max_examples=100)
@given(payload=_PAYLOADS)
@pytest.mark.parametrize("kind", [pb.Job, pb.Command, pb.DesiredDrafter, pb.DesiredSettings])
def test_a_payload_is_read_or_refused_in_one_sentence(kind: Any, payload: bytes) -> None:
    sentence = ""
    try:
        message = decoded(payload, kind)
    except PayloadError as error:
        sentence = str(error)
    if sentence:
        assert kind.DESCRIPTOR.name in sentence
        assert sentence.isprintable()
        assert len(sentence) < 500
    else:
        assert decoded(encoded(message), kind) == message or "nan" in str(message)


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b"", "no Job"),
        (b"[]", "no Job"),
        (b"{" * 2000, "no Job"),
        (b'{"a":' * 5000, "no Job"),
        (b'{"jobId": 3}', "no Job"),
        (b'{"jobId": "a", "temperature": "hot"}', "no Job"),
        (b" " * (1 << 21), "bytes; send at most"),
        (b'{"jobId": "a"}', "either a prompt or messages"),
        (b'{"jobId": "a", "prompt": "x", "topP": 2}', "top_p is 2"),
        (b'{"jobId": "a", "prompt": "x", "model": "gpt"}', "no model"),
        (b'{"jobId": "a", "messages": [{"role": "robot", "content": "x"}]}', "robot"),
        (b'{"jobId": "a", "prompt": "x", "acceptanceMode": "any"}', "acceptance_mode"),
    ],
)
async def test_a_bad_job_is_answered_with_what_is_wrong(
    tmp_path: Path, payload: bytes, says: str
) -> None:
    async with an_agent(tmp_path) as (agent, outbox):
        agent.take(asked(Ask.JOB, payload))
        message = await answer_of(outbox)
        assert message.correlation == b"42"
        assert isinstance(message.message, pb.JobResult)
        assert says in message.message.error.message


@pytest.mark.parametrize(
    "topic", ["outrider/devices/kiosk-2/report/state", "a/#", "outrider/replies"]
)
async def test_nobody_makes_a_device_write_elsewhere(tmp_path: Path, topic: str) -> None:
    async with an_agent(tmp_path) as (agent, outbox):
        agent.take(asked(Ask.COMMAND, b'{"probe": {}}', ReplyTo(topic)))
        agent.take(asked(Ask.JOB, b'{"jobId": "b", "prompt": "Hi"}', ReplyTo(topic)))
        agent.take(asked(Ask.COMMAND, b'{"probe": {}}'))
        assert (await answer_of(outbox)).topic == REPLY.topic
        await is_alive(agent, outbox)


async def test_unknown_fields_are_ignored(tmp_path: Path) -> None:
    async with an_agent(tmp_path) as (agent, outbox):
        agent.take(asked(Ask.COMMAND, b'{"probe": {}, "tomorrow": [1, {"a": null}]}'))
        message = (await answer_of(outbox)).message
        assert isinstance(message, pb.CommandResult)
        assert message.probe.model == "fake"


async def test_a_flood_is_refused_and_not_kept(tmp_path: Path) -> None:
    async with an_agent(tmp_path) as (agent, outbox):
        for _ in range(MOST_UNREAD + 1):
            agent.take(asked(Ask.COMMAND, b'{"probe": {}}'))
        message = (await answer_of(outbox)).message
        assert isinstance(message, pb.CommandResult)
        assert message.error.reason == "CAPACITY"
        await is_alive(agent, outbox)
