"""Benchmark of traces: what the spans of one request cost edge and verifier, off and on.

Does what both sides do for a request and its session besides the work itself; "on" hands spans to
the batching exporter, which sends them nowhere. Prints a table: see `--help`.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from bench_runs import by_label, interleaved
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from rich.console import Console

from outrider_common.otel_spans import OtelSpans
from outrider_common.spans import NO_SPANS, Spans, called_by, trace_headers

REQUESTS: Final = 200
CALLER: Final = (("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),)
ATTRIBUTES: Final = {f"attribute.{i}": i for i in range(8)}


class Nowhere(SpanExporter):
    """Takes spans and forgets them."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Forget them."""
        return SpanExportResult.SUCCESS


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure what spans cost.")
    parser.add_argument("--rounds", type=int, default=200, help="of each row (default: 200)")
    options = parser.parse_args(arguments)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    makers: dict[str, Spans] = {
        "off": NO_SPANS,
        "on": OtelSpans(provider.get_tracer("bench")),
    }
    ways = {label: partial(_request_s, maker) for label, maker in makers.items()}
    times = by_label(list(interleaved(ways, options.rounds)))
    provider.shutdown()
    console = Console()
    console.print("| traces | µs a request, both sides |")
    console.print("|---|---|")
    for label, all_of in times.items():
        console.print(f"| {label} | {statistics.median(all_of) * 1e6:.1f} |")


def _request_s(maker: Spans) -> float:
    began = time.perf_counter()
    for _ in range(REQUESTS):
        with called_by(CALLER), maker.of_request("a request", ATTRIBUTES) as request:
            with maker.of_session("a session", ATTRIBUTES, dict(trace_headers())) as session:
                session.set(ATTRIBUTES)
            request.set(ATTRIBUTES)
    return (time.perf_counter() - began) / REQUESTS


if __name__ == "__main__":
    main()
