"""A device and an operator over a real Mosquitto."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from brokers import Broker, running_broker
from fake_runtime import ANSWER, FakeRuntime
from fleet_device import TOPICS, Factory, a_device, an_operator, until

from outrider.v1 import fleet_pb2 as pb
from outrider_common.errors import CapacityError, OutriderError, UnavailableError
from outrider_edge.backoff import Backoff
from outrider_edge.doctor.examination import in_thread
from outrider_edge.fleet import operations
from outrider_edge.fleet.access_check import check_access
from outrider_edge.fleet.broker import BrokerRefusalError
from outrider_edge.fleet.exchange import ReplyTo
from outrider_edge.fleet.operator_link import operator_link
from outrider_edge.fleet.topics import Ask, Report


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with running_broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


def a_job(job_id: str, **parameters: object) -> pb.Job:
    job = pb.Job(job_id=job_id, **parameters)  # type: ignore[arg-type]
    job.messages.add(role="user", content="Hi")
    return job


async def test_a_device_is_born_and_says_goodbye(broker: Broker, tmp_path: Path) -> None:
    async with an_operator(broker) as operator:
        async with a_device(broker.settings("kiosk-1"), tmp_path):
            device = await until(operator, "kiosk-1", lambda device: device.is_alive)
            assert device.status == "ready"
            assert device.state.model == "fake"
            assert device.state.verifier == "127.0.0.1:7411"
            await until(operator, "kiosk-1", lambda device: device.telemetry.HasField("at"))
        gone = await until(operator, "kiosk-1", lambda device: not device.is_alive)
        assert gone.state.reason == "The daemon was stopped."


async def test_a_job_is_answered_by_the_slots_of_the_api(broker: Broker, tmp_path: Path) -> None:
    async with (
        a_device(broker.settings("kiosk-1"), tmp_path) as device,
        an_operator(broker) as operator,
    ):
        await until(operator, "kiosk-1", lambda device: device.is_alive)
        result = await operations.run_job(
            operator, TOPICS, "kiosk-1", a_job("one", max_tokens=5, seed=7), 20
        )
        assert result.text == ANSWER[:5]
        assert (result.finish_reason, result.seed, result.is_lossless) == ("length", 7, True)
        assert device.serving.sums.num_answers == 1


async def test_a_job_that_is_delivered_twice_is_generated_once(
    broker: Broker, tmp_path: Path
) -> None:
    runtime = FakeRuntime()
    async with (
        a_device(broker.settings("kiosk-1"), tmp_path, Factory(lambda _: runtime)),
        an_operator(broker) as operator,
    ):
        await until(operator, "kiosk-1", lambda device: device.is_alive)
        job = a_job("twice")
        first = await operations.run_job(operator, TOPICS, "kiosk-1", job, 20)
        second = await operations.run_job(operator, TOPICS, "kiosk-1", job, 20)
        assert first == second
        assert len(runtime.requests) == 1


async def test_commands_are_carried_out_and_answered(broker: Broker, tmp_path: Path) -> None:
    async with (
        a_device(broker.settings("kiosk-1"), tmp_path) as device,
        an_operator(broker) as operator,
    ):
        await until(operator, "kiosk-1", lambda device: device.is_alive)

        async def tell(command: pb.Command) -> pb.CommandResult:
            return await operations.command(operator, TOPICS, "kiosk-1", command, 20)

        assert (await tell(pb.Command(probe=pb.Probe()))).probe.model == "fake"
        assert not (await tell(pb.Command(drain=pb.Drain()))).HasField("error")
        with pytest.raises(UnavailableError, match="drained by its operator"):
            device.serving.require_runtime()
        await until(operator, "kiosk-1", lambda device: device.status == "drained")
        await tell(pb.Command(undrain=pb.Undrain()))
        assert device.serving.require_runtime()
        refused = await tell(pb.Command(set_log_level=pb.SetLogLevel(level="loud")))
        assert "debug, info, warning, error" in refused.error.message


async def test_settings_are_desired_and_reported(broker: Broker, tmp_path: Path) -> None:
    async with (
        a_device(broker.settings("kiosk-1"), tmp_path) as device,
        an_operator(broker) as operator,
    ):
        await until(operator, "kiosk-1", lambda device: device.is_alive)
        known = await operations.look(operator, TOPICS)
        (outcome,) = await operations.set_settings(
            operator,
            TOPICS,
            [known["kiosk-1"]],
            {"sampling.max_tokens": "9", "daemon.port": "7500"},
            20,
            lambda _device, _sentence: None,
        )
        assert outcome.is_good
        assert "to be started anew for daemon.port" in outcome.sentence
        assert device.serving.sampling.max_tokens == 9
        wish = pb.DesiredSettings(revision=1, values={"sampling.max_tokens": "10"})
        await operator.tell(TOPICS.ask("kiosk-1", Ask.SETTINGS), wish)
        refused = await until(operator, "kiosk-1", lambda device: device.settings.reason)
        assert "Revision 1 is not above 1" in refused.settings.reason
        assert refused.settings.revision == 1
        assert device.serving.sampling.max_tokens == 9
        await operator.tell(TOPICS.ask("kiosk-1", Ask.SETTINGS), pb.DesiredSettings())


async def test_a_device_that_comes_later_finds_what_it_was_asked_for(
    broker: Broker, tmp_path: Path
) -> None:
    async with an_operator(broker) as operator:
        wish = pb.DesiredSettings(revision=5, values={"sampling.max_tokens": "11"})
        topic = TOPICS.ask("kiosk-3", Ask.SETTINGS)
        await operator.tell(topic, wish, is_retained=True)
        async with a_device(broker.settings("kiosk-3"), tmp_path) as device:
            await until(operator, "kiosk-3", lambda device: device.settings.revision == 5)
            assert device.serving.sampling.max_tokens == 11
        async with a_device(broker.settings("kiosk-3"), tmp_path) as device:
            assert device.serving.sampling.max_tokens == 11


async def test_a_broker_may_come_and_go(tmp_path: Path) -> None:
    (tmp_path / "broker").mkdir()
    with running_broker(tmp_path / "broker") as broker:
        broker.stop()
        async with a_device(broker.settings("kiosk-1"), tmp_path) as device:
            assert device.serving.require_runtime()
            await asyncio.to_thread(broker.start)
            async with an_operator(broker) as operator:
                await until(operator, "kiosk-1", lambda device: device.is_alive)
            await asyncio.to_thread(broker.stop)
            await asyncio.to_thread(broker.start)
            async with an_operator(broker) as operator:
                await until(operator, "kiosk-1", lambda device: device.is_alive)
                result = await operations.run_job(operator, TOPICS, "kiosk-1", a_job("x"), 30)
                assert result.text == ANSWER


async def test_wrong_credentials_are_said_once_and_the_daemon_works(
    broker: Broker,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempts: list[float] = []

    def hasty(_first_s: float, _longest_s: float) -> Backoff:
        return Backoff(0.01, 0.01, lambda *_bounds: attempts.append(0.0) or 0.01)  # type: ignore[func-returns-value]

    monkeypatch.setattr("outrider_edge.fleet.device_link.Backoff", hasty)
    settings = broker.settings("kiosk-2", "wrong")
    with caplog.at_level(logging.WARNING, "outrider_edge"):
        async with a_device(settings, tmp_path) as device:
            while len(attempts) < 3:  # noqa: ASYNC110 - nothing to wait for
                await asyncio.sleep(0.01)
            assert device.serving.require_runtime()
    assert len(caplog.records) == 1
    reason = caplog.records[0].__dict__["fields"]["reason"]
    assert "does not take the user 'kiosk-2'" in reason
    assert "fleet.password_file" in reason
    with pytest.raises(BrokerRefusalError):
        async with operator_link(settings, TOPICS):
            pass


async def test_a_device_can_neither_hear_nor_speak_for_another(
    broker: Broker, tmp_path: Path
) -> None:
    async with (
        operator_link(broker.settings("kiosk-2"), TOPICS) as intruder,
        an_operator(broker) as operator,
        a_device(broker.settings("kiosk-1"), tmp_path),
    ):
        await until(operator, "kiosk-1", lambda device: device.is_alive)
        forged = pb.DeviceState(model="forged")
        await intruder.tell(TOPICS.report("kiosk-1", Report.STATE), forged, is_retained=True)
        drain = pb.Command(drain=pb.Drain())
        topic = TOPICS.ask("kiosk-1", Ask.COMMAND)
        await intruder.tell(topic, drain, ReplyTo(operator.reply_topic, b"forged"))
        answer = await operations.command(
            operator, TOPICS, "kiosk-1", pb.Command(probe=pb.Probe()), 20
        )
        assert answer.probe.model == "fake"
        device = await until(operator, "kiosk-1", lambda device: device.is_alive)
        assert device.state.model == "fake"
        assert device.status == "ready"


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        (Ask.COMMAND, b"{"),
        (Ask.JOB, b"\xff\xfe"),
        (Ask.SETTINGS, b'{"revision": "many"}'),
        (Ask.DRAFTER, b"[" * 100_000),
    ],
)
async def test_a_bad_payload_is_answered_with_a_sentence(
    broker: Broker, tmp_path: Path, topic: Ask, payload: bytes
) -> None:
    async with (
        a_device(broker.settings("kiosk-1"), tmp_path),
        an_operator(broker) as operator,
    ):
        await until(operator, "kiosk-1", lambda device: device.is_alive)
        await operator._client.publish(TOPICS.ask("kiosk-1", topic), payload, qos=1)
        answer = await operations.command(
            operator, TOPICS, "kiosk-1", pb.Command(probe=pb.Probe()), 20
        )
        assert answer.probe.model == "fake"
        if topic is Ask.SETTINGS:
            told = await until(operator, "kiosk-1", lambda device: device.settings.reason)
            assert "is no DesiredSettings" in told.settings.reason
        if topic is Ask.DRAFTER:
            told = await until(operator, "kiosk-1", lambda device: device.drafter.refused_reason)
            assert "is no DesiredDrafter" in told.drafter.refused_reason


async def test_a_job_that_cannot_be_answered_says_why(broker: Broker, tmp_path: Path) -> None:
    factory = Factory(lambda _: FakeRuntime(error=CapacityError("The verifier is full.")))
    async with (
        a_device(broker.settings("kiosk-1"), tmp_path, factory),
        an_operator(broker) as operator,
    ):
        await until(operator, "kiosk-1", lambda device: device.is_alive)
        result = await operations.run_job(operator, TOPICS, "kiosk-1", a_job("full"), 2)
        assert (result.error.reason, result.error.message) == ("CAPACITY", "The verifier is full.")
        bad = await operations.run_job(operator, TOPICS, "kiosk-1", pb.Job(job_id="empty"), 20)
        assert "either a prompt or messages" in bad.error.message


async def test_over_tls_the_broker_is_known_by_its_certificate(tmp_path: Path) -> None:
    with running_broker(tmp_path / "broker", is_over_tls=True) as broker:
        ca_file = broker.directory / "ca.crt"
        settings = broker.settings("operator", ca_file=ca_file)
        async with (
            a_device(broker.settings("kiosk-1", ca_file=ca_file), tmp_path),
            operator_link(settings, TOPICS) as operator,
        ):
            await until(operator, "kiosk-1", lambda device: device.is_alive)
        with pytest.raises(UnavailableError, match=r"certificate verify failed.*fleet\.ca_file"):
            async with operator_link(broker.settings("operator"), TOPICS):
                pass


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"broker": None}, "fleet.broker is not set"),
        ({"broker": "mqtt://127.0.0.1:99999"}, "no such port"),
        ({"broker": "mqtt://127.0.0.1:1"}, "cannot be reached"),
        ({"broker": "mqtts://127.0.0.1:1", "ca_file": Path("/no/such")}, "fleet.ca_file"),
        ({"password_file": Path("/no/such")}, "fleet.password_file /no/such cannot be read"),
    ],
)
async def test_what_is_set_wrongly_is_one_sentence(
    broker: Broker, changes: dict[str, object], says: str
) -> None:
    settings = broker.settings("operator").model_copy(update=changes)
    with pytest.raises(OutriderError, match=says):
        async with operator_link(settings, TOPICS):
            pass


async def test_the_doctor_finds_out_what_the_broker_allows(broker: Broker) -> None:
    good = broker.settings("kiosk-1")
    assert await in_thread(lambda: check_access(good, "kiosk-1")) > 0
    with pytest.raises(BrokerRefusalError, match="does not take the user"):
        await in_thread(lambda: check_access(broker.settings("kiosk-2", "wrong"), "kiosk-2"))
    with pytest.raises(BrokerRefusalError, match=r"does not let 'kiosk-1' write .*kiosk-2"):
        await in_thread(lambda: check_access(good, "kiosk-2"))
    away = good.model_copy(update={"broker": "mqtt://127.0.0.1:1"})
    with pytest.raises(UnavailableError, match="cannot be reached"):
        await in_thread(lambda: check_access(away, "kiosk-1"))


async def test_two_devices_of_one_name_are_told(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = broker.settings("kiosk-2")
    with caplog.at_level(logging.WARNING, "outrider_edge"):
        async with an_operator(broker) as operator, a_device(settings, tmp_path / "one"):
            await until(operator, "kiosk-2", lambda device: device.is_alive)
            async with a_device(settings, tmp_path / "two"):
                while not caplog.records:  # noqa: ASYNC110 - nothing to wait for
                    await asyncio.sleep(0.01)
    assert "no other client is called 'kiosk-2'" in caplog.records[0].__dict__["fields"]["reason"]


async def test_an_operator_without_the_right_to_read_answers_is_told(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outrider_edge.fleet.operator_link._LIMIT_S", 0.2)
    async with operator_link(broker.settings("kiosk-1"), TOPICS) as intruder:
        with pytest.raises(UnavailableError, match=r"access rules let the operator"):
            await operations.look(intruder, TOPICS)
