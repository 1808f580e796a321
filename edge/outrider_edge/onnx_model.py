"""Runs the language model of a drafter bundle with ONNX Runtime, one KV cache per sequence.

Weights are shared by all sequences. A cache is memory of ours that the graph reads and extends in
place, so truncating it is a change of one number. It holds a text and, behind it, rows that are a
small tree (`RowTree`). Knows nothing of drafting or sampling.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from outrider_common.errors import ConfigError, InvalidPromptError
from outrider_edge.execution_providers import AUTO, open_session
from outrider_edge.row_tree import RowTree
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
        providers: see `execution_providers.open_session`.

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
        providers: Sequence[str] = (AUTO,),
    ) -> None:
        self._manifest = bundle.manifest
        self._max_positions = _checked_limit(max_positions, bundle.manifest.max_positions)
        options = _session_options(num_threads, allow_spinning=allow_spinning)
        self._session = open_session(bundle.graph_file, options, providers)

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
    """The KV cache of one text and of a small tree behind it. Not for several threads at once.

    Memory grows by doubling, up to what `max_positions` tokens need.

    Args:
        model: the weights.
    """

    def __init__(self, model: OnnxModel) -> None:
        self._model = model
        self._binding = model.session.io_binding()
        self._inputs: dict[str, NDArray[Any]] = {}
        self._logits: Floats = np.zeros((0, model.vocab_size), np.float32)
        self._logits_place = (0, 0)  # address and rows of what is bound
        self._length = 0
        self._tree = RowTree()
        self._capacity = 0
        self._cache: Floats = np.zeros((0,), np.float32)
        self._reserve(min(_FIRST_CAPACITY, model.max_positions))

    @property
    def length(self) -> int:
        """How many tokens the cached text has; the rows behind it do not count."""
        return self._length

    @property
    def num_rows(self) -> int:
        """How many rows there are behind the text."""
        return self._tree.num_rows

    @property
    def cache_bytes(self) -> int:
        """How much memory the cache takes."""
        return self._cache.nbytes

    def truncate(self, length: int) -> None:
        """Forget all rows, and all tokens from position `length` on. Copies nothing.

        Raises:
            ValueError: `length` is negative or beyond the end.
        """
        if not 0 <= length <= self._length:
            raise ValueError(f"cannot truncate {self._length} cached tokens to {length}")
        self._length = length
        self._tree.keep(())

    def forward(self, tokens: Sequence[int], *, num_logits: int | None = None) -> Floats:
        """Append tokens to the cached text and compute what follows them.

        Args:
            tokens: at least one, each below `vocab_size`.
            num_logits: how many logit rows are wanted, counted from the last token back; the rest
                cost no LM head. None: all.

        Returns:
            Logits, float32 [num_logits or len(tokens), vocab_size]; the caller's to keep.

        Raises:
            InvalidPromptError: no tokens, one that the model lacks, or more than fit.
            ValueError: there are rows behind the text; keep or truncate them first.
        """
        if self.num_rows:
            raise ValueError(f"{self.num_rows} rows lie where the text would go on")
        num_tokens = len(tokens)
        ids = self._checked(tokens)
        wanted = num_tokens if num_logits is None else min(num_logits, num_tokens)
        end = self._length + num_tokens
        logits = np.empty((wanted, self._model.vocab_size), np.float32)
        self._run(
            ids,
            positions=np.arange(self._length, end, dtype=np.int64),
            bias=np.zeros((num_tokens, end), np.float32),
            wanted=np.arange(num_tokens - wanted, num_tokens, dtype=np.int64),
            logits=logits,
        )
        self._length = end
        return logits

    def forward_rows(
        self, tokens: Sequence[int], parents: Sequence[int], wanted: Sequence[int]
    ) -> Floats:
        """Append rows of the tree behind the text and compute what follows some of them.

        All go through the model in one pass. A row attends to the text, its ancestors and itself,
        and its position is that of a text which has just these. (The window of a model with
        sliding attention is counted in cached rows, though: those in between make it shorter.)

        Args:
            tokens: of the rows, at least one, each below `vocab_size`.
            parents: for each the number of an earlier row, or `TEXT_END`. Rows are numbered from 0
                since `keep` or `truncate`, over all passes.
            wanted: indices into `tokens`, ascending: whose logits are wanted.

        Returns:
            Logits, float32 [len(wanted), vocab_size]. The next pass of `forward_rows` writes over
            them: fresh memory for each costs as much as all else around a pass.

        Raises:
            InvalidPromptError: no tokens, one that the model lacks, or more than fit.
            ValueError: a parent does not come before its child, or there are too many rows.
        """
        if len(tokens) > 1 and not self._length + self.num_rows:
            return self._first_rows(tokens, parents, wanted)
        ids = self._checked(tokens)
        first = self.num_rows
        self._tree.append(parents)
        bias = np.zeros((len(tokens), self._length + self.num_rows), np.float32)
        bias[:, self._length :] = self._tree.bias(first)
        logits = self._room_for_logits(len(wanted))
        self._run(
            ids,
            positions=np.array(self._tree.depths(first), np.int64) + self._length,
            bias=bias,
            wanted=np.array(wanted, np.int64),
            logits=logits,
        )
        return logits

    def keep(self, rows: Sequence[int], num_text: int = 0) -> None:
        """Make the first of these rows text, keep the others behind it, and forget all the rest.

        Row `rows[num_text + i]` becomes row i. Only rows that are not in their new place are
        copied: none if those that are forgotten came last.

        Args:
            rows: ascending.
            num_text: so many of them become text: a chain that begins at the end of the text. The
                others must descend from its end.

        Raises:
            ValueError: a row that is kept hangs from one that is not, or from the text before its
                end.
        """
        self._tree.keep(rows, num_text)
        moved = [(row, place) for place, row in enumerate(rows) if row != place]
        if moved:
            sources, places = (np.array(moved) + self._length).T
            self._cache[..., places, :] = self._cache[..., sources, :]
        self._length += num_text

    def _first_rows(
        self, tokens: Sequence[int], parents: Sequence[int], wanted: Sequence[int]
    ) -> Floats:
        """The first row by itself, then the others.

        Of a pass over an empty cache, GroupQueryAttention reads the first position id only.
        """
        first = self.forward_rows(
            tokens[:1], parents[:1], [row for row in wanted if row == 0]
        ).copy()
        rest = [row - 1 for row in wanted if row > 0]
        return np.concatenate([first, self.forward_rows(tokens[1:], parents[1:], rest)])

    def _checked(self, tokens: Sequence[int]) -> NDArray[np.int64]:
        """The tokens as int64 [rows]."""
        if not tokens:
            raise InvalidPromptError("There are no tokens to compute: give at least one.")
        total = self._length + self.num_rows + len(tokens)
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
        return np.array(tokens, np.int64)

    def _run(
        self,
        ids: NDArray[np.int64],
        *,
        positions: NDArray[np.int64],
        bias: Floats,
        wanted: NDArray[np.int64],
        logits: Floats,
    ) -> None:
        """One pass over rows that go to the end of the cache.

        Args:
            ids: [rows].
            positions: [rows].
            bias: [rows, total].
            wanted: indices of rows.
            logits: where the logits go, [len(wanted), vocab_size].
        """
        total = bias.shape[1]
        if total > self._capacity:
            self._reserve(min(max(2 * self._capacity, total), self._model.max_positions))
        self._set(INPUT_IDS, ids[None])
        self._set(POSITION_IDS, positions[None])
        self._set(ATTENTION_BIAS, bias[None, None])
        self._set(LAST_INDEX, np.array([total - 1], np.int32))
        self._set(TOTAL_LENGTH, np.array(total, np.int32))
        self._set(LOGIT_ROWS, wanted)
        place = (logits.ctypes.data, len(logits))
        if place != self._logits_place:
            shape = (1, *logits.shape)
            self._binding.bind_output(LOGITS, "cpu", 0, np.float32, shape, place[0])
            self._logits_place = place
        self._model.session.run_with_iobinding(self._binding)

    def _room_for_logits(self, num_rows: int) -> Floats:
        if num_rows > len(self._logits):
            self._logits = np.empty((num_rows, self._model.vocab_size), np.float32)
        return self._logits[:num_rows]

    def _set(self, name: str, value: NDArray[Any]) -> None:
        """Give the graph an input; memory that is bound already and fits is written in place."""
        bound = self._inputs.get(name)
        if bound is not None and bound.shape == value.shape:
            bound[...] = value
            return
        self._inputs[name] = value  # the binding keeps its address, not the array
        self._binding.bind_cpu_input(name, value)

    def _reserve(self, capacity: int) -> None:
        """Make room for `capacity` tokens, and tell the graph where."""
        kv = self._model.kv
        shape = (2 * kv.num_layers, 1, kv.num_kv_heads, capacity, kv.head_size)
        cache = np.zeros(shape, kv.dtype)
        if self._capacity:
            cache[..., : self._capacity, :] = self._cache
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
