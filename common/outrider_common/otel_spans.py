"""Spans by OpenTelemetry, sent over OTLP. Imported only where traces are configured."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from outrider_common.spans import Span, Value, named_by

_W3C = TraceContextTextMapPropagator()


class OtelSpan:
    """A span of OpenTelemetry."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def set(self, attributes: Mapping[str, Value]) -> None:
        """Say more of it."""
        self._span.set_attributes(attributes)


class OtelSpans:
    """Spans of one tracer; an exception that ends one is recorded in it."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    @contextmanager
    def of_request(self, name: str, attributes: Mapping[str, Value]) -> Iterator[Span]:
        """See `Spans.of_request`."""
        with self._tracer.start_as_current_span(
            name, kind=SpanKind.CLIENT, attributes=attributes
        ) as span:
            headers: dict[str, str] = {}
            _W3C.inject(headers)
            with named_by(tuple(headers.items())):
                yield OtelSpan(span)

    @contextmanager
    def of_session(
        self, name: str, attributes: Mapping[str, Value], headers: Mapping[str, str]
    ) -> Iterator[Span]:
        """See `Spans.of_session`."""
        parent = _W3C.extract(headers)
        with self._tracer.start_as_current_span(
            name, context=parent, kind=SpanKind.SERVER, attributes=attributes
        ) as span:
            yield OtelSpan(span)


@contextmanager
def exported_spans(endpoint: str, service: str, sample_rate: float) -> Iterator[OtelSpans]:
    """Spans that are sent in batches, on a thread of their own; the rest of them at the end."""
    resource = Resource.create({"service.name": service, "service.version": version("outrider")})
    sampler = ParentBased(TraceIdRatioBased(sample_rate))
    provider = TracerProvider(resource=resource, sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    try:
        yield OtelSpans(provider.get_tracer("outrider"))
    finally:
        provider.shutdown()
