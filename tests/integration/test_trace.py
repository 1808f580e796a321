"""The trace of a real generation: every token, and passes that fit between what the edge saw."""

import json

from edges import OpenEdge

from outrider_common.generation_trace import NodeFate
from outrider_common.sampling import SamplingParams
from outrider_edge.chrome_trace import chrome_trace_as_text
from outrider_edge.generation import GenerationRequest
from outrider_edge.tracing import TraceRecorder


async def test_a_real_generation_is_traced_from_its_first_draft_to_its_last_token(
    open_edge: OpenEdge,
) -> None:
    async with open_edge("lm") as runtime:
        prompt = tuple(runtime.tokenizer.encode("Once upon a time there was a lighthouse"))
        request = GenerationRequest(prompt, 32, SamplingParams())
        recorder = TraceRecorder()
        result = await runtime.generate(request, lambda _record: None, recorder)
        trace = runtime.trace(recorder, result, drafter="int8")
    texts = [text for commit in trace.passes for text in commit.texts]
    assert "".join(texts) == result.text
    assert trace.target == runtime.info.model
    committed = [node for node in trace.nodes if node.fate is NodeFate.COMMITTED]
    assert len(committed) == result.stats.num_accepted_tokens > 0
    assert len(trace.nodes) == result.stats.num_draft_tokens
    assert all(node.text for node in trace.nodes)
    for commit, before in zip(trace.passes[1:], trace.passes, strict=False):
        assert commit.pass_s > 0
        assert commit.arrived_at_s >= before.arrived_at_s + 0.5 * commit.pass_s
    assert json.loads(chrome_trace_as_text(trace))["otherData"]["drafter"] == "int8"
