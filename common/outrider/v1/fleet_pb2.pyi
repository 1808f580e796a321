import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DeviceStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEVICE_STATUS_UNSPECIFIED: _ClassVar[DeviceStatus]
    DEVICE_STATUS_OFFLINE: _ClassVar[DeviceStatus]
    DEVICE_STATUS_WAITING: _ClassVar[DeviceStatus]
    DEVICE_STATUS_READY: _ClassVar[DeviceStatus]
    DEVICE_STATUS_DRAINED: _ClassVar[DeviceStatus]
    DEVICE_STATUS_STOPPING: _ClassVar[DeviceStatus]

class SettingsOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SETTINGS_OUTCOME_UNSPECIFIED: _ClassVar[SettingsOutcome]
    SETTINGS_OUTCOME_APPLIED: _ClassVar[SettingsOutcome]
    SETTINGS_OUTCOME_REFUSED: _ClassVar[SettingsOutcome]

class RolloutStage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLLOUT_STAGE_UNSPECIFIED: _ClassVar[RolloutStage]
    ROLLOUT_STAGE_DOWNLOADING: _ClassVar[RolloutStage]
    ROLLOUT_STAGE_MEASURING: _ClassVar[RolloutStage]
    ROLLOUT_STAGE_TRYING: _ClassVar[RolloutStage]
    ROLLOUT_STAGE_ACCEPTED: _ClassVar[RolloutStage]
    ROLLOUT_STAGE_ROLLED_BACK: _ClassVar[RolloutStage]
    ROLLOUT_STAGE_REFUSED: _ClassVar[RolloutStage]
DEVICE_STATUS_UNSPECIFIED: DeviceStatus
DEVICE_STATUS_OFFLINE: DeviceStatus
DEVICE_STATUS_WAITING: DeviceStatus
DEVICE_STATUS_READY: DeviceStatus
DEVICE_STATUS_DRAINED: DeviceStatus
DEVICE_STATUS_STOPPING: DeviceStatus
SETTINGS_OUTCOME_UNSPECIFIED: SettingsOutcome
SETTINGS_OUTCOME_APPLIED: SettingsOutcome
SETTINGS_OUTCOME_REFUSED: SettingsOutcome
ROLLOUT_STAGE_UNSPECIFIED: RolloutStage
ROLLOUT_STAGE_DOWNLOADING: RolloutStage
ROLLOUT_STAGE_MEASURING: RolloutStage
ROLLOUT_STAGE_TRYING: RolloutStage
ROLLOUT_STAGE_ACCEPTED: RolloutStage
ROLLOUT_STAGE_ROLLED_BACK: RolloutStage
ROLLOUT_STAGE_REFUSED: RolloutStage

class DeviceState(_message.Message):
    __slots__ = ("status", "reason", "software_version", "bundle", "model", "verifier", "up_since")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_VERSION_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERIFIER_FIELD_NUMBER: _ClassVar[int]
    UP_SINCE_FIELD_NUMBER: _ClassVar[int]
    status: DeviceStatus
    reason: str
    software_version: str
    bundle: str
    model: str
    verifier: str
    up_since: _timestamp_pb2.Timestamp
    def __init__(self, status: _Optional[_Union[DeviceStatus, str]] = ..., reason: _Optional[str] = ..., software_version: _Optional[str] = ..., bundle: _Optional[str] = ..., model: _Optional[str] = ..., verifier: _Optional[str] = ..., up_since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Telemetry(_message.Message):
    __slots__ = ("at", "uptime_s", "num_answers", "num_tokens", "num_running", "acceptance_rate", "tokens_per_s", "tokens_per_pass", "round_trip_s", "num_resumes")
    AT_FIELD_NUMBER: _ClassVar[int]
    UPTIME_S_FIELD_NUMBER: _ClassVar[int]
    NUM_ANSWERS_FIELD_NUMBER: _ClassVar[int]
    NUM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_RUNNING_FIELD_NUMBER: _ClassVar[int]
    ACCEPTANCE_RATE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_S_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_PASS_FIELD_NUMBER: _ClassVar[int]
    ROUND_TRIP_S_FIELD_NUMBER: _ClassVar[int]
    NUM_RESUMES_FIELD_NUMBER: _ClassVar[int]
    at: _timestamp_pb2.Timestamp
    uptime_s: float
    num_answers: int
    num_tokens: int
    num_running: int
    acceptance_rate: float
    tokens_per_s: float
    tokens_per_pass: float
    round_trip_s: float
    num_resumes: int
    def __init__(self, at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., uptime_s: _Optional[float] = ..., num_answers: _Optional[int] = ..., num_tokens: _Optional[int] = ..., num_running: _Optional[int] = ..., acceptance_rate: _Optional[float] = ..., tokens_per_s: _Optional[float] = ..., tokens_per_pass: _Optional[float] = ..., round_trip_s: _Optional[float] = ..., num_resumes: _Optional[int] = ...) -> None: ...

class DesiredSettings(_message.Message):
    __slots__ = ("revision", "values")
    class ValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REVISION_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    revision: int
    values: _containers.ScalarMap[str, str]
    def __init__(self, revision: _Optional[int] = ..., values: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ReportedSettings(_message.Message):
    __slots__ = ("revision", "values", "asked_revision", "outcome", "reason", "restart_needed")
    class ValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REVISION_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    ASKED_REVISION_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RESTART_NEEDED_FIELD_NUMBER: _ClassVar[int]
    revision: int
    values: _containers.ScalarMap[str, str]
    asked_revision: int
    outcome: SettingsOutcome
    reason: str
    restart_needed: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, revision: _Optional[int] = ..., values: _Optional[_Mapping[str, str]] = ..., asked_revision: _Optional[int] = ..., outcome: _Optional[_Union[SettingsOutcome, str]] = ..., reason: _Optional[str] = ..., restart_needed: _Optional[_Iterable[str]] = ...) -> None: ...

class DesiredDrafter(_message.Message):
    __slots__ = ("revision", "name", "uri", "sha256", "signature", "trial_tokens", "margin")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    URI_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    TRIAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    revision: int
    name: str
    uri: str
    sha256: str
    signature: str
    trial_tokens: int
    margin: float
    def __init__(self, revision: _Optional[int] = ..., name: _Optional[str] = ..., uri: _Optional[str] = ..., sha256: _Optional[str] = ..., signature: _Optional[str] = ..., trial_tokens: _Optional[int] = ..., margin: _Optional[float] = ...) -> None: ...

class ReportedDrafter(_message.Message):
    __slots__ = ("revision", "name", "stage", "reason", "bundle", "acceptance_before", "acceptance", "num_trial_tokens", "refused_revision", "refused_reason")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    ACCEPTANCE_BEFORE_FIELD_NUMBER: _ClassVar[int]
    ACCEPTANCE_FIELD_NUMBER: _ClassVar[int]
    NUM_TRIAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_REVISION_FIELD_NUMBER: _ClassVar[int]
    REFUSED_REASON_FIELD_NUMBER: _ClassVar[int]
    revision: int
    name: str
    stage: RolloutStage
    reason: str
    bundle: str
    acceptance_before: float
    acceptance: float
    num_trial_tokens: int
    refused_revision: int
    refused_reason: str
    def __init__(self, revision: _Optional[int] = ..., name: _Optional[str] = ..., stage: _Optional[_Union[RolloutStage, str]] = ..., reason: _Optional[str] = ..., bundle: _Optional[str] = ..., acceptance_before: _Optional[float] = ..., acceptance: _Optional[float] = ..., num_trial_tokens: _Optional[int] = ..., refused_revision: _Optional[int] = ..., refused_reason: _Optional[str] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("drain", "undrain", "set_log_level", "probe")
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    UNDRAIN_FIELD_NUMBER: _ClassVar[int]
    SET_LOG_LEVEL_FIELD_NUMBER: _ClassVar[int]
    PROBE_FIELD_NUMBER: _ClassVar[int]
    drain: Drain
    undrain: Undrain
    set_log_level: SetLogLevel
    probe: Probe
    def __init__(self, drain: _Optional[_Union[Drain, _Mapping]] = ..., undrain: _Optional[_Union[Undrain, _Mapping]] = ..., set_log_level: _Optional[_Union[SetLogLevel, _Mapping]] = ..., probe: _Optional[_Union[Probe, _Mapping]] = ...) -> None: ...

class Drain(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Undrain(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SetLogLevel(_message.Message):
    __slots__ = ("level",)
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    level: str
    def __init__(self, level: _Optional[str] = ...) -> None: ...

class Probe(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FleetError(_message.Message):
    __slots__ = ("reason", "message")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class CommandResult(_message.Message):
    __slots__ = ("error", "probe")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    PROBE_FIELD_NUMBER: _ClassVar[int]
    error: FleetError
    probe: ProbeResult
    def __init__(self, error: _Optional[_Union[FleetError, _Mapping]] = ..., probe: _Optional[_Union[ProbeResult, _Mapping]] = ...) -> None: ...

class ProbeResult(_message.Message):
    __slots__ = ("round_trip_s", "model", "verifier_version")
    ROUND_TRIP_S_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERIFIER_VERSION_FIELD_NUMBER: _ClassVar[int]
    round_trip_s: float
    model: str
    verifier_version: str
    def __init__(self, round_trip_s: _Optional[float] = ..., model: _Optional[str] = ..., verifier_version: _Optional[str] = ...) -> None: ...

class ChatMessage(_message.Message):
    __slots__ = ("role", "content")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    role: str
    content: str
    def __init__(self, role: _Optional[str] = ..., content: _Optional[str] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("job_id", "prompt", "messages", "model", "max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop", "acceptance_mode")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    MIN_P_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    ACCEPTANCE_MODE_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    prompt: str
    messages: _containers.RepeatedCompositeFieldContainer[ChatMessage]
    model: str
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    seed: int
    stop: _containers.RepeatedScalarFieldContainer[str]
    acceptance_mode: str
    def __init__(self, job_id: _Optional[str] = ..., prompt: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[ChatMessage, _Mapping]]] = ..., model: _Optional[str] = ..., max_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., min_p: _Optional[float] = ..., seed: _Optional[int] = ..., stop: _Optional[_Iterable[str]] = ..., acceptance_mode: _Optional[str] = ...) -> None: ...

class JobResult(_message.Message):
    __slots__ = ("job_id", "error", "text", "finish_reason", "model", "seed", "acceptance_mode", "is_lossless", "num_prompt_tokens", "num_tokens", "num_accepted_tokens", "duration_s")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    ACCEPTANCE_MODE_FIELD_NUMBER: _ClassVar[int]
    IS_LOSSLESS_FIELD_NUMBER: _ClassVar[int]
    NUM_PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_ACCEPTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    error: FleetError
    text: str
    finish_reason: str
    model: str
    seed: int
    acceptance_mode: str
    is_lossless: bool
    num_prompt_tokens: int
    num_tokens: int
    num_accepted_tokens: int
    duration_s: float
    def __init__(self, job_id: _Optional[str] = ..., error: _Optional[_Union[FleetError, _Mapping]] = ..., text: _Optional[str] = ..., finish_reason: _Optional[str] = ..., model: _Optional[str] = ..., seed: _Optional[int] = ..., acceptance_mode: _Optional[str] = ..., is_lossless: _Optional[bool] = ..., num_prompt_tokens: _Optional[int] = ..., num_tokens: _Optional[int] = ..., num_accepted_tokens: _Optional[int] = ..., duration_s: _Optional[float] = ...) -> None: ...
