"""Application, edge and verifier are one trace: real processes, the real exporter, a receiver."""

import sys
from pathlib import Path

import pytest
from daemons import running_daemon
from openai import OpenAI
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from otlp_receiver import Received, otlp_receiver
from processes import running_verifier

from outrider_common import spans

OUTRIDER = [sys.executable, "-m", "outrider"]
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def received(smollm2_dir: Path, int8_bundle_dir: Path) -> Received:
    """The spans of two requests, the first of which is part of a trace: all, as both have ended."""
    with (
        otlp_receiver() as received,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv("OUTRIDER_TELEMETRY_OTLP_ENDPOINT", received.endpoint)
        with (
            running_verifier(OUTRIDER, smollm2_dir) as address,
            running_daemon(address, int8_bundle_dir) as daemon,
        ):
            model = daemon.wait_until_ready()
            for headers in ({"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "app=1"}, {}):
                ask(daemon.client(), model, headers)
    return received


def ask(client: OpenAI, model: str, headers: dict[str, str]) -> None:
    client.completions.create(
        model=model, prompt="One, two,", max_tokens=8, seed=7, extra_headers=headers
    )


def of_trace(received: Received, service: str, *, is_the_applications: bool) -> Span:
    """The only span of a service that is in the application's trace, or is not."""
    (found,) = (
        one
        for one in received.spans[service]
        if (one.trace_id.hex() == TRACE) == is_the_applications
    )
    return found


@pytest.mark.slow
def test_each_request_is_one_span_of_each_side(received: Received) -> None:
    assert {name: len(all_of) for name, all_of in received.spans.items()} == {
        "outrider-edge": 2,
        "outrider-verifier": 2,
    }


@pytest.mark.slow
def test_the_edge_is_below_the_application_and_the_verifier_below_the_edge(
    received: Received,
) -> None:
    edge = of_trace(received, "outrider-edge", is_the_applications=True)
    verifier = of_trace(received, "outrider-verifier", is_the_applications=True)
    assert edge.parent_span_id.hex() == SPAN
    assert verifier.parent_span_id == edge.span_id
    assert (edge.trace_state, verifier.trace_state) == ("app=1", "app=1")


@pytest.mark.slow
def test_a_request_of_no_trace_begins_one(received: Received) -> None:
    edge = of_trace(received, "outrider-edge", is_the_applications=False)
    verifier = of_trace(received, "outrider-verifier", is_the_applications=False)
    assert edge.parent_span_id == b""
    assert verifier.parent_span_id == edge.span_id
    assert verifier.trace_id == edge.trace_id


@pytest.mark.slow
def test_the_session_lies_within_the_request_and_both_count_the_same_tokens(
    received: Received,
) -> None:
    edge = of_trace(received, "outrider-edge", is_the_applications=True)
    verifier = of_trace(received, "outrider-verifier", is_the_applications=True)
    assert edge.start_time_unix_nano <= verifier.start_time_unix_nano
    counts = [
        {kv.key: kv.value.int_value for kv in one.attributes}[spans.OUTPUT_TOKENS]
        for one in (edge, verifier)
    ]
    assert counts == [8, 8]
