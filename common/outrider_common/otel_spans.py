"""Spans by OpenTelemetry, sent over OTLP. Its packages are imported where spans are recorded."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from outrider_common.spans import Span, Value, caller_headers, named_by

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span as RecordedSpan
    from opentelemetry.trace import Tracer

MAX_STATE_CHARS: Final = 512
"""The longest `tracestate` of a caller that is passed on: what W3C asks for at least."""


class OtelSpan:
    """A span of OpenTelemetry."""

    def __init__(self, span: "RecordedSpan") -> None:
        self._span = span

    def set(self, attributes: Mapping[str, Value]) -> None:
        """Say more of it."""
        self._span.set_attributes(attributes)


class OtelSpans:
    """Spans of one tracer; an exception that ends one is recorded in it."""

    def __init__(self, tracer: "Tracer") -> None:
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer = tracer
        self._kinds = SpanKind
        self._w3c = TraceContextTextMapPropagator()

    @contextmanager
    def of_request(self, name: str, attributes: Mapping[str, Value]) -> Iterator[Span]:
        """See `Spans.of_request`."""
        with self._tracer.start_as_current_span(
            name, context=self._of_caller(), kind=self._kinds.CLIENT, attributes=attributes
        ) as span:
            headers: dict[str, str] = {}
            self._w3c.inject(headers)
            with named_by(tuple(headers.items())):
                yield OtelSpan(span)

    @contextmanager
    def of_session(
        self, name: str, attributes: Mapping[str, Value], headers: Mapping[str, str]
    ) -> Iterator[Span]:
        """See `Spans.of_session`."""
        parent = self._w3c.extract(headers)
        with self._tracer.start_as_current_span(
            name, context=parent, kind=self._kinds.SERVER, attributes=attributes
        ) as span:
            yield OtelSpan(span)

    def _of_caller(self) -> "Context":
        """The caller's place in its trace; nowhere if what it says is not as W3C wants it."""
        headers = dict(caller_headers())
        if len(headers.get("tracestate", "")) > MAX_STATE_CHARS:
            del headers["tracestate"]
        return self._w3c.extract(headers)


@contextmanager
def exported_spans(endpoint: str, service: str, sample_rate: float) -> Iterator[OtelSpans]:
    """Spans that are sent in batches, on a thread of their own; the rest of them at the end."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    resource = Resource.create({"service.name": service, "service.version": version("outrider")})
    sampler = ParentBased(TraceIdRatioBased(sample_rate))
    provider = TracerProvider(resource=resource, sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    try:
        yield OtelSpans(provider.get_tracer("outrider"))
    finally:
        provider.shutdown()
