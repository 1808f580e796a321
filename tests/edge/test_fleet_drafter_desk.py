"""Rollouts on a device over runtimes in memory, with real archives and signatures."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from fake_runtime import FakeRuntime
from fleet_bundles import Signer, pack, write_bundle
from fleet_device import QUICK, Factory, RunningDevice, a_daemon

from outrider.v1 import fleet_pb2 as pb
from outrider_common.config import Settings
from outrider_common.errors import MismatchError, OutriderError
from outrider_common.records import GenerationStats
from outrider_common.settings.edge import EdgeSettings
from outrider_common.settings.fleet import FleetSettings
from outrider_edge.fleet.drafter_desk import DrafterDesk
from outrider_edge.fleet.memory import FleetMemory
from outrider_edge.fleet.rollout import Stage
from outrider_edge.generation import GenerationRequest, GenerationResult, OnToken
from outrider_edge.service import cancelled
from outrider_models.store import ModelStore

OWN = "old"


class Bench:
    """A place for rollouts: a store with the device's own drafter, and an archive of another."""

    def __init__(self, directory: Path) -> None:
        self.store = ModelStore(directory / "store")
        write_bundle(directory / "store" / "bundles" / OWN)
        self.archive = pack(write_bundle(directory / "new"), directory / "new.tar")
        self.signer = Signer(directory)
        fleet = FleetSettings(broker="mqtt://unused", public_key=self.signer.public_key)
        self.settings = Settings(fleet=fleet, edge=EdgeSettings(bundle=OWN))
        self.reports: list[pb.ReportedDrafter] = []
        self.changed = asyncio.Event()

    @asynccontextmanager
    async def device(
        self, factory: Factory | None = None
    ) -> AsyncIterator[tuple[RunningDevice, DrafterDesk]]:
        """A daemon and its desk; on leaving, it ends as if it was killed."""
        async with a_daemon(self.settings, self.store, factory or Factory()) as device:
            memory = FleetMemory(self.store.root / "fleet")

            def note() -> None:
                self.reports.append(desk.report())
                self.changed.set()

            desk = DrafterDesk(
                self.settings.fleet, self.store, device.live, device.serving, memory, note, QUICK
            )
            running = asyncio.create_task(desk.run())
            try:
                yield device, desk
            finally:
                await cancelled([running])

    async def until(self, is_so: Callable[[pb.ReportedDrafter], object]) -> pb.ReportedDrafter:
        """Wait for a report; the test's own time limit is the only one."""
        while not (self.reports and is_so(self.reports[-1])):
            self.changed.clear()
            await self.changed.wait()
        return self.reports[-1]

    async def until_stage(self, stage: "pb.RolloutStage") -> pb.ReportedDrafter:
        return await self.until(lambda report: report.stage == stage)

    async def answered_until_judged(
        self, device: RunningDevice, num_accepted: int, num_wrong: int
    ) -> pb.ReportedDrafter:
        """Answers, all alike, until the trial is over."""
        while self.reports[-1].stage == pb.ROLLOUT_STAGE_TRYING:
            answer(device, num_accepted, num_wrong)
            await asyncio.sleep(QUICK.look_s)
        return self.reports[-1]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def answer(device: RunningDevice, num_accepted: int, num_wrong: int) -> None:
    """An answer over 100 tokens."""
    rest = 100 - num_accepted - num_wrong
    stats = GenerationStats(
        num_accepted_tokens=num_accepted, num_corrections=num_wrong, num_hedged=rest
    )
    device.serving.sums.add(stats)


async def test_a_better_drafter_is_kept_over_a_restart(bench: Bench) -> None:
    offer = bench.signer.offer(bench.archive)
    bundle = f"new-{offer.sha256[:12]}"
    async with bench.device() as (device, desk):
        await desk.ask(offer)
        await bench.until_stage(pb.ROLLOUT_STAGE_MEASURING)
        assert device.serving.identity.bundle == OWN
        answer(device, 50, 50)
        await bench.until_stage(pb.ROLLOUT_STAGE_TRYING)
        assert device.serving.identity.bundle == bundle
        report = await bench.answered_until_judged(device, 80, 20)
        assert report.stage == pb.ROLLOUT_STAGE_ACCEPTED
        assert (report.acceptance_before, report.acceptance) == (0.5, 0.8)
    async with bench.device() as (device, desk):
        assert device.serving.identity.settings.bundle == bundle
        assert desk.report().stage == pb.ROLLOUT_STAGE_ACCEPTED


async def test_a_worse_drafter_is_rolled_back(bench: Bench) -> None:
    async with bench.device() as (device, desk):
        await desk.ask(bench.signer.offer(bench.archive))
        answer(device, 50, 50)
        await bench.until_stage(pb.ROLLOUT_STAGE_TRYING)
        await bench.answered_until_judged(device, 40, 60)
        report = await bench.until(
            lambda report: report.stage == pb.ROLLOUT_STAGE_ROLLED_BACK and report.bundle == OWN
        )
        assert "0.400 against 0.500 before" in report.reason
        assert device.serving.identity.bundle == OWN
        await device.live.settled()
        assert device.factory.num_open == 1
    async with bench.device() as (device, _):
        assert device.serving.identity.settings.bundle == OWN


@pytest.mark.parametrize("stage", [Stage.DOWNLOADING, Stage.MEASURING, Stage.TRYING])
async def test_a_rollout_goes_on_after_a_restart_in_every_stage(
    bench: Bench, stage: Stage, tmp_path: Path
) -> None:
    numbers = {
        Stage.DOWNLOADING: pb.ROLLOUT_STAGE_DOWNLOADING,
        Stage.MEASURING: pb.ROLLOUT_STAGE_MEASURING,
        Stage.TRYING: pb.ROLLOUT_STAGE_TRYING,
    }
    offer = bench.signer.offer(bench.archive)
    hidden = bench.archive.rename(tmp_path / "hidden.tar")
    async with bench.device() as (device, desk):
        await desk.ask(offer)
        if stage is not Stage.DOWNLOADING:
            hidden.rename(bench.archive)
            await bench.until_stage(pb.ROLLOUT_STAGE_MEASURING)
        if stage is Stage.TRYING:
            answer(device, 50, 50)
        await bench.until_stage(numbers[stage])
    if hidden.exists():
        hidden.rename(bench.archive)
    async with bench.device() as (device, _):
        if stage is not Stage.TRYING:
            answer(device, 50, 50)
        await bench.until_stage(pb.ROLLOUT_STAGE_TRYING)
        report = await bench.answered_until_judged(device, 60, 40)
        assert report.stage == pb.ROLLOUT_STAGE_ACCEPTED
        assert report.acceptance_before == 0.5


async def refused(bench: Bench, desk: DrafterDesk, offer: pb.DesiredDrafter) -> str:
    """Why an offer is refused at once."""
    await desk.ask(offer)
    report = desk.report()
    assert report.refused_revision == offer.revision
    return report.refused_reason


async def test_what_is_not_signed_by_the_operator_is_refused_and_not_fetched(
    bench: Bench, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    stranger = Signer(tmp_path / "other").offer(bench.archive)
    tampered = bench.signer.offer(bench.archive)
    tampered.name = "other"
    newer = bench.signer.offer(bench.archive, revision=1)
    newer.revision = 2
    garbled = bench.signer.offer(bench.archive, signature="!!")
    async with bench.device() as (_, desk):
        for offer in (stranger, tampered, newer, garbled):
            assert "not signed with the key" in await refused(bench, desk, offer)
        assert desk.report().revision == 0
    assert len(bench.store.entries()) == 1


async def test_a_device_without_a_key_takes_nothing(bench: Bench) -> None:
    fleet = bench.settings.fleet.model_copy(update={"public_key": None})
    bench.settings = bench.settings.model_copy(update={"fleet": fleet})
    async with bench.device() as (_, desk):
        said = await refused(bench, desk, bench.signer.offer(bench.archive))
        assert "set fleet.public_key" in said


async def test_an_old_revision_is_refused_and_the_same_one_changes_nothing(bench: Bench) -> None:
    async with bench.device() as (_, desk):
        offer = bench.signer.offer(bench.archive, revision=5)
        await desk.ask(offer)
        await bench.until_stage(pb.ROLLOUT_STAGE_MEASURING)
        await desk.ask(offer)
        assert desk.report().stage == pb.ROLLOUT_STAGE_MEASURING
        old = bench.signer.offer(bench.archive, revision=4)
        assert "Revision 4 is not above 5" in await refused(bench, desk, old)
        assert desk.report().stage == pb.ROLLOUT_STAGE_MEASURING


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("name", "../evil", "letters, digits"),
        ("sha256", "abc", "64 lower-case hexadecimal"),
        ("margin", 2.0, "a number from 0 to 1"),
        ("margin", float("nan"), "a number from 0 to 1"),
    ],
)
async def test_an_offer_with_a_wrong_field_is_refused(
    bench: Bench, field: str, value: object, says: str
) -> None:
    async with bench.device() as (_, desk):
        offer = bench.signer.offer(bench.archive)
        setattr(offer, field, value)
        assert says in await refused(bench, desk, offer)


async def test_a_wrong_checksum_ends_the_rollout_before_anything_is_in_use(bench: Bench) -> None:
    offer = bench.signer.offer(bench.archive)
    bench.archive.write_bytes(bench.archive.read_bytes() + b"more")
    async with bench.device() as (device, desk):
        await desk.ask(offer)
        report = await bench.until_stage(pb.ROLLOUT_STAGE_REFUSED)
        assert "has the checksum" in report.reason
        assert device.serving.identity.bundle == OWN
        assert [settings.bundle for settings in device.factory.opened] == [OWN]


async def test_a_drafter_that_does_not_fit_is_refused_and_the_old_one_goes_on(
    bench: Bench,
) -> None:
    class Picky(Factory):
        @asynccontextmanager
        async def open(self, settings):  # type: ignore[no-untyped-def]
            if settings.bundle != OWN:
                raise MismatchError("It has another tokenizer.")
            async with super().open(settings) as named:
                yield named

    async with bench.device(Picky()) as (device, desk):
        answer(device, 50, 50)
        await desk.ask(bench.signer.offer(bench.archive))
        report = await bench.until_stage(pb.ROLLOUT_STAGE_REFUSED)
        assert report.reason == "It has another tokenizer."
        assert device.serving.identity.bundle == OWN


class Broken(FakeRuntime):
    async def generate(self, request: GenerationRequest, on_token: OnToken) -> GenerationResult:
        raise ZeroDivisionError


async def test_a_drafter_that_fails_its_first_words_never_answers_anybody(bench: Bench) -> None:
    factory = Factory(lambda bundle: FakeRuntime() if bundle == OWN else Broken())
    async with bench.device(factory) as (device, desk):
        answer(device, 50, 50)
        await desk.ask(bench.signer.offer(bench.archive))
        report = await bench.until_stage(pb.ROLLOUT_STAGE_REFUSED)
        assert "ZeroDivisionError" in report.reason
        assert device.serving.identity.bundle == OWN


async def test_a_local_change_of_the_drafter_ends_the_trial(bench: Bench) -> None:
    async with bench.device() as (device, desk):
        answer(device, 50, 50)
        await desk.ask(bench.signer.offer(bench.archive))
        await bench.until_stage(pb.ROLLOUT_STAGE_TRYING)
        own = bench.settings.edge.model_copy(update={"bundle": "mine"})
        await device.live.reload(bench.settings.model_copy(update={"edge": own}))
        report = await bench.until_stage(pb.ROLLOUT_STAGE_ROLLED_BACK)
        assert "'mine'" in report.reason
        assert device.serving.identity.bundle == "mine"


async def test_a_newer_offer_takes_the_place_of_one_in_trial(bench: Bench, tmp_path: Path) -> None:
    other = write_bundle(tmp_path / "third", **{"model.onnx": b"third"})
    archive = pack(other, tmp_path / "third.tar")
    async with bench.device() as (device, desk):
        answer(device, 50, 50)
        await desk.ask(bench.signer.offer(bench.archive, revision=1))
        await bench.until_stage(pb.ROLLOUT_STAGE_TRYING)
        await desk.ask(bench.signer.offer(archive, revision=2, name="third"))
        await bench.until(
            lambda report: report.revision == 2 and report.stage == pb.ROLLOUT_STAGE_MEASURING
        )
        assert device.serving.identity.bundle == OWN
        memory = FleetMemory(bench.store.root / "fleet")
        rollout = memory.rollout()
        assert rollout is not None
        assert replace(rollout, before=None).fallback == OWN
    assert issubclass(MismatchError, OutriderError)
