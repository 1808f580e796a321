"""The bundle of the demo: a real model, quantised."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import transformers
from tokenizers import Tokenizer

from outrider_edge.onnx_model import OnnxModel
from outrider_models.bundle import Bundle, tokenizer_fingerprint

PROMPT = "The three primary colours are red, blue and yellow. The sky is blue because"


def test_the_int8_copy_of_the_real_model_nearly_always_agrees_with_it(
    smollm2_dir: Path, int8_bundle_dir: Path
) -> None:
    bundle = Bundle.load(int8_bundle_dir, verify=True)
    tokens = Tokenizer.from_file(str(bundle.tokenizer_file)).encode(PROMPT).ids
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(smollm2_dir)
    text = model.generate(
        torch.tensor([tokens]), max_new_tokens=24, do_sample=False, pad_token_id=2
    )[0].tolist()
    choices = OnnxModel(bundle).new_sequence().forward(text[:-1]).argmax(axis=-1)
    agreement = np.mean(choices[len(tokens) - 1 :] == text[len(tokens) :])
    assert agreement >= 0.8
    assert bundle.manifest.parity.greedy_agreement >= 0.9


def test_the_small_head_of_the_int4_copy_costs_no_agreement(
    int4_bundle_dir: Path,
) -> None:
    parity = Bundle.load(int4_bundle_dir).manifest.parity
    # With a whole head of 8 bits it was 0.726 on these texts, +- 0.03.
    assert parity.greedy_agreement >= 0.69


def test_both_sides_compute_the_same_tokenizer_fingerprint(
    smollm2_dir: Path, int8_bundle_dir: Path
) -> None:
    bundle = Bundle.load(int8_bundle_dir)
    at_the_edge = Tokenizer.from_file(str(bundle.tokenizer_file))
    in_the_cloud: Any = transformers.AutoTokenizer.from_pretrained(smollm2_dir)
    expected = bundle.manifest.tokenizer_fingerprint
    assert tokenizer_fingerprint(at_the_edge.get_vocab(with_added_tokens=True)) == expected
    assert tokenizer_fingerprint(in_the_cloud.get_vocab()) == expected


def test_nothing_that_multiplies_by_a_weight_is_left_in_fp32(int8_bundle_dir: Path) -> None:
    graph = onnx.load(int8_bundle_dir / "model.onnx", load_external_data=False).graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("MatMulNBits") == 30 * 4 + 1  # of a layer: q, k and v; o; gate and up; down
    assert "MatMul" not in kinds
    (head,) = [node for node in graph.node if "logits" in node.output]
    assert head.op_type == "MatMulNBits"
