"""Runs the language model of a drafter bundle with ONNX Runtime, one KV cache per sequence.

Weights are shared by all sequences. A cache is memory of ours that the graph reads and extends in
place, so truncating it is a change of one number. It holds a text and, behind it, rows that are a
small tree (`RowTree`). Knows nothing of drafting or sampling.
"""

import weakref
from collections.abc import Sequence

import numpy as np
import onnxruntime

from outrider_common.errors import ConfigError, InvalidPromptError, ModelFileError
from outrider_edge.execution_providers import AUTO, open_session
from outrider_edge.graph_pass import INPUTS, Floats, Ids, Rows
from outrider_edge.kv_slots import KvSlots
from outrider_edge.row_tree import RowTree
from outrider_models.bundle import LOGITS, Bundle, KvLayout

_FIRST_VERSION_WITH_BATCHES = 2


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
        ModelFileError: ONNX Runtime cannot load the graph, the graph lacks inputs or outputs, or
            its draft vocabulary is damaged.
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
        ids = bundle.draft_vocabulary()
        self._token_ids = None if ids is None else np.array(ids, np.int64)
        self._session = open_session(bundle.graph_file, options, providers)
        _check_names(bundle, self._session)

    @property
    def vocab_size(self) -> int:
        """How many tokens the model can read."""
        return self._manifest.vocab_size

    @property
    def num_logits(self) -> int:
        """How many logits a position has."""
        return self.vocab_size if self._token_ids is None else len(self._token_ids)

    @property
    def token_ids(self) -> Ids | None:
        """The token of each logit, int64 [num_logits], ascending; None: the i-th is of token i."""
        return self._token_ids

    @property
    def takes_batches(self) -> bool:
        """Whether the graph can compute rows of several sequences in one pass."""
        return self._manifest.format_version >= _FIRST_VERSION_WITH_BATCHES

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
        return OnnxSequence(self, KvSlots(self._session, self.kv, self._max_positions))


class OnnxSequence:
    """The KV cache of one text and of a small tree behind it. Not for several threads at once.

    Memory grows by doubling, up to what `max_positions` tokens need.

    Args:
        model: the weights.
        slots: memory; the sequence takes one slot, and gives it back when nobody refers to it.
    """

    def __init__(self, model: OnnxModel, slots: KvSlots) -> None:
        self._model = model
        self._slots = slots
        self._slot = slots.take()
        weakref.finalize(self, slots.give, self._slot)
        self._logits: Floats = np.zeros((0, model.num_logits), np.float32)
        self._length = 0
        self._tree = RowTree()

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
        return self._slots.slot_bytes

    @property
    def slot(self) -> int:
        """Where in the shared memory the cache is."""
        return self._slot

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
            Logits, float32 [num_logits or len(tokens), model.num_logits]; the caller's to keep.

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
        logits = np.empty((wanted, self._model.num_logits), np.float32)
        rows = Rows(
            ids,
            positions=np.arange(self._length, end, dtype=np.int64),
            bias=np.zeros((num_tokens, end), np.float32),
            wanted=np.arange(num_tokens - wanted, num_tokens, dtype=np.int64),
        )
        self._slots.run(self._slot, [rows], logits[None])
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
            Logits, float32 [len(wanted), model.num_logits]. The next pass of `forward_rows` writes
            over them: fresh memory for each costs as much as all else around a pass.

        Raises:
            InvalidPromptError: no tokens, one that the model lacks, or more than fit.
            ValueError: a parent does not come before its child, or there are too many rows.
        """
        if len(tokens) > 1 and not self._length + self.num_rows:
            return self._first_rows(tokens, parents, wanted)
        return self.finish_rows(self.begin_rows(tokens, parents, wanted))

    def begin_rows(
        self, tokens: Sequence[int], parents: Sequence[int], wanted: Sequence[int]
    ) -> Rows:
        """The first half of `forward_rows`: take the rows on, compute nothing.

        They must be computed before anything else is done with the sequence.
        """
        ids = self._checked(tokens)
        first = self.num_rows
        self._tree.append(parents)
        bias = np.zeros((len(tokens), self._length + self.num_rows), np.float32)
        bias[:, self._length :] = self._tree.bias(first)
        positions = np.array(self._tree.depths(first), np.int64) + self._length
        return Rows(ids, positions, bias, np.array(wanted, np.int64))

    def finish_rows(self, rows: Rows) -> Floats:
        """The second half of `forward_rows`."""
        logits = self._room_for_logits(len(rows.wanted))
        self._slots.run(self._slot, [rows], logits[None])
        return logits

    def own_logits(self, logits: Floats) -> Floats:
        """A copy that is valid until the next pass of `forward_rows`."""
        room = self._room_for_logits(len(logits))
        room[...] = logits
        return room

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
            cache = self._slots.cache(self._slot)
            cache[..., places, :] = cache[..., sources, :]
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

    def _checked(self, tokens: Sequence[int]) -> Ids:
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

    def _room_for_logits(self, num_rows: int) -> Floats:
        if num_rows > len(self._logits):
            self._logits = np.empty((num_rows, self._model.num_logits), np.float32)
        return self._logits[:num_rows]


def _check_names(bundle: Bundle, session: onnxruntime.InferenceSession) -> None:
    """Refuse a graph that is not the one which the manifest speaks of."""
    kv = bundle.manifest.kv
    wanted = INPUTS.union(kv.input_names()), {LOGITS, *kv.output_names()}
    found = session.get_inputs(), session.get_outputs()
    for what, names, places in zip(("input", "output"), wanted, found, strict=True):
        missing = names - {place.name for place in places}
        if missing:
            raise ModelFileError(
                f"The graph {bundle.graph_file} has no {what} '{min(missing)}': it is not the one "
                "that its manifest describes; export the bundle again with "
                "'outrider models export --force'."
            )


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
