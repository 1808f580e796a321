"""Messages survive the wire, and what no correct peer sends is refused."""

import contextlib
from collections.abc import Callable

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from outrider.v1 import verifier_pb2 as pb
from outrider_common.acceptance import (
    MAX_DRAFT_TOKENS,
    Acceptance,
    AcceptanceMode,
    RelaxedMargins,
    SparseDistribution,
    TypicalThresholds,
)
from outrider_common.errors import (
    InvalidPromptError,
    InvalidSamplingError,
    ProtocolViolationError,
    UnsupportedError,
)
from outrider_common.messages import (
    Commit,
    FinishReason,
    GoAway,
    Limits,
    ModelInfo,
    Opened,
    OpenSession,
    ServerEvent,
)
from outrider_common.sampling import SamplingParams
from outrider_common.tree import AtNode, AtPosition, DraftNode, Parent
from outrider_common.wire import (
    OpenAssembler,
    decode_event,
    decode_extend,
    decode_model_info,
    encode_event,
    encode_extend,
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
        assembler.feed(pb.SessionRequest(extend=pb.Extend(first_id=1)))


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


drafts = st.dictionaries(tokens, st.integers(1, 255), min_size=1, max_size=MAX_DRAFT_TOKENS).map(
    lambda q: SparseDistribution(tuple(sorted(q)), tuple(q[token] for token in sorted(q)))
)


@st.composite
def node_runs(draw: st.DrawFn) -> list[DraftNode]:
    ids = draw(st.sets(st.integers(1, 20), min_size=1))
    nodes: list[DraftNode] = []
    for node_id in sorted(ids):
        parents: list[st.SearchStrategy[Parent]] = [
            st.integers(0, 3).map(AtPosition),
        ]
        if node_id > 1:
            parents += [
                st.integers(1, node_id - 1).map(AtNode),
                st.just(AtNode(node_id - 1)),
            ]
        draft = draw(st.none() | drafts)
        nodes.append(DraftNode(node_id, draw(tokens), draw(st.one_of(parents)), draft))
    return nodes


@given(nodes=node_runs())
def test_draft_nodes_of_any_shape_survive_the_wire(nodes: list[DraftNode]) -> None:
    arrived = [
        node for request in encode_extend(nodes) for node in decode_extend(request.extend).nodes
    ]
    assert arrived == nodes


def test_a_chain_costs_no_parent_list() -> None:
    nodes = [DraftNode(8, 500, AtPosition(70))]
    nodes += [DraftNode(i, 500, AtNode(i - 1)) for i in range(9, 20)]
    (request,) = encode_extend(nodes)
    assert not request.extend.parent_distances
    assert request.ByteSize() == 2 + 2 + 2 + 2 + 12 * 2  # envelope, first_id, parent, tag, tokens


def test_a_chain_that_goes_on_names_no_parent() -> None:
    (request,) = encode_extend([DraftNode(8, 1, AtNode(7))])
    assert request.extend.WhichOneof("parent") is None


def test_a_distribution_costs_a_byte_for_each_weight_and_the_steps_between_its_tokens() -> None:
    draft = SparseDistribution(tuple(range(100, 40_100, 2500)), (15,) * 16)
    plain, drawn = (
        next(encode_extend([DraftNode(8, 500, AtNode(7), source)])).ByteSize()
        for source in (None, draft)
    )
    # tag and length of the distribution, of its steps, of its weights; 1 + 15 * 2; 16
    assert drawn - plain == 2 + 2 + 2 + (1 + 15 * 2) + 16


def test_a_distribution_arrives_in_ascending_order() -> None:
    sent = SparseDistribution((7, 3), (1, 2))
    (request,) = encode_extend([DraftNode(1, 3, AtPosition(0), sent)])
    (node,) = decode_extend(request.extend).nodes
    assert node.draft == SparseDistribution((3, 7), (2, 1))


def a_distribution(**fields: object) -> pb.DraftDistribution:
    whole = {"first_child": 0, "token_steps": [3, 1], "weights": b"\x01\x02"}
    return pb.DraftDistribution(**(whole | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("distributions", "sentence"),
    [
        ([a_distribution(first_child=1)], "node 1 of a message that has 1"),
        ([a_distribution(), a_distribution()], "at most one"),
        ([a_distribution(token_steps=[1] * 65, weights=b"\x01" * 65)], "has 65 tokens"),
        ([a_distribution(token_steps=[3])], "1 tokens and 2 weights"),
        ([a_distribution(token_steps=[], weights=b"")], "0 tokens and 0 weights"),
        ([a_distribution(token_steps=[3, 0])], "distinct"),
        ([a_distribution(weights=b"\x01\x00")], "above 0"),
    ],
)
def test_a_distribution_that_is_none_is_refused_with_a_sentence(
    distributions: list[pb.DraftDistribution], sentence: str
) -> None:
    message = pb.Extend(first_id=1, parent_position=0, tokens=[3], distributions=distributions)
    with pytest.raises(ProtocolViolationError, match=sentence):
        decode_extend(message)


@given(data=st.binary(max_size=300))
def test_any_bytes_are_draft_nodes_or_refused(data: bytes) -> None:
    try:
        message = pb.Extend.FromString(data)
    except DecodeError:
        return
    with contextlib.suppress(ProtocolViolationError):
        for node in decode_extend(message).nodes:
            assert node.draft is None or node.draft.fits_the_wire


def test_draft_nodes_without_ids_are_refused() -> None:
    with pytest.raises(ProtocolViolationError, match="ids start at 1"):
        decode_extend(pb.Extend(tokens=[1]))


def test_a_parent_list_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ProtocolViolationError, match="2 tokens but 1 parent"):
        decode_extend(pb.Extend(first_id=1, parent_position=0, tokens=[1, 2], parent_distances=[0]))


def test_an_extend_without_nodes_is_empty() -> None:
    assert decode_extend(pb.Extend(first_id=1)).nodes == ()


commits = st.builds(
    lambda base, guessed, own, best: Commit(
        **{
            **base,
            "tokens": base["tokens"] + guessed + own,
            "num_accepted": len(base["tokens"]),
            "num_guessed": len(guessed),
        },
        runner_ups=(best,) * len(base["tokens"] + guessed + own) if best else (),
    ),
    st.fixed_dictionaries(
        {
            "start": st.integers(0, 10_000),
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
)
events: st.SearchStrategy[ServerEvent] = st.one_of(
    commits,
    st.builds(
        Opened,
        session_id=st.text(max_size=40),
        limits=limits,
        acceptance_mode=st.sampled_from(AcceptanceMode),
    ),
    st.builds(GoAway, reason=st.text(max_size=40), deadline_ms=st.integers(0, 10**6)),
)


@given(event=events)
def test_every_event_of_the_verifier_survives_the_wire(event: ServerEvent) -> None:
    assert decode_event(encode_event(event)) == event


def test_an_event_of_a_later_version_is_passed_over() -> None:
    assert decode_event(pb.SessionResponse()) is None


@pytest.mark.parametrize(
    ("num_accepted", "num_guessed"), [(0, 0), (4, 0), (0, 1), (2, 2), (1, 0), (2**32 - 1, 4)]
)
def test_a_commit_whose_counts_do_not_fit_is_refused(num_accepted: int, num_guessed: int) -> None:
    response = pb.SessionResponse(
        commit=pb.Commit(tokens=[1, 2, 3], num_accepted=num_accepted, num_guessed=num_guessed)
    )
    with pytest.raises(ProtocolViolationError, match="commit of 3 tokens"):
        decode_event(response)


def test_runner_ups_are_shared_out_in_the_order_of_the_tokens() -> None:
    message = pb.Commit(tokens=[1, 2, 3], num_accepted=2, runner_ups=[10, 11, 20, 21, 30, 31])
    event = decode_event(pb.SessionResponse(commit=message))
    assert isinstance(event, Commit)
    assert event.runner_ups == ((10, 11), (20, 21), (30, 31))


@pytest.mark.parametrize("tokens", [[], [1, 2]])
def test_runner_ups_that_do_not_fit_the_tokens_are_refused(tokens: list[int]) -> None:
    message = pb.Commit(tokens=tokens, num_accepted=len(tokens), runner_ups=[10, 11, 20])
    with pytest.raises(ProtocolViolationError, match="3 runner-ups"):
        decode_event(pb.SessionResponse(commit=message))


def test_an_edge_that_wants_no_runner_ups_and_no_guesses_sends_and_gets_not_a_byte_more() -> None:
    assert pb.Open(num_runner_ups=0).ByteSize() == 0
    assert pb.Open(own_guesses=False, waits_for_drafts=False).ByteSize() == 0
    commit = Commit(0, (), 0)
    assert not encode_event(commit).commit.runner_ups
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
    )
)
def test_a_model_info_survives_the_wire(info: ModelInfo) -> None:
    assert decode_model_info(encode_model_info(info)) == info
