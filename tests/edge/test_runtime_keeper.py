"""Runtimes that take each other's place while answers go on."""

import asyncio
from pathlib import Path

import pytest
from fake_runtime import FakeRuntime
from fleet_device import Factory, RunningDevice, a_daemon

from outrider_common.config import Settings
from outrider_common.errors import MismatchError, UnavailableError
from outrider_common.settings.edge import EdgeSettings
from outrider_edge.choice_stream import ServingRuntime
from outrider_models.store import ModelStore

OTHER = EdgeSettings(bundle="other")


async def test_a_new_runtime_answers_and_the_old_one_stays_until_its_answers_are_complete(
    tmp_path: Path,
) -> None:
    async with a_daemon(Settings(), ModelStore(tmp_path), Factory()) as device:
        old = device.serving.runtime
        with device.serving.room(1):
            await device.keeper.replace(OTHER)
            assert device.serving.runtime is not old
            assert device.serving.identity.bundle == "other"
            await asyncio.sleep(0.01)
            assert device.factory.num_open == 2
        await device.keeper.settled()
        assert device.factory.num_open == 1
    assert device.factory.num_open == 0


async def test_what_cannot_be_opened_leaves_the_old_runtime_in_force(tmp_path: Path) -> None:
    async with a_daemon(Settings(), ModelStore(tmp_path), Factory()) as device:
        old = device.serving.runtime
        device.factory.error = MismatchError("It does not fit.")
        with pytest.raises(MismatchError):
            await device.keeper.replace(OTHER)
        assert device.serving.runtime is old
        assert device.serving.identity.settings == EdgeSettings()


async def test_what_fails_its_proof_is_closed_again(tmp_path: Path) -> None:
    async def fail(_runtime: ServingRuntime) -> None:
        raise MismatchError("It cannot do that.")

    async with a_daemon(Settings(), ModelStore(tmp_path), Factory()) as device:
        old = device.serving.runtime
        with pytest.raises(MismatchError):
            await device.keeper.replace(OTHER, fail)
        await _until_open(device, 1)
        assert device.serving.runtime is old


async def test_one_that_is_not_waited_for_any_more_is_closed_again(tmp_path: Path) -> None:
    proving = asyncio.Event()

    async def prove(_runtime: ServingRuntime) -> None:
        proving.set()
        await asyncio.get_running_loop().create_future()

    async with a_daemon(Settings(), ModelStore(tmp_path), Factory()) as device:
        replacing = asyncio.create_task(device.keeper.replace(OTHER, prove))
        await proving.wait()
        replacing.cancel()
        await _until_open(device, 1)
        await device.keeper.replace(OTHER)


async def test_without_a_verifier_it_is_tried_again_and_others_are_told_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outrider_edge.runtime_keeper.FIRST_RETRY_S", 0.001)
    factory = Factory(error=UnavailableError("No verifier."))
    async with a_daemon(Settings(), ModelStore(tmp_path), factory) as device:
        while device.serving.waiting_for != "No verifier.":  # noqa: ASYNC110 - nothing to wait for
            await asyncio.sleep(0.001)
        factory.error = None
        while device.serving.runtime is None:  # noqa: ASYNC110 - nothing to wait for
            await asyncio.sleep(0.001)
        assert isinstance(device.serving.runtime, FakeRuntime)


async def _until_open(device: RunningDevice, number: int) -> None:
    """The test's own time limit is the only one."""
    while device.factory.num_open != number:  # noqa: ASYNC110 - nothing to wait for
        await asyncio.sleep(0)
