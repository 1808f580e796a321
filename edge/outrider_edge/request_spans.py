"""What a trace says of a request at the edge. Knows nothing of how spans are sent."""

from collections.abc import Mapping

from outrider_common import spans
from outrider_common.spans import Value
from outrider_edge.generation import GenerationRequest, GenerationResult


def generation_span(request: GenerationRequest, model: str) -> tuple[str, Mapping[str, Value]]:
    """The name of a request's span, and what is known at its beginning."""
    return f"{spans.GENERATE} {model}", {
        spans.OPERATION: spans.GENERATE,
        spans.PROVIDER: spans.US,
        spans.REQUEST_MODEL: model,
        spans.MAX_TOKENS: request.max_tokens,
        spans.TEMPERATURE: request.sampling.temperature,
        spans.TOP_P: request.sampling.top_p,
        spans.INPUT_TOKENS: len(request.prompt),
    }


def result_attributes(result: GenerationResult) -> Mapping[str, Value]:
    """What is known in the end."""
    stats = result.stats
    return {
        spans.FINISH_REASONS: (result.finish_reason.value,),
        spans.OUTPUT_TOKENS: stats.num_tokens,
        spans.PASSES: stats.num_passes,
        spans.DRAFT_TOKENS: stats.num_draft_tokens,
        spans.ACCEPTED_TOKENS: stats.num_accepted_tokens,
    }
