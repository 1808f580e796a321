"""The settings: every knob with its default, its limits and its meaning.

One frozen class for each section. Command-line help, error messages and docs/configuration.md are
made from these fields. Knows nothing of files, variables and flags: `config_loading` does.
"""

from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

DraftingPolicyName: TypeAlias = Literal[
    "auto", "tree", "chain", "one-ahead", "stop-and-wait", "cloud", "cloud-lookup"
]
ProposerName: TypeAlias = Literal["lm", "retrieval", "recycling", "garbage", "none"]
DeviceName: TypeAlias = Literal["auto", "cpu", "cuda"]
NumberFormat: TypeAlias = Literal["auto", "float32", "bfloat16"]
CompileChoice: TypeAlias = Literal["auto", "on", "off"]
PolicyName: TypeAlias = Literal["latency", "throughput"]
AcceptanceModeName: TypeAlias = Literal["exact", "rejection", "typical", "relaxed"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
OfflinePolicy: TypeAlias = Literal["fail", "queue", "draft-only"]
LogFormat: TypeAlias = Literal["text", "json", "journal"]

ALLOWED: Final = "x-allowed"
"""The JSON schema key under which a field says in words what it allows."""

DEVICE_ID: Final = r"^[A-Za-z0-9._-]{1,64}$"
"""What the name of a device in a fleet looks like: it is a part of topics."""

OTHER_FLAG: Final = "x-other-flag"
"""The JSON schema key of a second name for a field's command-line option."""

MIN_PAD_MS: Final = 5
MAX_PAD_MS: Final = 1000
"""How often padded messages may be wanted, apart from never."""

_DEFAULT_PORT: Final = 7411
_DEFAULT_DAEMON_PORT: Final = 7412
DEFAULT_MODEL: Final = "smollm2-135m"
DEFAULT_BUNDLE: Final = f"{DEFAULT_MODEL}-int8"


def _in_lower_case(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _without_contradiction(proposers: tuple[ProposerName, ...]) -> tuple[ProposerName, ...]:
    if len(set(proposers)) != len(proposers):
        raise ValueError("a proposer is named twice")
    if "none" in proposers and len(proposers) > 1:
        raise ValueError("'none' stands alone")
    return proposers


def _without_repetition(
    modes: tuple[AcceptanceModeName, ...],
) -> tuple[AcceptanceModeName, ...]:
    if len(set(modes)) != len(modes):
        raise ValueError("an acceptance mode is named twice")
    return modes


def _with_home_spelled_out(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError("there is no such home directory") from error


_FilePath: TypeAlias = Annotated[Path, AfterValidator(_with_home_spelled_out)]


def _file(description: str) -> Any:
    """A setting that names a file, or none."""
    return Field(
        default=None, description=description, json_schema_extra={ALLOWED: "the path of a file"}
    )


class Section(BaseModel):
    """Base of all sections: immutable, and without fields that nobody declared."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class VerifierSettings(Section):
    """The verifier: the cloud role, which holds the target model."""

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on. 0.0.0.0 is every IPv4 interface of the machine.",
    )
    port: int = Field(
        default=_DEFAULT_PORT,
        ge=0,
        le=65535,
        description="Port to listen on. 0 takes any free one.",
    )
    model: str = Field(
        default=DEFAULT_MODEL,
        min_length=1,
        description=(
            "The target model: a name in the model store, hf:org/name, or a directory. "
            "'synthetic:c0=20ms,c1=0.2ms,acceptance=0.8' is a stand-in for load tests."
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
    tls_certificate: _FilePath | None = _file(
        "The verifier's certificate, PEM, with those between it and the authority. Read again when "
        "it changes. Not set: no TLS."
    )
    tls_key: _FilePath | None = _file("The certificate's key, PEM, not encrypted.")
    tls_client_ca: _FilePath | None = _file(
        "Certificates, PEM, of the authorities that vouch for edges: every edge must show a "
        "certificate from one of them. Not set: edges show none."
    )
    tenants: _FilePath | None = _file(
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


class EdgeSettings(Section):
    """The edge: drafts on the device and talks to the verifier."""

    verifier: str = Field(
        default=f"127.0.0.1:{_DEFAULT_PORT}",
        pattern=r"^\S+:\d{1,5}(\s*,\s*\S+:\d{1,5})*$",
        description=(
            "Where the verifier listens. Of several, with commas between them, each session takes "
            "the best, and goes on at another when that one fails; dns:///name:port is every "
            "address of the name."
        ),
        json_schema_extra={
            ALLOWED: "an address of the form host:port or dns:///name:port, or several with commas"
        },
    )
    bundle: str = Field(
        default=DEFAULT_BUNDLE,
        min_length=1,
        description="The drafter bundle: a name in the model store, or a directory.",
    )
    proposers: Annotated[tuple[ProposerName, ...], AfterValidator(_without_contradiction)] = Field(
        default=("lm",),
        min_length=1,
        description=(
            "What drafts, the first in the list first: lm (the drafter bundle), retrieval (from "
            "prompt and answer), recycling (what followed each token before, and the verifier's "
            "runner-ups), garbage (random guesses, for tests), none."
        ),
        json_schema_extra={
            ALLOWED: f"a list of {', '.join(get_args(ProposerName))}, each at most once, and "
            "'none' only by itself"
        },
    )
    num_threads: int = Field(
        default=1, ge=1, le=1024, description="CPU threads of one forward pass of the drafter."
    )
    concurrent_drafts: int = Field(
        default=4,
        ge=1,
        le=64,
        description=(
            "Answers that are drafted for at the same time; their rows share passes of the "
            "drafter. Others wait for their turn."
        ),
    )
    allow_spinning: bool = Field(
        default=False,
        description=(
            "Let the drafter's idle threads spin instead of sleep: a little faster, at the cost "
            "of everything else on the device."
        ),
    )
    providers: tuple[Annotated[str, Field(pattern=r"^(auto|\w+ExecutionProvider)$")], ...] = Field(
        default=("auto",),
        min_length=1,
        description=(
            "ONNX Runtime's execution providers for the drafter, the preferred one first; one that "
            "cannot be used is logged and left out. auto: the CPU, which always comes last."
        ),
        json_schema_extra={
            ALLOWED: "a list of auto and of names such as CPUExecutionProvider or "
            "CUDAExecutionProvider"
        },
    )
    policy: DraftingPolicyName = Field(
        default="auto",
        description=(
            "How sessions draft. auto adapts to link, verifier and drafter; the others are there "
            "to be compared: tree and chain stream without end, one-ahead drafts a block while the "
            "one before is verified, stop-and-wait when nothing is under way, and the verifier "
            "waits for it. cloud drafts nothing, cloud-lookup leaves guessing to the verifier."
        ),
    )
    block_nodes: int = Field(
        default=4, ge=1, le=1024, description="Nodes of a block in one-ahead and stop-and-wait."
    )
    max_depth: int = Field(
        default=64,
        ge=1,
        le=1024,
        description="Draft nodes ahead of the last committed token at most.",
    )
    retrieval_memory_tokens: int = Field(
        default=0,
        ge=0,
        le=10_000_000,
        description=(
            "How many tokens of earlier prompts and answers the proposer `retrieval` remembers, "
            "for as long as the process lives; 0 remembers none. Only for an edge with one user: "
            "guesses taken from one answer show in the messages of another."
        ),
    )
    connect_timeout_s: float = Field(
        default=5.0,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description=(
            "Seconds to wait for a verifier to open a session; until then the first one of an "
            "answer is tried again."
        ),
    )
    resume_timeout_s: float = Field(
        default=60.0,
        ge=0,
        le=86_400,
        allow_inf_nan=False,
        description=(
            "After a break in the middle of an answer: seconds without a further token after which "
            "it is given up. 0 does not try to go on."
        ),
    )
    heartbeat_s: float = Field(
        default=2.0,
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description=(
            "A verifier that says nothing for so many seconds, although it was asked whether it is "
            "there, is taken to be gone, and the answer goes on elsewhere. 0 never asks."
        ),
    )
    tls: bool = Field(
        default=False,
        description=(
            "Speak TLS to the verifier, whose certificate must come from an authority that "
            "everybody trusts. tls_ca or tls_certificate turn it on, too."
        ),
    )
    tls_ca: _FilePath | None = _file(
        "Certificates, PEM, of the authorities that vouch for the verifier. Not set: those that "
        "everybody trusts."
    )
    tls_certificate: _FilePath | None = _file(
        "The edge's own certificate, PEM, for verifiers that ask for one. Read again when it "
        "changes."
    )
    tls_key: _FilePath | None = _file("The certificate's key, PEM, not encrypted.")
    tls_server_name: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "The name that the verifier's certificate must have. Not set: the host in `verifier`."
        ),
        json_schema_extra={ALLOWED: "a host name"},
    )
    token_file: _FilePath | None = _file(
        "A file that holds the bearer token for the verifier, and nothing else. Read again when it "
        "changes. It is sent over TLS, or to this machine, and nowhere else."
    )
    pad_ms: int = Field(
        default=0,
        ge=0,
        le=MAX_PAD_MS,
        description=(
            "Send, and be sent, one message of a fixed size every so many milliseconds while an "
            "answer is written, so that nobody on the way can tell from sizes and times which "
            "guesses were right; costs speed and bytes. 0 does not."
        ),
    )


class DaemonSettings(Section):
    """The edge daemon: what `outrider edge serve` offers to programs on this device."""

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on: one of this machine only, unless allow_remote is set.",
    )
    port: int = Field(
        default=_DEFAULT_DAEMON_PORT,
        ge=0,
        le=65535,
        description="Port to listen on. 0 takes any free one.",
    )
    socket: Annotated[Path, AfterValidator(_with_home_spelled_out)] | None = Field(
        default=None,
        description=(
            "A Unix socket to listen on as well, which only this user can open. Not set: none."
        ),
        json_schema_extra={ALLOWED: "a path"},
    )
    allow_remote: bool = Field(
        default=False,
        description=(
            "Allow a host that other machines can reach. There is no authentication: whoever "
            "reaches the port may use the model."
        ),
    )
    allowed_hosts: tuple[str, ...] = Field(
        default=(),
        description=(
            "Names under which the daemon may be asked, besides localhost, loopback addresses and "
            "host; '*' allows any. The Host header is checked, so that a web site whose name "
            "suddenly leads to this machine gets nothing."
        ),
        json_schema_extra={ALLOWED: "a list of host names without ports, or '*'"},
    )
    allowed_origins: tuple[Annotated[str, Field(pattern=r"^[a-z][a-z0-9+.-]*://[^/]+$")], ...] = (
        Field(
            default=(),
            description=(
                "Web pages, besides the daemon's own, that may use the API from a browser; each as "
                "its origin, such as http://localhost:3000."
            ),
            json_schema_extra={ALLOWED: "a list of origins of the form scheme://host:port"},
        )
    )
    max_concurrent_requests: int = Field(
        default=16,
        ge=1,
        le=65536,
        description=(
            "Answers that are generated at the same time, each choice of n counted; further "
            "requests are told to come again (status 429)."
        ),
    )
    max_body_bytes: int = Field(
        default=4 * 1024 * 1024,
        ge=1024,
        le=1024 * 1024 * 1024,
        description="The largest request, in bytes, that is read.",
    )
    client_timeout_s: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description=(
            "Seconds that a client may take to send its request, or to take what was sent to it, "
            "before it is given up."
        ),
    )
    stop_grace_s: float = Field(
        default=10.0,
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description="Seconds that running answers may go on after SIGTERM.",
    )
    offline: OfflinePolicy = Field(
        default="fail",
        description=(
            "What becomes of requests while no verifier can be reached. fail: status 503; queue: "
            "they wait, and are served in order when one is back; draft-only: the drafter writes "
            "alone, marked as unverified, and a verifier that is back corrects it."
        ),
    )
    offline_max_waiting: int = Field(
        default=64,
        ge=1,
        le=65536,
        description="Requests that wait for a verifier; further ones get status 429.",
    )
    offline_timeout_s: float = Field(
        default=300.0,
        gt=0,
        le=86400,
        allow_inf_nan=False,
        description=(
            "Seconds for which a request waits for a verifier, at its beginning or after a break, "
            "before it gets status 503."
        ),
    )
    offline_verify_s: float = Field(
        default=10.0,
        ge=0,
        le=86400,
        allow_inf_nan=False,
        description=(
            "Seconds for which an answer that the drafter has completed alone waits for a verifier "
            "before it is given as unverified; with offline = draft-only."
        ),
    )
    journal: bool = Field(
        default=True,
        description=(
            "Keep answers to jobs, and to requests with an Idempotency-Key, on disk, so that what "
            "comes again gets the same answer, after a restart of the daemon, too. Otherwise they "
            "are kept in memory."
        ),
    )
    journal_max_answers: int = Field(
        default=256,
        ge=1,
        le=65536,
        description="Answers that are kept; the oldest are forgotten first.",
    )
    journal_max_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=1024,
        le=1024**4,
        description="The size of all answers that are kept, in bytes.",
    )
    journal_max_age_s: float = Field(
        default=86400.0,
        gt=0,
        le=366 * 86400,
        allow_inf_nan=False,
        description="Seconds for which an answer is kept.",
    )
    journal_linger_s: float = Field(
        default=30.0,
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description=(
            "Seconds for which an answer to a request with an Idempotency-Key is written on when "
            "its client has gone; what is missing then is written when the request comes again."
        ),
    )


class SamplingSettings(Section):
    """Sampling: how tokens are chosen where a request does not say."""

    temperature: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="Randomness; 0 always takes the likeliest.",
    )
    top_p: float = Field(
        default=1.0,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Keep the likeliest tokens whose probabilities add up to this; 1 keeps all.",
    )
    top_k: int = Field(
        default=0, ge=0, lt=2**32, description="Keep so many of the likeliest tokens; 0 keeps all."
    )
    min_p: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        allow_inf_nan=False,
        description="Drop tokens less likely than this share of the likeliest; 0 drops none.",
    )
    repetition_penalty: float = Field(
        default=1.0,
        gt=0,
        allow_inf_nan=False,
        description="Above 1, tokens seen in prompt or answer are less likely; 1 is off.",
    )
    presence_penalty: float = Field(
        default=0.0,
        ge=-2,
        le=2,
        allow_inf_nan=False,
        description="Taken off the logits of tokens that are in the answer; 0 is off.",
    )
    frequency_penalty: float = Field(
        default=0.0,
        ge=-2,
        le=2,
        allow_inf_nan=False,
        description="Taken off once for each time that a token is in the answer; 0 is off.",
    )
    seed: int = Field(
        default=0,
        ge=0,
        lt=2**64,
        description="Seed of the noise. The same seed gives the same answer.",
    )
    max_tokens: int = Field(
        default=256, ge=1, lt=2**32, description="Tokens of an answer at most, prompt not counted."
    )
    acceptance_mode: AcceptanceModeName = Field(
        default="exact",
        description=(
            "How drafts are judged. exact: the text that the target alone writes with this seed. "
            "rejection: a text with the target's own distribution, which no seed reproduces. "
            "typical, relaxed: lossy; drafts need only be likely, so the text is not the target's."
        ),
    )
    typical_epsilon: float = Field(
        default=0.09,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Mode typical: drafts above this probability are accepted.",
    )
    typical_delta: float = Field(
        default=0.3,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Mode typical: so are those above this times exp(-entropy).",
    )
    relaxed_beta: int = Field(
        default=3,
        ge=1,
        lt=2**32,
        description="Mode relaxed: a draft must be one of so many likeliest tokens.",
    )
    relaxed_tau: float = Field(
        default=0.7,
        ge=0,
        allow_inf_nan=False,
        description="Mode relaxed: and so near, in nats, to the likeliest one's log-probability.",
    )


class ModelSettings(Section):
    """Model files: where they are kept."""

    cache_dir: Annotated[Path, AfterValidator(_with_home_spelled_out)] | None = Field(
        default=None,
        description=(
            "Directory of the model store. Not set: $XDG_CACHE_HOME/outrider, or else "
            "~/.cache/outrider."
        ),
        json_schema_extra={ALLOWED: "a directory"},
    )


class LogSettings(Section):
    """Logging, to standard error."""

    level: Annotated[LogLevel, BeforeValidator(_in_lower_case)] = Field(
        default="warning", description="The least severe events that are logged."
    )
    format: Annotated[LogFormat, BeforeValidator(_in_lower_case)] = Field(
        default="text",
        description=(
            "Lines for people, one JSON object for each event, or lines for the journal of "
            "systemd, which knows the time itself and reads the level."
        ),
    )


class FleetSettings(Section):
    """The fleet: steering many edge daemons over MQTT."""

    broker: (
        Annotated[str, Field(pattern=r"^mqtts?://(\[[0-9a-fA-F:.]+\]|[^\s/:@\[\]]+)(:\d{1,5})?$")]
        | None
    ) = Field(
        default=None,
        description=(
            "The MQTT broker; mqtts is over TLS. Not set: the daemon is steered by nobody."
        ),
        json_schema_extra={ALLOWED: "an address of the form mqtt://host:port or mqtts://host:port"},
    )
    ca_file: Annotated[Path, AfterValidator(_with_home_spelled_out)] | None = Field(
        default=None,
        description=(
            "Certificates, in PEM, by which a broker over TLS is known, and beside the system's a "
            "server with drafters, too. Not set: the system's alone."
        ),
        json_schema_extra={ALLOWED: "a path"},
    )
    username: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="Who the broker shall take this device, or this operator, for.",
        json_schema_extra={ALLOWED: "text that is not empty"},
    )
    password_file: Annotated[Path, AfterValidator(_with_home_spelled_out)] | None = Field(
        default=None,
        description="A file with the password for the broker in its first line.",
        json_schema_extra={ALLOWED: "a path"},
    )
    device_id: Annotated[str, Field(pattern=DEVICE_ID)] | None = Field(
        default=None,
        description="The name of this device in its fleet. Not set: the name of the machine.",
        json_schema_extra={ALLOWED: "up to 64 letters, digits and '._-'"},
    )
    topic_prefix: str = Field(
        default="outrider",
        pattern=r"^[^\s+#$/]+(/[^\s+#$/]+)*$",
        max_length=128,
        description="What all topics of the fleet begin with.",
        json_schema_extra={ALLOWED: "a topic without '+', '#' and '$'"},
    )
    telemetry_interval_s: float = Field(
        default=60.0,
        ge=1,
        le=86400,
        allow_inf_nan=False,
        description="Seconds between two reports of the device's figures.",
    )
    public_key: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{43}=$")] | None = Field(
        default=None,
        description=(
            "The Ed25519 key by which the operator's drafters are known, as 'outrider fleet key' "
            "prints it. Not set: drafters are not taken from the fleet."
        ),
        json_schema_extra={ALLOWED: "the 44 characters of a raw Ed25519 public key in base64"},
    )
    max_bundle_mib: int = Field(
        default=2048,
        ge=1,
        le=1_000_000,
        description="The largest drafter bundle, in MiB, that is taken from the fleet.",
    )


class TelemetrySettings(Section):
    """Distributed traces, by OpenTelemetry; off unless an address is given."""

    otlp_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://\S+$",
        description=(
            "Where spans are sent, such as http://localhost:4318/v1/traces (OTLP over HTTP). Not "
            "set: there are none. They hold counts, names and times, but no text."
        ),
        json_schema_extra={ALLOWED: "an address that begins with http:// or https://"},
    )
    sample_rate: float = Field(
        default=1.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="The share of requests that are traced; who is asked follows who asks.",
    )


class Settings(BaseModel):
    """All settings of all roles."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verifier: VerifierSettings = VerifierSettings()
    edge: EdgeSettings = EdgeSettings()
    daemon: DaemonSettings = DaemonSettings()
    sampling: SamplingSettings = SamplingSettings()
    models: ModelSettings = ModelSettings()
    log: LogSettings = LogSettings()
    fleet: FleetSettings = FleetSettings()
    telemetry: TelemetrySettings = TelemetrySettings()


SECTIONS: Final[dict[str, type[Section]]] = {
    name: type(section) for name, section in Settings() if isinstance(section, Section)
}
"""The class of each section, under the section's name, in the order of the documentation."""
