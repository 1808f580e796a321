"""What a daemon says of itself at `/status`: who it is, how it is, and its figures.

Nothing in it comes from prompts or answers but their sizes. Knows nothing of HTTP.
"""

import os
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from outrider_edge.serving import Serving

Json = dict[str, Any]


def status_document(serving: Serving) -> Json:
    """The state of a daemon, as JSON."""
    runtime, identity = serving.runtime, serving.identity
    info = runtime.info if runtime else None
    return {
        "state": _state(serving),
        "waiting_for": None if runtime else serving.waiting_for,
        "version": version("outrider"),
        "pid": os.getpid(),
        "up_since": identity.up_since,
        "model": info.model if info else None,
        "verifier": identity.settings.verifier,
        "verifiers": runtime.verifiers() if runtime else [],
        "verifier_version": info.software_version if info else None,
        "bundle": identity.bundle,
        "proposers": list(identity.settings.proposers),
        "policy": identity.settings.policy,
        "policies": list(runtime.policies) if runtime else [],
        "defaults": serving.sampling.model_dump(include={"temperature", "max_tokens"}),
        "num_running": serving.slots.num_taken,
        "max_running": serving.settings.max_concurrent_requests,
        "total": serving.sums.total(),
        "latest": serving.sums.latest(),
        "estimates": asdict(runtime.estimators.estimates()) if runtime else None,
    }


def _state(serving: Serving) -> str:
    if serving.is_stopping:
        return "stopping"
    if serving.is_drained:
        return "drained"
    return "ready" if serving.runtime else "waiting"
