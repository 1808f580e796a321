"""The broker of the k3s overlays: a real Mosquitto takes its files, and keeps devices apart."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import pytest
from deploy_objects import ROOT
from k3s_broker import FLEET, running_broker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[int]:
    """A broker that knows three users; yields its port."""
    passwords = tmp_path / "passwords"
    passwords.touch()
    for user in ("one", "two", "operator"):
        command = ["mosquitto_passwd", "-b", str(passwords), user, f"of-{user}"]
        subprocess.run(command, check=True, capture_output=True)
    with running_broker(tmp_path, passwords) as port:
        yield port


def connected(port: int, user: str, password: str) -> aiomqtt.Client:
    return aiomqtt.Client("127.0.0.1", port, username=user, password=password)


def test_the_access_list_is_the_one_that_is_delivered_without_kubernetes() -> None:
    delivered = ROOT / "deploy" / "mosquitto" / "outrider.acl"
    assert (FLEET / "acl").read_text() == delivered.read_text()


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
