"""Writes a Llama-family decoder as an ONNX graph made of ONNX Runtime's fused operators.

One GroupQueryAttention per layer keeps its KV cache in buffers that the caller owns: input and
output of the cache may be the same memory, and a shorter length truncates it. The inputs and
outputs are those of `outrider_models.bundle`. Knows nothing of files, tokenizers or sessions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from outrider_export.decoder import Architecture, Array, Decoder, DecoderLayer, Linear
from outrider_export.kv_scales import KvScales
from outrider_export.quantise import (
    BITS,
    BLOCK_SIZE,
    Method,
    Precision,
    QuantisedMatrix,
    quantise,
)
from outrider_models.bundle import (
    ATTENTION_BIAS,
    GRAPH_FILE,
    INPUT_IDS,
    LAST_INDEX,
    LOGIT_ROWS,
    LOGITS,
    POSITION_IDS,
    TOTAL_LENGTH,
    KvLayout,
)

WEIGHTS_FILE = f"{GRAPH_FILE}.data"

_MICROSOFT = "com.microsoft"
_OPSETS = {"": 21, _MICROSOFT: 1}
_IR_VERSION = 10
_SMALLEST_EXTERNAL_BYTES = 1024  # ONNX Runtime wants to see small constants, such as shapes, early
_WEIGHTS_ALIGNMENT = 4096  # a page, so that the weights file can be mapped
_INT8_ACTIVATIONS = 4  # MatMulNBits rounds its input to int8 as well: the fast path on CPUs
_ROTARY_TABLES = ("rotary.cosines", "rotary.sines")
_EMBEDDING = "embedding"
_HEAD = "head"
_QUANTISED_CACHE = {
    "k_quant_type": "PER_CHANNEL",
    "v_quant_type": "PER_CHANNEL",
    "kv_cache_bit_width": 8,
}
_KV_DTYPES = {8: "int8", 32: "float32"}
_KV_TYPES = {"float32": TensorProto.FLOAT, "int8": TensorProto.INT8}

_NUM_CANDIDATES = 64
"""So many tokens of each row, the best by the 4-bit LM head, are scored again with 8 bits."""


@dataclass(frozen=True, slots=True)
class GraphOptions:
    """What of a decoder is written, and how.

    Attributes:
        precision: of the weights.
        kv_scales: of the KV cache, for each layer, which then has 8 bits; None: it stays in fp32.
        token_ids: the draft vocabulary, int64 [n], ascending; None: all tokens.
    """

    precision: Precision
    kv_scales: Sequence[KvScales] | None = None
    token_ids: NDArray[np.int64] | None = None


def kv_layout(architecture: Architecture, bits: int) -> KvLayout:
    """The KV cache of the graph of such a decoder."""
    return KvLayout(
        architecture.num_layers,
        architecture.num_kv_heads,
        architecture.head_size,
        dtype=_KV_DTYPES[bits],
    )


def write_graph(decoder: Decoder, options: GraphOptions, directory: Path) -> None:
    """Write a decoder as `GRAPH_FILE`, and its weights as `WEIGHTS_FILE`.

    Raises:
        UnsupportedError: a matrix cannot be quantised.
    """
    _DecoderGraph(decoder, options).build().write(directory)


class _Graph:
    """Nodes and constants, with names made up on the way."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, NDArray[Any]] = {}
        self._inputs: Sequence[onnx.ValueInfoProto] = ()
        self._outputs: Sequence[onnx.ValueInfoProto] = ()

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add a constant, unless there is one of this name."""
        self._constants.setdefault(name, value)
        return name

    def node(self, op: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        return self.nodes(op, inputs, [output or self._fresh(op)], **attributes)[0]

    def nodes(
        self, op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any
    ) -> Sequence[str]:
        """Add a node with several outputs, whose names are given."""
        node = helper.make_node(op, inputs, outputs, name=self._fresh(op), **attributes)
        self._nodes.append(node)
        return outputs

    def _fresh(self, op: str) -> str:
        return f"{op}.{len(self._nodes)}"

    def close(
        self, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
    ) -> None:
        """Say what goes in and what comes out."""
        self._inputs, self._outputs = inputs, outputs

    def write(self, directory: Path) -> None:
        """Write the graph file and, straight from the arrays, the weights file."""
        with (directory / WEIGHTS_FILE).open("wb") as weights:
            tensors = [_tensor_proto(name, x, weights) for name, x in self._constants.items()]
        graph = helper.make_graph(self._nodes, "decoder", self._inputs, self._outputs, tensors)
        opsets = [helper.make_opsetid(domain, version) for domain, version in _OPSETS.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
        (directory / GRAPH_FILE).write_bytes(model.SerializeToString())


def _tensor_proto(name: str, value: NDArray[Any], weights: BinaryIO) -> onnx.TensorProto:
    """A constant: a large one refers to the weights file, to which its bytes are appended."""
    if value.nbytes < _SMALLEST_EXTERNAL_BYTES:
        return numpy_helper.from_array(np.ascontiguousarray(value), name)
    weights.write(bytes(-weights.tell() % _WEIGHTS_ALIGNMENT))
    place = {"location": WEIGHTS_FILE, "offset": weights.tell(), "length": value.nbytes}
    np.ascontiguousarray(value).tofile(weights)
    tensor = TensorProto(
        name=name,
        data_type=helper.np_dtype_to_tensor_dtype(value.dtype),
        dims=value.shape,
        data_location=TensorProto.EXTERNAL,
    )
    for key, entry in place.items():
        tensor.external_data.add(key=key, value=str(entry))
    return tensor


class _DecoderGraph:
    def __init__(self, decoder: Decoder, options: GraphOptions) -> None:
        self._decoder = decoder
        self._options = options
        self._precision = options.precision
        self._graph = _Graph()
        self._kv = kv_layout(decoder.architecture, 8 if options.kv_scales else 32)
        self._tables: dict[str, list[str]] = {}
        self._sums: dict[str, str] = {}

    @property
    def _shape(self) -> Architecture:
        return self._decoder.architecture

    def build(self) -> _Graph:
        for name, table in zip(_ROTARY_TABLES, self._decoder.rotary_tables(), strict=True):
            self._graph.constant(name, table)
        residual, update = self._embed(), ""
        for index, layer in enumerate(self._decoder.layers()):
            residual, update = self._layer(f"layer{index}", index, layer, residual, update)
        normed, _ = self._norm("final_norm", self._decoder.final_norm, residual, update)
        wanted = self._graph.node("Gather", [normed, LOGIT_ROWS], axis=1)
        self._head(wanted)
        self._graph.close(self._inputs(), self._outputs())
        return self._graph

    def _inputs(self) -> list[onnx.ValueInfoProto]:
        return [
            _tensor(INPUT_IDS, TensorProto.INT64, ["batch", "rows"]),
            _tensor(POSITION_IDS, TensorProto.INT64, ["batch", "rows"]),
            _tensor(ATTENTION_BIAS, TensorProto.FLOAT, ["batch", 1, "rows", "total"]),
            _tensor(LAST_INDEX, TensorProto.INT32, ["batch"]),
            _tensor(TOTAL_LENGTH, TensorProto.INT32, []),
            _tensor(LOGIT_ROWS, TensorProto.INT64, ["wanted"]),
            *self._caches(self._kv.input_names()),
        ]

    def _outputs(self) -> list[onnx.ValueInfoProto]:
        logits = _tensor(LOGITS, TensorProto.FLOAT, ["batch", "wanted", len(self._head_weight)])
        return [logits, *self._caches(self._kv.output_names())]

    def _caches(self, names: Sequence[str]) -> list[onnx.ValueInfoProto]:
        shape: list[int | str] = ["batch", self._kv.num_kv_heads, "capacity", self._kv.head_size]
        return [_tensor(name, _KV_TYPES[self._kv.dtype], shape) for name in names]

    def _layer(
        self, name: str, index: int, layer: DecoderLayer, residual: str, update: str
    ) -> tuple[str, str]:
        """Add a layer. The sum of residual and update is left to the norm that comes next."""
        normed, residual = self._norm(f"{name}.input_norm", layer.input_norm, residual, update)
        update = self._attention(name, index, layer, normed)
        normed, residual = self._norm(f"{name}.post_norm", layer.post_norm, residual, update)
        return residual, self._mlp(name, layer, normed)

    def _norm(self, name: str, weight: Array, residual: str, update: str) -> tuple[str, str]:
        """RMS norm of residual + update; returns the normed and the plain sum."""
        gain = self._graph.constant(name, weight)
        if not update:
            return self._rms_norm(residual, gain), residual
        outputs = [f"{name}.normed", "", "", f"{name}.sum"]
        self._graph.nodes(
            "SkipSimplifiedLayerNormalization",
            [residual, update, gain],
            outputs,
            domain=_MICROSOFT,
            epsilon=self._shape.norm_epsilon,
        )
        return outputs[0], outputs[3]

    def _rms_norm(self, x: str, gain: str) -> str:
        return self._graph.node(
            "SimplifiedLayerNormalization",
            [x, gain],
            axis=-1,
            epsilon=self._shape.norm_epsilon,
            stash_type=1,
        )

    def _attention(self, name: str, index: int, layer: DecoderLayer, x: str) -> str:
        packed = self._linear(f"{name}.qkv", _stack(layer.q, layer.k, layer.v), x)
        qkv = (
            self._normed_qkv(name, layer, packed) if layer.q_norm is not None else [packed, "", ""]
        )
        key, value = 2 * index, 2 * index + 1
        past, present = self._kv.input_names(), self._kv.output_names()
        mixed, *_ = self._graph.nodes(
            "GroupQueryAttention",
            [
                *qkv,
                *(past[key], past[value]),
                *(LAST_INDEX, TOTAL_LENGTH),
                *_ROTARY_TABLES,
                *(POSITION_IDS, ATTENTION_BIAS),
                *self._kv_scales(name, index),
            ],
            [f"{name}.mixed", present[key], present[value]],
            domain=_MICROSOFT,
            do_rotary=1,
            kv_num_heads=self._shape.num_kv_heads,
            local_window_size=layer.window or -1,
            num_heads=self._shape.num_heads,
            **(_QUANTISED_CACHE if self._options.kv_scales else {}),
        )
        return self._linear(f"{name}.o", layer.o, mixed)

    def _kv_scales(self, name: str, index: int) -> list[str]:
        """The inputs of GroupQueryAttention from `head_sink`, which is left out, to the scales."""
        if self._options.kv_scales is None:
            return []
        scales = self._options.kv_scales[index]
        parts = (("key", scales.keys), ("value", scales.values))
        return [
            "",
            *(self._graph.constant(f"{name}.{p}_scales", x[None, :, None]) for p, x in parts),
        ]

    def _normed_qkv(self, name: str, layer: DecoderLayer, packed: str) -> list[str]:
        """Split the packed projections and normalise each head of the queries and keys."""
        assert layer.q_norm is not None
        assert layer.k_norm is not None
        widths = [len(linear.weight) for linear in (layer.q, layer.k, layer.v)]
        sizes = self._graph.constant("qkv_widths", np.array(widths, np.int64))
        outputs = [f"{name}.{part}.projected" for part in "qkv"]
        self._graph.nodes("Split", [packed, sizes], outputs, axis=-1)
        query = self._head_norm(f"{name}.q_norm", layer.q_norm, outputs[0])
        key = self._head_norm(f"{name}.k_norm", layer.k_norm, outputs[1])
        return [query, key, outputs[2]]

    def _head_norm(self, name: str, weight: Array, x: str) -> str:
        heads = np.array([0, 0, -1, self._shape.head_size], np.int64)
        split = self._graph.node("Reshape", [x, self._graph.constant("by_head", heads)])
        normed = self._rms_norm(split, self._graph.constant(name, weight))
        joined = np.array([0, 0, -1], np.int64)
        return self._graph.node("Reshape", [normed, self._graph.constant("joined", joined)])

    def _mlp(self, name: str, layer: DecoderLayer, x: str) -> str:
        both = self._linear(f"{name}.gate_up", _stack(layer.gate, layer.up), x)
        widths = np.array([len(layer.gate.weight), len(layer.up.weight)], np.int64)
        sizes = self._graph.constant("gate_up_widths", widths)
        outputs = [f"{name}.gate", f"{name}.up"]
        gate, up = self._graph.nodes("Split", [both, sizes], outputs, axis=-1)
        # QuickGelu with alpha 1 is SiLU: x * sigmoid(x).
        activated = self._graph.node("QuickGelu", [gate], domain=_MICROSOFT, alpha=1.0)
        return self._linear(f"{name}.down", layer.down, self._graph.node("Mul", [activated, up]))

    def _embed(self) -> str:
        if self._precision.embedding is None:
            table = self._graph.constant(_EMBEDDING, self._decoder.embedding)
            return self._graph.node("Gather", [table, INPUT_IDS])
        return self._rows_of(_EMBEDDING, self._decoder.embedding, INPUT_IDS)

    @property
    def _head_weight(self) -> Array:
        """The rows of the LM head that are drafted from: [draft vocabulary, hidden]."""
        head, token_ids = self._decoder.head, self._options.token_ids
        return head if token_ids is None else head[token_ids]

    def _head(self, x: str) -> None:
        if self._precision.head is None:
            self._fp32_head(x)
        elif self._precision.head is self._precision.embedding:
            self._shared_head(x, self._precision.head)
        else:
            self._small_head(x, self._precision.head)

    def _small_head(self, x: str, method: Method) -> None:
        """A first look at all tokens with few bits, then the best ones again: decision record 13.

        The head is most of the work of a drafter with few layers.
        """
        matrix = quantise(self._head_weight, method)
        rough = self._matmul_n_bits([x, *self._quantised(_HEAD, matrix)], matrix.shape, method)
        self._score_again(x, rough)

    def _shared_head(self, x: str, method: Method) -> None:
        """One that is tied and whole reads the embedding's constants."""
        name = _EMBEDDING if self._shares_embedding else _HEAD
        codes, scales = self._table(name, self._head_weight, method)
        in_blocks = np.array([0, -1, BLOCK_SIZE], np.int64)
        blocks = self._graph.node(
            "Reshape", [codes, self._graph.constant("weight_blocks", in_blocks)]
        )
        self._matmul_n_bits([x, blocks, scales], self._head_weight.shape, method, LOGITS)

    @property
    def _shares_embedding(self) -> bool:
        return self._shape.tied and self._options.token_ids is None

    def _fp32_head(self, x: str) -> None:
        """One that is tied and whole reads the embedding's constants."""
        name = _EMBEDDING if self._shares_embedding else _HEAD
        table = self._graph.constant(name, self._head_weight)
        transposed = self._graph.node("Transpose", [table], perm=[1, 0])
        self._graph.node("MatMul", [x, transposed], LOGITS)

    def _score_again(self, x: str, rough: str) -> None:
        """Replace the logits of the best candidates by those of a table with more bits."""
        count = np.array([min(_NUM_CANDIDATES, len(self._head_weight))], np.int64)
        outputs = [f"{_HEAD}.rough", f"{_HEAD}.candidates"]
        inputs = [rough, self._graph.constant(f"{_HEAD}.num_candidates", count)]
        _, columns = self._graph.nodes("TopK", inputs, outputs, axis=-1, sorted=0)
        weights = self._candidate_weights(columns)  # [batch, wanted, candidates, hidden]
        last = self._graph.constant("last_axis", np.array([3], np.int64))
        product = self._graph.node("MatMul", [weights, self._graph.node("Unsqueeze", [x, last])])
        exact = self._graph.node("Squeeze", [product, last])
        self._graph.node("ScatterElements", [rough, columns, exact], LOGITS, axis=-1)

    def _candidate_weights(self, columns: str) -> str:
        """The rows of the head behind some columns of the logits; tied ones are the embedding's."""
        if not self._shape.tied:
            return self._rows_of(f"{_HEAD}.table", self._head_weight, columns)
        token_ids = self._options.token_ids
        if token_ids is not None:
            table = self._graph.constant("token_ids", token_ids)
            columns = self._graph.node("Gather", [table, columns])
        return self._rows_of(_EMBEDDING, self._decoder.embedding, columns)

    def _rows_of(self, name: str, weight: Array, indices: str) -> str:
        """Rows of a quantised table."""
        assert self._precision.embedding is not None
        codes, scales = self._table(name, weight, self._precision.embedding)
        return self._graph.node(
            "GatherBlockQuantized",
            [codes, indices, scales],
            domain=_MICROSOFT,
            bits=BITS[self._precision.embedding],
            block_size=BLOCK_SIZE,
            gather_axis=0,
            quantize_axis=1,
        )

    def _table(self, name: str, weight: Array, method: Method) -> list[str]:
        """Codes, uint8 [rows, hidden], and scales, both constants; 8 bits, zero in the middle."""
        if name not in self._tables:
            matrix = quantise(weight, method)
            codes = self._graph.constant(f"{name}.codes", matrix.codes.reshape(matrix.shape))
            self._tables[name] = [codes, self._graph.constant(f"{name}.scales", matrix.scales)]
        return self._tables[name]

    def _linear(self, name: str, linear: Linear, x: str) -> str:
        if self._precision.layers is None:
            product = self._graph.node(
                "MatMul", [x, self._graph.constant(f"{name}.weight", linear.weight.T)]
            )
        else:
            product = self._quantised_product(name, linear.weight, x, self._precision.layers)
        if linear.bias is None:
            return product
        bias = self._graph.constant(f"{name}.bias", linear.bias)
        return self._graph.node("Add", [product, bias])

    def _quantised_product(self, name: str, weight: Array, x: str, method: Method) -> str:
        matrix = quantise(weight, method)
        product = self._matmul_n_bits([x, *self._quantised(name, matrix)], matrix.shape, method)
        if matrix.offsets is None:
            return product
        # sum_k offset(block of k) x_k = sum_blocks offset * (sum of x over the block)
        offsets = self._graph.constant(f"{name}.offsets", matrix.offsets.T)
        shift = self._graph.node("MatMul", [self._block_sums(x, matrix.shape[1]), offsets])
        return self._graph.node("Add", [product, shift])

    def _quantised(self, name: str, matrix: QuantisedMatrix) -> list[str]:
        """The inputs of MatMulNBits that say what the matrix is."""
        parts = (
            ("codes", matrix.codes),
            ("scales", matrix.scales),
            ("zero_points", matrix.zero_points),
        )
        return [self._graph.constant(f"{name}.{p}", x) for p, x in parts if x is not None]

    def _matmul_n_bits(
        self, inputs: Sequence[str], shape: tuple[int, ...], method: Method, output: str = ""
    ) -> str:
        return self._graph.node(
            "MatMulNBits",
            inputs,
            output,
            domain=_MICROSOFT,
            N=shape[0],
            K=shape[1],
            bits=BITS[method],
            block_size=BLOCK_SIZE,
            accuracy_level=_INT8_ACTIVATIONS,
        )

    def _block_sums(self, x: str, width: int) -> str:
        """The sums of x over each block: [batch, rows, width / BLOCK_SIZE]."""
        if x not in self._sums:
            blocks = np.array([0, 0, width // BLOCK_SIZE, BLOCK_SIZE], np.int64)
            name = self._graph.constant(f"blocks_of_{width}", blocks)
            axis = self._graph.constant("block_axis", np.array([3], np.int64))
            split = self._graph.node("Reshape", [x, name])
            self._sums[x] = self._graph.node("ReduceSum", [split, axis], keepdims=0)
        return self._sums[x]


def _stack(*parts: Linear) -> Linear:
    """Several linear layers of one input as a single one."""
    weight = np.concatenate([part.weight for part in parts])
    if all(part.bias is None for part in parts):
        return Linear(weight, None)
    biases = [np.zeros(len(p.weight), np.float32) if p.bias is None else p.bias for p in parts]
    return Linear(weight, np.concatenate(biases))


def _tensor(name: str, dtype: int, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)
