"""What the graph's inputs allow beyond a plain chain of tokens."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_models import write_tiny_model

from outrider_edge.onnx_model import OnnxModel
from outrider_export import Scheme, export_bundle
from outrider_models.bundle import (
    ATTENTION_BIAS,
    INPUT_IDS,
    LAST_INDEX,
    LOGIT_ROWS,
    LOGITS,
    POSITION_IDS,
    TOTAL_LENGTH,
    Bundle,
)

Floats = NDArray[np.float32]

PREFIX = [5, 6, 7]
HIDDEN = -1e9


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("tiny")
    return export_bundle(write_tiny_model(folder / "m"), folder / "b", scheme=Scheme.NONE)


def run(
    model: OnnxModel,
    tokens: list[int],
    positions: list[int],
    bias: Floats,
    past: list[Floats],
) -> tuple[Floats, list[Floats]]:
    """One pass: logits [rows, vocab] and the extended cache."""
    num_rows, total = bias.shape
    inputs: dict[str, Any] = {
        INPUT_IDS: np.array([tokens]),
        POSITION_IDS: np.array([positions]),
        ATTENTION_BIAS: bias[None, None],
        LAST_INDEX: np.array([total - 1], np.int32),
        TOTAL_LENGTH: np.array(total, np.int32),
        LOGIT_ROWS: np.arange(num_rows),
        **dict(zip(model.kv.input_names(), past, strict=True)),
    }
    logits, *present = model.session.run([LOGITS, *model.kv.output_names()], inputs)
    return logits[0], present


def test_siblings_in_one_pass_do_not_see_each_other(bundle: Bundle) -> None:
    model = OnnxModel(bundle)
    empty = np.zeros((1, model.kv.num_kv_heads, 0, model.kv.head_size), np.float32)
    no_past = [empty] * len(model.kv.input_names())
    _, past = run(model, PREFIX, [0, 1, 2], np.zeros((3, 3), np.float32), no_past)

    # Two children of the prefix, then a child of the first of them. Columns: prefix, then rows.
    bias = np.zeros((3, 6), np.float32)
    bias[1, 3] = HIDDEN
    bias[2, 4] = HIDDEN
    logits, _ = run(model, [20, 30, 21], [3, 3, 4], bias, past)

    first = model.new_sequence().forward([*PREFIX, 20, 21])
    second = model.new_sequence().forward([*PREFIX, 30])
    np.testing.assert_allclose(logits[[0, 2]], first[3:], atol=1e-4)
    np.testing.assert_allclose(logits[1], second[3], atol=1e-4)
