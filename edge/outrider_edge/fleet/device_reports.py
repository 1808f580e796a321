"""What a device says of itself: its state, and its figures at a low rate.

Nothing in it comes from prompts or answers but their sizes. Knows nothing of MQTT.
"""

import time
from importlib.metadata import version
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from outrider.v1 import fleet_pb2 as pb
from outrider_edge.daemon_status import status_document
from outrider_edge.serving import Serving

_STATUS: Final = {
    "waiting": pb.DEVICE_STATUS_WAITING,
    "ready": pb.DEVICE_STATUS_READY,
    "drained": pb.DEVICE_STATUS_DRAINED,
    "stopping": pb.DEVICE_STATUS_STOPPING,
}


def device_state(serving: Serving) -> pb.DeviceState:
    """Who the device is and how it is."""
    status = status_document(serving)
    return pb.DeviceState(
        status=_STATUS[status["state"]],
        reason=status["waiting_for"] or "",
        software_version=status["version"],
        bundle=status["bundle"],
        model=status["model"] or "",
        verifier=status["verifier"],
        up_since=_timestamp(status["up_since"]),
    )


def goodbye(reason: str) -> pb.DeviceState:
    """The device is not there any more."""
    return pb.DeviceState(
        status=pb.DEVICE_STATUS_OFFLINE, reason=reason, software_version=version("outrider")
    )


def telemetry(serving: Serving) -> pb.Telemetry:
    """The figures of the device, now."""
    now = time.time()
    total: dict[str, Any] = serving.sums.total()
    latest = serving.sums.latest()
    runtime = serving.runtime
    figures = {
        name: latest[name] for name in ("acceptance_rate", "tokens_per_s", "tokens_per_pass")
    }
    if runtime:
        figures["round_trip_s"] = runtime.estimators.estimates().round_trip_s
    known: dict[str, Any] = {name: value for name, value in figures.items() if value is not None}
    return pb.Telemetry(
        at=_timestamp(now),
        uptime_s=max(0.0, now - serving.identity.up_since),
        num_answers=total["num_answers"],
        num_tokens=total["num_tokens"],
        num_running=serving.slots.num_taken,
        num_resumes=total.get("num_resumes", 0),
        **known,
    )


def _timestamp(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMilliseconds(int(seconds * 1000))
    return stamp
