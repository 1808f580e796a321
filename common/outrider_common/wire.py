"""Between messages as values (`messages`) and messages as protobuf (`outrider.v1`).

What arrives from a peer is checked here as far as its form goes; whether it fits a model or a
session is for others to say. Knows nothing of streams.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Final

from outrider.v1 import verifier_pb2 as pb
from outrider_common.acceptance import (
    Acceptance,
    AcceptanceMode,
    RelaxedMargins,
    TypicalThresholds,
)
from outrider_common.errors import (
    OutriderError,
    ProtocolViolationError,
    UnsupportedError,
    error_from_wire,
)
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
from outrider_common.wire_logprobs import decode_logprobs, encode_logprobs

MAX_BYTES_PER_TOKEN: Final = 5
"""A 32-bit id as a varint."""

NEWS_SHARE: Final = 1 / 8
"""Times and prices are said again when they differ by more than this share of what was said."""

LEAST_NEWS_US: Final = 500
LEAST_NEWS_PERMILLE: Final = 5
"""And by more than this."""

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
        pad_ms=message.pad_ms,
        prefix_length=len(message.prefix),
        num_top_logprobs=message.num_top_logprobs,
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
        pad_ms=head.pad_ms,
        protocol_version=head.protocol_version,
        num_top_logprobs=head.num_top_logprobs if head.HasField("num_top_logprobs") else None,
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


# --- while it runs -----------------------------------------------------------------------------


def encode_cancel() -> pb.SessionRequest:
    """The request that ends a session early."""
    return pb.SessionRequest(cancel=pb.Cancel())


def encode_ping() -> pb.SessionRequest:
    """The request that asks whether the verifier is there."""
    return pb.SessionRequest(ping=pb.Ping())


# --- the verifier's side ----------------------------------------------------------------------


@dataclass(slots=True)
class _Said:
    """What the reader of a stream takes a commit to say where the commit leaves it out.

    Attributes:
        start: where the next commit starts.
        queue_us: as in `Commit`.
        pass_us: as in `Commit`.
        price_permille: the price.
        credit: as in `Commit`; only writers keep it, for readers it stays what it was.
    """

    start: int
    queue_us: int = 0
    pass_us: int = 0
    price_permille: int = 0
    credit: int | None = None


class EventEncoder:
    """Turns the events of one session into responses, and leaves out what the edge expects.

    Args:
        prefix_length: tokens of the prefix with which the session was opened.
    """

    def __init__(self, prefix_length: int) -> None:
        self._said = _Said(prefix_length)

    def encode(self, event: ServerEvent) -> pb.SessionResponse:
        """The response that carries the next event."""
        match event:
            case Opened():
                return pb.SessionResponse(opened=_encode_opened(event))
            case Commit():
                return pb.SessionResponse(commit=_encode_commit(event, self._said))
            case GoAway():
                return pb.SessionResponse(
                    go_away=pb.GoAway(reason=event.reason, deadline_ms=event.deadline_ms)
                )
            case Pong():
                return pb.SessionResponse(pong=pb.Pong())
            case Failure():
                return pb.SessionResponse(failure=_encode_failure(event.error))


def _encode_opened(event: Opened) -> pb.Opened:
    mode = event.acceptance_mode
    return pb.Opened(
        session_id=event.session_id,
        limits=pb.Limits(**asdict(event.limits)),
        acceptance_mode=None if mode is AcceptanceMode.EXACT else _MODE_NAMES[mode],
        answers_pings=event.answers_pings,
        pad_ms=event.pad_ms,
    )


def _encode_failure(error: OutriderError) -> pb.Failure:
    retry_after_ms = round((error.retry_after_s or 0.0) * 1000)
    return pb.Failure(reason=error.reason, message=str(error), retry_after_ms=retry_after_ms)


def _decode_failure(message: pb.Failure) -> Failure:
    error = error_from_wire(message.reason, message.message)
    if message.retry_after_ms:
        error.retry_after_s = message.retry_after_ms / 1000
    return Failure(error)


def _encode_commit(event: Commit, said: _Said) -> pb.Commit:
    num_tokens = len(event.tokens)
    message = pb.Commit(
        start=0 if event.start == said.start else event.start,
        tokens=event.tokens,
        num_accepted=_unless(
            _accepted_by_default(num_tokens, event.num_guessed), event.num_accepted
        ),
        is_correction=event.is_correction,
        finish_reason=_FINISH_NAMES[event.finish_reason] if event.finish_reason else None,
        num_rows=_unless(num_tokens, event.num_rows),
        runner_ups=chain.from_iterable(event.runner_ups),
        num_guessed=event.num_guessed,
    )
    encode_logprobs(event.logprobs, message)
    said.start = event.start + num_tokens
    _encode_load(event, message, said)
    return message


def _encode_load(event: Commit, message: pb.Commit, said: _Said) -> None:
    """What the verifier's load does to the session, as far as it has changed."""
    price_permille = round(event.price * 1000)
    if _has_changed(said.queue_us, event.queue_us, LEAST_NEWS_US):
        message.queue_us = said.queue_us = event.queue_us
    if _has_changed(said.pass_us, event.pass_us, LEAST_NEWS_US):
        message.pass_us = said.pass_us = event.pass_us
    if _has_changed(said.price_permille, price_permille, LEAST_NEWS_PERMILLE):
        message.price_permille = said.price_permille = price_permille
    if event.credit is not None and event.credit != said.credit:
        message.credit = said.credit = event.credit


def _unless(expected: int, value: int) -> int | None:
    return None if value == expected else value


def _accepted_by_default(num_tokens: int, num_guessed: int) -> int:
    return max(num_tokens - 1 - num_guessed, 0)


def _has_changed(said: int, value: int, least: int) -> bool:
    return abs(value - said) > max(said * NEWS_SHARE, least)


class EventDecoder:
    """Turns the responses of one session into events.

    Args:
        prefix_length: tokens of the prefix with which the session was opened.
    """

    def __init__(self, prefix_length: int) -> None:
        self._said = _Said(prefix_length)

    def decode(self, response: pb.SessionResponse) -> ServerEvent | None:
        """The event of the next response; None for one that a later version may send.

        Raises:
            ProtocolViolationError: a commit whose counts, runner-ups or log-probabilities do not
                fit its tokens.
            UnsupportedError: an acceptance mode that this version does not know.
        """
        match response.WhichOneof("message"):
            case "opened":
                return _decode_opened(response.opened)
            case "commit":
                return _decode_commit(response.commit, self._said)
            case "go_away":
                return GoAway(response.go_away.reason, response.go_away.deadline_ms)
            case "pong":
                return Pong()
            case "failure":
                return _decode_failure(response.failure)
            case _:
                return None


def _decode_opened(message: pb.Opened) -> Opened:
    mode = _decode_mode(message.acceptance_mode or pb.ACCEPTANCE_MODE_EXACT)
    limits = decode_limits(message.limits)
    return Opened(message.session_id, limits, mode, message.answers_pings, message.pad_ms)


def _decode_commit(message: pb.Commit, said: _Said) -> Commit:
    num_tokens, num_accepted = len(message.tokens), _num_accepted(message)
    start = message.start or said.start
    said.start = start + num_tokens
    said.queue_us = _either(message, "queue_us", said.queue_us)
    said.pass_us = _either(message, "pass_us", said.pass_us)
    said.price_permille = _either(message, "price_permille", said.price_permille)
    return Commit(
        start=start,
        tokens=tuple(message.tokens),
        num_accepted=num_accepted,
        is_correction=message.is_correction,
        finish_reason=_FINISHES.get(message.finish_reason),
        queue_us=said.queue_us,
        pass_us=said.pass_us,
        num_rows=_either(message, "num_rows", num_tokens),
        credit=message.credit if message.HasField("credit") else None,
        price=said.price_permille / 1000,
        runner_ups=_decode_runner_ups(message),
        num_guessed=message.num_guessed,
        logprobs=decode_logprobs(message),
    )


def _either(message: pb.Commit, field: str, expected: int) -> int:
    """What a commit says, or what is expected where it does not."""
    value: int = getattr(message, field)
    return value if message.HasField(field) else expected


def _num_accepted(message: pb.Commit) -> int:
    num_tokens, num_guessed = len(message.tokens), message.num_guessed
    by_default = _accepted_by_default(num_tokens, num_guessed)
    num_accepted = _either(message, "num_accepted", by_default)
    if not num_tokens - 1 <= num_accepted + num_guessed <= num_tokens:
        raise ProtocolViolationError(
            f"A commit of {num_tokens} tokens says that {num_accepted} were accepted and "
            f"{num_guessed} guessed; all were, or all but the last."
        )
    return num_accepted


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
        occupancy=pb.Occupancy(**asdict(info.occupancy)),
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
        occupancy=_decode_occupancy(message.occupancy),
    )


def _decode_occupancy(message: pb.Occupancy) -> Occupancy:
    return Occupancy(message.num_running, message.num_waiting, message.pass_us)
