"""Spans of distributed traces, where somebody wants them: the seam, the names, and nothing else.

Off unless an address is configured, and then OpenTelemetry is not even imported: a span is a call
that does nothing. Attributes bear the names of OpenTelemetry's conventions for generative AI.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Final, Protocol

from outrider_common.errors import MissingExtraError
from outrider_common.settings.telemetry import TelemetrySettings

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
RESPONSE_MODEL: Final = "gen_ai.response.model"
MAX_TOKENS: Final = "gen_ai.request.max_tokens"
TEMPERATURE: Final = "gen_ai.request.temperature"
TOP_P: Final = "gen_ai.request.top_p"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"

ACCEPTED_TOKENS: Final = "outrider.accepted_tokens"
DRAFT_TOKENS: Final = "outrider.draft_tokens"
PASSES: Final = "outrider.passes"
SESSION: Final = "outrider.session.id"

GENERATE: Final = "text_completion"
"""The operation: ids in, ids out; the chat around it is the daemon's business."""

US: Final = "outrider"

Value = str | int | float | Sequence[str]
Headers = tuple[tuple[str, str], ...]

TRACE_FIELDS: Final = ("traceparent", "tracestate")
"""The header fields of W3C trace context."""

_headers: ContextVar[Headers] = ContextVar("trace_headers", default=())
_caller_headers: ContextVar[Headers] = ContextVar("caller_headers", default=())


class Span(Protocol):
    """One piece of work that takes time."""

    def set(self, attributes: Mapping[str, Value]) -> None:
        """Say more of it."""
        ...


class Spans(Protocol):
    """Where spans are made."""

    def of_request(
        self, name: str, attributes: Mapping[str, Value]
    ) -> AbstractContextManager[Span]:
        """A request that this process makes of another; `trace_headers` name it meanwhile.

        It is part of the trace that `caller_headers` tell of, if they tell of one.
        """
        ...

    def of_session(
        self, name: str, attributes: Mapping[str, Value], headers: Mapping[str, str]
    ) -> AbstractContextManager[Span]:
        """What this process does for another's request, whose headers these are."""
        ...


class NoSpan:
    """A span that nobody sees."""

    def set(self, attributes: Mapping[str, Value]) -> None:
        """Forget it."""


class NoSpans:
    """No spans at all."""

    def of_request(
        self, name: str, attributes: Mapping[str, Value]
    ) -> AbstractContextManager[Span]:
        """Nothing."""
        return nullcontext(NO_SPAN)

    def of_session(
        self, name: str, attributes: Mapping[str, Value], headers: Mapping[str, str]
    ) -> AbstractContextManager[Span]:
        """Nothing."""
        return nullcontext(NO_SPAN)


NO_SPAN: Final = NoSpan()
NO_SPANS: Final = NoSpans()


def trace_headers() -> Headers:
    """What tells the other side whose request this is: W3C trace context; empty without a trace."""
    return _headers.get()


@contextmanager
def named_by(headers: Headers) -> Iterator[None]:
    """Have `trace_headers` say these."""
    token = _headers.set(headers)
    try:
        yield
    finally:
        _headers.reset(token)


def caller_headers() -> Headers:
    """What somebody who asks this process says of their trace; not checked."""
    return _caller_headers.get()


@contextmanager
def called_by(headers: Headers) -> Iterator[None]:
    """Have `caller_headers` say these, also in tasks that are begun meanwhile."""
    token = _caller_headers.set(headers)
    try:
        yield
    finally:
        _caller_headers.reset(token)


@contextmanager
def spans_of(settings: TelemetrySettings, service: str) -> Iterator[Spans]:
    """Spans as configured; those that are left are sent at the end.

    Args:
        settings: where to.
        service: who this process is, such as `outrider-edge`.

    Raises:
        MissingExtraError: an address is configured, but OpenTelemetry is not installed.
    """
    if settings.otlp_endpoint is None:
        yield NO_SPANS
        return
    from outrider_common.otel_spans import exported_spans  # what it needs is not always there

    with ExitStack() as stack:
        exported = exported_spans(settings.otlp_endpoint, service, settings.sample_rate)
        try:
            spans = stack.enter_context(exported)
        except ImportError as error:
            raise MissingExtraError(
                f"Traces need the module {error.name!r}: run pip install 'outrider[otel]', or "
                "unset telemetry.otlp_endpoint."
            ) from error
        yield spans
