"""The gate of the exporter: does a graph compute what the model computes?

Feeds probe texts to both, the graph in pieces with wrong guesses and truncations in between, and
measures how far the logits and the choices differ. Knows nothing of files or quantisation methods.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from outrider_common.errors import ParityError
from outrider_edge.onnx_model import OnnxModel, OnnxSequence
from outrider_export.quantise import Scheme
from outrider_models.bundle import Bundle, ParityReport

PROBE_TEXTS = (
    "The lighthouse keeper climbed the stairs every evening at dusk. He carried a small can of "
    "oil, a clean cloth and a book, and he did not come down before the sun was up again.",
    "def mean(values: list[float]) -> float:\n    if not values:\n        raise ValueError()\n"
    "    return sum(values) / len(values)\n\n\nprint(mean([1.0, 2.5, 4.0]))\n",
    "Question: Which is the largest planet of the solar system?\nAnswer: The largest planet is "
    "Jupiter. It is more than twice as massive as all the other planets together.\n",
    "1. Wash the rice until the water is clear.\n2. Add one and a half cups of water.\n3. Bring "
    "it to the boil, cover it, and let it stand on low heat for fifteen minutes.\n",
)
"""Prose, code, an answer and a list."""

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

_LONGEST_PROBE = 96  # tokens
_WRONG_GUESSES = 3
_SINGLE_STEPS = 4

GRAPH_TOLERANCE = 1e-3
"""Largest error of a logit of the fp32 graph, in standard deviations of the logits.

Rounding gives some 1e-5, a wrong operator about 1.
"""


@dataclass(frozen=True, slots=True)
class Floor:
    """The least that a bundle must reach.

    Attributes:
        greedy_agreement: share of positions with the same best token, at least.
        mean_total_variation: mean distance of the next-token distributions, at most.
        logits_error: root mean square, in standard deviations of the logits, at most.
    """

    greedy_agreement: float
    mean_total_variation: float
    logits_error: float


FLOORS: Mapping[Scheme, Floor] = MappingProxyType(
    {
        Scheme.NONE: Floor(0.99, 0.01, 1e-3),
        Scheme.INT8: Floor(0.85, 0.10, 0.20),
        Scheme.INT4: Floor(0.50, 0.45, 0.70),
        Scheme.INT4_OFFSET: Floor(0.50, 0.45, 0.70),
    }
)
"""Per scheme. Below them a drafter is not worth its download, or an operator is wrong."""


class ParityGate:
    """The model's logits on the probe texts, to measure graphs against.

    Args:
        model: the torch model, in fp32 on the CPU.
        tokenizer: of the model.
        max_positions: the longest sequence that the graphs can hold.
        token_ids: the draft vocabulary, int64 [n], ascending; None: all tokens.
    """

    def __init__(
        self, model: Any, tokenizer: Any, max_positions: int, token_ids: Ids | None = None
    ) -> None:
        longest = min(_LONGEST_PROBE, max_positions - _WRONG_GUESSES)
        texts = (tokenizer.encode(text, add_special_tokens=False) for text in PROBE_TEXTS)
        self.probes = [tuple(tokens[:longest]) for tokens in texts if tokens]
        logits = np.concatenate([_torch_logits(model, probe) for probe in self.probes])
        self._coverage = 1.0 if token_ids is None else _share_within(logits, token_ids)
        self._expected = logits if token_ids is None else logits[:, token_ids]

    def check_graph(self, fp32: Bundle) -> float:
        """Refuse an fp32 graph that does not compute what the model computes.

        Returns:
            The largest error of a logit, in standard deviations of the logits.

        Raises:
            ParityError: the error is above `GRAPH_TOLERANCE`, or not a number.
        """
        expected, actual = self._run(fp32)
        error = float(np.abs(_centred(actual) - _centred(expected)).max() / _spread(expected))
        if not error <= GRAPH_TOLERANCE:
            raise ParityError(
                f"The exported graph of {fp32.manifest.source} is wrong by {error:.2g} standard "
                f"deviations of the logits, where {GRAPH_TOLERANCE:g} is allowed: "
                "nothing was written; report it with the model's config.json."
            )
        return error

    def check_bundle(self, bundle: Bundle, scheme: Scheme, graph_error: float) -> ParityReport:
        """Refuse a bundle that is too far from the model.

        Raises:
            ParityError: a figure misses its floor in `FLOORS`, or is not a number.
        """
        report = replace(_report(*self._run(bundle), graph_error), coverage=self._coverage)
        missed = _missed(report, FLOORS[scheme])
        if missed:
            raise ParityError(
                f"The {scheme} copy of {bundle.manifest.source} is too far from the model "
                f"({'; '.join(missed)}): nothing was written; choose another quantisation."
            )
        return report

    def _run(self, bundle: Bundle) -> tuple[Floats, Floats]:
        """Expected and actual logits of all probes, each [tokens, draft vocabulary]."""
        model = OnnxModel(bundle)
        actual = [_logits_in_pieces(model.new_sequence(), probe) for probe in self.probes]
        return self._expected, np.concatenate(actual)


def _share_within(logits: Floats, token_ids: Ids) -> float:
    """How often the best of all tokens is one of these."""
    return float(np.isin(logits.argmax(axis=-1), token_ids).mean())


def _torch_logits(model: Any, tokens: Sequence[int]) -> Floats:
    with torch.no_grad():
        logits: Floats = model(torch.tensor([tokens])).logits[0].numpy()
    return logits


def _logits_in_pieces(sequence: OnnxSequence, tokens: Sequence[int]) -> Floats:
    """All logits of a text, the way that a drafter comes to them: [tokens, vocab].

    A prompt, then wrong guesses that are truncated again, then single steps, then the rest.
    """
    half = (len(tokens) + 1) // 2
    rest = half + _SINGLE_STEPS
    pieces = [sequence.forward(tokens[:half])]
    for index in range(half, min(rest, len(tokens))):
        _guess_wrongly(sequence, tokens[:_WRONG_GUESSES])
        pieces.append(sequence.forward(tokens[index : index + 1]))
    if tokens[rest:]:
        pieces.append(sequence.forward(tokens[rest:]))
    return np.concatenate(pieces)


def _guess_wrongly(sequence: OnnxSequence, guesses: Sequence[int]) -> None:
    length = sequence.length
    sequence.forward(guesses)
    sequence.truncate(length)


def _report(expected: Floats, actual: Floats, graph_error: float) -> ParityReport:
    error = _centred(actual) - _centred(expected)
    distances = np.abs(_softmax(actual) - _softmax(expected)).sum(axis=-1) / 2
    return ParityReport(
        num_tokens=len(expected),
        graph_error=graph_error,
        logits_error=float(np.sqrt(np.square(error).mean()) / _spread(expected)),
        greedy_agreement=float((actual.argmax(axis=-1) == expected.argmax(axis=-1)).mean()),
        mean_total_variation=float(distances.mean()),
    )


def _missed(report: ParityReport, floor: Floor) -> list[str]:
    """What is wrong, in words. Comparisons are such that NaN fails them."""
    missed = []
    if not report.greedy_agreement >= floor.greedy_agreement:
        missed.append(
            f"greedy agreement {report.greedy_agreement:.3f} below {floor.greedy_agreement:g}"
        )
    if not report.mean_total_variation <= floor.mean_total_variation:
        missed.append(
            f"total variation {report.mean_total_variation:.3f} above "
            f"{floor.mean_total_variation:g}"
        )
    if not report.logits_error <= floor.logits_error:
        missed.append(f"logits error {report.logits_error:.3g} above {floor.logits_error:g}")
    return missed


def _centred(logits: Floats) -> Floats:
    """A constant added to all logits of a position changes nothing: take it off."""
    return np.asarray(logits - logits.mean(axis=-1, keepdims=True), np.float32)


def _spread(logits: Floats) -> float:
    """The standard deviation of the logits of a position, over all positions."""
    return float(np.sqrt(np.square(_centred(logits)).mean()))


def _softmax(logits: Floats) -> Floats:
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True), np.float32)
