"""The settings of the edge: how it drafts, and to whom it talks."""

from typing import Annotated, Final, Literal, TypeAlias, get_args

from pydantic import AfterValidator, Field

from outrider_common.settings.section import (
    ALLOWED,
    DEFAULT_MODEL,
    DEFAULT_PORT,
    FilePath,
    Section,
    file_field,
)

DraftingPolicyName: TypeAlias = Literal[
    "auto", "tree", "chain", "one-ahead", "stop-and-wait", "cloud", "cloud-lookup"
]

ProposerName: TypeAlias = Literal["lm", "retrieval", "recycling", "garbage", "none"]

MIN_PAD_MS: Final = 5
MAX_PAD_MS: Final = 1000
"""How often padded messages may be wanted, apart from never."""

DEFAULT_BUNDLE: Final = f"{DEFAULT_MODEL}-int8"


def _without_contradiction(proposers: tuple[ProposerName, ...]) -> tuple[ProposerName, ...]:
    if len(set(proposers)) != len(proposers):
        raise ValueError("a proposer is named twice")
    if "none" in proposers and len(proposers) > 1:
        raise ValueError("'none' stands alone")
    return proposers


class EdgeSettings(Section):
    """The edge: drafts on the device and talks to the verifier."""

    verifier: str = Field(
        default=f"127.0.0.1:{DEFAULT_PORT}",
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
    tls_ca: FilePath | None = file_field(
        "Certificates, PEM, of the authorities that vouch for the verifier. Not set: those that "
        "everybody trusts."
    )
    tls_certificate: FilePath | None = file_field(
        "The edge's own certificate, PEM, for verifiers that ask for one. Read again when it "
        "changes."
    )
    tls_key: FilePath | None = file_field("The certificate's key, PEM, not encrypted.")
    tls_server_name: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "The name that the verifier's certificate must have. Not set: the host in `verifier`."
        ),
        json_schema_extra={ALLOWED: "a host name"},
    )
    token_file: FilePath | None = file_field(
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
