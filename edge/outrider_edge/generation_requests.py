"""What to generate, from a prompt and the settings of `[sampling]`."""

from collections.abc import Sequence
from dataclasses import fields

from outrider_common.acceptance import (
    Acceptance,
    AcceptanceMode,
    RelaxedMargins,
    TypicalThresholds,
)
from outrider_common.sampling import SamplingParams
from outrider_common.settings.sampling import SamplingSettings
from outrider_edge.generation import GenerationRequest


def generation_request(
    prompt: Sequence[int],
    settings: SamplingSettings,
    stop_strings: Sequence[str] = (),
    *,
    ignore_eos: bool = False,
) -> GenerationRequest:
    """A request; see `GenerationRequest` for the arguments."""
    return GenerationRequest(
        prompt=tuple(prompt),
        max_tokens=settings.max_tokens,
        sampling=SamplingParams(
            **settings.model_dump(include={field.name for field in fields(SamplingParams)})
        ),
        stop_strings=tuple(stop_strings),
        ignore_eos=ignore_eos,
        acceptance=acceptance(settings),
    )


def acceptance(settings: SamplingSettings) -> Acceptance:
    """How drafts are judged."""
    return Acceptance(
        AcceptanceMode(settings.acceptance_mode),
        TypicalThresholds(settings.typical_epsilon, settings.typical_delta),
        RelaxedMargins(settings.relaxed_beta, settings.relaxed_tau),
    )
