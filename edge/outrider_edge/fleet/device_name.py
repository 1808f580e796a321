"""What a device is called in its fleet."""

import re
import socket

from outrider_common.settings.fleet import FleetSettings


def device_name(settings: FleetSettings) -> str:
    """The name of this device in its fleet."""
    return settings.device_id or re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname())[:64]
