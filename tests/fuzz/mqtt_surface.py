"""What a hostile broker, or whoever may publish to a device, may send to its agent."""

import asyncio
import contextlib
import json
import random
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

from bad_data import fill, mutated, random_bytes, random_json
from fake_runtime import ANSWER
from fleet_device import TOPICS, Factory, a_daemon
from fuzzing import Attack
from google.protobuf import json_format

from outrider.v1 import fleet_pb2 as pb
from outrider_common.config import Settings
from outrider_common.errors import OutriderError
from outrider_common.settings.fleet import FleetSettings
from outrider_edge.fleet.agent import FleetAgent
from outrider_edge.fleet.device import assembled
from outrider_edge.fleet.exchange import Incoming, Outbox, ReplyTo
from outrider_edge.fleet.topics import Ask
from outrider_edge.service import cancelled
from outrider_models.store import ModelStore

FLEET: Final = FleetSettings(broker="mqtt://unused", device_id="kiosk-1")
REPLIES: Final = "outrider/replies/me"
PATIENCE_S: Final = 10.0

_KINDS: Final = {
    Ask.SETTINGS: pb.DesiredSettings,
    Ask.DRAFTER: pb.DesiredDrafter,
    Ask.COMMAND: pb.Command,
    Ask.JOB: pb.Job,
}


@contextlib.asynccontextmanager
async def mqtt_surface() -> AsyncIterator["MqttSurface"]:
    """An agent over a daemon in memory, without a broker."""
    with tempfile.TemporaryDirectory() as directory:
        store = ModelStore(Path(directory))
        async with a_daemon(Settings(fleet=FLEET), store, Factory()) as device:
            agent, outbox = assembled(FLEET, TOPICS, store, device.serving, device.live)
            surface = MqttSurface(agent, outbox)
            running = asyncio.create_task(agent.run())
            try:
                yield surface
            finally:
                await cancelled([running])


class MqttSurface:
    """Messages that are nearly right, or not at all."""

    name = "mqtt"

    def __init__(self, agent: FleetAgent, outbox: Outbox) -> None:
        self._agent = agent
        self._outbox = outbox
        self._defects: list[str] = []
        self._listen(agent)

    def _listen(self, agent: Any) -> None:
        """Hear of every message that is refused, and why."""
        refuse: Callable[[Ask, Incoming, Exception], None] = agent._refuse

        def noted(ask: Ask, incoming: Incoming, error: Exception) -> None:
            if not isinstance(error, OutriderError) or not str(error):
                self._defects.append(f"{ask}: {type(error).__name__}: {error}")
            refuse(ask, incoming, error)

        agent._refuse = noted

    async def attack(self, coins: random.Random) -> Attack:
        """A few messages at once; then a question, which is answered after them."""
        count = coins.choice((1, 1, 3, 8))
        for _ in range(count):
            self._agent.take(_message(coins))
        complaint = await self._is_alive()
        defects, self._defects = self._defects, []
        return Attack(count, "; ".join(defects) or complaint)

    async def _is_alive(self) -> str | None:
        """A well-meant drain may be among them; a job must be answered after it was taken back."""
        self._agent.take(_asked(Ask.COMMAND, b'{"undrain": {}}'))
        job = b'{"jobId": "alive", "prompt": "Hi"}'
        self._agent.take(_asked(Ask.JOB, job, b"me"))
        try:
            async with asyncio.timeout(PATIENCE_S):
                result = await self._answer_to(b"me")
        except TimeoutError:
            return f"a job had no answer within {PATIENCE_S:g} s"
        return None if result.text == ANSWER else f"a job had the answer {result}"

    async def _answer_to(self, correlation: bytes) -> Any:
        while True:
            outgoing = await self._outbox.next()
            self._outbox.done(outgoing)
            if outgoing.correlation == correlation:
                return outgoing.message

    async def complaint_afterwards(self) -> str | None:
        """It is asked after every attack."""
        return None


def _message(coins: random.Random) -> Incoming:
    ask = coins.choice(list(_KINDS))
    reply_to = coins.choice((REPLIES, "somewhere/else", "outrider/replies/+", "\x00"))
    payload = _payload(ask, coins)
    topic = coins.choice((str(ask), str(ask), str(ask), "nonsense", ""))
    answer = ReplyTo(reply_to, random_bytes(coins, 20)) if coins.random() < 0.7 else None
    return Incoming(f"outrider/devices/kiosk-1/ask/{topic}", payload, answer)


def _payload(ask: Ask, coins: random.Random) -> bytes:
    match coins.randrange(4):
        case 0:
            return random_bytes(coins)
        case 1:
            return json.dumps(random_json(coins)).encode("utf-8", "surrogatepass")
    message = fill(_KINDS[ask](), coins)
    text = json_format.MessageToJson(message, indent=None).encode()
    return mutated(text, coins) if coins.random() < 0.5 else text


def _asked(ask: Ask, payload: bytes, correlation: bytes | None = None) -> Incoming:
    reply_to = ReplyTo(REPLIES, correlation) if correlation else None
    return Incoming(f"outrider/devices/kiosk-1/ask/{ask}", payload, reply_to)
