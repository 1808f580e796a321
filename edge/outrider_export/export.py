"""Makes a drafter bundle from a model directory, if it passes the parity gate."""

import json
import platform
import shutil
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import AutoTokenizer, GenerationConfig, PretrainedConfig
from transformers.utils import logging as transformers_logging

from outrider_common.errors import InvalidInputError, ModelFileError, UnsupportedError
from outrider_export.decoder import Decoder, load_decoder
from outrider_export.draft_vocabulary import DraftVocabulary, choose_tokens
from outrider_export.graph import GraphOptions, kv_layout, write_graph
from outrider_export.kv_scales import find_kv_scales
from outrider_export.parity import ParityGate
from outrider_export.quantise import BITS, BLOCK_SIZE, PRECISIONS, Scheme
from outrider_models.bundle import (
    CHAT_TEMPLATE_FILE,
    DRAFT_VOCABULARY_FILE,
    FORMAT_VERSION,
    MANIFEST_FILE,
    TOKENIZER_FILE,
    Bundle,
    Manifest,
    ParityReport,
    QuantisationRecord,
    check_masks,
    tokenizer_fingerprint,
)
from outrider_models.checksums import record_files
from outrider_models.directories import fill_directory

_TOOLS = ("outrider", "onnx", "onnxruntime", "torch", "transformers")
_NOT_MEASURED = ParityReport(0, 0.0, 0.0, 0.0, 0.0)


def export_bundle(
    source: Path,
    destination: Path,
    *,
    scheme: Scheme = Scheme.INT8,
    name: str | None = None,
    source_name: str | None = None,
    max_positions: int | None = None,
    vocabulary: DraftVocabulary | None = None,
    kv_bits: int = 32,
) -> Bundle:
    """Make a drafter bundle. It appears complete, or not at all.

    Args:
        source: a model directory in the Transformers format, of one of `decoder.FAMILIES`.
        destination: the directory to make; must not exist.
        scheme: how to store the weights.
        name: of the bundle, for people; None: the name of `destination`.
        source_name: of the source, for people; None: the name of its directory.
        max_positions: limit the sequence length below what the model allows; None: do not.
        vocabulary: which tokens to draft from; None: all.
        kv_bits: of the keys and values in the KV cache, 8 or 32.

    Raises:
        InvalidInputError: `destination` exists, or there can be no such draft vocabulary.
        ModelFileError: `source` cannot be read.
        UnsupportedError: the model or its tokenizer is of a kind that cannot be exported.
        ParityError: the result does not compute what the model computes.
    """
    if destination.exists():
        raise InvalidInputError(f"{destination} exists already: remove it, or choose another name.")
    destination.parent.mkdir(parents=True, exist_ok=True)

    def fill(directory: Path) -> None:
        write_bundle(
            source,
            directory,
            scheme=scheme,
            name=name or destination.name,
            source_name=source_name or source.name,
            max_positions=max_positions,
            vocabulary=vocabulary,
            kv_bits=kv_bits,
        )

    fill_directory(destination, fill)
    return Bundle.load(destination)


def write_bundle(
    source: Path,
    directory: Path,
    *,
    scheme: Scheme,
    name: str,
    source_name: str,
    max_positions: int | None = None,
    vocabulary: DraftVocabulary | None = None,
    kv_bits: int = 32,
) -> None:
    """Write the files of a bundle into an empty directory; see `export_bundle`.

    After an error the directory holds what was written until then: the caller drops it.
    """
    _refuse_small_cache(scheme, kv_bits)
    logging: Any = transformers_logging
    logging.disable_progress_bar()
    decoder = load_decoder(source, max_positions)
    tokenizer = _load_tokenizer(source)
    _write_tokenizer(tokenizer, directory)
    draft = _manifest(decoder, tokenizer, scheme, name, source_name)
    draft = replace(draft, kv=kv_layout(decoder.architecture, kv_bits))
    token_ids = _write_draft_vocabulary(vocabulary, tokenizer, draft, directory)
    if token_ids is not None:
        draft = replace(draft, num_draft_tokens=len(token_ids))
    gate = ParityGate(decoder.model, tokenizer, draft.max_positions, token_ids)
    graph_error = _check_fp32_graph(decoder, draft, token_ids, gate, directory)
    scales = find_kv_scales(decoder.model, gate.probes) if draft.kv.is_quantised else None
    write_graph(decoder, GraphOptions(PRECISIONS[scheme], scales, token_ids), directory)
    report = gate.check_bundle(Bundle(directory, draft), scheme, graph_error)
    files = record_files(directory, (path.name for path in directory.iterdir()))
    manifest = replace(draft, parity=report, files=files)
    (directory / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")


def _refuse_small_cache(scheme: Scheme, kv_bits: int) -> None:
    if scheme is Scheme.NONE and kv_bits == 8:
        raise InvalidInputError(
            "A bundle without quantisation keeps its KV cache in fp32: leave out --kv-bits 8, or "
            "choose another --quantisation than none."
        )


def _load_tokenizer(source: Path) -> Any:
    """The tokenizer of a model directory; must be one that the edge's library can run.

    Raises:
        UnsupportedError: there is none, or it exists in Python code only.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise UnsupportedError(
            f"The tokenizer of {source} cannot be loaded ({str(error).splitlines()[0]}): "
            "add the model's tokenizer.json to the directory."
        ) from error
    if not tokenizer.is_fast:
        raise UnsupportedError(
            f"{source} has no tokenizer.json: convert its tokenizer with Transformers first."
        )
    return tokenizer


def _write_tokenizer(tokenizer: Any, directory: Path) -> None:
    tokenizer.backend_tokenizer.save(str(directory / TOKENIZER_FILE))
    if isinstance(tokenizer.chat_template, str):
        template = directory / CHAT_TEMPLATE_FILE
        template.write_text(tokenizer.chat_template, encoding="utf-8")


def _write_draft_vocabulary(
    vocabulary: DraftVocabulary | None, tokenizer: Any, draft: Manifest, directory: Path
) -> NDArray[np.int64] | None:
    if vocabulary is None:
        return None
    token_ids = choose_tokens(vocabulary, tokenizer, draft.vocab_size, draft.eos_token_ids)
    (directory / DRAFT_VOCABULARY_FILE).write_text(json.dumps(token_ids.tolist()))
    return token_ids


def _manifest(
    decoder: Decoder, tokenizer: Any, scheme: Scheme, name: str, source_name: str
) -> Manifest:
    """The manifest, without the parity report and the files, which come last."""
    architecture, precision = decoder.architecture, PRECISIONS[scheme]
    return Manifest(
        format_version=FORMAT_VERSION,
        name=name,
        source=source_name,
        architecture=architecture.family,
        vocab_size=architecture.vocab_size,
        max_positions=architecture.max_positions,
        eos_token_ids=_eos_token_ids(decoder.model.generation_config, tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        kv=kv_layout(architecture, 32),
        quantisation=QuantisationRecord(
            scheme=scheme.value,
            bits=BITS[precision.layers],
            head_bits=BITS[precision.head],
            block_size=0 if precision.layers is None else BLOCK_SIZE,
            embedding_bits=BITS[precision.embedding],
        ),
        tokenizer_fingerprint=tokenizer_fingerprint(tokenizer.get_vocab()),
        tools={"python": platform.python_version(), **{tool: version(tool) for tool in _TOOLS}},
        parity=_NOT_MEASURED,
        files={},
        mask_token_ids=_mask_token_ids(decoder.model.config, architecture.vocab_size),
    )


def _eos_token_ids(generation: GenerationConfig, tokenizer: Any) -> tuple[int, ...]:
    """What ends an answer: the generation config knows best, some models have several."""
    ids = generation.eos_token_id
    if ids is None:
        ids = tokenizer.eos_token_id
    if ids is None:
        return ()
    return tuple(ids) if isinstance(ids, list) else (int(ids),)


def _mask_token_ids(config: PretrainedConfig, vocab_size: int) -> tuple[int, ...]:
    """The tokens on which a model was trained to look further ahead, if it was; see `Manifest`.

    Raises:
        ModelFileError: its config.json names others than tokens.
    """
    ids = getattr(config, "mask_token_ids", None) or []
    if not isinstance(ids, list) or not all(type(token) is int for token in ids):
        raise ModelFileError(
            f"'mask_token_ids' in the model's config.json is {ids!r}: give a list of token ids."
        )
    check_masks("The model", ids, vocab_size)
    return tuple(ids)


def _check_fp32_graph(
    decoder: Decoder,
    draft: Manifest,
    token_ids: NDArray[np.int64] | None,
    gate: ParityGate,
    directory: Path,
) -> float:
    """Check the graph's arithmetic apart from quantisation, on a copy that is then dropped."""
    manifest = replace(draft, kv=kv_layout(decoder.architecture, 32))
    with tempfile.TemporaryDirectory(prefix=".fp32-", dir=directory.parent) as name:
        copy = Path(name)
        if token_ids is not None:
            shutil.copy(directory / DRAFT_VOCABULARY_FILE, copy)
        options = GraphOptions(PRECISIONS[Scheme.NONE], token_ids=token_ids)
        write_graph(decoder, options, copy)
        return gate.check_graph(Bundle(copy, manifest))
