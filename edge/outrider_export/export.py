"""Makes a drafter bundle from a model directory, if it passes the parity gate."""

import platform
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, GenerationConfig, PretrainedConfig
from transformers.utils import logging as transformers_logging

from outrider_common.errors import InvalidInputError, ModelFileError, UnsupportedError
from outrider_export.decoder import Decoder, load_decoder
from outrider_export.graph import kv_layout, write_graph
from outrider_export.parity import ParityGate
from outrider_export.quantise import BITS, BLOCK_SIZE, PRECISIONS, Scheme
from outrider_models.bundle import (
    CHAT_TEMPLATE_FILE,
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
) -> Bundle:
    """Make a drafter bundle. It appears complete, or not at all.

    Args:
        source: a model directory in the Transformers format, of one of `decoder.FAMILIES`.
        destination: the directory to make; must not exist.
        scheme: how to store the weights.
        name: of the bundle, for people; None: the name of `destination`.
        source_name: of the source, for people; None: the name of its directory.
        max_positions: limit the sequence length below what the model allows; None: do not.

    Raises:
        InvalidInputError: `destination` exists.
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
) -> None:
    """Write the files of a bundle into an empty directory; see `export_bundle`.

    After an error the directory holds what was written until then: the caller drops it.
    """
    logging: Any = transformers_logging
    logging.disable_progress_bar()
    decoder = load_decoder(source, max_positions)
    tokenizer = _load_tokenizer(source)
    _write_tokenizer(tokenizer, directory)
    draft = _manifest(decoder, tokenizer, scheme, name, source_name)
    gate = ParityGate(decoder.model, tokenizer, draft.max_positions)
    graph_error = _check_fp32_graph(decoder, draft, gate, directory.parent)
    write_graph(decoder, PRECISIONS[scheme], directory)
    report = gate.check_bundle(Bundle(directory, draft), scheme, graph_error)
    files = record_files(directory, (path.name for path in directory.iterdir()))
    manifest = replace(draft, parity=report, files=files)
    (directory / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")


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
        kv=kv_layout(architecture),
        quantisation=QuantisationRecord(
            scheme=scheme.value,
            bits=BITS[precision.layers],
            head_bits=BITS[precision.head],
            block_size=0 if precision.layers is None else BLOCK_SIZE,
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


def _check_fp32_graph(decoder: Decoder, draft: Manifest, gate: ParityGate, scratch: Path) -> float:
    """Check the graph's arithmetic apart from quantisation, on a copy that is then dropped."""
    with tempfile.TemporaryDirectory(prefix=".fp32-", dir=scratch) as name:
        directory = Path(name)
        write_graph(decoder, PRECISIONS[Scheme.NONE], directory)
        return gate.check_graph(Bundle(directory, draft))
