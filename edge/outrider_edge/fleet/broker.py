"""The way to the MQTT broker: address, credentials, and what a refusal means.

The rim of the fleet, with the links of device and operator. Needs the extra `mqtt` when used.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from outrider_common.config import FleetSettings
from outrider_common.errors import ConfigError, MissingExtraError, OutriderError, UnavailableError
from outrider_edge.fleet.exchange import Incoming, Outgoing, ReplyTo
from outrider_edge.fleet.payloads import MAX_PAYLOAD_BYTES, encoded

if TYPE_CHECKING:
    import aiomqtt
    from paho.mqtt.properties import Properties

_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
_KEEPALIVE_S: Final = 20
_TIMEOUT_S: Final = 10.0
_MOST_UNREAD: Final = 256
_PACKET_BYTES: Final = MAX_PAYLOAD_BYTES + 4096

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
    await client.publish(
        message.topic,
        encoded(message.message),
        qos=1,
        retain=message.is_retained,
        properties=properties,
    )


def incoming(message: "aiomqtt.Message") -> Incoming:
    """A message of the library in our words."""
    properties = message.properties
    topic = getattr(properties, "ResponseTopic", None)
    return Incoming(
        topic=str(message.topic),
        payload=bytes(message.payload or b""),
        reply_to=ReplyTo(topic, getattr(properties, "CorrelationData", None)) if topic else None,
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
