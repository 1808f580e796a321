"""The small parts of the fleet: topics, pauses, what waits, what is remembered, who is chosen."""

import asyncio
from pathlib import Path

import pytest
from fleet_bundles import write_bundle
from hypothesis import given
from hypothesis import strategies as st

from outrider.v1 import fleet_pb2 as pb
from outrider_common.config import Settings
from outrider_common.settings.edge import EdgeSettings
from outrider_common.settings.fleet import FleetSettings
from outrider_edge.fleet.devices import Device, UnknownDeviceError, chosen, devices_of
from outrider_edge.fleet.exchange import MOST_WAITING, Incoming, Outbox, Outgoing
from outrider_edge.fleet.memory import AppliedSettings, FleetMemory, overlay_at_start
from outrider_edge.fleet.payloads import encoded
from outrider_edge.fleet.rollout import Offer, Rollout
from outrider_edge.fleet.signatures import (
    KeyFileError,
    make_private_key,
    public_key_of,
    read_private_key,
)
from outrider_edge.fleet.topics import Ask, Report, Topics
from outrider_edge.overlay import Overlay
from outrider_models.store import ModelStore

TOPICS = Topics("site/outrider")


def test_a_topic_says_whose_it_is() -> None:
    topic = TOPICS.report("kiosk-1", Report.STATE)
    assert topic == "site/outrider/devices/kiosk-1/report/state"
    assert TOPICS.reported(topic) == ("kiosk-1", "state")
    assert TOPICS.asked(TOPICS.ask("kiosk-1", Ask.JOB)) is Ask.JOB
    assert TOPICS.asked("site/outrider/devices/kiosk-1/ask/nonsense") is None


@given(st.text(max_size=60))
def test_no_topic_is_misread(topic: str) -> None:
    assert TOPICS.reported(topic) is None
    assert not TOPICS.may_reply(topic)


def _answer(number: int) -> Outgoing:
    return Outgoing("replies/a", pb.JobResult(job_id=str(number)))


async def test_what_waits_is_bounded_and_of_reports_only_the_last_one_counts() -> None:
    outbox = Outbox()
    for number in range(MOST_WAITING + 10):
        outbox.put(_answer(number))
        outbox.put(Outgoing("report", pb.Telemetry(num_answers=number), is_retained=True))
    sent = []
    while not outbox.is_empty:
        message = await outbox.next()
        outbox.done(message)
        sent.append(message.message)
    assert sent[0] == pb.Telemetry(num_answers=MOST_WAITING + 9)
    assert sent[1:] == [_answer(number).message for number in range(10, MOST_WAITING + 10)]


async def test_a_report_that_comes_while_the_last_one_is_sent_is_sent_too() -> None:
    outbox = Outbox()
    outbox.put(Outgoing("report", pb.Telemetry(num_answers=1), is_retained=True))
    first = await outbox.next()
    outbox.put(Outgoing("report", pb.Telemetry(num_answers=2), is_retained=True))
    outbox.done(first)
    assert (await outbox.next()).message == pb.Telemetry(num_answers=2)


async def test_a_sender_is_woken_by_news() -> None:
    outbox = Outbox()
    waiting = asyncio.create_task(outbox.next())
    await asyncio.sleep(0)
    outbox.put(_answer(1))
    assert (await waiting).message == _answer(1).message


ROLLOUT = Rollout(Offer(1, "new", "file:///x", "ab" * 32, ""), own="old", fallback="old")


def test_what_was_kept_is_remembered(tmp_path: Path) -> None:
    memory = FleetMemory(tmp_path / "fleet")
    assert (memory.settings(), memory.rollout()) == (AppliedSettings(), None)
    memory.keep_settings(AppliedSettings(3, {"sampling.seed": "7"}))
    memory.keep_rollout(ROLLOUT.installed())
    again = FleetMemory(tmp_path / "fleet")
    assert again.settings() == AppliedSettings(3, {"sampling.seed": "7"})
    assert again.rollout() == ROLLOUT.installed()


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"revision": "x"}', b"[" * 10_000])
def test_what_cannot_be_read_is_forgotten(tmp_path: Path, content: bytes) -> None:
    for name in ("settings.json", "rollout.json"):
        (tmp_path / name).write_bytes(content)
    memory = FleetMemory(tmp_path)
    assert (memory.settings(), memory.rollout()) == (AppliedSettings(), None)


def test_what_cannot_be_used_at_the_start_is_left_out_piece_by_piece(tmp_path: Path) -> None:
    store, own = ModelStore(tmp_path), EdgeSettings(bundle="old")
    settings = Settings(edge=own, fleet=FleetSettings(broker="mqtt://here"))
    memory = FleetMemory(tmp_path / "fleet")
    memory.keep_settings(AppliedSettings(1, {"sampling.seed": "7"}))
    memory.keep_rollout(ROLLOUT.installed().begin_trial(before=ROLLOUT.trial))
    gone = overlay_at_start(settings, store)
    assert gone == Overlay({"sampling.seed": "7"}, None, "old")
    write_bundle(store.root / "bundles" / ROLLOUT.offer.bundle)
    assert overlay_at_start(settings, store).bundle == ROLLOUT.offer.bundle
    memory.keep_settings(AppliedSettings(1, {"sampling.gone": "7"}))
    there = overlay_at_start(settings, store)
    assert there.values == {}
    assert overlay_at_start(Settings(), store) == Overlay()


def _report(device: str, report: Report, payload: bytes) -> Incoming:
    return Incoming(TOPICS.report(device, report), payload)


def test_devices_are_known_by_what_they_report() -> None:
    ready = pb.DeviceState(status=pb.DEVICE_STATUS_READY)
    devices = devices_of(
        [
            _report("b", Report.STATE, encoded(ready)),
            _report("a", Report.STATE, b"{"),
            _report("a", Report.TELEMETRY, b""),
            Incoming("elsewhere", b"{}"),
        ],
        TOPICS,
    )
    assert list(devices) == ["a", "b"]
    assert devices["b"].is_alive
    assert not devices["a"].is_alive
    assert "is no DeviceState" in devices["a"].faults[0]
    assert [device.name for device in chosen(devices, ["b", "b"], is_all=False)] == ["b"]
    assert len(chosen(devices, [], is_all=True)) == 2
    with pytest.raises(UnknownDeviceError, match="There is no device 'c'"):
        chosen(devices, ["c"], is_all=False)
    with pytest.raises(UnknownDeviceError, match="No device is known"):
        chosen({}, [], is_all=True)


def test_the_next_wish_builds_on_what_was_not_refused() -> None:
    device = Device("a")
    device.desired = pb.DesiredSettings(revision=4, values={"x": "bad"})
    device.settings = pb.ReportedSettings(
        revision=3,
        values={"y": "good"},
        asked_revision=4,
        outcome=pb.SETTINGS_OUTCOME_REFUSED,
    )
    assert device.next_desired({"z": "1"}) == pb.DesiredSettings(
        revision=5, values={"y": "good", "z": "1"}
    )
    device.settings = pb.ReportedSettings(revision=3, values={"y": "good"}, asked_revision=3)
    assert device.next_desired({"x": None, "z": "1"}) == pb.DesiredSettings(
        revision=5, values={"z": "1"}
    )


def test_a_key_is_made_once_and_only_this_user_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    key = make_private_key(path)
    assert path.stat().st_mode & 0o077 == 0
    assert public_key_of(read_private_key(path)) == public_key_of(key)
    FleetSettings(public_key=public_key_of(key))
    with pytest.raises(KeyFileError, match="cannot be written"):
        make_private_key(path)
    path.write_text("no key")
    with pytest.raises(KeyFileError, match="holds no Ed25519"):
        read_private_key(path)
    with pytest.raises(KeyFileError, match="cannot be read"):
        read_private_key(tmp_path / "none")
