"""The way to the MQTT broker: address, credentials, and what a refusal means.

The rim of the fleet, with the links of device and operator. Needs the extra `mqtt` when used.
"""

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from outrider_common.errors import ConfigError, MissingExtraError, OutriderError, UnavailableError
from outrider_common.settings.fleet import FleetSettings
from outrider_edge.fleet.exchange import Incoming, Outgoing, ReplyTo
from outrider_edge.fleet.payloads import MAX_PAYLOAD_BYTES, encoded

if TYPE_CHECKING:
    import aiomqtt
    from paho.mqtt.properties import Properties

_T = TypeVar("_T")

_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
_KEEPALIVE_S: Final = 20
_TIMEOUT_S: Final = 10.0
_MOST_UNREAD: Final = 256
_PACKET_BYTES: Final = MAX_PAYLOAD_BYTES + 4096

_FAILURE: Final = 128
"""Reason codes of MQTT 5 from here on say that something was refused."""

_BAD_CREDENTIALS: Final = (134, 135, 140)
"""MQTT 5 reason codes of CONNACK: bad user name or password, not authorised, bad method."""


class BrokerRefusalError(OutriderError):
    """The broker knows the device, or the operator, not under these credentials."""

    reason = "BROKER_REFUSAL"
    status = "UNAUTHENTICATED"


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where a broker listens."""

    host: str
    port: int
    is_over_tls: bool

    @classmethod
    def of(cls, url: str) -> "BrokerAddress":
        """The address in `fleet.broker`."""
        parts = urlsplit(url)
        try:
            port = parts.port or _PORTS[parts.scheme]
        except ValueError:
            raise ConfigError(f"fleet.broker is {url!r}, but there is no such port.") from None
        return cls(parts.hostname or "", port, parts.scheme == "mqtts")

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def require_broker(settings: FleetSettings) -> BrokerAddress:
    """The address of the broker.

    Raises:
        ConfigError: none is set.
    """
    if settings.broker is None:
        raise ConfigError("fleet.broker is not set; name the broker, as with --fleet-broker.")
    return BrokerAddress.of(settings.broker)


def require_mqtt() -> None:
    """See that the MQTT library is there.

    Raises:
        MissingExtraError: it is not.
    """
    try:
        import aiomqtt  # noqa: F401 - only whether it is there
    except ImportError:
        raise MissingExtraError(
            "fleet.broker is set, but the extra mqtt is not installed: run pip install "
            "'outrider[mqtt]', or do not set it."
        ) from None


def connect_options(settings: FleetSettings) -> dict[str, Any]:
    """What clients of the broker are made with. Files are read anew: passwords change.

    Raises:
        ConfigError: a file cannot be used, or no broker is set.
    """
    import aiomqtt

    address = require_broker(settings)
    return {
        "hostname": address.host,
        "port": address.port,
        "protocol": aiomqtt.ProtocolVersion.V5,
        "username": settings.username,
        "password": read_password(settings.password_file),
        "keepalive": _KEEPALIVE_S,
        "timeout": _TIMEOUT_S,
        "tls_context": tls_context(settings.ca_file) if address.is_over_tls else None,
        "max_queued_incoming_messages": _MOST_UNREAD,
    }


def read_password(path: Path | None) -> str | None:
    """The first line of the password file.

    Raises:
        ConfigError: it cannot be read.
    """
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8"
        raise ConfigError(
            f"fleet.password_file {path} cannot be read ({reason}); name one that can be."
        ) from error


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """By what a broker over TLS is known.

    Raises:
        ConfigError: the certificates cannot be read.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"fleet.ca_file {ca_file} cannot be read as certificates in PEM "
            f"({getattr(error, 'strerror', None) or error}); name a file with the broker's."
        ) from error


def connect_properties(session_expiry_s: int) -> "Properties":
    """What a client tells the broker of itself as it connects.

    Args:
        session_expiry_s: for how long the broker keeps messages for a client that is away.
    """
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = session_expiry_s
    properties.MaximumPacketSize = _PACKET_BYTES
    return properties


@asynccontextmanager
async def connected(client: "aiomqtt.Client") -> "AsyncIterator[aiomqtt.Client]":
    """Connect, and disconnect in the end, also if it ends while it connects."""
    connecting = asyncio.create_task(client.__aenter__(), name="connecting")
    try:
        await asyncio.shield(connecting)
    except asyncio.CancelledError:
        connecting.cancel()
        await asyncio.wait([connecting])
        if not connecting.cancelled() and connecting.exception() is None:
            await client.__aexit__(None, None, None)
        raise
    try:
        yield client
    finally:
        await client.__aexit__(*sys.exc_info())


async def whole(call: Coroutine[Any, Any, _T]) -> _T:
    """Wait for a call of the library in such a way that a cancellation is never lost.

    The library waits with `asyncio.wait_for`, which before Python 3.12 swallows a cancellation that
    comes in the same moment as what is waited for.
    """
    task = asyncio.create_task(call)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return await asyncio.shield(task)


async def subscribe(client: "aiomqtt.Client", topic_filter: str) -> bool:
    """Ask for messages; whether the broker grants it."""
    codes = await whole(client.subscribe(topic_filter, qos=1))
    return all(int(getattr(code, "value", 0)) < _FAILURE for code in codes)


async def publish(
    client: "aiomqtt.Client", message: Outgoing, reply_to: ReplyTo | None = None
) -> None:
    """Publish a message, and wait until the broker has it."""
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    correlation = message.correlation
    if reply_to:
        properties.ResponseTopic = reply_to.topic
        correlation = reply_to.correlation
    if correlation is not None:
        properties.CorrelationData = correlation
    if message.expires_in_s is not None:
        properties.MessageExpiryInterval = message.expires_in_s
    await whole(
        client.publish(
            message.topic,
            encoded(message.message),
            qos=1,
            retain=message.is_retained,
            properties=properties,
        )
    )


def incoming(message: "aiomqtt.Message") -> Incoming:
    """A message of the library in our words."""
    properties = message.properties
    topic = getattr(properties, "ResponseTopic", None)
    correlation = getattr(properties, "CorrelationData", None)
    return Incoming(
        topic=str(message.topic),
        payload=bytes(message.payload or b""),
        reply_to=ReplyTo(topic, correlation) if topic else None,
        correlation=correlation,
        expires_in_s=getattr(properties, "MessageExpiryInterval", None),
    )


def connection_error(error: Exception, settings: FleetSettings) -> OutriderError:
    """An error of the library as a sentence with a remedy."""
    if isinstance(error, OutriderError):
        return error
    where = settings.broker
    code = getattr(getattr(error, "rc", None), "value", None)
    if code in _BAD_CREDENTIALS:
        return BrokerRefusalError(
            f"The broker at {where} does not take the user {settings.username!r} with this "
            "password; correct fleet.username and fleet.password_file, or what the broker knows."
        )
    said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return UnavailableError(
        f"The broker at {where} cannot be reached ({said}); see that it runs, and that "
        "fleet.broker and fleet.ca_file are right."
    )
