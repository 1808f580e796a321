"""Drafter bundles: directories with an ONNX graph, its tokenizer, and a manifest about both.

This is the contract between the exporter, which writes bundles, and the edge, which runs them.
Knows nothing of ONNX itself.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from outrider_common.errors import ModelFileError
from outrider_models.checksums import FileRecord, check_files

FORMAT_VERSION = 2
"""Of the manifest and of the graph's inputs and outputs."""

READABLE_VERSIONS = (1, 2)
"""In graphs of version 1 the batch is always 1."""

MANIFEST_FILE = "manifest.json"
GRAPH_FILE = "model.onnx"
TOKENIZER_FILE = "tokenizer.json"
CHAT_TEMPLATE_FILE = "chat_template.jinja"
DRAFT_VOCABULARY_FILE = "draft_vocabulary.json"

INPUT_IDS = "input_ids"
"""int64 [batch, rows]: the tokens to compute. Of a batch of several, one row each."""
POSITION_IDS = "position_ids"
"""int64 [batch, rows]: the position of each token in the text, for its rotary embedding.

In a pass over an empty cache only the first counts and the others are taken to follow it: a tree
can be computed after a prefix, not as the first pass.
"""
ATTENTION_BIAS = "attention_bias"
"""float32 [batch, 1, rows, total]: added to the attention scores, besides the causal mask."""
LAST_INDEX = "last_index"
"""int32 [batch]: how many cached tokens each has once its rows are appended, less 1."""
TOTAL_LENGTH = "total_length"
"""int32 []: the largest such number of the batch: total."""
LOGIT_ROWS = "logit_rows"
"""int64 [n]: the rows whose logits are wanted."""
LOGITS = "logits"
"""float32 [batch, n, draft vocabulary]: the output."""

_REMEDY = "export the bundle again with 'outrider models export --force', or copy it again"


@dataclass(frozen=True, slots=True)
class KvLayout:
    """The KV cache of the graph: a key and a value buffer per layer.

    Every buffer is [batch, num_kv_heads, capacity, head_size]; the output may be the same memory as
    the input. `{layer}` in the names is the index of the layer, `{part}` is `key` or `value`.

    Attributes:
        num_layers: how many layers there are.
        num_kv_heads: key and value heads of each.
        head_size: width of a head.
        dtype: NumPy name of the elements' type.
        input_pattern: names of the inputs.
        output_pattern: names of the outputs.
    """

    num_layers: int
    num_kv_heads: int
    head_size: int
    dtype: str = "float32"
    input_pattern: str = "past.{layer}.{part}"
    output_pattern: str = "present.{layer}.{part}"

    @property
    def is_quantised(self) -> bool:
        """Whether the elements are codes; the graph knows what they stand for."""
        return self.dtype == "int8"

    def input_names(self) -> list[str]:
        """The inputs in the order key, value of layer 0, key, value of layer 1, and so on."""
        return self._names(self.input_pattern)

    def output_names(self) -> list[str]:
        """The outputs, in the order of `input_names`."""
        return self._names(self.output_pattern)

    def _names(self, pattern: str) -> list[str]:
        layers, parts = range(self.num_layers), ("key", "value")
        return [pattern.format(layer=layer, part=part) for layer in layers for part in parts]


@dataclass(frozen=True, slots=True)
class QuantisationRecord:
    """How the weights are stored.

    Attributes:
        scheme: the exporter's name for it; `none`: fp32.
        bits: of the weights of the layers.
        head_bits: of the LM head, as it scores every token.
        block_size: how many weights share a scale; 0 without quantisation.
        embedding_bits: of the embedding, and of the LM head as it scores the best tokens again;
            None: as `head_bits`, and nothing is scored again.
    """

    scheme: str
    bits: int
    head_bits: int
    block_size: int
    embedding_bits: int | None = None


@dataclass(frozen=True, slots=True)
class ParityReport:
    """How close the graph is to the model that it was made from, on the exporter's probe texts.

    Only tokens of the draft vocabulary are compared.

    Attributes:
        num_tokens: how many positions were compared.
        graph_error: the fp32 graph's largest error of a logit, in standard deviations of logits.
        logits_error: the stored graph's root mean square error of logits, in the same unit.
        greedy_agreement: share of positions where the stored graph's best token is the model's.
        mean_total_variation: mean distance of the two next-token distributions, 0 to 1.
        coverage: share of positions where the model's best token is in the draft vocabulary.
    """

    num_tokens: int
    graph_error: float
    logits_error: float
    greedy_agreement: float
    mean_total_variation: float
    coverage: float = 1.0


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle is.

    Attributes:
        format_version: `FORMAT_VERSION` of the exporter.
        name: for people.
        source: the model that it was made from.
        architecture: the source's model type, such as `llama`.
        vocab_size: how many tokens the graph can read.
        max_positions: the longest sequence that the graph can hold.
        eos_token_ids: the tokens that end an answer.
        bos_token_id: the token that begins every text, if the model has one.
        kv: the layout of the KV cache.
        quantisation: how the weights are stored.
        tokenizer_fingerprint: see `tokenizer_fingerprint`.
        tools: versions of what the bundle was made with.
        parity: how close it is to the source.
        files: relative path to size and checksum, for every file but the manifest.
        mask_token_ids: tokens that the model was trained to see in place of those which it does
            not know yet, in the order in which they follow the last known one: at the k-th it says
            what stands k tokens further. Distinct, below `vocab_size`. Empty: it was not.
        num_draft_tokens: how many tokens the graph gives logits for, which are then listed in
            `DRAFT_VOCABULARY_FILE`; None: for all.
    """

    format_version: int
    name: str
    source: str
    architecture: str
    vocab_size: int
    max_positions: int
    eos_token_ids: tuple[int, ...]
    bos_token_id: int | None
    kv: KvLayout
    quantisation: QuantisationRecord
    tokenizer_fingerprint: str
    tools: dict[str, str]
    parity: ParityReport
    files: dict[str, FileRecord]
    mask_token_ids: tuple[int, ...] = ()
    num_draft_tokens: int | None = None

    def to_json(self) -> str:
        """The text of the manifest file."""
        return json.dumps(asdict(self), indent=2) + "\n"


_MANIFEST = TypeAdapter(Manifest)
_IDS = TypeAdapter(list[int])
_NEEDED_FILES = (GRAPH_FILE, TOKENIZER_FILE)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A drafter bundle on disk.

    Attributes:
        path: its directory.
        manifest: what it is.
    """

    path: Path
    manifest: Manifest

    @classmethod
    def load(cls, path: Path, *, verify: bool = False) -> "Bundle":
        """Read a bundle's manifest and check its files.

        Args:
            path: the directory.
            verify: also hash every file; otherwise only existence and size are compared.

        Raises:
            ModelFileError: the bundle is missing, corrupt, truncated or of another version.
        """
        manifest = _read_manifest(path / MANIFEST_FILE)
        check_files(path, manifest.files, contents=verify, remedy=_REMEDY)
        return cls(path, manifest)

    def draft_vocabulary(self) -> list[int] | None:
        """The ids of the tokens that the graph gives logits for, ascending; None: all.

        Raises:
            ModelFileError: the list cannot be that of this graph.
        """
        size, limit = self.manifest.num_draft_tokens, self.manifest.vocab_size
        if size is None:
            return None
        path = self.path / DRAFT_VOCABULARY_FILE
        try:
            ids = _IDS.validate_json(path.read_bytes(), strict=True)
        except (OSError, ValidationError) as error:
            raise ModelFileError(f"{path} cannot be read as a list of ids: {_REMEDY}.") from error
        if len(ids) != size or any(a >= b for a, b in pairwise([-1, *ids, limit])):
            raise ModelFileError(
                f"{path} is not a list of {size} ascending ids below {limit}: {_REMEDY}."
            )
        return ids

    @property
    def graph_file(self) -> Path:
        """The ONNX graph; its weights lie in a file beside it."""
        return self.path / GRAPH_FILE

    @property
    def tokenizer_file(self) -> Path:
        """The tokenizer, in the format of the `tokenizers` library."""
        return self.path / TOKENIZER_FILE

    def chat_template(self) -> str | None:
        """The Jinja source of the chat template; None where the model has none.

        Raises:
            ModelFileError: it is no text.
        """
        if CHAT_TEMPLATE_FILE not in self.manifest.files:
            return None
        path = self.path / CHAT_TEMPLATE_FILE
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelFileError(f"{path} cannot be read as text: {_REMEDY}.") from error


def _read_manifest(path: Path) -> Manifest:
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelFileError(f"{path} is missing: give the directory of a bundle.") from None
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path} cannot be read as JSON ({error}): {_REMEDY}.") from error
    _check_version(path, document)
    try:
        manifest = _MANIFEST.validate_json(json.dumps(document), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ModelFileError(
            f"{path} has a bad entry {where!r} ({first['msg']}): {_REMEDY}."
        ) from error
    optional = () if manifest.num_draft_tokens is None else (DRAFT_VOCABULARY_FILE,)
    for name in (*_NEEDED_FILES, *optional):
        if name not in manifest.files:
            raise ModelFileError(f"{path} does not list the file {name}: {_REMEDY}.")
    check_masks(str(path), manifest.mask_token_ids, manifest.vocab_size)
    return manifest


def check_masks(where: str, mask_token_ids: Sequence[int], vocab_size: int) -> None:
    """Refuse masks that are not distinct tokens of a model.

    Raises:
        ModelFileError: naming the first that is wrong, and `where`.
    """
    remedy = "correct 'mask_token_ids' in the config.json of the model, and export it again"
    seen: set[int] = set()
    for mask in mask_token_ids:
        if not 0 <= mask < vocab_size:
            raise ModelFileError(
                f"{where} has the mask token {mask}, but the model reads tokens from 0 to "
                f"{vocab_size - 1}: {remedy}."
            )
        if mask in seen:
            raise ModelFileError(f"{where} has the mask token {mask} twice: {remedy}.")
        seen.add(mask)


def _check_version(path: Path, document: Any) -> None:
    version = document.get("format_version") if isinstance(document, dict) else None
    if version not in READABLE_VERSIONS:
        known = " and ".join(map(str, READABLE_VERSIONS))
        raise ModelFileError(
            f"{path} has format version {version!r} but this release reads {known}: "
            "export the bundle again with 'outrider models export --force'."
        )


def tokenizer_fingerprint(vocabulary: Mapping[str, int]) -> str:
    """A short name for a vocabulary, by which two sides find that they mean the same tokens.

    The same from `tokenizers` (`get_vocab(with_added_tokens=True)`) and from Transformers
    (`get_vocab()`).

    Args:
        vocabulary: token string to id, added tokens included.

    Returns:
        `v1:` and the SHA-256 of the id-ordered list of [id, token] as compact ASCII JSON.
    """
    pairs = sorted((token_id, token) for token, token_id in vocabulary.items())
    canonical = json.dumps(pairs, separators=(",", ":"), ensure_ascii=True)
    return "v1:" + hashlib.sha256(canonical.encode("ascii")).hexdigest()
