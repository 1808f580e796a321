"""All surfaces, by name."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final

from answer_surface import answer_surface
from bundle_surface import bundle_surface
from fuzzing import Surface
from http_surface import http_surface
from mqtt_surface import mqtt_surface
from settings_surface import settings_surface
from verifier_surface import verifier_surface

SURFACES: Final[Mapping[str, Callable[[], AbstractAsyncContextManager[Surface]]]] = {
    "verifier": verifier_surface,
    "answer": answer_surface,
    "http": http_surface,
    "bundle": bundle_surface,
    "settings": settings_surface,
    "mqtt": mqtt_surface,
}
"""What edges send, verifiers answer, programs on the device and operators ask, and files."""
