"""The choice of tokens from logits in a torch tensor, for all points of a pass at once.

Each step of the reference rules (`acceptance`, `sampling`) is written once over [points, vocab],
in float64 and on the logits' device. The host uploads a few numbers for each point and fetches one
token for each. On the CPU one row at a time is faster: there it calls the compiled loop of
`fused_sampling` and the reference rules. Knows nothing of targets, trees or sessions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, zip_longest
from math import inf, log
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from torch import Tensor

from outrider_cloud.choice import UNUSABLE, ChoicePoint, Logits, choose_one
from outrider_cloud.device_faults import device_faults_told
from outrider_cloud.fused_sampling import fused_exact_token
from outrider_common import noise
from outrider_common.acceptance import ExactRule, RejectionRule, RelaxedRule, TypicalRule
from outrider_common.errors import ModelFileError
from outrider_common.logprobs import TokenLogprobs
from outrider_common.noise import WORDS_PER_BLOCK, Purpose
from outrider_common.sampling import SamplingParams

MAX_TEMPORARY_BYTES: Final = 256 * 2**20
"""About as much memory as the choice takes beside the logits."""

NUM_CANDIDATES: Final = 64
"""For how many tokens of a row the logarithms of the noise are taken at first."""

_Rule: TypeAlias = ExactRule | RejectionRule | TypicalRule | RelaxedRule

_UNDECIDED: Final = -2  # instead of a token: a token beyond the candidates might have won
_NONE: Final = -3  # instead of a child: none has been accepted
_NO_DRAW: Final = (0, inf, inf)  # a child with a probability of zero that is never accepted
_TEMPORARY_BYTES: Final = 80  # for each logit of a point: ten rows of float64, alive at once
_TEMPORARY_BYTES_OF_BEST: Final = 8  # where only the best is looked for: a copy, and its float32
_MASK_32: Final = 0xFFFFFFFF


class TensorLogits:
    """The logits of one pass in a tensor on any device.

    Args:
        logits: [rows, vocab], float32 or bfloat16. Bfloat16 is judged as the float32 of the same
            value.
    """

    def __init__(self, logits: Tensor) -> None:
        self._logits = logits

    @property
    def num_rows(self) -> int:
        """How many rows of logits there are."""
        return len(self._logits)

    @property
    def tensor(self) -> Tensor:
        """The logits themselves, [rows, vocab]."""
        return self._logits

    @property
    def chooses_whole_trees(self) -> bool:
        """On an accelerator a second call costs more than a few rows more."""
        return self._logits.device.type != "cpu"

    @device_faults_told()
    def choose(self, points: Sequence[ChoicePoint]) -> list[int]:
        """See `PassLogits.choose`."""
        if self._logits.device.type != "cpu":
            return choose_batched(self._logits, points)
        return [_choose_on_cpu(self._logits[point.row].float().numpy(), point) for point in points]

    @device_faults_told()
    def runner_ups(
        self, rows: Sequence[int], tokens: Sequence[int], count: int
    ) -> list[tuple[int, ...]]:
        """See `PassLogits.runner_ups`; the order of equal logits is the device's own."""
        with torch.inference_mode():
            device = self._logits.device
            chosen = _upload(tokens, torch.int64, device)[:, None]
            values = self._logits.index_select(0, _upload(rows, torch.int64, device))
            values.scatter_(-1, chosen, -inf)
            best = values.topk(min(count, values.shape[1] - 1)).indices
        return [tuple(row) for row in best.tolist()]

    @device_faults_told()
    def logprobs(
        self, rows: Sequence[int], tokens: Sequence[int], count: int
    ) -> list[TokenLogprobs]:
        """See `PassLogits.logprobs`, in float32; the order of equal ones is the device's own."""
        with torch.inference_mode():
            device = self._logits.device
            chosen = _upload(tokens, torch.int64, device)[:, None]
            values = self._logits.index_select(0, _upload(rows, torch.int64, device)).float()
            best = values.topk(min(count, values.shape[1]))
            picked = torch.cat((values.gather(-1, chosen), best.values), -1)
            # log softmax of what was picked: [rows, 1 + count]
            picked -= values.logsumexp(-1, keepdim=True)
            found = zip(picked.tolist(), best.indices.tolist(), strict=True)
        return [
            TokenLogprobs(own, tuple(zip(ids, others, strict=True)))
            for (own, *others), ids in found
        ]

    def numpy(self) -> Logits:
        """See `PassLogits.numpy`."""
        logits: Logits = self._logits.float().cpu().numpy()
        return logits


def _choose_on_cpu(row: Logits, point: ChoicePoint) -> int:
    is_undrawn = isinstance(point.rule, RejectionRule) and point.draft is None
    if not (is_undrawn or isinstance(point.rule, ExactRule)):
        return choose_one(row, point)
    params = point.rule.params
    try:
        return fused_exact_token(
            row, params, point.position, point.prompt_tokens, point.output_tokens
        )
    except ModelFileError:
        return UNUSABLE


def choose_batched(
    logits: Tensor, points: Sequence[ChoicePoint], num_candidates: int = NUM_CANDIDATES
) -> list[int]:
    """The target's token at each point, as the reference rules say; `UNUSABLE` where they refuse.

    Points that need the same steps share them, in chunks of `MAX_TEMPORARY_BYTES`. What depends on
    float64 sums or exponentials (top-p, `rejection`, the threshold of `typical`) may differ from
    NumPy in the last place, so only a token within that of a threshold can differ.

    Args:
        logits: [rows, vocab], float32 or bfloat16, on any device.
        points: of any rules.
        num_candidates: how many tokens with the largest bounds have their noise computed. The
            result does not depend on it: where it was too low, which at the default has not been
            seen, those points are chosen again among the whole vocabulary.
    """
    if not points:
        return []
    chunks = list(_chunks(points, vocab_size=logits.shape[1]))
    with torch.inference_mode():
        chosen = [
            _choose_chunk(logits, steps, [points[i] for i in indices], num_candidates)
            for steps, indices in chunks
        ]
        fetched = torch.cat(chosen).tolist()  # the one transfer to the host
    order = chain.from_iterable(indices for _, indices in chunks)
    token_of = dict(zip(order, fetched, strict=True))
    undecided = [i for i, token in token_of.items() if token == _UNDECIDED]
    again = choose_batched(logits, [points[i] for i in undecided], logits.shape[1])
    token_of.update(zip(undecided, again, strict=True))
    return [token_of[i] for i in range(len(points))]


@dataclass(frozen=True, slots=True, order=True)
class _Steps:
    """What it takes to choose a point's token; points with equal steps are chosen together.

    Attributes:
        judge: the name of the rule that judges the children; empty if none is judged.
        is_greedy: where no child is accepted, the best token stands.
        has_penalties: the logits depend on tokens that have occurred.
        has_top_k: only few tokens may be sampled.
        has_top_p: only the nucleus may be sampled.
    """

    judge: str
    is_greedy: bool
    has_penalties: bool
    has_top_k: bool
    has_top_p: bool

    @property
    def temporary_bytes(self) -> int:
        """About how much memory a point takes, for each of its logits."""
        is_best = self.is_greedy and not self.judge and not self.has_penalties
        return _TEMPORARY_BYTES_OF_BEST if is_best else _TEMPORARY_BYTES

    @classmethod
    def of(cls, point: ChoicePoint, vocab_size: int) -> "_Steps":
        """The steps for one point; those that cannot matter are left out."""
        params, judge = _params(point), _judge(point)
        is_best = params.is_greedy and not judge
        return cls(
            judge=judge,
            is_greedy=params.is_greedy,
            has_penalties=params.has_penalties,
            has_top_k=0 < params.top_k < vocab_size and not is_best,
            has_top_p=params.top_p < 1 and not is_best,
        )


def _known(point: ChoicePoint) -> _Rule:
    assert isinstance(point.rule, _Rule)  # there are no others
    return point.rule


def _params(point: ChoicePoint) -> SamplingParams:
    return _known(point).params


def _judge(point: ChoicePoint) -> str:
    """See `_Steps`. Where nothing was drawn, rejection is as `exact`."""
    match _known(point):
        case RejectionRule(params) if point.draft is not None and not params.is_greedy:
            return RejectionRule.__name__
        case TypicalRule() | RelaxedRule() as rule if point.children:
            return type(rule).__name__
        case _:
            return ""


def _chunks(points: Sequence[ChoicePoint], vocab_size: int) -> Iterator[tuple[_Steps, list[int]]]:
    """Indices of points with equal steps, as many at a time as the memory allows."""
    steps = [_Steps.of(point, vocab_size) for point in points]
    in_order = sorted(range(len(points)), key=steps.__getitem__)
    for common, group in groupby(in_order, key=steps.__getitem__):
        indices = list(group)
        size = max(1, MAX_TEMPORARY_BYTES // (common.temporary_bytes * vocab_size))
        for begin in range(0, len(indices), size):
            yield common, indices[begin : begin + size]


@dataclass(frozen=True, slots=True)
class _Parameters:
    """What varies between points that take the same steps: a [points, 1] tensor for each.

    The first is for the host; then six are int64 and eight float64. The limits are epsilon and
    delta of `typical`, or beta and tau of `relaxed`.
    """

    largest_top_k: int

    row: Tensor
    seed_low: Tensor
    seed_high: Tensor
    position_low: Tensor
    position_high: Tensor
    top_k: Tensor
    temperature: Tensor
    top_p: Tensor
    lowest_log_weight: Tensor
    repetition_penalty: Tensor
    presence_penalty: Tensor
    frequency_penalty: Tensor
    limit_1: Tensor
    limit_2: Tensor

    @classmethod
    def upload(cls, points: Sequence[ChoicePoint], device: torch.device) -> "_Parameters":
        """In two transfers."""
        integers = _upload([_integers(point) for point in points], torch.int64, device)
        floats = _upload([_floats(point) for point in points], torch.float64, device)
        largest_top_k = max(_params(point).top_k for point in points)
        return cls(largest_top_k, *integers.T[..., None], *floats.T[..., None])


def _integers(point: ChoicePoint) -> tuple[int, ...]:
    """The whole numbers of `_Parameters`, in its order."""
    params = _params(point)
    return (point.row, *_words(params.seed), *_words(point.position), params.top_k)


def _floats(point: ChoicePoint) -> tuple[float, ...]:
    """The other numbers of `_Parameters`, in its order. Greedy requests are judged at 1."""
    params = _params(point)
    return (
        params.temperature or 1.0,
        params.top_p,
        log(params.min_p) if params.min_p > 0 else -inf,
        params.repetition_penalty,
        params.presence_penalty,
        params.frequency_penalty,
        *_limits(_known(point)),
    )


def _limits(rule: _Rule) -> tuple[float, float]:
    match rule:
        case TypicalRule(_, thresholds):
            return thresholds.epsilon, thresholds.delta
        case RelaxedRule(_, margins):
            return margins.beta, margins.tau
        case _:
            return 0.0, 0.0


def _words(number: int) -> tuple[int, int]:
    """The lower and upper word of a 64-bit number."""
    return number & _MASK_32, number >> 32


def _upload(values: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor on the device; the host does not wait for what the device has still to do."""
    tensor = torch.tensor(values, dtype=dtype)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def _dense(
    tokens: Sequence[Sequence[int]],
    weights: Sequence[Sequence[int]],
    vocab_size: int,
    device: torch.device,
) -> Tensor:
    """For each point the sum of the weights of each token, float64 [points, vocab]."""
    flat_tokens = np.concatenate([np.asarray(some, dtype=np.int64) for some in tokens])
    flat_weights = np.concatenate([np.asarray(some, dtype=np.float64) for some in weights])
    owners = np.repeat(np.arange(len(tokens)), [len(some) for some in tokens])
    known = flat_tokens < vocab_size
    indices = _upload((owners * vocab_size + flat_tokens)[known], torch.int64, device)
    sums = torch.zeros(len(tokens) * vocab_size, dtype=torch.float64, device=device)
    sums.index_add_(0, indices, _upload(flat_weights[known], torch.float64, device))
    return sums.view(len(tokens), vocab_size)


def _choose_chunk(
    logits: Tensor, steps: _Steps, points: Sequence[ChoicePoint], num_candidates: int
) -> Tensor:
    """The tokens of points that take the same steps, [points]."""
    parameters = _Parameters.upload(points, logits.device)
    values = logits.index_select(0, parameters.row.flatten()).float()  # [points, vocab]
    if steps.has_penalties:
        values = _penalise(values, points, parameters)
    best = values.argmax(-1, keepdim=True)  # the lowest of equals; the first NaN
    best_values = values.gather(-1, best)
    tokens = best
    if steps.judge or not steps.is_greedy:
        log_weights = _log_weights(values, best_values, steps, parameters)
        del values
        tokens = _choose_by_weights(log_weights, best, steps, points, parameters, num_candidates)
    return torch.where(best_values.isfinite(), tokens, UNUSABLE).flatten()


def _choose_by_weights(
    log_weights: Tensor,
    best: Tensor,
    steps: _Steps,
    points: Sequence[ChoicePoint],
    parameters: _Parameters,
    num_candidates: int,
) -> Tensor:
    """The tokens of points whose distribution matters, [points, 1]."""
    if steps.judge == RejectionRule.__name__:
        return _choose_by_rejection(log_weights, points, parameters, num_candidates)
    otherwise = best
    if not steps.is_greedy:
        otherwise = _sample(log_weights, parameters, Purpose.TOKEN, num_candidates)
    if not steps.judge:
        return otherwise
    children, child_weights = _best_children(log_weights, points)
    judge = _is_typical if steps.judge == TypicalRule.__name__ else _is_close
    return torch.where(judge(log_weights, child_weights, parameters), children, otherwise)


def _penalise(values: Tensor, points: Sequence[ChoicePoint], parameters: _Parameters) -> Tensor:
    """`sampling.penalise`: float32 [points, vocab]."""
    vocab_size, device = values.shape[1], values.device

    def count(texts: Sequence[Sequence[int]]) -> Tensor:
        return _dense(texts, [[1] * len(text) for text in texts], vocab_size, device)

    counts = count([point.output_tokens for point in points])
    is_seen = (count([point.prompt_tokens for point in points]) > 0) | (counts > 0)
    penalty = parameters.repetition_penalty
    exact = values.double()
    penalised = torch.where(exact > 0, exact / penalty, exact * penalty)
    per_output = parameters.frequency_penalty * counts + parameters.presence_penalty * (counts > 0)
    return torch.where(is_seen, (penalised - per_output).float(), values)


def _log_weights(
    values: Tensor, best_values: Tensor, steps: _Steps, parameters: _Parameters
) -> Tensor:
    """`sampling.distribution`: float64 [points, vocab], -inf for what may not be sampled."""
    log_weights = values.double()
    log_weights -= best_values
    log_weights /= parameters.temperature
    if steps.has_top_k:
        log_weights.masked_fill_(~_top_k(values, parameters), -inf)
    if steps.has_top_p:
        log_weights.masked_fill_(~_nucleus(log_weights.exp(), parameters.top_p), -inf)
    return log_weights.masked_fill_(log_weights < parameters.lowest_log_weight, -inf)


def _top_k(values: Tensor, parameters: _Parameters) -> Tensor:
    """Whether a value is among the k largest of its row; of equal ones the first are."""
    k = parameters.top_k
    kth = values.topk(parameters.largest_top_k).values.gather(-1, k - 1)
    is_above, is_tied = values > kth, values == kth
    num_ties = k - is_above.sum(-1, keepdim=True)
    return is_above | (is_tied & (is_tied.cumsum(-1) <= num_ties))


def _nucleus(weights: Tensor, top_p: Tensor) -> Tensor:
    """Whether a weight is in the smallest set of largest ones with a share of at least `top_p`."""
    ranked, order = weights.sort(stable=True, dim=-1, descending=True)
    is_kept = torch.ones_like(weights, dtype=torch.bool)  # the first always is
    is_kept[:, 1:] = ranked.cumsum(-1)[:, :-1] < top_p * weights.sum(-1, keepdim=True)
    return is_kept.scatter(-1, order, is_kept)


def _best_children(log_weights: Tensor, points: Sequence[ChoicePoint]) -> tuple[Tensor, Tensor]:
    """Each point's most probable child, the first of equals, and its log-weight: [points, 1]."""
    longest = max(len(point.children) for point in points)
    padded = [(*point.children, *[-1] * (longest - len(point.children))) for point in points]
    children = _upload(padded, torch.int64, log_weights.device)  # [points, longest]
    is_known = (children >= 0) & (children < log_weights.shape[1])
    weights = log_weights.gather(-1, children.where(is_known, 0)).where(is_known, -inf)
    best = weights.argmax(-1, keepdim=True)
    return children.gather(-1, best), weights.gather(-1, best)


def _is_typical(log_weights: Tensor, child_weights: Tensor, parameters: _Parameters) -> Tensor:
    """The threshold of `TypicalRule`, as a log-weight: [points, 1]."""
    log_total = log_weights.exp().sum(-1, keepdim=True).log()
    log_p = log_weights - log_total
    summands = (log_p.exp() * log_p).where(log_weights > -inf, 0.0)
    entropy = -summands.sum(-1, keepdim=True)
    limits = torch.minimum(parameters.limit_1, parameters.limit_2 * (-entropy).exp())
    return child_weights > limits.log() + log_total


def _is_close(log_weights: Tensor, child_weights: Tensor, parameters: _Parameters) -> Tensor:
    """The margins of `RelaxedRule`: [points, 1]."""
    num_better = (log_weights > child_weights).sum(-1, keepdim=True)
    return (child_weights >= -parameters.limit_2) & (num_better < parameters.limit_1)


def _choose_by_rejection(
    log_weights: Tensor, points: Sequence[ChoicePoint], parameters: _Parameters, num_candidates: int
) -> Tensor:
    """`RejectionRule`: each point's i-th drawn child is tested in the i-th step, [points, 1]."""
    vocab_size, device = log_weights.shape[1], log_weights.device
    p = log_weights.exp()
    p /= p.sum(-1, keepdim=True)
    drafts = [point.draft for point in points]
    q = _dense(
        [draft.token_ids if draft else () for draft in drafts],
        [draft.weights if draft else () for draft in drafts],
        vocab_size,
        device,
    )
    accepted = torch.full_like(parameters.row, _NONE)
    draws = zip_longest(*(_draws(point, vocab_size) for point in points), fillvalue=_NO_DRAW)
    for draw in draws:
        children, thresholds, totals = _upload(draw, torch.float64, device).T[..., None]
        children = children.long()
        is_accepted = (accepted == _NONE) & (thresholds < p.gather(-1, children))
        accepted = torch.where(is_accepted, children, accepted)
        p = _residual(p, q / totals)
    residual = p.log()
    residual -= residual.amax(-1, keepdim=True)
    sampled = _sample(residual, parameters, Purpose.RESIDUAL, num_candidates)
    return torch.where(accepted == _NONE, sampled, accepted)


def _draws(point: ChoicePoint, vocab_size: int) -> Iterator[tuple[int, float, float]]:
    """Each child that could be drawn from the draft.

    Yields:
        The child, the probability above which the target's must lie to accept it, and the total of
        the draft's weights when it was drawn.
    """
    if point.draft is None:
        return
    seed = _params(point).seed
    weights = dict(zip(point.draft.token_ids, point.draft.weights, strict=True))
    for child in point.children:
        total = sum(weights.values())
        weight = weights.pop(child, 0)
        if weight and child < vocab_size:
            uniform = noise.uniform_scalar(seed, Purpose.ACCEPT, point.position, child)
            yield child, uniform * (weight / total), total
        elif weight:
            yield 0, inf, total  # cannot be accepted, but what it was drawn from is taken off


def _residual(p: Tensor, q: Tensor) -> Tensor:
    """norm(max(p - q, 0)), or p itself where nothing is left: [points, vocab]."""
    residual = (p - q).clamp_(min=0)
    mass = residual.sum(-1, keepdim=True)
    return torch.where(mass > 0, residual / mass, p)


def _sample(
    log_weights: Tensor, parameters: _Parameters, purpose: Purpose, num_candidates: int
) -> Tensor:
    """argmax(log weight + Gumbel), the lowest id on ties, or `_UNDECIDED`: [points, 1].

    The noise of the tokens with the largest bounds is computed. None of the others can win if the
    largest of their bounds is below the winner's score.
    """
    uniforms = _uniforms(parameters, purpose, log_weights.shape[1])
    bounds: Tensor = log_weights + noise.gumbel_bound(torch, uniforms)
    num_bounds = min(num_candidates + 1, log_weights.shape[1])
    largest = bounds.topk(num_bounds)
    ids = largest.indices[:, :num_candidates].sort(-1).values
    scores = log_weights.gather(-1, ids) + noise.gumbel(torch, uniforms.gather(-1, ids))
    winner = scores.argmax(-1, keepdim=True)
    tokens = ids.gather(-1, winner)
    if num_bounds <= num_candidates:
        return tokens
    is_sure = largest.values[:, -1:] < scores.gather(-1, winner)
    return torch.where(is_sure, tokens, _UNDECIDED)


def _uniforms(parameters: _Parameters, purpose: Purpose, vocab_size: int) -> Tensor:
    """`noise.uniform_vocabulary` of each point: float64 [points, vocab]."""
    num_blocks = -(-vocab_size // WORDS_PER_BLOCK)
    blocks = torch.arange(num_blocks, device=parameters.row.device)[None]
    counter = (blocks, parameters.position_low, parameters.position_high, int(purpose))
    key: Any = (parameters.seed_low, parameters.seed_high)
    words = torch.stack(noise.philox(counter, key), -1)  # [points, num_blocks, 4]
    uniforms: Tensor = words.flatten(1)[:, :vocab_size].double()
    uniforms += 0.5
    uniforms *= 2.0**-32
    return uniforms
