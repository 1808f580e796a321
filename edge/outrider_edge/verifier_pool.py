"""The way to several verifiers: which there are, how they are, and which takes the next session.

Asks them now and then, so that one that has failed is found before a session pays for it. Knows
nothing of gRPC.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final

from outrider_common import log
from outrider_common.errors import (
    MismatchError,
    OutriderError,
    UnavailableError,
    UnknownModelError,
)
from outrider_common.messages import ModelInfo, OpenSession
from outrider_edge.availability import State
from outrider_edge.estimators import Estimators
from outrider_edge.link import SessionLink
from outrider_edge.pool_member import ClosableLink, Member, Unfit
from outrider_edge.session import Clock
from outrider_edge.verifier_choice import choose

_logger = logging.getLogger(__name__)

PROBE_EVERY_S: Final = 2.0
"""How often verifiers are asked how they are, about, where there are several."""

PROBE_TIMEOUT_S: Final = 2.0
"""How long one may take to say so."""

RESOLVE_EVERY_S: Final = 30.0
"""How often names are looked up again."""

Resolve = Callable[[], Awaitable[Sequence[str]]]
"""Says where the verifiers are now."""


class VerifierPool:
    """The verifiers of one edge.

    Args:
        resolve: where they are.
        connect: makes the way to one, by its address.
        unfit: whether a model is of use to this edge.
        is_dynamic: whether what `resolve` says may change.
        estimators: of the first verifier. Others have their own, which know the same drafter.
        clock: seconds, monotonic.

    Attributes:
        estimators: as given.
    """

    def __init__(
        self,
        resolve: Resolve,
        connect: Callable[[str], ClosableLink],
        unfit: Unfit,
        *,
        is_dynamic: bool = False,
        estimators: Estimators | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._resolve = resolve
        self._connect = connect
        self._unfit = unfit
        self._is_dynamic = is_dynamic
        self.estimators = estimators or Estimators()
        self._clock = clock
        self._members: dict[str, Member] = {}
        self._leaving: set[Member] = set()
        self._resolved_at_s = 0.0

    @property
    def members(self) -> list[Member]:
        """The verifiers that there are."""
        return list(self._members.values())

    @property
    def infos(self) -> dict[str, ModelInfo]:
        """The models that are of use here, by name; what was said of each by the first with it."""
        infos: dict[str, ModelInfo] = {}
        for member in self.members:
            if member.info is not None and member.serves(member.info.model):
                infos.setdefault(member.info.model, member.info)
        return infos

    def report(self) -> list[dict[str, Any]]:
        """What a person may want to know of each."""
        return [member.report() for member in self.members]

    def serving(self, model: str) -> "ModelLink":
        """The way to the verifiers that have a model."""
        return ModelLink(self, model)

    # --- finding them ---------------------------------------------------------------------------

    async def meet(self) -> dict[str, ModelInfo]:
        """Look for the verifiers, and ask each what it is; at least one is of use.

        Raises:
            MismatchError: all answer, and none is of use.
            UnavailableError: none that is of use answers.
        """
        await self._look_up()
        errors = [error for error in await self._probe_all(None) if error is not None]
        if self.infos:
            return self.infos
        unfit = [m.availability.why for m in self.members if m.availability.state is State.UNFIT]
        if unfit and not errors:
            raise MismatchError(" ".join(unfit))
        if len(errors) == 1:
            raise errors[0]
        raise UnavailableError(
            f"None of {len(self._members)} verifiers answers: "
            + " ".join(str(error) for error in errors)
        )

    def presume(self, info: ModelInfo) -> None:
        """Take verifiers that have not answered yet for such as were there before."""
        for member in self.members:
            if member.info is None:
                member.info = info

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Know how they are, as long as this lasts; where there is only one, its sessions tell."""
        watching = asyncio.create_task(self._watch(), name="verifiers")
        try:
            yield
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    async def close(self) -> None:
        """Give up the ways to all of them."""
        for member in (*self._members.values(), *self._leaving):
            await member.link.close()

    async def _watch(self) -> None:
        while self._is_dynamic or len(self._members) > 1:
            await asyncio.sleep(PROBE_EVERY_S * random.uniform(0.75, 1.25))
            if self._is_dynamic and self._clock() - self._resolved_at_s >= RESOLVE_EVERY_S:
                with contextlib.suppress(UnavailableError):  # those that are known stay
                    await self._look_up()
            await self._probe_all(PROBE_TIMEOUT_S)
            await self._close_left()

    async def _look_up(self) -> None:
        """Where verifiers are now; one that is not there any more gets no further sessions."""
        addresses = await self._resolve()
        self._resolved_at_s = self._clock()
        for address in addresses:
            if address not in self._members:
                self._members[address] = self._new_member(address)
        for address in self._members.keys() - set(addresses):
            log.event(_logger, "verifier_left_the_list", verifier=address)
            self._leaving.add(self._members.pop(address))

    def _new_member(self, address: str) -> Member:
        is_first = not self._members
        estimators = self.estimators if is_first else self.estimators.of_another_verifier()
        link = self._connect(address)
        return Member(address, link, self._unfit, self._clock, estimators=estimators)

    async def _probe_all(self, timeout_s: float | None) -> list[OutriderError | None]:
        return await asyncio.gather(*(_error_of(m.probe(timeout_s)) for m in self.members))

    async def _close_left(self) -> None:
        for member in [member for member in self._leaving if not member.num_open]:
            self._leaving.discard(member)
            await member.link.close()

    # --- using them -----------------------------------------------------------------------------

    def usable_for(self, model: str) -> list[Member]:
        """Those that may take a session now."""
        return [member for member in self.members if member.is_usable_for(model)]

    def best_for(self, model: str) -> Member:
        """Which is to take the next session: if all are avoided, the one that is so no longer soon.

        Raises:
            UnknownModelError: none has the model.
            UnavailableError: there are none.
        """
        usable = self.usable_for(model)
        if usable:
            return usable[choose([member.choice for member in usable])]
        those = [member for member in self.members if member.serves(model)]
        if those:
            return min(those, key=lambda member: member.availability.until_s)
        if not self._members:
            raise UnavailableError("There are no verifiers behind edge.verifier now; try again.")
        raise UnknownModelError(f"No verifier has the model '{model}' any more; ask for another.")


class ModelLink:
    """A `VerifierLink` to whichever verifier of a pool is best for a model.

    Args:
        pool: of verifiers.
        model: its name.
    """

    def __init__(self, pool: VerifierPool, model: str) -> None:
        self._pool = pool
        self._model = model

    @property
    def has_alternative(self) -> bool:
        """Whether a verifier takes sessions; those that failed or end are avoided for a while."""
        return bool(self._pool.usable_for(self._model))

    async def model_info(self, timeout_s: float | None = None) -> ModelInfo:
        """The target; see `VerifierLink.model_info`. The best one is asked, and then any other.

        Raises:
            OutriderError: none answers.
        """
        while True:
            member = self._pool.best_for(self._model)
            try:
                return await member.probe(timeout_s)
            except OutriderError:
                if not self.has_alternative:
                    raise

    async def open(self, message: OpenSession, max_message_bytes: int) -> SessionLink:
        """Begin a session at the best one; see `VerifierLink.open`."""
        return await self._pool.best_for(self._model).open(message, max_message_bytes)


async def _error_of(probe: Awaitable[object]) -> OutriderError | None:
    try:
        await probe
    except OutriderError as error:
        return error
    return None
