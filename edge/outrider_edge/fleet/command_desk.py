"""Does what the operator commands a device to do, and says what came of it.

Knows nothing of MQTT.
"""

import asyncio
import logging
import time
from typing import Final, cast, get_args

from outrider.v1 import fleet_pb2 as pb
from outrider_common import log
from outrider_common.errors import InvalidInputError, OutriderError, UnavailableError
from outrider_common.settings.log import LogLevel
from outrider_edge.fleet.payloads import fleet_error
from outrider_edge.serving import Serving

_logger = logging.getLogger(__name__)

_PROBE_LIMIT_S: Final = 10.0


class CommandError(InvalidInputError):
    """A command that no device knows."""

    reason = "UNKNOWN_COMMAND"


class CommandDesk:
    """Carries out commands.

    Args:
        serving: the state of the daemon.
    """

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    async def ask(self, command: pb.Command) -> pb.CommandResult:
        """Carry out a command."""
        action = command.WhichOneof("action")
        try:
            result = await self._carry_out(command, action)
        except OutriderError as error:
            return pb.CommandResult(error=fleet_error(error))
        log.event(_logger, "command_carried_out", command=action)
        return result

    async def _carry_out(self, command: pb.Command, action: str | None) -> pb.CommandResult:
        match action:
            case "drain" | "undrain":
                self._serving.is_drained = action == "drain"
            case "set_log_level":
                _set_log_level(command.set_log_level.level)
            case "probe":
                return pb.CommandResult(probe=await self._probe())
            case _:
                raise CommandError(
                    "The command says nothing that this release knows; use drain, undrain, "
                    "setLogLevel or probe."
                )
        return pb.CommandResult()

    async def _probe(self) -> pb.ProbeResult:
        runtime = self._serving.runtime
        if runtime is None:
            raise UnavailableError(self._serving.waiting_for)
        began = time.perf_counter()
        try:
            async with asyncio.timeout(_PROBE_LIMIT_S):
                info = await runtime.link.model_info()
        except TimeoutError:
            raise UnavailableError(
                f"The verifier did not answer in {_PROBE_LIMIT_S:g} s; see how it is."
            ) from None
        return pb.ProbeResult(
            round_trip_s=time.perf_counter() - began,
            model=info.model,
            verifier_version=info.software_version,
        )


def _set_log_level(level: str) -> None:
    known = get_args(LogLevel)
    if level not in known:
        raise CommandError(f"The log level is {level[:40]!r}; use one of {', '.join(known)}.")
    log.set_level(cast(LogLevel, level))
