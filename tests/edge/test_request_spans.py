"""What a trace says of a request at the edge."""

from fake_runtime import a_record, a_result_stats

from outrider_common import spans
from outrider_common.messages import FinishReason
from outrider_common.sampling import SamplingParams
from outrider_edge.generation import GenerationRequest, GenerationResult
from outrider_edge.request_spans import generation_span, result_attributes

RECORDS = [a_record(i, "§") for i in range(4)]


def test_a_request_is_named_by_its_model_and_counted() -> None:
    request = GenerationRequest((1, 2, 3), 20, SamplingParams(temperature=0.5))
    name, attributes = generation_span(request, "fake")
    assert name == "text_completion fake"
    assert attributes[spans.INPUT_TOKENS] == 3
    assert attributes[spans.MAX_TOKENS] == 20
    assert attributes[spans.TEMPERATURE] == 0.5


def test_an_answer_is_counted_and_its_text_is_not_told() -> None:
    result = GenerationResult("§" * 4, FinishReason.STOP, tuple(RECORDS), a_result_stats(RECORDS))
    attributes = result_attributes(result)
    assert attributes[spans.OUTPUT_TOKENS] == 4
    assert attributes[spans.FINISH_REASONS] == ("stop",)
    assert attributes[spans.ACCEPTED_TOKENS] == 2
    assert "§" not in str(attributes)
