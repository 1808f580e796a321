"""Traces across edge and verifier: one request, one trace, names of the conventions, no text."""

import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.trace import SpanKind, StatusCode

from outrider_cloud.server import build_engine, running_server
from outrider_common import spans
from outrider_common.errors import MissingExtraError, OutriderError
from outrider_common.messages import Commit, OpenSession
from outrider_common.otel_spans import OtelSpans
from outrider_common.sampling import SamplingParams
from outrider_common.settings.telemetry import TelemetrySettings
from outrider_common.settings.verifier import VerifierSettings
from outrider_common.spans import NO_SPANS, Spans, spans_of, trace_headers
from outrider_common.synthetic import SyntheticSpec
from outrider_edge.grpc_link import GrpcLink
from outrider_models.store import ModelStore

SPEC = SyntheticSpec(vocab=200, c0_s=0.001, c1_s=0)
PROMPT = tuple(range(1, 21))


class Exported:
    """Spans of both sides, kept in memory."""

    def __init__(self) -> None:
        self._memory = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._memory))
        self.spans = OtelSpans(provider.get_tracer("test"))

    def of_kind(self, kind: SpanKind) -> ReadableSpan:
        (span,) = (one for one in self._memory.get_finished_spans() if one.kind is kind)
        return span


@pytest.fixture
def exported() -> Exported:
    return Exported()


@pytest.fixture
async def link(
    exported: Exported, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[GrpcLink]:
    store = ModelStore(tmp_path_factory.mktemp("store"))
    engine = build_engine(VerifierSettings(model=str(SPEC)), store)
    engine.start()
    try:
        async with (
            running_server(engine, "127.0.0.1", 0, spans=exported.spans) as port,
            GrpcLink(f"127.0.0.1:{port}") as link,
        ):
            yield link
    finally:
        engine.stop()


async def ask(link: GrpcLink, maker: Spans, prompt: tuple[int, ...] = PROMPT) -> None:
    message = OpenSession(prompt, len(prompt), 12, SamplingParams(), SPEC.tokenizer_fingerprint)
    with maker.of_request("text_completion test", {spans.OPERATION: spans.GENERATE}):
        session = await link.open(message, 65536)
        while (event := await session.receive()) is not None:
            if isinstance(event, Commit) and event.finish_reason is not None:
                await session.receive()
                return


async def test_a_session_is_part_of_the_request_that_the_edge_made(
    exported: Exported, link: GrpcLink
) -> None:
    await ask(link, exported.spans)
    request, session = exported.of_kind(SpanKind.CLIENT), exported.of_kind(SpanKind.SERVER)
    assert session.parent is not None
    assert session.parent.span_id == request.context.span_id
    assert session.context.trace_id == request.context.trace_id
    assert session.attributes is not None
    assert session.attributes[spans.OUTPUT_TOKENS] == 12
    assert session.attributes[spans.INPUT_TOKENS] == len(PROMPT)
    assert session.attributes[spans.FINISH_REASONS] == ("length",)


async def test_a_refused_session_is_a_span_with_an_error(
    exported: Exported, link: GrpcLink
) -> None:
    with pytest.raises(OutriderError):
        await ask(link, exported.spans, (1, 2, SPEC.vocab + 5))
    assert exported.of_kind(SpanKind.SERVER).status.status_code is StatusCode.ERROR


async def test_an_edge_without_traces_sends_no_headers_of_any(
    exported: Exported, link: GrpcLink
) -> None:
    assert trace_headers() == ()
    await ask(link, NO_SPANS)
    assert exported.of_kind(SpanKind.SERVER).parent is None


async def test_no_attribute_is_longer_than_a_name(exported: Exported, link: GrpcLink) -> None:
    await ask(link, exported.spans)
    for kind in (SpanKind.CLIENT, SpanKind.SERVER):
        for value in (exported.of_kind(kind).attributes or {}).values():
            assert len(str(value)) < 100, "prompts and answers have no place in traces"


def test_the_names_are_those_of_the_conventions() -> None:
    ours = {value for value in vars(spans).values() if isinstance(value, str)}
    theirs = {value for value in vars(gen_ai_attributes).values() if isinstance(value, str)}
    used = {name for name in ours if name.startswith("gen_ai.")}
    assert len(used) > 5
    assert used <= theirs


def test_without_an_address_opentelemetry_is_not_even_imported() -> None:
    code = (
        "import sys, outrider_cloud.server, outrider_edge.daemon\n"
        "from outrider_common.spans import NO_SPANS, spans_of\n"
        "from outrider_common.config import TelemetrySettings\n"
        "with spans_of(TelemetrySettings(), 'x') as spans: assert spans is NO_SPANS\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_traces_without_their_extra_are_refused_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    settings = TelemetrySettings(otlp_endpoint="http://127.0.0.1:4318/v1/traces")
    with pytest.raises(MissingExtraError, match=r"outrider\[otel\]"), spans_of(settings, "x"):
        pass
