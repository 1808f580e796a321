"""The settings of how texts are sampled."""

from pydantic import Field

from outrider_common.settings.section import AcceptanceModeName, Section


class SamplingSettings(Section):
    """Sampling: how tokens are chosen where a request does not say."""

    temperature: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="Randomness; 0 always takes the likeliest.",
    )
    top_p: float = Field(
        default=1.0,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Keep the likeliest tokens whose probabilities add up to this; 1 keeps all.",
    )
    top_k: int = Field(
        default=0, ge=0, lt=2**32, description="Keep so many of the likeliest tokens; 0 keeps all."
    )
    min_p: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        allow_inf_nan=False,
        description="Drop tokens less likely than this share of the likeliest; 0 drops none.",
    )
    repetition_penalty: float = Field(
        default=1.0,
        gt=0,
        allow_inf_nan=False,
        description="Above 1, tokens seen in prompt or answer are less likely; 1 is off.",
    )
    presence_penalty: float = Field(
        default=0.0,
        ge=-2,
        le=2,
        allow_inf_nan=False,
        description="Taken off the logits of tokens that are in the answer; 0 is off.",
    )
    frequency_penalty: float = Field(
        default=0.0,
        ge=-2,
        le=2,
        allow_inf_nan=False,
        description="Taken off once for each time that a token is in the answer; 0 is off.",
    )
    seed: int = Field(
        default=0,
        ge=0,
        lt=2**64,
        description="Seed of the noise. The same seed gives the same answer.",
    )
    max_tokens: int = Field(
        default=256, ge=1, lt=2**32, description="Tokens of an answer at most, prompt not counted."
    )
    acceptance_mode: AcceptanceModeName = Field(
        default="exact",
        description=(
            "How drafts are judged. exact: the text that the target alone writes with this seed. "
            "rejection: a text with the target's own distribution, which no seed reproduces. "
            "typical, relaxed: lossy; drafts need only be likely, so the text is not the target's."
        ),
    )
    typical_epsilon: float = Field(
        default=0.09,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Mode typical: drafts above this probability are accepted.",
    )
    typical_delta: float = Field(
        default=0.3,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Mode typical: so are those above this times exp(-entropy).",
    )
    relaxed_beta: int = Field(
        default=3,
        ge=1,
        lt=2**32,
        description="Mode relaxed: a draft must be one of so many likeliest tokens.",
    )
    relaxed_tau: float = Field(
        default=0.7,
        ge=0,
        allow_inf_nan=False,
        description="Mode relaxed: and so near, in nats, to the likeliest one's log-probability.",
    )
