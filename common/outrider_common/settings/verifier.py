"""The settings of the verifier."""

from typing import Annotated, Final, Literal, TypeAlias, get_args

from pydantic import AfterValidator, Field

from outrider_common.settings.section import (
    ALLOWED,
    DEFAULT_MODEL,
    DEFAULT_PORT,
    AcceptanceModeName,
    FilePath,
    Section,
    file_field,
)

DeviceName: TypeAlias = Literal["auto", "cpu", "cuda"]

NumberFormat: TypeAlias = Literal["auto", "float32", "bfloat16"]

CompileChoice: TypeAlias = Literal["auto", "on", "off"]

PolicyName: TypeAlias = Literal["latency", "throughput"]

OTHER_FLAG: Final = "x-other-flag"
"""The JSON schema key of a second name for a field's command-line option."""


def _without_repetition(
    modes: tuple[AcceptanceModeName, ...],
) -> tuple[AcceptanceModeName, ...]:
    if len(set(modes)) != len(modes):
        raise ValueError("an acceptance mode is named twice")
    return modes


class VerifierSettings(Section):
    """The verifier: the cloud role, which holds the target model."""

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on. 0.0.0.0 is every IPv4 interface of the machine.",
    )
    port: int = Field(
        default=DEFAULT_PORT,
        ge=0,
        le=65535,
        description="Port to listen on. 0 takes any free one.",
    )
    model: str = Field(
        default=DEFAULT_MODEL,
        min_length=1,
        description=(
            "The target model: a name in the model store, hf:org/name, or a directory. "
            "'synthetic:c0=20ms,c1=0.2ms,acceptance=0.8' is a stand-in for load tests, "
            "'recorded:FILE' plays what 'outrider bench record' has written."
        ),
        json_schema_extra={OTHER_FLAG: "--target"},
    )
    num_threads: int = Field(
        default=1, ge=1, le=1024, description="CPU threads of one forward pass of the target."
    )
    device: DeviceName = Field(
        default="auto", description="Where the target runs. auto: on a GPU if there is one."
    )
    dtype: NumberFormat = Field(
        default="auto",
        description="Number format of the target. auto: float32 on a CPU, bfloat16 on a GPU.",
    )
    compile: CompileChoice = Field(
        default="auto",
        description=(
            "Compile the kernel of linear layers on a CPU, once, with this machine's C compiler: "
            "passes are faster, and a row's result does not depend on how many others there are. "
            "auto: if there is a compiler."
        ),
    )
    fixed_rows: int = Field(
        default=0,
        ge=0,
        le=65536,
        description=(
            "Fill every forward pass up to a multiple of so many rows, so that results depend less "
            "on how many there are; 0 does not."
        ),
    )
    kv_cache_mib: int | None = Field(
        default=None,
        ge=1,
        description=(
            "The most memory of the KV cache, in MiB. Not set: 1024 on a CPU, most of what is free "
            "on a GPU."
        ),
        json_schema_extra={ALLOWED: "a whole number of at least 1"},
    )
    max_sessions: int = Field(
        default=64,
        ge=1,
        le=65536,
        description="Sessions that run at the same time; further ones wait.",
    )
    max_waiting_sessions: int = Field(
        default=64,
        ge=0,
        le=65536,
        description="Sessions that wait for room at most; further ones are turned away.",
    )
    policy: PolicyName = Field(
        default="latency",
        description=(
            "latency: a session without drafts is decoded whenever rows are free. throughput: it "
            "waits for drafts, up to max_draft_wait_ms."
        ),
    )
    max_draft_wait_ms: int = Field(
        default=100,
        ge=0,
        le=60_000,
        description="For how long the policy `throughput` lets a session wait for drafts.",
    )
    max_pass_ms: int = Field(
        default=250,
        ge=1,
        le=600_000,
        description=(
            "How long prompts may make a forward pass, by estimate, while other sessions are "
            "decoding."
        ),
    )
    shadow_rate: float = Field(
        default=0.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description=(
            "The share of sessions whose text is decoded again, plainly and one row at a time, to "
            "count tokens that batching has changed."
        ),
    )
    share_prefixes: bool = Field(
        default=True,
        description=(
            "Sessions of one tenant whose texts begin alike compute that beginning once. Off: "
            "every prompt is computed, for measurements, or so that nobody can tell from the time "
            "of a first token what others of the same tenant have asked."
        ),
    )
    acceptance_modes: Annotated[
        tuple[AcceptanceModeName, ...], AfterValidator(_without_repetition)
    ] = Field(
        default=get_args(AcceptanceModeName),
        min_length=1,
        description=(
            "What edges may choose from: exact (the target's own text), rejection (its own "
            "distribution), typical and relaxed (lossy: faster, and not the target's own text)."
        ),
        json_schema_extra={
            ALLOWED: f"a list of {', '.join(get_args(AcceptanceModeName))}, each at most once"
        },
    )
    max_nodes_per_session: int = Field(
        default=256,
        ge=1,
        le=65536,
        description="Draft nodes that one session may have outstanding: its largest credit.",
    )
    rows_per_pass: int = Field(
        default=128,
        ge=1,
        le=65536,
        description=(
            "Tokens, of all sessions together, that one forward pass computes at most: prompts, "
            "draft nodes and plain decoding."
        ),
    )
    max_nodes_per_pass: int = Field(
        default=64,
        ge=0,
        le=65536,
        description=(
            "Draft nodes of one session, and guesses of the verifier's own, that one forward pass "
            "checks at most."
        ),
    )
    own_guesses: int = Field(
        default=8,
        ge=0,
        le=1024,
        description=(
            "Guesses of the verifier's own, from what followed earlier in the text, that one "
            "forward pass checks at most for a session that allows them, where rows are cheap "
            "enough; 0 makes none."
        ),
    )
    prefill_chunk_tokens: int = Field(
        default=256,
        ge=1,
        le=65536,
        description=(
            "Prompt tokens of one session that one forward pass computes at most. Smaller chunks "
            "delay other sessions less."
        ),
    )
    metrics_host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description=(
            "Address to offer metrics on. There is no authentication: whoever reaches it may read "
            "them. They hold counts and times, and names of tenants, but no text."
        ),
    )
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description=(
            "Port of http://metrics_host:port/metrics, for Prometheus. 0 takes any free one. Not "
            "set: no metrics are offered."
        ),
        json_schema_extra={ALLOWED: "an integer from 0 to 65535"},
    )
    health_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description=(
            "Port that answers gRPC health checks and nothing else, always without TLS, for probes "
            "that know none. 0 takes any free one. Not set: `port` alone answers them."
        ),
        json_schema_extra={ALLOWED: "an integer from 0 to 65535"},
    )
    max_message_bytes: int = Field(
        default=65536,
        ge=1024,
        le=4 * 1024 * 1024,
        description="The largest message, in bytes, that is accepted from an edge.",
    )
    committed_id_window: int = Field(
        default=4096,
        ge=1,
        le=1_000_000,
        description=(
            "Committed positions for which the ids of draft nodes are remembered, so that "
            "latecomers find their place."
        ),
    )
    drain_grace_s: float = Field(
        default=25.0,
        ge=0,
        le=86_400,
        allow_inf_nan=False,
        description=(
            "Seconds that sessions may go on after SIGTERM: they are asked to go on at another "
            "verifier, and those that know none may stay so long. 0 ends them at once."
        ),
    )
    tls_certificate: FilePath | None = file_field(
        "The verifier's certificate, PEM, with those between it and the authority. Read again when "
        "it changes. Not set: no TLS."
    )
    tls_key: FilePath | None = file_field("The certificate's key, PEM, not encrypted.")
    tls_client_ca: FilePath | None = file_field(
        "Certificates, PEM, of the authorities that vouch for edges: every edge must show a "
        "certificate from one of them. Not set: edges show none."
    )
    tenants: FilePath | None = file_field(
        "Who may use the verifier: a TOML file of tenants with their tokens, certificates, models "
        "and quotas. Read again when it changes. Not set: whoever reaches the verifier, or, with "
        "tls_client_ca, whoever has a certificate."
    )
    insecure: bool = Field(
        default=False,
        description=(
            "Allow a host that other machines can reach without TLS, or without tls_client_ca or "
            "tenants: whoever reaches the port can read the traffic, or use the model."
        ),
    )
    max_messages_per_s: float = Field(
        default=500.0,
        gt=0,
        le=1e6,
        allow_inf_nan=False,
        description=(
            "Messages that are read of one session in a second; an edge that sends more is read "
            "more slowly."
        ),
    )
    max_streams_per_connection: int = Field(
        default=1024,
        ge=1,
        le=1_000_000,
        description="Sessions of one connection at the same time; further ones wait at the edge.",
    )
    slow_reader_s: float = Field(
        default=30.0,
        ge=0,
        le=86_400,
        allow_inf_nan=False,
        description=(
            "Seconds that an edge may leave unread what waits for it, before its session ends; 0 "
            "waits for ever. Meanwhile nothing is computed for it."
        ),
    )
    max_connection_age_s: float = Field(
        default=0.0,
        ge=0,
        le=1e6,
        allow_inf_nan=False,
        description=(
            "Seconds, give or take a tenth, after which a connection takes no more sessions, so "
            "that edges connect anew and load spreads over new verifiers. 0: it grows old."
        ),
    )
    connection_grace_s: float = Field(
        default=60.0,
        ge=0,
        le=86_400,
        allow_inf_nan=False,
        description=(
            "Seconds that sessions may go on over a connection that has reached its age; what is "
            "left then goes on over a new one."
        ),
    )
    audit: bool = Field(
        default=False,
        description=(
            "Log one event `session_audit` for every session, whatever log.level is: who, which "
            "model, how many tokens, how long, how it ended. Never what was asked or answered."
        ),
    )
