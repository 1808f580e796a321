"""Between messages as values (`messages`) and messages as protobuf (`outrider.v1`).

What arrives from a peer is checked here as far as its form goes; whether it fits a model or a
session is for others to say. Knows nothing of streams.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import accumulate, chain
from typing import Final

from outrider.v1 import verifier_pb2 as pb
from outrider_common.acceptance import (
    MAX_DRAFT_TOKENS,
    Acceptance,
    AcceptanceMode,
    RelaxedMargins,
    SparseDistribution,
    TypicalThresholds,
)
from outrider_common.errors import ProtocolViolationError, UnsupportedError
from outrider_common.messages import (
    Commit,
    Extend,
    FinishReason,
    GoAway,
    Limits,
    ModelInfo,
    Opened,
    OpenSession,
    ServerEvent,
)
from outrider_common.sampling import SamplingParams
from outrider_common.tree import AtNode, AtPosition, DraftNode

MAX_BYTES_PER_TOKEN: Final = 5
"""A 32-bit id as a varint."""

_ENVELOPE_BYTES: Final = 32
"""Room for the tags and lengths around the tokens of a prefix part."""

_MODE_NAMES: Final = {mode: f"ACCEPTANCE_MODE_{mode.name}" for mode in AcceptanceMode}
_MODES: Final = {pb.AcceptanceMode.Value(name): mode for mode, name in _MODE_NAMES.items()}
_FINISH_NAMES: Final = {reason: f"FINISH_REASON_{reason.name}" for reason in FinishReason}
_FINISHES: Final = {pb.FinishReason.Value(name): reason for reason, name in _FINISH_NAMES.items()}


# --- opening ----------------------------------------------------------------------------------


def encode_open(message: OpenSession, max_message_bytes: int) -> Iterator[pb.SessionRequest]:
    """The requests that open a session, each within the limit."""
    head = pb.Open(
        protocol_version=message.protocol_version,
        model=message.model,
        tokenizer_fingerprint=message.tokenizer_fingerprint,
        sampling=pb.SamplingParams(**asdict(message.sampling)),
        acceptance_mode=_MODE_NAMES[message.acceptance.mode],
        num_prompt_tokens=message.num_prompt_tokens,
        max_tokens=message.max_tokens,
        stop_token_ids=message.stop_token_ids,
        ignore_eos=message.ignore_eos,
        num_runner_ups=message.num_runner_ups,
        own_guesses=message.own_guesses,
        waits_for_drafts=message.waits_for_drafts,
        prefix_length=len(message.prefix),
    )
    _encode_thresholds(message.acceptance, head)
    room = max_message_bytes - head.ByteSize() - _ENVELOPE_BYTES
    num_in_head = max(room // MAX_BYTES_PER_TOKEN, 0)
    head.prefix.extend(message.prefix[:num_in_head])
    yield pb.SessionRequest(open=head)
    part_length = max((max_message_bytes - _ENVELOPE_BYTES) // MAX_BYTES_PER_TOKEN, 1)
    for start in range(num_in_head, len(message.prefix), part_length):
        part = pb.PrefixPart(tokens=message.prefix[start : start + part_length])
        yield pb.SessionRequest(prefix_part=part)


def _encode_thresholds(acceptance: Acceptance, head: pb.Open) -> None:
    """The thresholds of its mode, which are all that the verifier reads."""
    match acceptance.mode:
        case AcceptanceMode.TYPICAL:
            head.typical.CopyFrom(pb.TypicalThresholds(**asdict(acceptance.typical)))
        case AcceptanceMode.RELAXED:
            head.relaxed.CopyFrom(pb.RelaxedMargins(**asdict(acceptance.relaxed)))
        case _:
            pass


class OpenAssembler:
    """Puts an `OpenSession` together from its first message and the prefix parts after it.

    Args:
        check_length: refuses a prefix by the length that is announced, before it is collected.
    """

    def __init__(self, check_length: Callable[[int], None]) -> None:
        self._check_length = check_length
        self._head: pb.Open | None = None
        self._prefix: list[int] = []

    def feed(self, request: pb.SessionRequest) -> OpenSession | None:
        """Take the next message; the whole once its prefix is complete, else None.

        Raises:
            InvalidPromptError: the announced length is refused.
            ProtocolViolationError: a message out of turn, or more tokens than announced.
            InvalidSamplingError: a sampling parameter or a threshold of acceptance is out of range.
            UnsupportedError: an acceptance mode that this version does not know.
        """
        if self._head is None:
            self._begin(request)
        elif request.WhichOneof("message") == "prefix_part":
            self._prefix.extend(request.prefix_part.tokens)
        else:
            raise ProtocolViolationError(
                f"Got a message '{request.WhichOneof('message')}' while the prefix was still "
                f"incomplete ({len(self._prefix)} tokens); send the rest of the prefix first."
            )
        return self._finish_if_whole()

    def _begin(self, request: pb.SessionRequest) -> None:
        if request.WhichOneof("message") != "open":
            raise ProtocolViolationError(
                f"The first message of a session was '{request.WhichOneof('message')}'; "
                "it must be 'open'."
            )
        self._head = request.open
        self._check_length(self._head.prefix_length)
        self._prefix.extend(self._head.prefix)

    def _finish_if_whole(self) -> OpenSession | None:
        head = self._head
        assert head is not None
        if len(self._prefix) > head.prefix_length:
            raise ProtocolViolationError(
                f"The prefix was announced with {head.prefix_length} tokens, but "
                f"{len(self._prefix)} have arrived."
            )
        if len(self._prefix) < head.prefix_length:
            return None
        return _decode_open(head, tuple(self._prefix))


def _decode_open(head: pb.Open, prefix: tuple[int, ...]) -> OpenSession:
    sampling = head.sampling
    return OpenSession(
        prefix=prefix,
        num_prompt_tokens=head.num_prompt_tokens,
        max_tokens=head.max_tokens,
        sampling=SamplingParams(
            **{field.name: getattr(sampling, field.name) for field in sampling.DESCRIPTOR.fields}
        ),
        tokenizer_fingerprint=head.tokenizer_fingerprint,
        model=head.model,
        acceptance=_decode_acceptance(head),
        stop_token_ids=tuple(head.stop_token_ids),
        ignore_eos=head.ignore_eos,
        num_runner_ups=head.num_runner_ups,
        own_guesses=head.own_guesses,
        waits_for_drafts=head.waits_for_drafts,
        protocol_version=head.protocol_version,
    )


def _decode_acceptance(head: pb.Open) -> Acceptance:
    match mode := _decode_mode(head.acceptance_mode):
        case AcceptanceMode.TYPICAL:
            typical = TypicalThresholds(head.typical.epsilon, head.typical.delta)
            return Acceptance(mode, typical=typical)
        case AcceptanceMode.RELAXED:
            relaxed = RelaxedMargins(head.relaxed.beta, head.relaxed.tau)
            return Acceptance(mode, relaxed=relaxed)
        case _:
            return Acceptance(mode)


def _decode_mode(number: int) -> AcceptanceMode:
    if number not in _MODES:
        raise UnsupportedError(
            f"Acceptance mode number {number} is not known here; this version knows "
            f"{', '.join(mode.value for mode in AcceptanceMode)}."
        )
    return _MODES[number]


# --- drafting ---------------------------------------------------------------------------------


def encode_extend(nodes: Sequence[DraftNode]) -> Iterator[pb.SessionRequest]:
    """The requests that carry nodes with rising ids.

    One request, unless ids are left out or the nodes hang from several committed positions.

    Args:
        nodes: what they were drawn from must fit the wire (`SparseDistribution.fits_the_wire`).
    """
    begin = 0
    for end in range(1, len(nodes) + 1):
        if end == len(nodes) or not _continues(nodes[begin:end], nodes[end]):
            yield pb.SessionRequest(extend=_encode_run(nodes[begin:end]))
            begin = end


def _continues(run: Sequence[DraftNode], node: DraftNode) -> bool:
    """Whether the message that carries a run can carry this node after it."""
    is_next = node.node_id == run[-1].node_id + 1
    return is_next and (isinstance(node.parent, AtNode) or node.parent == run[0].parent)


def _encode_run(nodes: Sequence[DraftNode]) -> pb.Extend:
    first = nodes[0]
    message = pb.Extend(first_id=first.node_id, tokens=[node.token for node in nodes])
    if isinstance(first.parent, AtPosition):
        message.parent_position = first.parent.position
    elif first.parent.node_id != first.node_id - 1:
        message.parent_id = first.parent.node_id
    distances = [0, *(_distance(node) for node in nodes[1:])]
    if any(distance != 1 for distance in distances[1:]):
        message.parent_distances.extend(distances)
    message.distributions.extend(
        _encode_distribution(place, node.draft)
        for place, node in enumerate(nodes)
        if node.draft is not None
    )
    return message


def _encode_distribution(place: int, draft: SparseDistribution) -> pb.DraftDistribution:
    """What the node at a place of its message, and its siblings, were drawn from."""
    token_ids, weights = zip(*sorted(zip(draft.token_ids, draft.weights, strict=True)), strict=True)
    before = (0, *token_ids)
    return pb.DraftDistribution(
        first_child=place,
        token_steps=[token - last for token, last in zip(token_ids, before, strict=False)],
        weights=bytes(weights),
    )


def _distance(node: DraftNode) -> int:
    return node.node_id - node.parent.node_id if isinstance(node.parent, AtNode) else 0


def decode_extend(message: pb.Extend) -> Extend:
    """The draft nodes of a message.

    Raises:
        ProtocolViolationError: no ids, a parent list that does not fit the tokens, or a
            distribution that is none.
    """
    if message.first_id < 1:
        raise ProtocolViolationError("A message of draft nodes has first_id 0; ids start at 1.")
    num_nodes = len(message.tokens)
    distances = list(message.parent_distances) or [0, *[1] * (num_nodes - 1)]
    if num_nodes and len(distances) != num_nodes:
        raise ProtocolViolationError(
            f"A message of draft nodes has {num_nodes} tokens but {len(distances)} parent "
            "distances; send one for each token, or none for a chain."
        )
    base = _decode_base(message)
    drafts = _decode_distributions(message.distributions, num_nodes)
    return Extend(
        tuple(
            DraftNode(
                message.first_id + place,
                token,
                AtNode(message.first_id + place - distance) if distance else base,
                drafts.get(place),
            )
            for place, (token, distance) in enumerate(zip(message.tokens, distances, strict=False))
        )
    )


def _decode_distributions(
    messages: Sequence[pb.DraftDistribution], num_nodes: int
) -> dict[int, SparseDistribution]:
    """What the children of some parents were drawn from, under the place of the first child."""
    drafts: dict[int, SparseDistribution] = {}
    for message in messages:
        place = message.first_child
        if place >= num_nodes or place in drafts:
            raise ProtocolViolationError(
                f"A draft distribution belongs to node {place} of a message that has {num_nodes} "
                "nodes, counted from 0; send at most one for each of them."
            )
        drafts[place] = _decode_distribution(message)
    return drafts


def _decode_distribution(message: pb.DraftDistribution) -> SparseDistribution:
    num_tokens = len(message.token_steps)
    if num_tokens > MAX_DRAFT_TOKENS:
        raise ProtocolViolationError(
            f"A draft distribution has {num_tokens} tokens; send the {MAX_DRAFT_TOKENS} likeliest "
            "at most."
        )
    return SparseDistribution(tuple(accumulate(message.token_steps)), tuple(message.weights))


def _decode_base(message: pb.Extend) -> AtNode | AtPosition:
    match message.WhichOneof("parent"):
        case "parent_id":
            return AtNode(message.parent_id)
        case "parent_position":
            return AtPosition(message.parent_position)
        case _:
            return AtNode(message.first_id - 1)


def encode_cancel() -> pb.SessionRequest:
    """The request that ends a session early."""
    return pb.SessionRequest(cancel=pb.Cancel())


# --- the verifier's side ----------------------------------------------------------------------


def encode_event(event: ServerEvent) -> pb.SessionResponse:
    """The response that carries an event."""
    match event:
        case Opened():
            return pb.SessionResponse(opened=_encode_opened(event))
        case Commit():
            return pb.SessionResponse(commit=_encode_commit(event))
        case GoAway():
            return pb.SessionResponse(
                go_away=pb.GoAway(reason=event.reason, deadline_ms=event.deadline_ms)
            )


def _encode_opened(event: Opened) -> pb.Opened:
    mode = event.acceptance_mode
    return pb.Opened(
        session_id=event.session_id,
        limits=pb.Limits(**asdict(event.limits)),
        acceptance_mode=None if mode is AcceptanceMode.EXACT else _MODE_NAMES[mode],
    )


def _encode_commit(event: Commit) -> pb.Commit:
    return pb.Commit(
        start=event.start,
        tokens=event.tokens,
        num_accepted=event.num_accepted,
        is_correction=event.is_correction,
        finish_reason=_FINISH_NAMES[event.finish_reason] if event.finish_reason else None,
        queue_us=event.queue_us,
        pass_us=event.pass_us,
        num_rows=event.num_rows,
        credit=event.credit,
        price_permille=round(event.price * 1000),
        runner_ups=chain.from_iterable(event.runner_ups),
        num_guessed=event.num_guessed,
    )


def decode_event(response: pb.SessionResponse) -> ServerEvent | None:
    """The event of a response; None for one that a later version may send.

    Raises:
        ProtocolViolationError: a commit whose counts or runner-ups do not fit its tokens.
        UnsupportedError: an acceptance mode that this version does not know.
    """
    match response.WhichOneof("message"):
        case "opened":
            return _decode_opened(response.opened)
        case "commit":
            return _decode_commit(response.commit)
        case "go_away":
            return GoAway(response.go_away.reason, response.go_away.deadline_ms)
        case _:
            return None


def _decode_opened(message: pb.Opened) -> Opened:
    mode = _decode_mode(message.acceptance_mode or pb.ACCEPTANCE_MODE_EXACT)
    return Opened(message.session_id, decode_limits(message.limits), mode)


def _decode_commit(message: pb.Commit) -> Commit:
    num_carried = message.num_accepted + message.num_guessed
    if not len(message.tokens) - 1 <= num_carried <= len(message.tokens):
        raise ProtocolViolationError(
            f"A commit of {len(message.tokens)} tokens says that {message.num_accepted} were "
            f"accepted and {message.num_guessed} guessed; all were, or all but the last."
        )
    return Commit(
        start=message.start,
        tokens=tuple(message.tokens),
        num_accepted=message.num_accepted,
        is_correction=message.is_correction,
        finish_reason=_FINISHES.get(message.finish_reason),
        queue_us=message.queue_us,
        pass_us=message.pass_us,
        num_rows=message.num_rows,
        credit=message.credit if message.HasField("credit") else None,
        price=message.price_permille / 1000,
        runner_ups=_decode_runner_ups(message),
        num_guessed=message.num_guessed,
    )


def _decode_runner_ups(message: pb.Commit) -> tuple[tuple[int, ...], ...]:
    """For each token of a commit equally many."""
    num_tokens, num_runner_ups = len(message.tokens), len(message.runner_ups)
    if not num_runner_ups:
        return ()
    if not num_tokens or num_runner_ups % num_tokens:
        raise ProtocolViolationError(
            f"A commit of {num_tokens} tokens comes with {num_runner_ups} runner-ups; there must "
            "be equally many for each token."
        )
    each = num_runner_ups // num_tokens
    return tuple(
        tuple(message.runner_ups[first : first + each]) for first in range(0, num_runner_ups, each)
    )


def decode_limits(message: pb.Limits) -> Limits:
    """The limits that a verifier announces."""
    return Limits(
        **{field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}
    )


def encode_model_info(info: ModelInfo) -> pb.GetModelInfoResponse:
    """A target model as it is announced."""
    return pb.GetModelInfoResponse(
        model=info.model,
        protocol_version=info.protocol_version,
        vocab_size=info.vocab_size,
        max_positions=info.max_positions,
        tokenizer_fingerprint=info.tokenizer_fingerprint,
        eos_token_ids=info.eos_token_ids,
        acceptance_modes=[_MODE_NAMES[mode] for mode in info.acceptance_modes],
        limits=pb.Limits(**asdict(info.limits)),
        software_version=info.software_version,
    )


def decode_model_info(message: pb.GetModelInfoResponse) -> ModelInfo:
    """A target model as announced; acceptance modes of later versions are left out."""
    return ModelInfo(
        model=message.model,
        protocol_version=message.protocol_version,
        vocab_size=message.vocab_size,
        max_positions=message.max_positions,
        tokenizer_fingerprint=message.tokenizer_fingerprint,
        eos_token_ids=tuple(message.eos_token_ids),
        acceptance_modes=tuple(
            _MODES[number] for number in message.acceptance_modes if number in _MODES
        ),
        limits=decode_limits(message.limits),
        software_version=message.software_version,
    )
