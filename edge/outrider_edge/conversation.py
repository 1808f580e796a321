"""One session of a generation: drafting, sending and receiving as tasks around one stream.

The drafter never waits for a verdict while there is room in its tree. Knows nothing of what came
before this session or will come after it.
"""

import asyncio
import logging
from collections.abc import Callable

from outrider_common import log
from outrider_common.errors import UnavailableError, ungrouped
from outrider_common.messages import Commit, FinishReason, GoAway, Pong
from outrider_edge.answer import Answer
from outrider_edge.drafter import Drafter, num_levels
from outrider_edge.estimators import Estimators
from outrider_edge.heartbeat import Beat, Heartbeat, SilenceError
from outrider_edge.link import SessionLink
from outrider_edge.proposer import Draft
from outrider_edge.session import Clock, DraftRun, EdgeSession

_logger = logging.getLogger(__name__)


class Conversation:
    """Talks to a verifier that has opened a session.

    Args:
        stream: the session's.
        session: what the edge knows of it.
        answer: takes what is committed.
        drafter: is asked for guesses.
        estimators: learn the drafter's pace.
        may_move: whether there is another verifier to go on with.
        heartbeat: finds a verifier that is silent; None: it answers no pings.
        clock: seconds since the request began.
    """

    def __init__(
        self,
        stream: SessionLink,
        session: EdgeSession,
        *,
        answer: Answer,
        drafter: Drafter,
        estimators: Estimators,
        may_move: Callable[[], bool],
        heartbeat: Heartbeat | None,
        clock: Clock,
    ) -> None:
        self._stream = stream
        self._session = session
        self._answer = answer
        self._drafter = drafter
        self._estimators = estimators
        self._may_move = may_move
        self._heartbeat = heartbeat
        self._num_heard = 0
        self._doubtful = asyncio.Event()  # ask whether the verifier is there
        self._clock = clock
        self._room = asyncio.Event()  # the tree has changed: look again for a point to draft from
        self._drafted = asyncio.Event()  # there are nodes to send

    async def run(self) -> FinishReason | None:
        """Talk until the answer is complete; None: the verifier asked to go on elsewhere.

        Raises:
            OutriderError: the verifier ended the session, or the link broke.
        """
        with ungrouped():
            async with asyncio.TaskGroup() as tasks:
                helpers = [
                    tasks.create_task(self._draft_safely(), name="draft"),
                    tasks.create_task(self._send(), name="send"),
                    tasks.create_task(self._watch(), name="watch"),
                    tasks.create_task(self._ask(), name="ask"),
                ]
                finish_reason = await self._receive()
                for helper in helpers:
                    helper.cancel()
        return finish_reason

    # --- drafting -------------------------------------------------------------------------------

    async def _draft_safely(self) -> None:
        """Draft; a drafter that fails costs this answer speed, and nothing else."""
        try:
            await self._draft()
        except Exception as error:  # whatever a model runtime may raise
            log.event(_logger, "drafter_failed", level=logging.ERROR, error=error)

    async def _draft(self) -> None:
        """Draft from the best leaves while there are some; then wait for the tree to change."""
        session = self._session
        while True:
            self._room.clear()
            run = session.next_run()
            if session.has_unsent:
                self._drafted.set()
                await asyncio.sleep(0)  # what is there goes before the drafter takes the processor
            if run is None:
                await self._room.wait()
                continue
            patience = asyncio.get_running_loop().call_later(session.patience_s, self._drafted.set)
            drafts = await self._expand(run)
            patience.cancel()
            session.add(run, drafts, self._drafter.name)

    async def _expand(self, run: DraftRun) -> list[Draft]:
        began_s = self._clock()
        drafts = await self._drafter.expand(run)
        ended_s = self._clock()
        if self._drafter.was_steady(run):
            self._estimators.drafted(ended_s - began_s, len(run.points), num_levels(drafts))
        num_guesses = sum(len(draft.tokens) for draft in drafts)
        self._answer.drafted(began_s, ended_s, len(run.points), num_guesses)
        return drafts

    async def _send(self) -> None:
        """Send nodes as soon as they exist; those that came meanwhile go together."""
        while True:
            await self._drafted.wait()
            self._drafted.clear()
            nodes = self._session.take_unsent()
            if nodes:
                self._answer.sent(nodes, self._session)
                await self._stream.extend(nodes)

    # --- what the verifier says -----------------------------------------------------------------

    async def _receive(self) -> FinishReason | None:
        """Take commits until one is the last, or a stop string is found."""
        while True:
            event = await self._stream.receive()
            self._num_heard += 1
            match event:
                case Commit():
                    finish_reason = await self._take(event)
                    if finish_reason is not None:
                        return finish_reason
                case GoAway():
                    log.event(_logger, "session_told_to_go", reason=event.reason)
                    if self._may_move():
                        return None
                case Pong():
                    pass  # that it was heard is all it says
                case _:
                    raise UnavailableError(
                        "The verifier ended the session in the middle of the answer; try again."
                    )

    async def _take(self, commit: Commit) -> FinishReason | None:
        finish_reason = self._answer.committed(commit, self._session)
        if finish_reason is not None and commit.finish_reason is None:
            await self._stream.cancel()  # the verifier would go on
        if self._session.has_unsent:
            self._drafted.set()
        self._room.set()
        return finish_reason

    # --- whether the verifier is there ----------------------------------------------------------

    async def _watch(self) -> None:
        """Notice when the verifier is silent.

        Raises:
            SilenceError: it does not even answer when asked.
        """
        heartbeat = self._heartbeat
        while heartbeat is not None:
            await asyncio.sleep(heartbeat.tick_s)
            match heartbeat.tick(self._num_heard):
                case Beat.ASK:
                    self._doubtful.set()
                case Beat.GIVE_UP:
                    raise SilenceError(
                        "The verifier says nothing and does not answer when asked "
                        "(edge.heartbeat_s); try again."
                    )
                case Beat.WAIT:
                    pass

    async def _ask(self) -> None:
        """Ask whether it is there; a stream that takes nothing holds up nobody else."""
        while True:
            await self._doubtful.wait()
            self._doubtful.clear()
            await self._stream.ping()
