"""The agent of a device: takes what the fleet asks for to the right desk, and says how things are.

Whatever a message holds, the agent lives. Knows nothing of MQTT's library.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import Message

from outrider.v1 import fleet_pb2 as pb
from outrider_common import log
from outrider_common.errors import CapacityError, OutriderError
from outrider_edge.fleet.command_desk import CommandDesk
from outrider_edge.fleet.device_reports import device_state, goodbye, telemetry
from outrider_edge.fleet.drafter_desk import DrafterDesk
from outrider_edge.fleet.exchange import Incoming, Outbox, Outgoing, ReplyTo
from outrider_edge.fleet.job_desk import JobDesk
from outrider_edge.fleet.payloads import decoded, fleet_error
from outrider_edge.fleet.settings_desk import SettingsDesk
from outrider_edge.fleet.topics import Ask, Report, Topics
from outrider_edge.serving import Serving

_logger = logging.getLogger(__name__)

MOST_UNREAD: Final = 32
"""Messages of a kind that wait for their desk at most; further ones are refused."""

_LOOK_S: Final = 1.0
"""How often the agent looks whether its state is another."""

_TELEMETRY_LIVES: Final = 3
"""The broker forgets figures that are older than so many intervals."""


@dataclass(frozen=True, slots=True)
class Desks:
    """Those who do what is asked for."""

    settings: SettingsDesk
    drafter: DrafterDesk
    command: CommandDesk
    job: JobDesk


class FleetAgent:
    """What a device does for its fleet.

    Args:
        device: its name.
        topics: of the fleet.
        serving: the state of the daemon.
        desks: do what is asked for.
        outbox: takes what is to be published.
        telemetry_interval_s: between two reports of figures.
    """

    def __init__(
        self,
        device: str,
        topics: Topics,
        serving: Serving,
        desks: Desks,
        outbox: Outbox,
        telemetry_interval_s: float,
    ) -> None:
        self._device = device
        self._topics = topics
        self._serving = serving
        self._desks = desks
        self._outbox = outbox
        self._interval_s = telemetry_interval_s
        self._lines: dict[Ask, asyncio.Queue[Incoming]] = {
            ask: asyncio.Queue(MOST_UNREAD) for ask in Ask
        }
        self._handlers: dict[Ask, Callable[[Incoming], Awaitable[None]]] = {
            Ask.SETTINGS: self._ask_settings,
            Ask.DRAFTER: self._ask_drafter,
            Ask.COMMAND: self._ask_command,
            Ask.JOB: self._ask_job,
        }

    def take(self, incoming: Incoming) -> None:
        """Put a message in its line; never waits and never fails."""
        ask = self._topics.asked(incoming.topic)
        if ask is None:
            log.event(_logger, "fleet_message_unknown", topic=incoming.topic)
            return
        try:
            self._lines[ask].put_nowait(incoming)
        except asyncio.QueueFull:
            self._refuse(
                ask,
                incoming,
                CapacityError(
                    f"{MOST_UNREAD} messages of the kind '{ask}' wait for this device; try again."
                ),
            )

    async def run(self) -> None:
        """Do what is asked for, and report, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._desks.drafter.run(), name="drafter desk")
            tasks.create_task(self._desks.job.run(), name="job desk")
            tasks.create_task(self._report_state(), name="state")
            tasks.create_task(self._report_figures(), name="telemetry")
            for ask in Ask:
                tasks.create_task(self._serve_line(ask), name=f"{ask} line")

    def say_all(self) -> None:
        """Report everything that a broker keeps: it may have forgotten."""
        self._say(Report.STATE, device_state(self._serving))
        self.say_settings()
        self.say_drafter()
        self._say_figures()

    def say_settings(self) -> None:
        """Report the settings."""
        self._say(Report.SETTINGS, self._desks.settings.report())

    def say_drafter(self) -> None:
        """Report how far the drafter is."""
        self._say(Report.DRAFTER, self._desks.drafter.report())

    def say_goodbye(self) -> None:
        """Report that the device leaves."""
        self._say(Report.STATE, goodbye("The daemon was stopped."))

    async def _serve_line(self, ask: Ask) -> None:
        """Take one message after the other to its desk."""
        while True:
            incoming = await self._lines[ask].get()
            try:
                await self._handlers[ask](incoming)
            except OutriderError as error:
                self._refuse(ask, incoming, error)
            except Exception as error:  # a defect at one message shall not end the others
                log.event(_logger, "fleet_message_failed", level=logging.ERROR, error=error)
                self._refuse(ask, incoming, error)

    async def _ask_settings(self, incoming: Incoming) -> None:
        if not incoming.payload:  # somebody has taken the wish back
            return
        await self._desks.settings.ask(decoded(incoming.payload, pb.DesiredSettings))
        self.say_settings()

    async def _ask_drafter(self, incoming: Incoming) -> None:
        if not incoming.payload:
            return
        await self._desks.drafter.ask(decoded(incoming.payload, pb.DesiredDrafter))
        self.say_drafter()

    async def _ask_command(self, incoming: Incoming) -> None:
        result = await self._desks.command.ask(decoded(incoming.payload, pb.Command))
        self.reply(incoming.reply_to, result)

    async def _ask_job(self, incoming: Incoming) -> None:
        job = decoded(incoming.payload, pb.Job)
        self._desks.job.ask(job, self._allowed(incoming.reply_to), incoming.expires_in_s)

    def _refuse(self, ask: Ask, incoming: Incoming, error: Exception) -> None:
        """Say why a message is not followed, in the way in which an answer is expected."""
        log.event(_logger, "fleet_message_refused", level=logging.WARNING, reason=str(error))
        said = error if isinstance(error, OutriderError) else OutriderError(str(fleet_error(error)))
        match ask:
            case Ask.SETTINGS:
                self._desks.settings.refuse(said)
                self.say_settings()
            case Ask.DRAFTER:
                self._desks.drafter.refuse(said)
            case Ask.COMMAND:
                self.reply(incoming.reply_to, pb.CommandResult(error=fleet_error(error)))
            case Ask.JOB:
                self.reply(incoming.reply_to, pb.JobResult(error=fleet_error(error)))

    def reply(self, reply_to: ReplyTo | None, message: Message) -> None:
        """Answer, where somebody waits and may be answered."""
        if allowed := self._allowed(reply_to):
            self._outbox.put(Outgoing(allowed.topic, message, correlation=allowed.correlation))

    def _allowed(self, reply_to: ReplyTo | None) -> ReplyTo | None:
        if reply_to is None:
            return None
        if not self._topics.may_reply(reply_to.topic):
            log.event(
                _logger, "reply_topic_refused", level=logging.WARNING, topic=reply_to.topic[:200]
            )
            return None
        return reply_to

    async def _report_state(self) -> None:
        """Report the state whenever it is another."""
        said = None
        while True:
            state = device_state(self._serving)
            if state != said:
                self._say(Report.STATE, state)
                said = state
            await asyncio.sleep(_LOOK_S)

    async def _report_figures(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            self._say_figures()

    def _say_figures(self) -> None:
        lives_s = int(self._interval_s * _TELEMETRY_LIVES) + 1
        self._say(Report.TELEMETRY, telemetry(self._serving), lives_s)

    def _say(self, report: Report, message: Message, expires_in_s: int | None = None) -> None:
        topic = self._topics.report(self._device, report)
        self._outbox.put(Outgoing(topic, message, is_retained=True, expires_in_s=expires_in_s))
