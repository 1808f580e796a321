"""The broker of the k3s overlays: a real Mosquitto takes its files, and keeps devices apart."""

import asyncio
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import pytest
from deploy_objects import KUBERNETES

FLEET = KUBERNETES / "components" / "fleet"
MOSQUITTO = shutil.which("mosquitto") or "/usr/sbin/mosquitto"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[int]:
    """A broker with the shipped files in other places; yields its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    text = (FLEET / "mosquitto.conf").read_text()
    for old, new in {
        "listener 1883": f"listener {port} 127.0.0.1\nuser root",
        "/mosquitto/config/acl": str(FLEET / "acl"),
        "/mosquitto/secrets/passwords": str(tmp_path / "passwords"),
        "/mosquitto/data/": f"{tmp_path}/",
    }.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "mosquitto.conf").write_text(text)
    (tmp_path / "passwords").touch()
    for user in ("one", "two", "operator"):
        command = ["mosquitto_passwd", "-b", str(tmp_path / "passwords"), user, f"of-{user}"]
        subprocess.run(command, check=True, capture_output=True)
    process = subprocess.Popen([MOSQUITTO, "-c", tmp_path / "mosquitto.conf"])
    try:
        yield port
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0


@asynccontextmanager
async def connected(port: int, user: str, password: str) -> AsyncIterator[aiomqtt.Client]:
    """A client, once the broker listens."""
    client = aiomqtt.Client("127.0.0.1", port, username=user, password=password)
    for _ in range(100):
        try:
            await client.__aenter__()
            break
        except aiomqtt.MqttCodeError:
            raise
        except aiomqtt.MqttError:
            await asyncio.sleep(0.05)
    try:
        yield client
    finally:
        await client.__aexit__(None, None, None)


@asynccontextmanager
async def operator_and_one(port: int) -> AsyncIterator[tuple[aiomqtt.Client, aiomqtt.Client]]:
    async with (
        connected(port, "operator", "of-operator") as operator,
        connected(port, "one", "of-one") as one,
    ):
        yield operator, one


async def first(client: aiomqtt.Client) -> object:
    """The payload of the first message that comes."""
    async with asyncio.timeout(10):
        async for message in client.messages:
            return message.payload
    raise AssertionError("no message came")


async def test_a_device_hears_what_it_is_asked_and_not_what_another_is(broker: int) -> None:
    async with operator_and_one(broker) as (operator, one):
        for device in ("one", "two"):
            await one.subscribe(f"outrider/devices/{device}/ask/#")
        for device in ("two", "one"):
            await operator.publish(f"outrider/devices/{device}/ask/command", device)
        assert await first(one) == b"one"


async def test_a_device_speaks_for_itself_only(broker: int) -> None:
    async with operator_and_one(broker) as (operator, one):
        await operator.subscribe("outrider/devices/+/report/#")
        for device in ("two", "one"):
            await one.publish(f"outrider/devices/{device}/report/state", device, qos=1)
        assert await first(operator) == b"one"


async def test_nobody_comes_in_without_a_password(broker: int) -> None:
    async with connected(broker, "one", "of-one"):
        pass
    with pytest.raises(aiomqtt.MqttError, match="authori"):
        async with connected(broker, "one", "wrong"):
            pass
