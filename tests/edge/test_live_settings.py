"""Settings of a running daemon change whole or not at all."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from fleet_device import Factory, a_daemon
from hypothesis import given
from hypothesis import strategies as st

from outrider_common.config import Settings
from outrider_common.errors import CapacityError, ConfigError, UnavailableError
from outrider_common.setting import all_settings
from outrider_common.settings.daemon import DaemonSettings
from outrider_common.settings.edge import EdgeSettings
from outrider_common.settings.log import LogSettings
from outrider_common.settings.sampling import SamplingSettings
from outrider_edge.overlay import Overlay
from outrider_models.store import ModelStore

pytestmark = pytest.mark.usefixtures("restored_logging")


async def test_what_can_change_changes_at_once_and_the_rest_is_named(tmp_path: Path) -> None:
    async with a_daemon(Settings(), ModelStore(tmp_path), Factory()) as device:
        change = await device.live.reload(
            Settings(
                sampling=SamplingSettings(max_tokens=5),
                daemon=DaemonSettings(port=1234, max_concurrent_requests=1),
                edge=EdgeSettings(max_depth=8),
                log=LogSettings(level="error"),
            )
        )
        assert set(change.applied) == {
            "sampling.max_tokens",
            "daemon.max_concurrent_requests",
            "edge.max_depth",
            "log.level",
        }
        assert change.restart_needed == ("daemon.port",)
        serving = device.serving
        assert (serving.sampling.max_tokens, serving.settings.port) == (5, 7412)
        assert serving.identity.settings.max_depth == 8
        serving.slots.take(1)
        with pytest.raises(CapacityError):
            serving.slots.take(1)
        serving.slots.give_back(1)
        assert (await device.live.reload(Settings())).restart_needed == ()


async def test_settings_that_cannot_be_used_change_nothing(tmp_path: Path) -> None:
    async with a_daemon(Settings(), ModelStore(tmp_path), Factory()) as device:
        before = device.serving.runtime, device.serving.sampling, device.serving.settings
        device.factory.error = UnavailableError("No verifier there.")
        wanted = Settings(
            edge=EdgeSettings(verifier="nowhere:1"), sampling=SamplingSettings(max_tokens=5)
        )
        with pytest.raises(UnavailableError):
            await device.live.reload(wanted)
        assert before == (
            device.serving.runtime,
            device.serving.sampling,
            device.serving.settings,
        )
        assert device.live.own == Settings()


async def test_what_the_fleet_wants_lies_over_what_the_file_says(tmp_path: Path) -> None:
    async with a_daemon(Settings(), ModelStore(tmp_path), Factory()) as device:
        await device.live.lay_over(lambda over: replace(over, values={"sampling.seed": "7"}))
        assert device.serving.sampling.seed == 7
        await device.live.reload(Settings(sampling=SamplingSettings(seed=3, top_k=4)))
        assert (device.serving.sampling.seed, device.serving.sampling.top_k) == (7, 4)
        await device.live.lay_over(lambda _over: Overlay())
        assert device.serving.sampling.seed == 3


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("sampling.top_p", "2", "sampling.top_p is '2', but it must be"),
        ("sampling.nonsense", "2", "There is no setting 'sampling.nonsense'"),
        ("edge.bundle", "other", "outrider fleet rollout"),
        ("fleet.broker", "mqtt://evil", "cannot be set by the fleet"),
        ("models.cache_dir", "/", "cannot be set by the fleet"),
        ("verifier.port", "1", "cannot be set by the fleet"),
        ("daemon.allow_remote", "true", "cannot be set by the fleet"),
        ("daemon.host", "0.0.0.0", "cannot be set by the fleet"),
        ("daemon.allowed_origins", "http://evil", "cannot be set by the fleet"),
    ],
)
def test_what_is_not_the_fleets_to_set_is_refused_whole(name: str, value: str, says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        Overlay({"sampling.seed": "7", name: value}).on(Settings())


@given(st.dictionaries(st.sampled_from([s.name for s in all_settings()]), st.text(max_size=8)))
def test_any_values_are_laid_over_or_refused_in_a_sentence(values: dict[str, str]) -> None:
    sentence = ""
    try:
        settings = Overlay(values).on(Settings())
    except ConfigError as error:
        sentence = str(error)
    if not sentence:
        assert settings.fleet == Settings().fleet
        assert settings.edge.bundle == Settings().edge.bundle
        assert Settings.model_validate(settings.model_dump()) == settings


def test_a_drafter_of_the_fleet_stands_in_only_for_the_one_that_it_replaced() -> None:
    overlay = Overlay(bundle="new", replaces="old")
    assert overlay.on(Settings(edge=EdgeSettings(bundle="old"))).edge.bundle == "new"
    assert overlay.on(Settings(edge=EdgeSettings(bundle="mine"))).edge.bundle == "mine"
