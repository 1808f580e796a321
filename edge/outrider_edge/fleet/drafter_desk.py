"""Rolls out a drafter on this device: brings it in, tries it against the old one, keeps the better.

Every stage is remembered before it is reported, so a daemon that ends goes on where it was. Knows
nothing of MQTT.
"""

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from outrider.v1 import fleet_pb2 as pb
from outrider_common import log
from outrider_common.errors import OutriderError, UnavailableError
from outrider_common.sampling import SamplingParams
from outrider_common.settings.fleet import FleetSettings
from outrider_edge.choice_stream import ServingRuntime
from outrider_edge.fleet.downloading import Transfer
from outrider_edge.fleet.fetching import fetch, num_bytes_here
from outrider_edge.fleet.memory import FleetMemory
from outrider_edge.fleet.rollout import (
    DEFAULT_MARGIN,
    DEFAULT_TRIAL_TOKENS,
    BadDrafterError,
    Offer,
    Rollout,
    Stage,
    Tally,
)
from outrider_edge.fleet.settings_desk import require_newer
from outrider_edge.fleet.signatures import check_signature, signed_text
from outrider_edge.generation import GenerationRequest
from outrider_edge.live_settings import LiveSettings
from outrider_edge.service import cancelled
from outrider_edge.serving import Serving
from outrider_models.store import ModelStore

_logger = logging.getLogger(__name__)

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")

_PROOF_TEXT: Final = "One, two, three, four, five, six, seven,"
_PROOF_TOKENS: Final = 8
_PROOF_LIMIT_S: Final = 120.0

_STAGES: Final = {
    Stage.DOWNLOADING: pb.ROLLOUT_STAGE_DOWNLOADING,
    Stage.MEASURING: pb.ROLLOUT_STAGE_MEASURING,
    Stage.TRYING: pb.ROLLOUT_STAGE_TRYING,
    Stage.ACCEPTED: pb.ROLLOUT_STAGE_ACCEPTED,
    Stage.ROLLED_BACK: pb.ROLLOUT_STAGE_ROLLED_BACK,
    Stage.REFUSED: pb.ROLLOUT_STAGE_REFUSED,
}


@dataclass(frozen=True, slots=True)
class Pace:
    """How often things are looked at.

    Attributes:
        look_s: between two looks at the figures.
        retry_s: before something is tried again that was not possible.
        num_downloads: so many attempts that bring nothing, one after the other.
    """

    look_s: float = 2.0
    retry_s: float = 30.0
    num_downloads: int = 5


class DrafterDesk:
    """The drafter that the fleet wants, and how far this device is with it.

    Args:
        settings: of the fleet.
        store: where bundles go.
        live: the settings of the daemon, which name its drafter.
        serving: the state of the daemon, with the figures of its answers.
        memory: keeps how far it is.
        on_change: told whenever `report` says something else.
        pace: how often things are looked at.
    """

    def __init__(
        self,
        settings: FleetSettings,
        store: ModelStore,
        live: LiveSettings,
        serving: Serving,
        memory: FleetMemory,
        on_change: Callable[[], None],
        pace: Pace | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._live = live
        self._serving = serving
        self._memory = memory
        self._on_change = on_change
        self._pace = pace or Pace()
        self._rollout = memory.rollout()
        self._refused: tuple[int, str] = (0, "")
        self._work: asyncio.Task[None] | None = None
        self._mark = Tally()

    async def run(self) -> None:
        """Go on with what is under way, until cancelled."""
        self._begin_work()
        try:
            await asyncio.get_running_loop().create_future()  # never done
        finally:
            await self._stop_work()

    async def ask(self, desired: pb.DesiredDrafter) -> None:
        """Take up a drafter, or note why not."""
        self._refused = (0, "")
        try:
            offer = _offer(desired)
            if self._rollout and offer == self._rollout.offer:
                return  # the broker keeps it, and says it again
            self._check(offer)
        except OutriderError as error:
            self.refuse(error, desired.revision)
            return
        await self._stop_work()
        self._note(self._begun(offer))
        self._begin_work()

    def refuse(self, error: OutriderError, revision: int = 0) -> None:
        """Note that what was asked for is not taken up."""
        self._refused = (revision, str(error))
        log.event(_logger, "drafter_refused", level=logging.WARNING, reason=str(error))
        self._on_change()

    def report(self) -> pb.ReportedDrafter:
        """How far the device is."""
        revision, reason = self._refused
        report = pb.ReportedDrafter(
            bundle=self._serving.identity.bundle, refused_revision=revision, refused_reason=reason
        )
        if rollout := self._rollout:
            report.revision, report.name = rollout.offer.revision, rollout.offer.name
            report.stage, report.reason = _STAGES[rollout.stage], rollout.reason
            report.num_trial_tokens = rollout.trial.num_tokens
            if rollout.before:
                report.acceptance_before = rollout.before.acceptance
            if rollout.trial.num_tokens:
                report.acceptance = rollout.trial.acceptance
        return report

    def _check(self, offer: Offer) -> None:
        if self._settings.public_key is None:
            raise BadDrafterError(
                "This device takes no drafters from its fleet; set fleet.public_key on it."
            )
        require_newer(offer.revision, self._rollout.offer.revision if self._rollout else 0)
        text = signed_text(offer.revision, offer.name, offer.sha256)
        check_signature(text, offer.signature, self._settings.public_key)

    def _begun(self, offer: Offer) -> Rollout:
        """A rollout that falls back to what is proven now."""
        own, before = self._live.own.edge.bundle, self._rollout
        if before is None or before.own != own:
            return Rollout(offer, own, fallback=own)
        is_proven = before.stage is Stage.ACCEPTED
        return Rollout(offer, own, before.offer.bundle if is_proven else before.fallback)

    def _begin_work(self) -> None:
        if self._rollout and self._work is None:
            self._work = asyncio.create_task(self._advance(), name="rollout")

    async def _stop_work(self) -> None:
        if self._work:
            await cancelled([self._work])
            self._work = None

    def _note(self, rollout: Rollout) -> None:
        if rollout.stage is not getattr(self._rollout, "stage", None):
            log.event(
                _logger,
                "rollout_" + rollout.stage,
                drafter=rollout.offer.name,
                revision=rollout.offer.revision,
                reason=rollout.reason,
            )
        self._rollout = rollout
        self._memory.keep_rollout(rollout)
        self._on_change()

    @property
    def _current(self) -> Rollout:
        assert self._rollout is not None  # the work begins only where there is one
        return self._rollout

    async def _advance(self) -> None:
        """From the present stage to the last one."""
        try:
            await self._go_on()
        except OutriderError as error:
            self._note(self._current.ended(str(error)))
        except Exception as error:
            log.event(_logger, "rollout_failed", level=logging.ERROR, error=error)
            self._note(self._current.ended("The device has failed at this; its log says more."))
        await self._persistently(self._use)
        self._on_change()

    async def _go_on(self) -> None:
        if self._current.stage is Stage.DOWNLOADING:
            await self._persistently(self._use)
            await self._fetch()
            self._note(self._current.installed())
        if self._current.stage is Stage.MEASURING:
            before = await self._measured()
            trial = self._current.begin_trial(before)
            await self._persistently(lambda: self._use(trial, self._prove))
            self._note(trial)
        if self._current.stage is Stage.TRYING:
            await self._try()

    async def _fetch(self) -> None:
        """Download; what cannot be reached is tried again, a few times."""
        num_failures = num_bytes = 0
        while True:
            try:
                await self._download()
                return
            except UnavailableError as error:
                before, num_bytes = num_bytes, num_bytes_here(self._current.offer, self._store)
                num_failures = 1 if num_bytes > before else num_failures + 1
                if num_failures >= self._pace.num_downloads:
                    raise
                log.event(_logger, "download_broke_off", num_bytes=num_bytes, reason=str(error))
            await asyncio.sleep(self._pace.retry_s)

    async def _download(self) -> None:
        """One attempt, from where the last one broke off."""
        transfer, settings = Transfer(), self._settings
        max_bytes, ca_file = settings.max_bundle_mib << 20, settings.ca_file
        try:
            await asyncio.to_thread(
                fetch, self._current.offer, self._store, max_bytes, transfer, ca_file
            )
        finally:
            transfer.give_up()

    async def _measured(self) -> Tally:
        """What is known of the drafter in use, once that is enough."""
        while True:
            before = self._tally() - self._mark
            if before.num_tokens >= self._current.offer.trial_tokens:
                return before
            await asyncio.sleep(self._pace.look_s)

    async def _try(self) -> None:
        """Let the new drafter work until it can be judged. Answers of the old one do not count."""
        await self._live.settled()
        self._mark, known = self._tally(), self._current.trial
        while not self._current.is_over:
            self._require_own()
            rollout = self._current.tried(known + (self._tally() - self._mark))
            if rollout is not self._current:
                self._note(rollout)
            if not rollout.is_over:
                await asyncio.sleep(self._pace.look_s)

    def _require_own(self) -> None:
        own = self._live.own.edge.bundle
        if own != self._current.own:
            raise BadDrafterError(
                f"The device's own settings name the drafter {own!r} by now; offer this one again."
            )

    async def _use(self, rollout: Rollout | None = None, proof: Any = None) -> None:
        """Draft with the bundle that a rollout says."""
        wanted = rollout or self._current
        change = await self._live.lay_over(
            lambda over: replace(over, bundle=wanted.bundle_in_use, replaces=wanted.own), proof
        )
        if change.applied:
            await self._live.settled()
            self._mark = self._tally()

    async def _persistently(self, attempt: Callable[[], Any]) -> None:
        """Try until the verifier answers: without it no drafter can be put in place of another."""
        while True:
            try:
                await attempt()
                return
            except UnavailableError as error:
                log.event(_logger, "rollout_waits", level=logging.WARNING, reason=str(error))
            await asyncio.sleep(self._pace.retry_s)

    async def _prove(self, runtime: ServingRuntime) -> None:
        """Have a few words written with a drafter before anybody depends on it."""
        prompt = runtime.tokenizer.encode(_PROOF_TEXT)
        request = GenerationRequest(tuple(prompt), _PROOF_TOKENS, SamplingParams(), ignore_eos=True)
        try:
            async with asyncio.timeout(_PROOF_LIMIT_S):
                await runtime.generate(request, lambda _record: None)
        except OutriderError:
            raise
        except Exception as error:
            log.event(_logger, "drafter_unfit", level=logging.ERROR, error=error)
            raise BadDrafterError(
                f"The drafter could not help to write an answer ({type(error).__name__}); see that "
                "it is for this device and this release."
            ) from error

    def _tally(self) -> Tally:
        """What became of all guesses since the daemon began."""
        total: dict[str, Any] = self._serving.sums.total()
        accepted = total["num_accepted_tokens"]
        return Tally(total["num_tokens"], accepted, accepted + total["num_corrections"])


def _offer(desired: pb.DesiredDrafter) -> Offer:
    """What is offered, as far as its form can be checked.

    Raises:
        BadDrafterError: naming what is wrong.
    """
    margin = desired.margin if desired.HasField("margin") else DEFAULT_MARGIN
    if not _NAME.fullmatch(desired.name):
        raise BadDrafterError(
            f"The name is {desired.name[:80]!r}; use up to 100 letters, digits and '._@-'."
        )
    if not _SHA256.fullmatch(desired.sha256):
        raise BadDrafterError(
            f"The checksum is {desired.sha256[:80]!r}; give 64 lower-case hexadecimal digits."
        )
    if not 0 <= margin <= 1:
        raise BadDrafterError(f"The margin is {margin:g}; give a number from 0 to 1.")
    return Offer(
        revision=desired.revision,
        name=desired.name,
        uri=desired.uri,
        sha256=desired.sha256,
        signature=desired.signature,
        trial_tokens=desired.trial_tokens or DEFAULT_TRIAL_TOKENS,
        margin=margin,
    )
