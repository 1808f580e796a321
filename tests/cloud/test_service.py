"""The service over the real gRPC stack, with a target in numpy: every message a peer may send."""

import asyncio
import contextlib
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from fake_engine import an_engine, an_open
from fake_target import VOCAB_SIZE, greedy_text
from grpc_health.v1 import health_pb2, health_pb2_grpc

from outrider.v1 import verifier_pb2 as pb
from outrider.v1.verifier_pb2_grpc import VerifierServiceStub
from outrider_bench.link import LinkEmulator
from outrider_bench.profile import LinkProfile
from outrider_cloud import server, service
from outrider_cloud.batching_engine import BatchingEngine
from outrider_cloud.drain import Drain
from outrider_cloud.handlers import SERVICE_NAME
from outrider_cloud.server import leave_to_stay, running_server
from outrider_cloud.session_mail import SessionMail
from outrider_common.acceptance import AcceptanceMode
from outrider_common.errors import (
    REASON_METADATA_KEY,
    RETRY_METADATA_KEY,
    PortInUseError,
    UnavailableError,
)
from outrider_common.messages import PROTOCOL_VERSION, Failure, Pong

HOST = "127.0.0.1"
NAN = float("nan")


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Open at first; while a test has closed it, no pass comes to an end."""
    event = threading.Event()
    event.set()
    yield event
    event.set()


@pytest.fixture
async def engine(gate: threading.Event) -> AsyncIterator[BatchingEngine]:
    engine = an_engine(gate, acceptance_modes=(AcceptanceMode.EXACT, AcceptanceMode.REJECTION))
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture
async def port(engine: BatchingEngine) -> AsyncIterator[int]:
    async with running_server(engine, HOST, 0) as bound:
        yield bound


@pytest.fixture
async def channel(port: int) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"{HOST}:{port}") as opened:
        yield opened


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> Any:
    return VerifierServiceStub(channel)


def sampling(**changes: Any) -> pb.SamplingParams:
    return pb.SamplingParams(**({"top_p": 1, "repetition_penalty": 1} | changes))


async def responses(call: Any) -> AsyncIterator[pb.SessionResponse]:
    while (response := await call.read()) is not grpc.aio.EOF:
        yield response


async def answer(call: Any) -> list[int]:
    """The tokens of the rest of a session; closes our side after the last, as an edge does."""
    tokens: list[int] = []
    async for response in responses(call):
        tokens += response.commit.tokens
        is_last = response.commit.finish_reason or response.HasField("failure")
        if is_last and not call.done():
            await call.done_writing()
    return tokens


async def opened(stub: Any, **changes: Any) -> Any:
    call = stub.Session()
    await call.write(an_open(**changes))
    response = await call.read()
    assert response.WhichOneof("message") == "opened"
    return call


async def refusal(call: Any) -> tuple[grpc.StatusCode, str, str]:
    """How the verifier ended a call: status, sentence, reason."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer(call)
    reason = dict(caught.value.trailing_metadata())[REASON_METADATA_KEY]
    return caught.value.code(), caught.value.details(), reason


async def assert_still_serves(stub: Any) -> None:
    assert await answer(await opened(stub)) == greedy_text([1, 2, 3], 12, stop=())


async def test_a_session_is_the_targets_own_text(stub: Any) -> None:
    await assert_still_serves(stub)


@pytest.mark.parametrize("method", ["Session", "GetModelInfo"])
async def test_bytes_that_are_no_message_are_refused_in_a_sentence(
    channel: grpc.aio.Channel, stub: Any, method: str
) -> None:
    calls = channel.stream_stream if method == "Session" else channel.stream_unary
    call = calls(f"/{SERVICE_NAME}/{method}", request_serializer=lambda data: data)(
        one_after_the_other([b"\xff\xff"])
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (call.read() if method == "Session" else call)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "A message of 2 bytes cannot be read as a" in (caught.value.details() or "")
    await assert_still_serves(stub)


async def one_after_the_other(messages: list[bytes]) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


async def test_the_model_info_says_what_a_client_needs(stub: Any) -> None:
    info = await stub.GetModelInfo(pb.GetModelInfoRequest())
    assert (info.model, info.vocab_size, info.max_positions) == ("fake", VOCAB_SIZE, 200)
    assert info.tokenizer_fingerprint == "v1:fake"
    assert list(info.acceptance_modes) == [
        pb.ACCEPTANCE_MODE_EXACT,
        pb.ACCEPTANCE_MODE_REJECTION,
    ]
    assert info.limits.max_outstanding_nodes == 8
    assert info.protocol_version == PROTOCOL_VERSION


async def test_an_unknown_model_is_not_found(stub: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetModelInfo(pb.GetModelInfoRequest(model="gpt-9"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "The model 'gpt-9' is not here; this verifier serves 'fake'."


async def test_the_standard_health_service_says_serving(channel: grpc.aio.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    for name in ("", SERVICE_NAME):
        response = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert response.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_long_prompt_arrives_in_parts(stub: Any) -> None:
    call = stub.Session()
    await call.write(an_open([1] * 5, prefix_length=50, num_prompt_tokens=50))
    for _ in range(3):
        await call.write(pb.SessionRequest(prefix_part=pb.PrefixPart(tokens=[1] * 15)))
    assert (await call.read()).WhichOneof("message") == "opened"
    assert await answer(call) == greedy_text([1] * 50, 12, stop=())


async def test_a_drafted_session_is_the_targets_own_text(stub: Any) -> None:
    text = greedy_text([1, 2, 3], 3, stop=())
    call = stub.Session()
    await call.write(an_open([1, 2, 3], prefix_length=3))
    drafts = pb.Extend(parent_position=2, tokens=text)
    await call.write(pb.SessionRequest(extend=drafts))
    assert await answer(call) == greedy_text([1, 2, 3], 12, stop=())


async def test_a_cancelled_session_ends_in_good_order(stub: Any, gate: threading.Event) -> None:
    gate.clear()
    call = await opened(stub, max_tokens=190)
    await call.write(pb.SessionRequest(cancel=pb.Cancel()))
    await asyncio.sleep(0.5)  # the cancellation arrives; nothing on the wire says so
    await call.done_writing()
    gate.set()
    last = [response async for response in responses(call)][-1]
    assert last.commit.finish_reason == pb.FINISH_REASON_CANCELLED
    assert await call.code() is grpc.StatusCode.OK


async def test_an_edge_that_sends_no_more_still_gets_its_answer(stub: Any) -> None:
    call = await opened(stub)
    await call.done_writing()
    assert await answer(call) == greedy_text([1, 2, 3], 12, stop=())


async def test_an_edge_that_sends_no_more_is_not_waited_for(
    stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outrider_cloud.session.DRAFT_SILENCE_S", 1e6)
    call = await opened(stub, waits_for_drafts=True)
    await call.done_writing()
    assert await answer(call) == greedy_text([1, 2, 3], 12, stop=())


async def test_a_client_that_vanishes_leaves_its_place(stub: Any) -> None:
    for _ in range(12):  # four times as many as fit
        call = stub.Session()
        await call.write(an_open(max_tokens=190))
        with contextlib.suppress(grpc.aio.AioRpcError):
            await call.read()
        call.cancel()
    for _ in range(200):
        call = stub.Session()
        await call.write(an_open())
        with contextlib.suppress(grpc.aio.AioRpcError):
            assert await answer(call) == greedy_text([1, 2, 3], 12, stop=())
            return
        assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    raise AssertionError("the places of vanished clients were never given back")


REFUSED_OPENS = [
    (an_open([]), "INVALID_ARGUMENT", "The prompt is empty"),
    (an_open([1] * 200), "INVALID_ARGUMENT", "200 tokens"),
    (an_open([1], prefix_length=4_000_000_000), "INVALID_ARGUMENT", "4000000000 tokens"),
    (an_open([1, VOCAB_SIZE]), "INVALID_ARGUMENT", f"the token {VOCAB_SIZE}"),
    (an_open([1, 2], num_prompt_tokens=3), "INVALID_ARGUMENT", "num_prompt_tokens is 3"),
    (an_open([1, 2], num_prompt_tokens=0), "INVALID_ARGUMENT", "num_prompt_tokens is 0"),
    (an_open([1, 2], prefix_length=1), "INVALID_ARGUMENT", "announced with 1 tokens"),
    (an_open(max_tokens=0), "INVALID_ARGUMENT", "max_tokens is 0"),
    (an_open(stop_token_ids=[99]), "INVALID_ARGUMENT", "stop token 99"),
    (an_open(pad_ms=4), "INVALID_ARGUMENT", "pad_ms is 4"),
    (an_open(pad_ms=4_000_000_000), "INVALID_ARGUMENT", "edge.pad_ms"),
    (an_open(num_runner_ups=9), "INVALID_ARGUMENT", "num_runner_ups is 9"),
    (an_open(num_runner_ups=4_000_000_000), "INVALID_ARGUMENT", "at most 8"),
    (an_open(num_top_logprobs=21), "INVALID_ARGUMENT", "num_top_logprobs is 21"),
    (an_open(num_top_logprobs=4_000_000_000), "INVALID_ARGUMENT", "at most 20"),
    (an_open(tokenizer_fingerprint="v1:other"), "FAILED_PRECONDITION", "'v1:other'"),
    (an_open(protocol_version=9), "FAILED_PRECONDITION", "protocol version 9"),
    (an_open(model="gpt-9"), "NOT_FOUND", "'gpt-9'"),
    (an_open(acceptance_mode=pb.ACCEPTANCE_MODE_TYPICAL), "INVALID_ARGUMENT", "epsilon"),
    (
        an_open(
            acceptance_mode=pb.ACCEPTANCE_MODE_TYPICAL,
            typical=pb.TypicalThresholds(epsilon=0.1, delta=0.1),
        ),
        "UNIMPLEMENTED",
        "'typical'",
    ),
    (an_open(acceptance_mode=0), "UNIMPLEMENTED", "mode number 0"),
    (an_open(sampling=sampling(temperature=NAN)), "INVALID_ARGUMENT", "temperature"),
    (an_open(sampling=sampling(temperature=-1)), "INVALID_ARGUMENT", "temperature"),
    (an_open(sampling=sampling(top_p=0)), "INVALID_ARGUMENT", "top_p"),
    (an_open(sampling=sampling(min_p=-0.5)), "INVALID_ARGUMENT", "min_p"),
    (an_open(sampling=sampling(repetition_penalty=0)), "INVALID_ARGUMENT", "repetition_penalty"),
    (an_open(sampling=sampling(presence_penalty=NAN)), "INVALID_ARGUMENT", "presence_penalty"),
    (pb.SessionRequest(cancel=pb.Cancel()), "INVALID_ARGUMENT", "must be 'open'"),
    (pb.SessionRequest(), "INVALID_ARGUMENT", "must be 'open'"),
]


@pytest.mark.parametrize(("request_message", "status", "fault"), REFUSED_OPENS)
async def test_an_unfit_open_is_refused_in_one_sentence_and_others_go_on(
    stub: Any, request_message: pb.SessionRequest, status: str, fault: str
) -> None:
    neighbour = await opened(stub, max_tokens=40)
    call = stub.Session()
    await call.write(request_message)
    code, sentence, _ = await refusal(call)
    assert code.name == status
    assert fault in sentence
    assert "\n" not in sentence
    assert await answer(neighbour) == greedy_text([1, 2, 3], 40, stop=())


def drawn_from(token_steps: list[int], weights: list[int]) -> pb.Extend:
    return pb.Extend(
        parent_position=0,
        tokens=[1],
        distributions=[pb.DraftDistribution(token_steps=token_steps, weights=bytes(weights))],
    )


REFUSED_LATER = [
    (pb.Extend(parent_distance=7, tokens=[1]), "names node -6"),
    (pb.Extend(parent_distance=0, tokens=[1]), "names node 1"),
    (pb.Extend(parent_position=1000, tokens=[1]), "position 1000"),
    (pb.Extend(tokens=[1]), "names node 0"),
    (pb.Extend(parent_position=0, tokens=[VOCAB_SIZE]), f"token {VOCAB_SIZE}"),
    (pb.Extend(parent_position=0, tokens=[1] * 9), "limit of 8"),
    (pb.Extend(parent_position=0, tokens=[1, 1], later_distances=[0, 0]), "2 parent distances"),
    (pb.Extend(parent_position=0, tokens=[1, 1], later_distances=[9]), "names node -7"),
    (drawn_from([0], [1]), "comes with a distribution"),
    (drawn_from([0] * 100, [1] * 100), "has 100 tokens"),
    (drawn_from([VOCAB_SIZE], [1]), f"tokens up to {VOCAB_SIZE}"),
]


@pytest.mark.parametrize(("extend", "fault"), REFUSED_LATER)
async def test_unfit_drafts_end_their_own_session_only(
    stub: Any, gate: threading.Event, extend: pb.Extend, fault: str
) -> None:
    gate.clear()
    neighbour = await opened(stub, max_tokens=40)
    call = await opened(stub, max_tokens=190)
    await call.write(pb.SessionRequest(extend=extend))
    code, sentence, reason = await refusal(call)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert reason == "PROTOCOL_VIOLATION"
    assert fault in sentence
    gate.set()
    assert await answer(neighbour) == greedy_text([1, 2, 3], 40, stop=())


@pytest.mark.parametrize("again", [an_open(), pb.SessionRequest(prefix_part=pb.PrefixPart())])
async def test_an_open_session_is_not_opened_again(
    stub: Any, gate: threading.Event, again: pb.SessionRequest
) -> None:
    gate.clear()
    call = await opened(stub, max_tokens=190)
    await call.write(again)
    code, sentence, _ = await refusal(call)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "open already" in sentence
    gate.set()


async def test_a_stream_that_ends_before_it_is_opened_is_refused(stub: Any) -> None:
    call = stub.Session()
    await call.done_writing()
    assert (await refusal(call))[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_edge_that_never_finishes_its_prefix_is_turned_away(
    stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "OPEN_TIMEOUT_S", 0.1)
    call = stub.Session()
    await call.write(an_open([1], prefix_length=5, num_prompt_tokens=5))
    code, sentence, _ = await refusal(call)
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "was not opened within" in sentence


async def test_a_message_above_the_announced_limit_is_refused(stub: Any) -> None:
    call = stub.Session()
    await call.write(an_open(model="x" * 3000))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await assert_still_serves(stub)


async def test_a_full_verifier_turns_new_sessions_away(stub: Any, gate: threading.Event) -> None:
    gate.clear()
    running = [await opened(stub, max_tokens=190) for _ in range(3)]
    call = stub.Session()
    await call.write(an_open())
    code, sentence, reason = await refusal(call)
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "CAPACITY")
    assert "3 places" in sentence
    metadata = dict(await call.trailing_metadata())
    assert 0 < int(metadata[RETRY_METADATA_KEY]) <= 30_000
    gate.set()
    for session in running:
        assert await answer(session) == greedy_text([1, 2, 3], 190, stop=())


async def test_a_ping_is_answered_while_a_pass_runs(stub: Any, gate: threading.Event) -> None:
    gate.clear()
    call = await opened(stub, max_tokens=190)
    for _ in range(3):
        await call.write(pb.SessionRequest(ping=pb.Ping()))
        response = await call.read()
        while response.WhichOneof("message") == "commit":  # of the pass before
            response = await call.read()
        assert response.WhichOneof("message") == "pong"
    gate.set()
    assert await answer(call) == greedy_text([1, 2, 3], 190, stop=())


async def test_many_pings_cost_the_verifier_no_memory() -> None:
    mail = SessionMail()
    for _ in range(1000):
        mail.answer_ping()
    mail.put(UnavailableError("gone"))
    assert [type(event) async for event in mail.events()] == [Pong, Failure]


async def test_an_edge_that_is_silently_gone_leaves_its_place(
    engine: BatchingEngine, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "KEEPALIVE_MS", 200)
    gate.clear()  # no pass ends: nothing but the silence can end the session
    drain = Drain()
    async with (
        running_server(engine, HOST, 0, drain=drain) as port,
        LinkEmulator(LinkProfile(), f"{HOST}:{port}") as link,
        grpc.aio.insecure_channel(link.address) as channel,
    ):
        call = await opened(VerifierServiceStub(channel), max_tokens=190)  # type: ignore[no-untyped-call]
        assert not drain.all_gone.is_set()
        link.freeze()  # neither side sees anything of it
        await asyncio.wait_for(drain.all_gone.wait(), 30)
        call.cancel()
        gate.set()


async def test_opening_says_that_pings_are_answered(stub: Any) -> None:
    call = stub.Session()
    await call.write(an_open())
    assert (await call.read()).opened.answers_pings


async def test_the_model_info_says_how_busy_the_verifier_is(
    stub: Any, gate: threading.Event
) -> None:
    gate.clear()
    calls = [await opened(stub, max_tokens=190) for _ in range(2)]
    occupancy = (await stub.GetModelInfo(pb.GetModelInfoRequest())).occupancy
    assert occupancy.num_running + occupancy.num_waiting == 2
    gate.set()
    for call in calls:
        await answer(call)


async def test_an_error_reaches_an_edge_that_writes_all_the_time(
    engine: BatchingEngine, stub: Any, gate: threading.Event
) -> None:
    for _ in range(20):
        gate.clear()
        call = await opened(stub, max_tokens=190)
        writing = asyncio.create_task(write_on_and_on(call))
        await asyncio.sleep(0.01)  # it is in full swing
        engine._fail_all("The verifier has failed; open a new session elsewhere.")
        gate.set()
        code, sentence, reason = await refusal(call)
        assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
        assert "has failed" in sentence
        await writing


async def write_on_and_on(call: Any) -> None:
    """Draft as fast as it goes, until the stream takes no more."""
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        while True:
            await call.write(pb.SessionRequest(extend=pb.Extend(parent_position=0, tokens=[1])))


async def test_a_port_in_use_is_one_clear_sentence(port: int) -> None:
    with pytest.raises(PortInUseError, match=f"127.0.0.1:{port}"):
        async with running_server(an_engine(), HOST, port):
            pass


async def test_drafts_that_cross_the_last_commit_lose_nobody_a_token(stub: Any) -> None:
    call = await opened(stub, max_tokens=1)
    await asyncio.sleep(0.3)  # the last commit is here, but nobody has read it
    for _ in range(2):
        extend = pb.Extend(parent_position=2, tokens=[1])
        await call.write(pb.SessionRequest(extend=extend))
    assert await answer(call) == greedy_text([1, 2, 3], 1, stop=())
    assert await call.code() is grpc.StatusCode.OK


async def test_an_edge_that_never_closes_its_side_does_not_hold_the_stream(
    stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LINGER_S", 0.1)
    call = await opened(stub)
    tokens = [token async for response in responses(call) for token in response.commit.tokens]
    assert tokens == greedy_text([1, 2, 3], 12, stop=())


def test_what_is_there_when_the_verifier_is_ready_is_left_out_of_garbage_collections() -> None:
    cycle: list[object] = []
    cycle.append(cycle)
    assert gc.get_freeze_count() == 0
    try:
        leave_to_stay()
        assert gc.get_freeze_count() > 1000
        assert not any(one is cycle for one in gc.get_objects())
    finally:
        gc.unfreeze()
