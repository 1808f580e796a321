"""Runs the language model of a drafter bundle with ONNX Runtime, one KV cache per sequence.

Weights are shared by all sequences. A cache is memory of ours that the graph reads and extends in
place, so truncating it is a change of one number. Knows nothing of drafting or sampling.
"""

from collections.abc import Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from outrider_common.errors import ConfigError, InvalidPromptError, ModelFileError
from outrider_models.bundle import (
    ATTENTION_BIAS,
    INPUT_IDS,
    LAST_INDEX,
    LOGIT_ROWS,
    LOGITS,
    POSITION_IDS,
    TOTAL_LENGTH,
    Bundle,
    KvLayout,
)

_FIRST_CAPACITY = 256

Floats = NDArray[np.float32]


class OnnxModel:
    """A draft model: the weights, loaded once.

    Args:
        bundle: what to run.
        num_threads: threads of one forward pass.
        allow_spinning: let idle threads wait busily; faster, but it occupies the cores.
        max_positions: limit the sequences below what the bundle allows; None: do not.
        providers: ONNX Runtime's execution providers, the preferred one first.

    Raises:
        ConfigError: `num_threads` or `max_positions` cannot be used.
        ModelFileError: ONNX Runtime cannot load the graph.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        num_threads: int = 1,
        allow_spinning: bool = False,
        max_positions: int | None = None,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        self._manifest = bundle.manifest
        self._max_positions = _checked_limit(max_positions, bundle.manifest.max_positions)
        options = _session_options(num_threads, allow_spinning=allow_spinning)
        try:
            self._session = onnxruntime.InferenceSession(
                str(bundle.graph_file), options, providers=list(providers)
            )
        except Exception as error:  # its exceptions have no common base but this one
            raise ModelFileError(
                f"ONNX Runtime cannot load {bundle.graph_file} "
                f"({str(error).strip().splitlines()[0]}): export the bundle again."
            ) from error

    @property
    def vocab_size(self) -> int:
        """How many logits a position has."""
        return self._manifest.vocab_size

    @property
    def max_positions(self) -> int:
        """The longest sequence, in tokens."""
        return self._max_positions

    @property
    def kv(self) -> KvLayout:
        """The layout of the KV cache."""
        return self._manifest.kv

    @property
    def session(self) -> onnxruntime.InferenceSession:
        """The ONNX Runtime session that holds the weights; safe to use from several threads."""
        return self._session

    def new_sequence(self) -> "OnnxSequence":
        """An empty sequence with a KV cache of its own."""
        return OnnxSequence(self)


class OnnxSequence:
    """The KV cache of one text. Not for several threads at once.

    Memory grows by doubling, up to what `max_positions` tokens need.

    Args:
        model: the weights.
    """

    def __init__(self, model: OnnxModel) -> None:
        self._model = model
        self._binding = model.session.io_binding()
        self._length = 0
        self._capacity = 0
        self._cache: Floats = np.zeros((0,), np.float32)
        self._reserve(min(_FIRST_CAPACITY, model.max_positions))

    @property
    def length(self) -> int:
        """How many tokens are in the cache."""
        return self._length

    @property
    def cache_bytes(self) -> int:
        """How much memory the cache takes."""
        return self._cache.nbytes

    def truncate(self, length: int) -> None:
        """Forget all tokens from position `length` on. Copies nothing.

        Raises:
            ValueError: `length` is negative or beyond the end.
        """
        if not 0 <= length <= self._length:
            raise ValueError(f"cannot truncate {self._length} cached tokens to {length}")
        self._length = length

    def forward(self, tokens: Sequence[int], *, num_logits: int | None = None) -> Floats:
        """Append tokens to the cache and compute what follows them.

        Args:
            tokens: at least one, each below `vocab_size`.
            num_logits: how many logit rows are wanted, counted from the last token back; the rest
                cost no LM head. None: all.

        Returns:
            Logits, float32 [num_logits or len(tokens), vocab_size]; the caller's to keep.

        Raises:
            InvalidPromptError: no tokens, one that the model lacks, or more than fit.
        """
        rows = len(tokens)
        total = self._length + rows
        ids = self._checked(tokens, total)
        if total > self._capacity:
            self._reserve(min(max(2 * self._capacity, total), self._model.max_positions))
        wanted = rows if num_logits is None else min(num_logits, rows)
        logits = np.empty((wanted, self._model.vocab_size), np.float32)
        self._run(ids, total, logits)
        self._length = total
        return logits

    def _checked(self, tokens: Sequence[int], total: int) -> NDArray[np.int64]:
        """The tokens as int64 [1, rows]."""
        if not tokens:
            raise InvalidPromptError("There are no tokens to compute: give at least one.")
        if total > self._model.max_positions:
            raise InvalidPromptError(
                f"{total} tokens do not fit into the draft model's {self._model.max_positions} "
                "positions: shorten the prompt, or use a drafter with more positions."
            )
        if min(tokens) < 0 or max(tokens) >= self._model.vocab_size:
            raise InvalidPromptError(
                f"A token is outside the draft model's vocabulary of {self._model.vocab_size}: "
                "use the tokenizer of the bundle."
            )
        return np.array([tokens], np.int64)

    def _run(self, ids: NDArray[np.int64], total: int, logits: Floats) -> None:
        rows, wanted = ids.shape[1], len(logits)
        binding = self._binding
        # The binding keeps addresses, not arrays: all of these must live until the run is over.
        inputs = {
            INPUT_IDS: ids,
            POSITION_IDS: np.arange(self._length, total, dtype=np.int64)[None],
            ATTENTION_BIAS: np.zeros((1, 1, rows, total), np.float32),
            LAST_INDEX: np.array([total - 1], np.int32),
            TOTAL_LENGTH: np.array(total, np.int32),
            LOGIT_ROWS: np.arange(rows - wanted, rows, dtype=np.int64),
        }
        for name, value in inputs.items():
            binding.bind_cpu_input(name, value)
        shape = (1, *logits.shape)
        binding.bind_output(LOGITS, "cpu", 0, np.float32, shape, logits.ctypes.data)
        self._model.session.run_with_iobinding(binding)

    def _reserve(self, capacity: int) -> None:
        """Make room for `capacity` tokens, and tell the graph where."""
        kv = self._model.kv
        shape = (2 * kv.num_layers, 1, kv.num_kv_heads, capacity, kv.head_size)
        cache = np.zeros(shape, kv.dtype)
        if self._length:
            cache[..., : self._length, :] = self._cache[..., : self._length, :]
        names = zip(kv.input_names(), kv.output_names(), strict=True)
        for buffer, (past, present) in zip(cache, names, strict=True):
            place = ("cpu", 0, cache.dtype.type, buffer.shape, buffer.ctypes.data)
            self._binding.bind_input(past, *place)
            self._binding.bind_output(present, *place)
        self._cache, self._capacity = cache, capacity


def _checked_limit(wanted: int | None, longest: int) -> int:
    if wanted is None:
        return longest
    if not 1 <= wanted <= longest:
        raise ConfigError(
            f"max_positions is {wanted}, but the draft model has {longest} positions: "
            f"choose a number from 1 to {longest}."
        )
    return wanted


def _session_options(num_threads: int, *, allow_spinning: bool) -> onnxruntime.SessionOptions:
    if num_threads < 1:
        raise ConfigError(f"num_threads is {num_threads}: choose 1 or more.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(allow_spinning)))
    return options
