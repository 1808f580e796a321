"""The settings of the edge daemon."""

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field

from outrider_common.settings.section import ALLOWED, FilePath, Section

OfflinePolicy: TypeAlias = Literal["fail", "queue", "draft-only"]

_DEFAULT_DAEMON_PORT: Final = 7412


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
    socket: FilePath | None = Field(
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
