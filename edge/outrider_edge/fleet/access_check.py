"""Whether the broker takes a device, and lets it read and write what it must.

Blocks: run it in a thread. Uses paho itself, for `aiomqtt` does not tell what a broker says of a
publication. Needs the extra `mqtt`.
"""

import queue
import time
from typing import Any, Final

from outrider_common.errors import UnavailableError
from outrider_common.settings.fleet import FleetSettings
from outrider_edge.fleet.broker import (
    BrokerRefusalError,
    connection_error,
    read_password,
    require_broker,
    require_mqtt,
    tls_context,
)
from outrider_edge.fleet.topics import Topics

_LIMIT_S: Final = 5.0
_FAILURE: Final = 128


def check_access(settings: FleetSettings, device: str) -> float:
    """Connect as a device does, beside it, and try what it does.

    Args:
        settings: of the fleet.
        device: its name.

    Returns:
        How long the broker took to acknowledge a message, in seconds.

    Raises:
        OutriderError: what the broker refuses, or why there is none.
    """
    require_mqtt()
    import paho.mqtt.client as mqtt
    from paho.mqtt.enums import CallbackAPIVersion

    client = mqtt.Client(
        CallbackAPIVersion.VERSION2,
        client_id=f"{settings.topic_prefix}/{device}/doctor",
        protocol=mqtt.MQTTv5,
        reconnect_on_failure=False,
    )
    client.username_pw_set(settings.username, read_password(settings.password_file))
    address = require_broker(settings)
    if address.is_over_tls:
        client.tls_set_context(tls_context(settings.ca_file))
    try:
        client.connect_timeout = _LIMIT_S
        said = _listened_to(client)
        client.connect(address.host, address.port)
        client.loop_start()
        return _tried(client, said, settings, device)
    except (OSError, ValueError) as error:
        raise connection_error(error, settings) from error
    finally:
        client.disconnect()
        client.loop_stop()


def _listened_to(client: Any) -> "queue.Queue[int]":
    """What the broker says of each request, as reason codes."""
    said: queue.Queue[int] = queue.Queue()
    client.on_connect = lambda _c, _u, _f, code, _p: said.put(code.value)
    client.on_subscribe = lambda _c, _u, _m, codes, _p: said.put(max(c.value for c in codes))
    client.on_publish = lambda _c, _u, _m, code, _p: said.put(code.value)
    return said


def _tried(client: Any, said: "queue.Queue[int]", settings: FleetSettings, device: str) -> float:
    topics, user = Topics(settings.topic_prefix), settings.username
    if _answer(said) >= _FAILURE:
        raise BrokerRefusalError(
            f"The broker at {settings.broker} does not take the user {user!r} with this password; "
            "correct fleet.username and fleet.password_file, or what the broker knows."
        )
    topic = topics.all_asks(device)
    client.subscribe(topic, qos=1)
    _require_allowed(_answer(said), f"{user!r} read {topic}", settings)
    topic = topics.report(device, "check")
    began = time.perf_counter()
    client.publish(topic, b"{}", qos=1)
    _require_allowed(_answer(said), f"{user!r} write {topic}", settings)
    return time.perf_counter() - began


def _require_allowed(code: int, what: str, settings: FleetSettings) -> None:
    if code >= _FAILURE:
        raise BrokerRefusalError(
            f"The broker at {settings.broker} does not let {what}; its access rules are to allow "
            "that: see deploy/mosquitto/outrider.acl."
        )


def _answer(said: "queue.Queue[int]") -> int:
    try:
        return said.get(timeout=_LIMIT_S)
    except queue.Empty:
        raise UnavailableError(
            f"The broker did not answer in {_LIMIT_S:g} s; see that fleet.broker leads to an MQTT "
            "broker, and whether it has too much to do."
        ) from None
