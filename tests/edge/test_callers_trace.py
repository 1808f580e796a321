"""The trace of an application goes on at the edge, as W3C trace context has it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from api_client import CHAT, HI, a_client, a_serving
from fake_runtime import FakeRuntime
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from outrider_common.otel_spans import MAX_STATE_CHARS, OtelSpans
from outrider_common.spans import Headers, called_by, caller_headers, trace_headers
from outrider_edge.answer import OnToken
from outrider_edge.generation import GenerationRequest, GenerationResult
from outrider_edge.tracing import TraceRecorder

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"

NOT_TO_BE_BELIEVED = [
    "",
    "nonsense",
    f"00-{TRACE}-{SPAN}",
    f"00-{TRACE.upper()}-{SPAN}-01",
    f"00-{TRACE[:-1]}-{SPAN}-01",
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"ff-{TRACE}-{SPAN}-01",
    f"00-{TRACE}-{SPAN}-01-more",
    f"00-{TRACE}-{SPAN}-0x",
    f"{PARENT},{PARENT}",
    f"00-{TRACE}-{SPAN}-01é",
]


@dataclass
class ListeningRuntime(FakeRuntime):
    """Notes what each generation's caller said of its trace."""

    heard: list[Headers] = field(default_factory=list)

    async def generate(
        self,
        request: GenerationRequest,
        on_token: OnToken,
        recorder: TraceRecorder | None = None,
        policy: str | None = None,
    ) -> GenerationResult:
        self.heard.append(caller_headers())
        return await super().generate(request, on_token, recorder, policy)


async def heard_of(headers: Sequence[tuple[str, str]], **body: object) -> list[Headers]:
    """What the generations of one request hear of its headers."""
    runtime = ListeningRuntime()
    async with a_client(a_serving(runtime)) as client:
        response = await client.post(CHAT, json=HI | body, headers=list(headers))
        assert response.status_code == 200
    return runtime.heard


def span_for(*headers: tuple[str, str]) -> tuple[ReadableSpan, dict[str, str]]:
    """The span of a request whose caller said this, and what the verifier is told."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    with called_by(headers), OtelSpans(provider.get_tracer("test")).of_request("a request", {}):
        told = dict(trace_headers())
    (span,) = memory.get_finished_spans()
    return span, told


@pytest.mark.parametrize("stream", [False, True])
async def test_every_answer_to_a_request_hears_of_its_trace(stream: bool) -> None:
    said = (("traceparent", PARENT), ("tracestate", "app=1"))
    assert await heard_of(said, n=2, stream=stream) == [said, said]


async def test_a_request_without_a_trace_has_none() -> None:
    assert await heard_of([]) == [()]


async def test_fields_that_come_twice_are_joined() -> None:
    twice = [("traceparent", PARENT)] * 2 + [("tracestate", "app=1"), ("tracestate", "lb=2")]
    (heard,) = await heard_of(twice)
    assert dict(heard) == {"traceparent": f"{PARENT},{PARENT}", "tracestate": "app=1,lb=2"}


async def test_one_request_does_not_hear_of_anothers_trace() -> None:
    runtime = ListeningRuntime()
    async with a_client(a_serving(runtime)) as client:
        for headers in ({"traceparent": PARENT}, {}):
            await client.post(CHAT, json=HI, headers=headers)
    assert runtime.heard == [(("traceparent", PARENT),), ()]


def test_a_request_is_part_of_its_callers_trace_and_the_verifier_hears_of_both() -> None:
    span, told = span_for(("traceparent", PARENT), ("tracestate", "app=1"))
    assert span.parent is not None
    assert (span.context.trace_id, span.parent.span_id) == (int(TRACE, 16), int(SPAN, 16))
    assert told["traceparent"] == f"00-{TRACE}-{span.context.span_id:016x}-01"
    assert told["tracestate"] == "app=1"


@pytest.mark.parametrize("parent", NOT_TO_BE_BELIEVED)
def test_what_is_no_trace_begins_a_new_one_and_its_state_is_forgotten(parent: str) -> None:
    span, told = span_for(("traceparent", parent), ("tracestate", "app=1"))
    assert span.parent is None
    assert span.context.trace_id != int(TRACE, 16)
    assert "tracestate" not in told


@pytest.mark.parametrize("state", ["no pair", "a=1,a=2", "=1", "A=1", "x" * 600])
def test_a_state_that_is_none_is_forgotten_and_the_trace_goes_on(state: str) -> None:
    span, told = span_for(("traceparent", PARENT), ("tracestate", state))
    assert span.parent is not None
    assert "tracestate" not in told


def test_a_state_that_is_longer_than_others_have_to_bear_is_forgotten() -> None:
    pairs = ",".join(f"k{i}={'v' * 40}" for i in range(20))
    assert len(pairs) > MAX_STATE_CHARS
    span, told = span_for(("traceparent", PARENT), ("tracestate", pairs))
    assert span.parent is not None
    assert "tracestate" not in told


def test_what_the_caller_does_not_record_is_not_recorded_here() -> None:
    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    spans = OtelSpans(provider.get_tracer("test"))
    with called_by((("traceparent", f"00-{TRACE}-{SPAN}-00"),)), spans.of_request("a request", {}):
        pass
    assert memory.get_finished_spans() == ()


@given(parent=st.text(max_size=80), state=st.text(max_size=600))
def test_no_words_of_a_caller_do_any_harm(parent: str, state: str) -> None:
    span, told = span_for(("traceparent", parent), ("tracestate", state))
    assert told["traceparent"].startswith(f"00-{span.context.trace_id:032x}-")
    assert sum(map(len, told.values())) < 1024
    assert all(value.isascii() and value.isprintable() for value in told.values())
