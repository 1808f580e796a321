"""Drafting for the acceptance mode `rejection`: guesses that are drawn, and from what.

The target may accept a drawn guess more often than any other (arXiv:2211.17192), but only if it
knows exactly what it was drawn from. So the drafter's distribution is cut to few tokens and rounded
first, drawn from then, and sent as it was drawn from. Knows nothing of models or trees.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from outrider_common.acceptance import MAX_DRAFT_WEIGHT, SparseDistribution
from outrider_common.sampling import Ids, Logits, SamplingParams, distribution
from outrider_edge.draft_columns import columns_of, tokens_of
from outrider_edge.proposer import CONTEXT_END, Draft

NUM_CANDIDATES: Final = 32
"""From so many of the drafter's likeliest tokens it draws; docs/protocol.md has the trade."""

DRAWN_PRIOR: Final = 0.8
"""How often the target accepts a first draw: 1 - TV (total variation) of the two distributions."""


def drawn_draft(
    logits: Logits,
    sampling: SamplingParams,
    position: int,
    prompt: Sequence[int],
    output: Sequence[int],
    num_draws: int,
    token_ids: Ids | None = None,
) -> Draft:
    """Guesses drawn from the head of the drafter's distribution after the sampling parameters.

    Their probabilities are priors that say nothing of the tokens: otherwise some draws would be
    sent rather than others, and the text would not have the target's distribution.

    Args:
        logits: the drafter's, after all tokens before `position`.
        sampling: as for the target; with a temperature.
        position: where the guesses will stand, counted from the start of the prompt.
        prompt: its tokens; used by penalties only.
        output: the tokens after it; used by penalties only.
        num_draws: how many guesses at most.
        token_ids: of which tokens the logits are, ascending; None: the i-th of token i.
    """
    num_kept = min(sampling.top_k or NUM_CANDIDATES, NUM_CANDIDATES)
    seen = [columns_of(tokens, token_ids) for tokens in (prompt, output)]
    head = distribution(logits, replace(sampling, top_k=num_kept), *seen)
    candidates = tokens_of(head.token_ids, token_ids).tolist()
    source = SparseDistribution.quantise(candidates, head.probabilities(), MAX_DRAFT_WEIGHT)
    tokens = source.draw(sampling.seed, position, num_draws)
    priors = tuple(DRAWN_PRIOR * (1 - DRAWN_PRIOR) ** i for i in range(len(tokens)))
    siblings = (CONTEXT_END,) * len(tokens)
    return Draft(tokens, siblings, priors, drawn_from=(source,) * len(tokens))
