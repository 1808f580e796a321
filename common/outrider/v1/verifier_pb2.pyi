from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AcceptanceMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACCEPTANCE_MODE_UNSPECIFIED: _ClassVar[AcceptanceMode]
    ACCEPTANCE_MODE_EXACT: _ClassVar[AcceptanceMode]
    ACCEPTANCE_MODE_REJECTION: _ClassVar[AcceptanceMode]
    ACCEPTANCE_MODE_TYPICAL: _ClassVar[AcceptanceMode]
    ACCEPTANCE_MODE_RELAXED: _ClassVar[AcceptanceMode]

class FinishReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINISH_REASON_UNSPECIFIED: _ClassVar[FinishReason]
    FINISH_REASON_STOP: _ClassVar[FinishReason]
    FINISH_REASON_LENGTH: _ClassVar[FinishReason]
    FINISH_REASON_CANCELLED: _ClassVar[FinishReason]
ACCEPTANCE_MODE_UNSPECIFIED: AcceptanceMode
ACCEPTANCE_MODE_EXACT: AcceptanceMode
ACCEPTANCE_MODE_REJECTION: AcceptanceMode
ACCEPTANCE_MODE_TYPICAL: AcceptanceMode
ACCEPTANCE_MODE_RELAXED: AcceptanceMode
FINISH_REASON_UNSPECIFIED: FinishReason
FINISH_REASON_STOP: FinishReason
FINISH_REASON_LENGTH: FinishReason
FINISH_REASON_CANCELLED: FinishReason

class GetModelInfoRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class GetModelInfoResponse(_message.Message):
    __slots__ = ("model", "protocol_version", "vocab_size", "max_positions", "tokenizer_fingerprint", "eos_token_ids", "acceptance_modes", "limits", "software_version", "occupancy")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    VOCAB_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    EOS_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTANCE_MODES_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_VERSION_FIELD_NUMBER: _ClassVar[int]
    OCCUPANCY_FIELD_NUMBER: _ClassVar[int]
    model: str
    protocol_version: int
    vocab_size: int
    max_positions: int
    tokenizer_fingerprint: str
    eos_token_ids: _containers.RepeatedScalarFieldContainer[int]
    acceptance_modes: _containers.RepeatedScalarFieldContainer[AcceptanceMode]
    limits: Limits
    software_version: str
    occupancy: Occupancy
    def __init__(self, model: _Optional[str] = ..., protocol_version: _Optional[int] = ..., vocab_size: _Optional[int] = ..., max_positions: _Optional[int] = ..., tokenizer_fingerprint: _Optional[str] = ..., eos_token_ids: _Optional[_Iterable[int]] = ..., acceptance_modes: _Optional[_Iterable[_Union[AcceptanceMode, str]]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., software_version: _Optional[str] = ..., occupancy: _Optional[_Union[Occupancy, _Mapping]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_message_bytes", "max_outstanding_nodes", "committed_id_window", "max_sessions")
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTSTANDING_NODES_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_ID_WINDOW_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    max_message_bytes: int
    max_outstanding_nodes: int
    committed_id_window: int
    max_sessions: int
    def __init__(self, max_message_bytes: _Optional[int] = ..., max_outstanding_nodes: _Optional[int] = ..., committed_id_window: _Optional[int] = ..., max_sessions: _Optional[int] = ...) -> None: ...

class SamplingParams(_message.Message):
    __slots__ = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "seed")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    MIN_P_FIELD_NUMBER: _ClassVar[int]
    REPETITION_PENALTY_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_PENALTY_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_PENALTY_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    seed: int
    def __init__(self, temperature: _Optional[float] = ..., top_k: _Optional[int] = ..., top_p: _Optional[float] = ..., min_p: _Optional[float] = ..., repetition_penalty: _Optional[float] = ..., presence_penalty: _Optional[float] = ..., frequency_penalty: _Optional[float] = ..., seed: _Optional[int] = ...) -> None: ...

class SessionRequest(_message.Message):
    __slots__ = ("open", "prefix_part", "extend", "cancel", "ping", "padding")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    PREFIX_PART_FIELD_NUMBER: _ClassVar[int]
    EXTEND_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    open: Open
    prefix_part: PrefixPart
    extend: Extend
    cancel: Cancel
    ping: Ping
    padding: bytes
    def __init__(self, open: _Optional[_Union[Open, _Mapping]] = ..., prefix_part: _Optional[_Union[PrefixPart, _Mapping]] = ..., extend: _Optional[_Union[Extend, _Mapping]] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ..., ping: _Optional[_Union[Ping, _Mapping]] = ..., padding: _Optional[bytes] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("protocol_version", "model", "tokenizer_fingerprint", "sampling", "acceptance_mode", "num_prompt_tokens", "max_tokens", "stop_token_ids", "ignore_eos", "prefix_length", "prefix", "typical", "relaxed", "num_runner_ups", "own_guesses", "waits_for_drafts", "pad_ms", "num_top_logprobs")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    ACCEPTANCE_MODE_FIELD_NUMBER: _ClassVar[int]
    NUM_PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STOP_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    IGNORE_EOS_FIELD_NUMBER: _ClassVar[int]
    PREFIX_LENGTH_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    TYPICAL_FIELD_NUMBER: _ClassVar[int]
    RELAXED_FIELD_NUMBER: _ClassVar[int]
    NUM_RUNNER_UPS_FIELD_NUMBER: _ClassVar[int]
    OWN_GUESSES_FIELD_NUMBER: _ClassVar[int]
    WAITS_FOR_DRAFTS_FIELD_NUMBER: _ClassVar[int]
    PAD_MS_FIELD_NUMBER: _ClassVar[int]
    NUM_TOP_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    model: str
    tokenizer_fingerprint: str
    sampling: SamplingParams
    acceptance_mode: AcceptanceMode
    num_prompt_tokens: int
    max_tokens: int
    stop_token_ids: _containers.RepeatedScalarFieldContainer[int]
    ignore_eos: bool
    prefix_length: int
    prefix: _containers.RepeatedScalarFieldContainer[int]
    typical: TypicalThresholds
    relaxed: RelaxedMargins
    num_runner_ups: int
    own_guesses: bool
    waits_for_drafts: bool
    pad_ms: int
    num_top_logprobs: int
    def __init__(self, protocol_version: _Optional[int] = ..., model: _Optional[str] = ..., tokenizer_fingerprint: _Optional[str] = ..., sampling: _Optional[_Union[SamplingParams, _Mapping]] = ..., acceptance_mode: _Optional[_Union[AcceptanceMode, str]] = ..., num_prompt_tokens: _Optional[int] = ..., max_tokens: _Optional[int] = ..., stop_token_ids: _Optional[_Iterable[int]] = ..., ignore_eos: _Optional[bool] = ..., prefix_length: _Optional[int] = ..., prefix: _Optional[_Iterable[int]] = ..., typical: _Optional[_Union[TypicalThresholds, _Mapping]] = ..., relaxed: _Optional[_Union[RelaxedMargins, _Mapping]] = ..., num_runner_ups: _Optional[int] = ..., own_guesses: _Optional[bool] = ..., waits_for_drafts: _Optional[bool] = ..., pad_ms: _Optional[int] = ..., num_top_logprobs: _Optional[int] = ...) -> None: ...

class TypicalThresholds(_message.Message):
    __slots__ = ("epsilon", "delta")
    EPSILON_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    epsilon: float
    delta: float
    def __init__(self, epsilon: _Optional[float] = ..., delta: _Optional[float] = ...) -> None: ...

class RelaxedMargins(_message.Message):
    __slots__ = ("beta", "tau")
    BETA_FIELD_NUMBER: _ClassVar[int]
    TAU_FIELD_NUMBER: _ClassVar[int]
    beta: int
    tau: float
    def __init__(self, beta: _Optional[int] = ..., tau: _Optional[float] = ...) -> None: ...

class PrefixPart(_message.Message):
    __slots__ = ("tokens",)
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, tokens: _Optional[_Iterable[int]] = ...) -> None: ...

class Extend(_message.Message):
    __slots__ = ("parent_position", "parent_distance", "tokens", "distributions", "later_distances")
    PARENT_POSITION_FIELD_NUMBER: _ClassVar[int]
    PARENT_DISTANCE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    DISTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    LATER_DISTANCES_FIELD_NUMBER: _ClassVar[int]
    parent_position: int
    parent_distance: int
    tokens: _containers.RepeatedScalarFieldContainer[int]
    distributions: _containers.RepeatedCompositeFieldContainer[DraftDistribution]
    later_distances: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, parent_position: _Optional[int] = ..., parent_distance: _Optional[int] = ..., tokens: _Optional[_Iterable[int]] = ..., distributions: _Optional[_Iterable[_Union[DraftDistribution, _Mapping]]] = ..., later_distances: _Optional[_Iterable[int]] = ...) -> None: ...

class DraftDistribution(_message.Message):
    __slots__ = ("first_child", "token_steps", "weights")
    FIRST_CHILD_FIELD_NUMBER: _ClassVar[int]
    TOKEN_STEPS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    first_child: int
    token_steps: _containers.RepeatedScalarFieldContainer[int]
    weights: bytes
    def __init__(self, first_child: _Optional[int] = ..., token_steps: _Optional[_Iterable[int]] = ..., weights: _Optional[bytes] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Ping(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SessionResponse(_message.Message):
    __slots__ = ("opened", "commit", "go_away", "pong", "failure", "padding")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    GO_AWAY_FIELD_NUMBER: _ClassVar[int]
    PONG_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    opened: Opened
    commit: Commit
    go_away: GoAway
    pong: Pong
    failure: Failure
    padding: bytes
    def __init__(self, opened: _Optional[_Union[Opened, _Mapping]] = ..., commit: _Optional[_Union[Commit, _Mapping]] = ..., go_away: _Optional[_Union[GoAway, _Mapping]] = ..., pong: _Optional[_Union[Pong, _Mapping]] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ..., padding: _Optional[bytes] = ...) -> None: ...

class Pong(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Failure(_message.Message):
    __slots__ = ("reason", "message", "retry_after_ms")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    retry_after_ms: int
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("session_id", "limits", "acceptance_mode", "answers_pings", "pad_ms")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTANCE_MODE_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_PINGS_FIELD_NUMBER: _ClassVar[int]
    PAD_MS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    limits: Limits
    acceptance_mode: AcceptanceMode
    answers_pings: bool
    pad_ms: int
    def __init__(self, session_id: _Optional[str] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., acceptance_mode: _Optional[_Union[AcceptanceMode, str]] = ..., answers_pings: _Optional[bool] = ..., pad_ms: _Optional[int] = ...) -> None: ...

class Commit(_message.Message):
    __slots__ = ("start", "tokens", "num_accepted", "is_correction", "finish_reason", "queue_us", "pass_us", "num_rows", "credit", "price_permille", "runner_ups", "num_guessed", "logprobs", "top_tokens", "top_logprobs")
    START_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    IS_CORRECTION_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    PASS_US_FIELD_NUMBER: _ClassVar[int]
    NUM_ROWS_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    PRICE_PERMILLE_FIELD_NUMBER: _ClassVar[int]
    RUNNER_UPS_FIELD_NUMBER: _ClassVar[int]
    NUM_GUESSED_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    TOP_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOP_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    start: int
    tokens: _containers.RepeatedScalarFieldContainer[int]
    num_accepted: int
    is_correction: bool
    finish_reason: FinishReason
    queue_us: int
    pass_us: int
    num_rows: int
    credit: int
    price_permille: int
    runner_ups: _containers.RepeatedScalarFieldContainer[int]
    num_guessed: int
    logprobs: _containers.RepeatedScalarFieldContainer[float]
    top_tokens: _containers.RepeatedScalarFieldContainer[int]
    top_logprobs: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, start: _Optional[int] = ..., tokens: _Optional[_Iterable[int]] = ..., num_accepted: _Optional[int] = ..., is_correction: _Optional[bool] = ..., finish_reason: _Optional[_Union[FinishReason, str]] = ..., queue_us: _Optional[int] = ..., pass_us: _Optional[int] = ..., num_rows: _Optional[int] = ..., credit: _Optional[int] = ..., price_permille: _Optional[int] = ..., runner_ups: _Optional[_Iterable[int]] = ..., num_guessed: _Optional[int] = ..., logprobs: _Optional[_Iterable[float]] = ..., top_tokens: _Optional[_Iterable[int]] = ..., top_logprobs: _Optional[_Iterable[float]] = ...) -> None: ...

class GoAway(_message.Message):
    __slots__ = ("reason", "deadline_ms")
    REASON_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    deadline_ms: int
    def __init__(self, reason: _Optional[str] = ..., deadline_ms: _Optional[int] = ...) -> None: ...

class Occupancy(_message.Message):
    __slots__ = ("num_running", "num_waiting", "pass_us")
    NUM_RUNNING_FIELD_NUMBER: _ClassVar[int]
    NUM_WAITING_FIELD_NUMBER: _ClassVar[int]
    PASS_US_FIELD_NUMBER: _ClassVar[int]
    num_running: int
    num_waiting: int
    pass_us: int
    def __init__(self, num_running: _Optional[int] = ..., num_waiting: _Optional[int] = ..., pass_us: _Optional[int] = ...) -> None: ...
