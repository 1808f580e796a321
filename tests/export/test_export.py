"""The exporter, on tiny models of every family and on the gate that guards it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from tiny_models import CHAT_TEMPLATE, FAMILIES, write_tiny_model

from outrider_common.errors import (
    InvalidInputError,
    ModelFileError,
    ParityError,
    UnsupportedError,
)
from outrider_edge.onnx_model import OnnxModel
from outrider_export import Scheme, export_bundle
from outrider_export.decoder import Decoder
from outrider_export.quantise import quantise
from outrider_models.bundle import Bundle, tokenizer_fingerprint

QUANTISED = [Scheme.INT8, Scheme.INT4, Scheme.INT4_OFFSET]
# What writes the logits: a matrix product, or what puts the second scores over the first.
HEADS = {
    Scheme.INT8: "MatMulNBits",
    Scheme.INT4: "ScatterElements",
    Scheme.INT4_OFFSET: "MatMulNBits",
}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "llama")


def operators(bundle: Bundle) -> list[Any]:
    return list(onnx.load(bundle.graph_file, load_external_data=False).graph.node)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_graph_of_every_family_computes_what_torch_computes(
    tmp_path: Path, family: str
) -> None:
    source = write_tiny_model(tmp_path / "model", family)
    bundle = export_bundle(source, tmp_path / "bundle", scheme=Scheme.NONE)
    torch_model: Any = transformers.AutoModelForCausalLM.from_pretrained(source)
    tokens = np.random.default_rng(0).integers(0, bundle.manifest.vocab_size, 120).tolist()
    with torch.no_grad():
        expected = torch_model(torch.tensor([tokens])).logits[0].numpy()
    sequence = OnnxModel(bundle).new_sequence()
    actual = np.concatenate([sequence.forward(tokens[:70]), sequence.forward(tokens[70:])])
    np.testing.assert_allclose(actual, expected, atol=2e-4)


@pytest.mark.parametrize("family", ["llama", "llama_untied", "llama_biased", "qwen3"])
@pytest.mark.parametrize("scheme", QUANTISED)
def test_a_quantised_bundle_passes_the_gate_and_records_how_close_it_is(
    tmp_path: Path, family: str, scheme: Scheme
) -> None:
    source = write_tiny_model(tmp_path / "model", family)
    bundle = export_bundle(source, tmp_path / "bundle", scheme=scheme)
    parity = bundle.manifest.parity
    assert parity.num_tokens > 200
    assert 0 < parity.graph_error < 1e-3
    assert 0 < parity.logits_error < 0.7
    assert parity.greedy_agreement > 0.5


@pytest.mark.parametrize("scheme", QUANTISED)
def test_every_matrix_is_quantised_the_lm_head_included(
    tmp_path: Path, llama: Path, scheme: Scheme
) -> None:
    bundle = export_bundle(llama, tmp_path / "bundle", scheme=scheme)
    nodes = operators(bundle)
    heads = [node for node in nodes if "logits" in node.output]
    assert [node.op_type for node in heads] == [HEADS[scheme]]
    # Per layer: the packed q, k and v, then o, the packed gate and up, and down.
    assert sum(node.op_type == "MatMulNBits" for node in nodes) == 2 * 4 + 1
    assert not any(node.op_type == "Gather" and node.input[0] == "embedding" for node in nodes)


@pytest.mark.parametrize("family", ["llama", "mistral_window", "qwen3"])
def test_a_cache_of_8_bits_computes_nearly_what_one_of_32_does(tmp_path: Path, family: str) -> None:
    source = write_tiny_model(tmp_path / "model", family)
    tokens = np.random.default_rng(0).integers(0, 300, 120).tolist()
    logits = []
    for bits, dtype in ((8, "int8"), (32, "float32")):
        bundle = export_bundle(source, tmp_path / dtype, scheme=Scheme.INT8, kv_bits=bits)
        assert bundle.manifest.kv.dtype == dtype
        sequence = OnnxModel(bundle).new_sequence()
        logits.append(
            np.concatenate([sequence.forward(tokens[:70]), sequence.forward(tokens[70:])])
        )
    error = np.sqrt(np.mean((logits[0] - logits[1]) ** 2))
    assert 0 < error < 0.2 * logits[1].std()


def test_without_quantisation_the_cache_cannot_have_8_bits(tmp_path: Path, llama: Path) -> None:
    with pytest.raises(InvalidInputError, match="leave out --kv-bits 8"):
        export_bundle(llama, tmp_path / "bundle", scheme=Scheme.NONE, kv_bits=8)


def test_a_tied_lm_head_is_stored_once(tmp_path: Path, llama: Path) -> None:
    untied = write_tiny_model(tmp_path / "untied", "llama_untied")
    sizes = [
        sum(r.size for r in export_bundle(source, tmp_path / name).manifest.files.values())
        for source, name in ((llama, "a"), (untied, "b"))
    ]
    assert sizes[0] + 64 * 300 <= sizes[1]


def test_the_manifest_describes_the_model(tmp_path: Path, llama: Path) -> None:
    bundle = export_bundle(llama, tmp_path / "mine", max_positions=100)
    manifest = bundle.manifest
    assert (manifest.name, manifest.source, manifest.architecture) == ("mine", "llama", "llama")
    assert (manifest.vocab_size, manifest.max_positions) == (300, 100)
    assert (manifest.bos_token_id, manifest.eos_token_ids) == (1, (2,))
    assert (manifest.quantisation.scheme, manifest.quantisation.bits) == ("int8", 8)
    assert bundle.chat_template() == CHAT_TEMPLATE
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(llama)
    assert manifest.tokenizer_fingerprint == tokenizer_fingerprint(tokenizer.get_vocab())
    Bundle.load(bundle.path, verify=True)


def test_a_vocabulary_as_large_as_the_mlp_is_exported_right(tmp_path: Path) -> None:
    source = write_tiny_model(tmp_path / "model", vocab_size=320, intermediate_size=320)
    assert export_bundle(source, tmp_path / "bundle").manifest.parity.greedy_agreement > 0.8


def test_a_graph_that_computes_something_else_is_never_written(
    tmp_path: Path, llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Decoder.rotary_tables
    monkeypatch.setattr(Decoder, "rotary_tables", lambda self: right(self)[::-1])
    with pytest.raises(ParityError, match=r"llama is wrong by"):
        export_bundle(llama, tmp_path / "out" / "bundle")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_quantised_copy_that_is_far_off_is_never_written(
    tmp_path: Path, llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "outrider_export.graph.quantise", lambda weight, method: quantise(weight[::-1], method)
    )
    with pytest.raises(ParityError, match="greedy agreement"):
        export_bundle(llama, tmp_path / "out" / "bundle")
    assert list((tmp_path / "out").iterdir()) == []


def test_weights_that_are_not_numbers_do_not_pass_the_gate(tmp_path: Path) -> None:
    source = write_tiny_model(tmp_path / "model")
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(source)
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    model.save_pretrained(source)
    with pytest.raises(ParityError, match="wrong by nan"):
        export_bundle(source, tmp_path / "bundle", scheme=Scheme.NONE)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"model_type": "gpt2"}, "gpt2"),
        ({"hidden_act": "gelu"}, "gelu"),
        (
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
            "dynamic",
        ),
    ],
)
def test_what_the_graph_cannot_compute_is_refused_by_name(
    tmp_path: Path, settings: dict[str, Any], named: str
) -> None:
    source = write_tiny_model(tmp_path / "model")
    config = source / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **settings}))
    with pytest.raises(UnsupportedError, match=named):
        export_bundle(source, tmp_path / "bundle")


def test_a_width_that_does_not_divide_into_blocks_is_refused(tmp_path: Path) -> None:
    source = write_tiny_model(tmp_path / "model", intermediate_size=100)
    with pytest.raises(UnsupportedError, match="100 input features"):
        export_bundle(source, tmp_path / "bundle")
    export_bundle(source, tmp_path / "bundle", scheme=Scheme.NONE)


def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="cannot be loaded"):
        export_bundle(tmp_path, tmp_path / "bundle")


def test_a_model_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    source = write_tiny_model(tmp_path / "model")
    for path in source.glob("*token*"):
        path.unlink()
    with pytest.raises(UnsupportedError, match="tokenizer"):
        export_bundle(source, tmp_path / "bundle")


def test_an_existing_directory_is_not_overwritten(tmp_path: Path, llama: Path) -> None:
    with pytest.raises(InvalidInputError, match="exists already"):
        export_bundle(llama, tmp_path)
