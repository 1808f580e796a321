"""The daemon as a service: SIGHUP and the watchdog, with a real socket and a real signal."""

import asyncio
import os
import signal
from pathlib import Path

from fleet_device import Factory, a_daemon
from notifications import listening_manager

from outrider_common.config import Settings
from outrider_common.errors import ConfigError
from outrider_common.service_manager import ServiceManager
from outrider_common.settings.sampling import SamplingSettings
from outrider_edge.service import cancelled, hangups, keep_alive, reload_when_asked, reloaded
from outrider_models.store import ModelStore


async def test_a_hangup_reads_the_settings_again(tmp_path: Path) -> None:
    wanted = Settings(sampling=SamplingSettings(max_tokens=5))
    with listening_manager(tmp_path / "notify") as listener, hangups() as hung_up:
        manager = ServiceManager(listener.address)
        os.kill(os.getpid(), signal.SIGHUP)  # before anybody waits for it
        async with a_daemon(Settings(), ModelStore(tmp_path), Factory()) as device:
            reloading = reload_when_asked(device.live, lambda: wanted, manager, hung_up)
            waiting = asyncio.create_task(reloading)
            assert "RELOADING" in await asyncio.to_thread(listener.next)
            assert await asyncio.to_thread(listener.next) == {
                "READY": "1",
                "STATUS": "Reloaded: sampling.max_tokens.",
            }
            assert device.serving.sampling.max_tokens == 5
            await cancelled([waiting])


async def test_settings_that_cannot_be_read_are_one_sentence_and_change_nothing(
    tmp_path: Path,
) -> None:
    def reread() -> Settings:
        raise ConfigError("The configuration file is not valid TOML.")

    async with a_daemon(Settings(), ModelStore(tmp_path), Factory()) as device:
        said = await reloaded(device.live, reread)
        assert said == "The settings stay as they were. The configuration file is not valid TOML."
        assert device.serving.sampling == SamplingSettings()


async def test_the_watchdog_hears_that_the_loop_turns(tmp_path: Path) -> None:
    with listening_manager(tmp_path / "notify") as listener:
        manager = ServiceManager(listener.address, watchdog_s=0.03)
        living = asyncio.create_task(keep_alive(manager))
        for _ in range(3):
            assert await asyncio.to_thread(listener.next) == {"WATCHDOG": "1"}
        await cancelled([living])
