"""Messages survive the wire, and what no correct peer sends is refused."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from outrider.v1 import verifier_pb2 as pb
from outrider_common.acceptance import (
    Acceptance,
    AcceptanceMode,
    RelaxedMargins,
    TypicalThresholds,
)
from outrider_common.errors import (
    CapacityError,
    DrainingError,
    InvalidPromptError,
    InvalidSamplingError,
    OutriderError,
    ProtocolViolationError,
    UnavailableError,
    UnsupportedError,
)
from outrider_common.logprobs import TokenLogprobs
from outrider_common.messages import (
    Commit,
    Failure,
    FinishReason,
    GoAway,
    Limits,
    ModelInfo,
    Occupancy,
    Opened,
    OpenSession,
    Pong,
    ServerEvent,
)
from outrider_common.sampling import SamplingParams
from outrider_common.wire import (
    EventDecoder,
    EventEncoder,
    OpenAssembler,
    decode_model_info,
    encode_model_info,
    encode_open,
)

tokens = st.integers(0, 2**32 - 1)
limits = st.builds(
    Limits,
    max_message_bytes=st.integers(0, 2**31),
    max_outstanding_nodes=st.integers(0, 2**31),
    committed_id_window=st.integers(0, 2**31),
    max_sessions=st.integers(0, 2**31),
)
sampling_params = st.builds(
    SamplingParams,
    temperature=st.floats(0, 10),
    top_k=st.integers(0, 1000),
    top_p=st.floats(0.01, 1),
    min_p=st.floats(0, 0.99),
    repetition_penalty=st.floats(0.1, 3),
    presence_penalty=st.floats(-2, 2),
    frequency_penalty=st.floats(-2, 2),
    seed=st.integers(0, 2**64 - 1),
)
shares = st.floats(0, 1, exclude_min=True)
acceptances = st.one_of(
    st.sampled_from([AcceptanceMode.EXACT, AcceptanceMode.REJECTION]).map(Acceptance),
    st.builds(
        Acceptance,
        st.just(AcceptanceMode.TYPICAL),
        typical=st.builds(TypicalThresholds, shares, shares),
    ),
    st.builds(
        Acceptance,
        st.just(AcceptanceMode.RELAXED),
        relaxed=st.builds(RelaxedMargins, st.integers(1, 2**32 - 1), st.floats(0, 100)),
    ),
)
opens = st.builds(
    OpenSession,
    prefix=st.lists(tokens, min_size=1, max_size=400).map(tuple),
    num_prompt_tokens=st.integers(1, 400),
    max_tokens=st.integers(1, 10_000),
    sampling=sampling_params,
    tokenizer_fingerprint=st.text(max_size=80),
    model=st.text(max_size=30),
    acceptance=acceptances,
    stop_token_ids=st.lists(tokens, max_size=5).map(tuple),
    ignore_eos=st.booleans(),
    num_runner_ups=st.integers(0, 2**32 - 1),
    own_guesses=st.booleans(),
    waits_for_drafts=st.booleans(),
    pad_ms=st.integers(0, 1000),
    num_top_logprobs=st.none() | st.integers(0, 2**32 - 1),
)


@given(message=opens, max_message_bytes=st.integers(600, 4000))
def test_an_open_message_arrives_whole_in_parts_within_the_limit(
    message: OpenSession, max_message_bytes: int
) -> None:
    assembler = OpenAssembler(at_most(400))
    requests = list(encode_open(message, max_message_bytes))
    assert all(request.ByteSize() <= max_message_bytes for request in requests)
    results = [assembler.feed(request) for request in requests]
    assert results == [None] * (len(requests) - 1) + [message]


def at_most(length: int) -> Callable[[int], None]:
    """Refuses longer prefixes, as a model does."""

    def check(num_tokens: int) -> None:
        if num_tokens > length:
            raise InvalidPromptError(f"{num_tokens} tokens are too many")

    return check


def open_request(**fields: object) -> pb.SessionRequest:
    sampling = pb.SamplingParams(top_p=1, repetition_penalty=1)
    return pb.SessionRequest(
        open=pb.Open(**({"acceptance_mode": 1, "sampling": sampling} | fields))  # type: ignore[arg-type]
    )


def test_a_session_must_begin_with_open() -> None:
    with pytest.raises(ProtocolViolationError, match="'cancel'"):
        OpenAssembler(at_most(10)).feed(pb.SessionRequest(cancel=pb.Cancel()))


def test_an_empty_message_is_no_open() -> None:
    with pytest.raises(ProtocolViolationError, match="must be 'open'"):
        OpenAssembler(at_most(10)).feed(pb.SessionRequest())


def test_only_prefix_parts_may_follow_an_incomplete_open() -> None:
    assembler = OpenAssembler(at_most(10))
    assert assembler.feed(open_request(prefix=[1], prefix_length=2)) is None
    with pytest.raises(ProtocolViolationError, match="'extend'"):
        assembler.feed(pb.SessionRequest(extend=pb.Extend()))


def test_a_prefix_longer_than_the_model_takes_is_refused_before_it_is_collected() -> None:
    with pytest.raises(InvalidPromptError, match="11 tokens"):
        OpenAssembler(at_most(10)).feed(open_request(prefix_length=11))


def test_a_prefix_longer_than_announced_is_refused() -> None:
    with pytest.raises(ProtocolViolationError, match="announced with 1"):
        OpenAssembler(at_most(10)).feed(open_request(prefix=[1, 2], prefix_length=1))


def test_an_acceptance_mode_of_a_later_version_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="mode number 77"):
        OpenAssembler(at_most(10)).feed(
            open_request(prefix=[1], prefix_length=1, acceptance_mode=77)
        )


def test_an_exact_session_opens_with_the_same_bytes_as_before_there_were_other_modes() -> None:
    (request,) = encode_open(OpenSession((1, 2), 2, 3, SamplingParams(), "v1:x", "m"), 600)
    written = {field.name for field, _ in request.open.ListFields()}
    assert written.isdisjoint({"typical", "relaxed"})


@pytest.mark.parametrize(
    ("fields", "culprit"),
    [
        ({"acceptance_mode": pb.ACCEPTANCE_MODE_TYPICAL}, "epsilon"),
        (
            {
                "acceptance_mode": pb.ACCEPTANCE_MODE_TYPICAL,
                "typical": pb.TypicalThresholds(epsilon=0.1, delta=float("nan")),
            },
            "delta",
        ),
        ({"acceptance_mode": pb.ACCEPTANCE_MODE_RELAXED}, "beta"),
        (
            {
                "acceptance_mode": pb.ACCEPTANCE_MODE_RELAXED,
                "relaxed": pb.RelaxedMargins(beta=1, tau=float("inf")),
            },
            "tau",
        ),
    ],
)
def test_thresholds_that_are_missing_or_out_of_range_are_refused_by_name(
    fields: dict[str, object], culprit: str
) -> None:
    with pytest.raises(InvalidSamplingError, match=culprit):
        OpenAssembler(at_most(10)).feed(open_request(prefix=[1], prefix_length=1, **fields))


logprobs = st.floats(max_value=0, width=32, allow_nan=False)
commits = st.builds(
    lambda base, guessed, own, best, logprob, top: Commit(
        **{
            **base,
            "tokens": base["tokens"] + guessed + own,
            "num_accepted": len(base["tokens"]),
            "num_guessed": len(guessed),
        },
        runner_ups=(best,) * len(base["tokens"] + guessed + own) if best else (),
        logprobs=tuple(
            TokenLogprobs(logprob + i, top) for i, _ in enumerate(base["tokens"] + guessed + own)
        )
        if logprob is not None
        else (),
    ),
    st.fixed_dictionaries(
        {
            "start": st.integers(1, 10_000),
            "tokens": st.lists(tokens, max_size=6).map(tuple),
            "is_correction": st.booleans(),
            "finish_reason": st.none() | st.sampled_from(FinishReason),
            "queue_us": st.integers(0, 10**6),
            "pass_us": st.integers(0, 10**6),
            "num_rows": st.integers(0, 100),
            "credit": st.none() | st.integers(0, 1000),
            "price": st.integers(0, 1000).map(lambda permille: permille / 1000),
        }
    ),
    st.lists(tokens, max_size=6).map(tuple),
    st.lists(tokens, max_size=1).map(tuple),
    st.lists(tokens, max_size=4).map(tuple),
    st.none() | st.integers(-1000, -1),
    st.lists(st.tuples(tokens, logprobs), max_size=3).map(tuple),
)
events: st.SearchStrategy[ServerEvent] = st.one_of(
    commits,
    st.builds(
        Opened,
        session_id=st.text(max_size=40),
        limits=limits,
        acceptance_mode=st.sampled_from(AcceptanceMode),
        answers_pings=st.booleans(),
    ),
    st.builds(GoAway, reason=st.text(max_size=40), deadline_ms=st.integers(0, 10**6)),
    st.just(Pong()),
)


def arrived(sent: Sequence[ServerEvent], prefix_length: int = 3) -> list[ServerEvent | None]:
    """What the edge makes of what a verifier says."""
    encoder, decoder = EventEncoder(prefix_length), EventDecoder(prefix_length)
    bytes_sent = [encoder.encode(event).SerializeToString() for event in sent]
    return [decoder.decode(pb.SessionResponse.FromString(data)) for data in bytes_sent]


def exactly(event: ServerEvent | None) -> ServerEvent | None:
    """Without what is only said about, or only when it is news."""
    if isinstance(event, Commit):
        return replace(event, queue_us=0, pass_us=0, price=0.0, credit=None)
    return event


@given(sent=st.lists(events, max_size=8), prefix_length=st.integers(1, 100))
def test_all_events_of_the_verifier_survive_the_wire_in_any_order(
    sent: list[ServerEvent], prefix_length: int
) -> None:
    assert [*map(exactly, arrived(sent, prefix_length))] == [*map(exactly, sent)]


@given(sent=st.lists(commits, max_size=8))
def test_times_and_prices_are_never_far_from_what_the_verifier_meant(sent: list[Commit]) -> None:
    for before, after in zip(sent, arrived(sent), strict=True):
        assert isinstance(after, Commit)
        assert after.queue_us == about(before.queue_us, 500)
        assert after.pass_us == about(before.pass_us, 500)
        assert after.price * 1000 == about(before.price * 1000, 5)


def about(value: float, least: float) -> object:
    """Within an eighth of what is remembered, which is at most 8/7 of the value."""
    return pytest.approx(value, rel=1 / 7, abs=least + 1e-6)


@given(sent=st.lists(commits, max_size=8))
def test_credit_is_said_when_it_changes(sent: list[Commit]) -> None:
    meant = said = None
    for before, after in zip(sent, arrived(sent), strict=True):
        assert isinstance(after, Commit)
        meant = meant if before.credit is None else before.credit
        said = said if after.credit is None else after.credit
        assert said == meant


def test_a_commit_that_is_as_expected_is_its_tokens_alone() -> None:
    encoder = EventEncoder(70)
    usual = Commit(70, (500, 501, 502), 2, queue_us=90, pass_us=40_000, num_rows=3, credit=64)
    encoder.encode(usual)
    again = replace(usual, start=73, queue_us=400, pass_us=44_000, price=0.004)
    # the tag and the length of the commit, and of its tokens
    assert encoder.encode(again).ByteSize() == 2 + 2 + 3 * 2


@given(data=st.binary(max_size=200), prefix_length=st.integers(1, 100))
def test_any_bytes_are_events_or_refused(data: bytes, prefix_length: int) -> None:
    try:
        response = pb.SessionResponse.FromString(data)
    except DecodeError:
        return
    with contextlib.suppress(ProtocolViolationError, UnsupportedError):
        EventDecoder(prefix_length).decode(response)


def test_an_event_of_a_later_version_is_passed_over() -> None:
    assert EventDecoder(1).decode(pb.SessionResponse()) is None


def test_a_commit_that_leaves_nothing_out_is_read_as_it_stands() -> None:
    message = pb.Commit(start=9, tokens=[4, 5], num_accepted=1, num_rows=7, pass_us=3)
    message.queue_us = message.price_permille = message.credit = 0
    event = EventDecoder(3).decode(pb.SessionResponse(commit=message))
    assert event == Commit(9, (4, 5), 1, num_rows=7, pass_us=3, credit=0)


@pytest.mark.parametrize(
    ("num_accepted", "num_guessed"), [(0, 0), (4, 0), (0, 1), (2, 2), (1, 0), (2**32 - 1, 4)]
)
def test_a_commit_whose_counts_do_not_fit_is_refused(num_accepted: int, num_guessed: int) -> None:
    response = pb.SessionResponse(
        commit=pb.Commit(tokens=[1, 2, 3], num_accepted=num_accepted, num_guessed=num_guessed)
    )
    with pytest.raises(ProtocolViolationError, match="commit of 3 tokens"):
        EventDecoder(1).decode(response)


def test_runner_ups_are_shared_out_in_the_order_of_the_tokens() -> None:
    message = pb.Commit(tokens=[1, 2, 3], num_accepted=2, runner_ups=[10, 11, 20, 21, 30, 31])
    event = EventDecoder(1).decode(pb.SessionResponse(commit=message))
    assert isinstance(event, Commit)
    assert event.runner_ups == ((10, 11), (20, 21), (30, 31))


@pytest.mark.parametrize("tokens", [[], [1, 2]])
def test_runner_ups_that_do_not_fit_the_tokens_are_refused(tokens: list[int]) -> None:
    message = pb.Commit(tokens=tokens, num_accepted=len(tokens), runner_ups=[10, 11, 20])
    with pytest.raises(ProtocolViolationError, match="3 runner-ups"):
        EventDecoder(1).decode(pb.SessionResponse(commit=message))


def test_log_probabilities_are_shared_out_in_the_order_of_the_tokens() -> None:
    message = pb.Commit(
        tokens=[1, 2],
        logprobs=[-1, -2],
        top_tokens=[10, 11, 20, 21],
        top_logprobs=[-0.5, -0.75, -0.25, -4],
    )
    event = EventDecoder(1).decode(pb.SessionResponse(commit=message))
    assert isinstance(event, Commit)
    assert event.logprobs == (
        TokenLogprobs(-1, ((10, -0.5), (11, -0.75))),
        TokenLogprobs(-2, ((20, -0.25), (21, -4))),
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"logprobs": [-1]},
        {"logprobs": [-1, -1, -1]},
        {"top_tokens": [1, 2], "top_logprobs": [-1, -2]},
        {"logprobs": [-1, -1], "top_tokens": [1, 2], "top_logprobs": [-1]},
        {"logprobs": [-1, -1], "top_tokens": [1, 2, 3], "top_logprobs": [-1, -1, -1]},
        {"logprobs": [-1, -1], "top_logprobs": [-1, -1]},
    ],
)
def test_log_probabilities_that_do_not_fit_the_tokens_are_refused(fields: Any) -> None:
    message = pb.Commit(tokens=[1, 2], **fields)
    with pytest.raises(ProtocolViolationError, match="one for each token"):
        EventDecoder(1).decode(pb.SessionResponse(commit=message))


def test_an_edge_that_wants_no_log_probabilities_sends_and_gets_not_a_byte_more() -> None:
    (request,) = encode_open(OpenSession((1, 2), 2, 3, SamplingParams(), "v1:x", "m"), 600)
    assert not request.open.HasField("num_top_logprobs")
    commit = EventEncoder(1).encode(Commit(1, (5,), 0)).commit
    assert not commit.logprobs
    assert not commit.top_tokens


def test_an_edge_that_wants_no_runner_ups_and_no_guesses_sends_and_gets_not_a_byte_more() -> None:
    assert pb.Open(num_runner_ups=0).ByteSize() == 0
    assert pb.Open(own_guesses=False, waits_for_drafts=False).ByteSize() == 0
    commit = Commit(1, (), 0)
    assert not EventEncoder(1).encode(commit).commit.runner_ups
    assert pb.Commit(num_guessed=0).ByteSize() == 0


@given(
    info=st.builds(
        ModelInfo,
        model=st.text(max_size=30),
        vocab_size=st.integers(1, 2**31),
        max_positions=st.integers(1, 2**31),
        tokenizer_fingerprint=st.text(max_size=80),
        eos_token_ids=st.lists(tokens, max_size=4).map(tuple),
        acceptance_modes=st.lists(st.sampled_from(AcceptanceMode), unique=True).map(tuple),
        limits=limits,
        software_version=st.text(max_size=20),
        occupancy=st.builds(Occupancy, *[st.integers(0, 2**32 - 1)] * 3),
    )
)
def test_a_model_info_survives_the_wire(info: ModelInfo) -> None:
    assert decode_model_info(encode_model_info(info)) == info


@given(
    kind=st.sampled_from([CapacityError, DrainingError, InvalidPromptError, UnavailableError]),
    sentence=st.text(min_size=1, max_size=80),
    retry_after_s=st.none() | st.integers(1, 10**6).map(lambda ms: ms / 1000),
)
def test_an_error_survives_the_wire(
    kind: type[OutriderError], sentence: str, retry_after_s: float | None
) -> None:
    error = kind(sentence)
    error.retry_after_s = retry_after_s
    decoded = EventDecoder(3).decode(EventEncoder(3).encode(Failure(error)))
    assert isinstance(decoded, Failure)
    assert type(decoded.error) is kind
    assert str(decoded.error) == sentence
    assert decoded.error.retry_after_s == retry_after_s


def test_an_error_that_says_nothing_gets_a_sentence() -> None:
    decoded = EventDecoder(3).decode(EventEncoder(3).encode(Failure(UnavailableError(""))))
    assert isinstance(decoded, Failure)
    assert str(decoded.error) == "The other side failed and did not say why; try again."
